#include "owned_directory.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <charconv>

#include "fscryptctl/base/proc_file.h"

namespace fscryptctl {

namespace {

void require_private(const FileInfo& info, uid_t owner, const std::string& file) {
  const auto untrusted = [&](const std::string& fault) {
    return Error(Errc::untrusted_metadata, file + ' ' + fault);
  };
  if (!S_ISDIR(info.mode)) throw untrusted("is not a directory");
  if (info.uid != owner) throw untrusted("belongs to another user");
  if ((info.mode & (S_IRWXG | S_IRWXO)) != 0) throw untrusted("is open to other users");
  // A record inside would be gone whenever that directory is locked: just when it is needed.
  if (info.encrypted) throw untrusted("is encrypted itself");
}

}  // namespace

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
    // Another user's directory may not even be opened: it is looked at first to say why. What
    // counts is what the descriptor says.
    const std::optional<FileInfo> entry = entry_info(dirfd, name);
    if (!entry) return std::nullopt;
    require_private(*entry, owner, file);
    std::optional<UniqueFd> directory = open_directory_beneath(dirfd, name);
    if (directory) require_private(file_info(directory->get()), owner, file);
    return directory;
  });
}

}  // namespace fscryptctl
