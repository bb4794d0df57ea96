#include "fscryptctl/core/directory_search.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "fscryptctl/base/directory_listing.h"
#include "fscryptctl/base/error.h"
#include "fscryptctl/base/file.h"

namespace fscryptctl {
namespace {

/// Each level keeps a descriptor open, of which a process has 1,024. Whoever makes directories
/// deeper than this does not stop the search.
constexpr int kMaxDepth = 512;

class Search {
 public:
  Search(const Context& context, const DirectorySearch& wanted)
      : context_(context), wanted_(wanted) {}

  /// Lists `directory` from where its position is.
  void look_through(int directory, const std::string& path, int depth) {
    DirectoryListing listing;
    DirectoryEntry found;
    while (listing.next(directory, found)) {
      context_.throw_if_interrupted();
      const std::string entry = path + "/" + found.name;
      // Independent of each other: one that is closed does not hide the rest.
      try {
        look_at_entry(directory, found.name, entry, depth, listing);
      } catch (const Error& error) {
        if (error.code() == Errc::no_such_path) continue;  // it went while it was looked at
        const bool closed = error.code() == Errc::untrusted_metadata ||  // another mount
                            error.code() == Errc::permission ||
                            error.code() == Errc::policy_version;
        if (!closed) throw;
        wanted_.closed(entry, error);
      }
    }
  }

 private:
  void look_at_entry(int directory, const std::string& name, const std::string& path, int depth,
                     DirectoryListing& listing) {
    const std::optional<FileInfo> info = entry_info(directory, name);
    if (!info) return;
    if (S_ISREG(info->mode) && info->encrypted) return look_at_file(directory, name, path);
    if (!S_ISDIR(info->mode)) return;
    const std::optional<UniqueFd> child = open_directory_beneath(directory, name);
    if (!child) return;
    if (const std::optional<KernelPolicy> policy = context_.kernel.get_policy(child->get())) {
      return wanted_.encrypted(path, *policy);
    }
    if (depth == kMaxDepth) {
      return wanted_.closed(path, Error(Errc::io, "the directory lies too deep"));
    }
    listing.shrink();
    look_through(child->get(), path, depth + 1);
  }

  /// An encrypted file in a plain directory. While it is locked it does not tell its key.
  void look_at_file(int directory, const std::string& name, const std::string& path) {
    constexpr int kFlags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    const UniqueFd file(::openat(directory, name.c_str(), kFlags));
    if (!file && errno == ENOENT) return;
    const std::optional<KernelPolicy> policy =
        file ? context_.kernel.get_policy(file.get()) : std::nullopt;
    if (policy) return wanted_.encrypted(path, *policy);
    wanted_.closed(path, Error(Errc::permission, "the file is locked"));
  }

  const Context& context_;
  const DirectorySearch& wanted_;
};

/// The filesystem without what is mounted over its directories, which hides what they hold. Only
/// root may; others see the mounts and stop there.
UniqueFd without_mounts_below(const Filesystem& filesystem) {
  constexpr unsigned kFlags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;
  return UniqueFd(static_cast<int>(::syscall(SYS_open_tree, filesystem.root_fd(), "", kFlags)));
}

}  // namespace

void search_directories(const Context& context, int directory, const std::string& path,
                        const DirectorySearch& search) {
  const UniqueFd listed(::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!listed) throw system_error(errno, "cannot open a directory");
  Search(context, search).look_through(listed.get(), path, 0);
}

KeySearch search_by_key(const Context& context, const Filesystem& filesystem,
                        const std::set<KeyIdentifier>& keys) {
  if (keys.empty()) return {};
  if (filesystem.mount().root != "/") {
    return {{}, {"parts of the filesystem that are not mounted here"}};
  }
  const std::string& mount_point = filesystem.mount().mount_point;
  const UniqueFd whole = without_mounts_below(filesystem);
  const UniqueFd root(::openat(whole ? whole.get() : filesystem.root_fd(), ".",
                               O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root && errno == EACCES) return {{}, {mount_point}};
  if (!root) throw system_error(errno, "opening " + printable(mount_point));
  const std::string prefix = mount_point == "/" ? "" : mount_point;
  KeySearch result;
  search_directories(context, root.get(), prefix,
                     {[&](const std::string& path, const KernelPolicy& policy) {
                        const auto* key = std::get_if<KeyIdentifier>(&policy.key);
                        if (key != nullptr && keys.contains(*key)) result.found.push_back(path);
                      },
                      [&](const std::string& path, const Error&) {
                        // Made by mkfs and root's; nothing gets there but by fsck.
                        if (path != prefix + "/lost+found") result.closed.push_back(path);
                      }});
  return result;
}

}  // namespace fscryptctl
