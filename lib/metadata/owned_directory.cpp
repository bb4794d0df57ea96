#include "owned_directory.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <charconv>

#include "fscryptctl/base/proc_file.h"

namespace fscryptctl {

uid_t overflow_uid() {
  constexpr uid_t kUsual = 65534;
  constexpr std::size_t kMaxSize = 16;
  const auto text = read_proc_file(AT_FDCWD, "/proc/sys/fs/overflowuid", kMaxSize);
  uid_t uid = kUsual;
  if (text) std::from_chars(text->data(), text->data() + text->size(), uid);
  return uid;
}

std::optional<UniqueFd> open_private_directory(int dirfd, const std::string& name, uid_t owner,
                                               const std::string& file) {
  return with_error_path(file, [&]() -> std::optional<UniqueFd> {
    std::optional<UniqueFd> directory = open_directory_beneath(dirfd, name);
    if (!directory) return std::nullopt;
    const FileInfo info = file_info(directory->get());
    const auto untrusted = [&](const std::string& fault) {
      return Error(Errc::untrusted_metadata, "the directory " + file + ' ' + fault);
    };
    if (info.uid != owner) throw untrusted("belongs to another user");
    if ((info.mode & (S_IRWXG | S_IRWXO)) != 0) throw untrusted("is open to other users");
    // A record inside would be gone whenever that directory is locked: just when it is needed.
    if (info.encrypted) throw untrusted("is encrypted itself");
    return directory;
  });
}

}  // namespace fscryptctl
