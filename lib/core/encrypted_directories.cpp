#include "fscryptctl/core/encrypted_directories.h"

#include <sys/stat.h>

#include "fscryptctl/base/file.h"

namespace fscryptctl {
namespace {

/// Each level keeps a descriptor open, of which a process has 1,024. Whoever makes directories
/// deeper than this does not stop the search.
constexpr int kMaxDepth = 512;

void look_through(Context& context, int directory, const std::string& path, int depth,
                  const EncryptedDirectorySearch& search);

void look_at_entry(Context& context, int directory, const std::string& name,
                   const std::string& path, int depth, const EncryptedDirectorySearch& search) {
  const std::optional<FileInfo> info = entry_info(directory, name);
  if (!info || !S_ISDIR(info->mode)) return;
  const std::optional<UniqueFd> child = open_directory_beneath(directory, name);
  if (!child) return;
  if (const std::optional<KernelPolicy> policy = context.kernel.get_policy(child->get())) {
    return search.encrypted(path, *policy);
  }
  if (depth == kMaxDepth) {
    return search.closed(path, Error(Errc::io, "the directory lies too deep"));
  }
  look_through(context, child->get(), path, depth + 1, search);
}

void look_through(Context& context, int directory, const std::string& path, int depth,
                  const EncryptedDirectorySearch& search) {
  context.throw_if_interrupted();
  for (const std::string& name : directory_names(directory, static_cast<std::size_t>(-1)).names) {
    std::string entry = path;
    entry.append("/").append(name);
    // Independent of each other: one that is closed does not hide the rest.
    try {
      look_at_entry(context, directory, name, entry, depth, search);
    } catch (const Error& error) {
      const bool closed = error.code() == Errc::untrusted_metadata ||  // another mount
                          error.code() == Errc::permission || error.code() == Errc::policy_version;
      if (!closed) throw;
      search.closed(entry, error);
    }
  }
}

}  // namespace

void search_encrypted_directories(Context& context, int directory, const std::string& path,
                                  const EncryptedDirectorySearch& search) {
  look_through(context, directory, path, 0, search);
}

}  // namespace fscryptctl
