#include "fscryptctl/core/directory_search.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "fscryptctl/base/error.h"

namespace fscryptctl {
namespace {

class Search {
 public:
  Search(const Context& context, const std::set<KeyIdentifier>& keys, std::string mount_point)
      : context_(context), keys_(keys), mount_point_(std::move(mount_point)) {}

  void look_through(int directory, const std::string& path) {
    context_.throw_if_interrupted();
    for (const std::string& name : directory_names(directory, UserStore::kNoLimit).names) {
      std::string entry = path;
      entry.append("/").append(name);
      // Made by mkfs and root's; nothing gets there but by fsck.
      if (entry == "/lost+found") continue;
      try {
        look_at_entry(directory, name, entry);
      } catch (const Error& error) {
        const bool closed = error.code() == Errc::untrusted_metadata ||  // another mount
                            error.code() == Errc::permission;
        if (!closed) throw;
        result_.closed.push_back(mount_point_ + entry);
      }
    }
  }

  [[nodiscard]] KeySearch take_result() { return std::move(result_); }

 private:
  void look_at_entry(int directory, const std::string& name, const std::string& path) {
    const std::optional<FileInfo> info = entry_info(directory, name);
    if (!info) return;
    if (S_ISREG(info->mode) && info->encrypted) look_at_file(directory, name, path);
    if (!S_ISDIR(info->mode)) return;
    const std::optional<UniqueFd> child = open_directory_beneath(directory, name);
    if (!child) return;
    const std::optional<KernelPolicy> policy = context_.kernel.get_policy(child->get());
    if (!policy) return look_through(child->get(), path);
    note(*policy, path);
  }

  /// An encrypted file in a plain directory. While it is locked it does not tell its key.
  void look_at_file(int directory, const std::string& name, const std::string& path) {
    constexpr int kFlags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    const UniqueFd file(::openat(directory, name.c_str(), kFlags));
    if (!file && errno == ENOENT) return;
    const std::optional<KernelPolicy> policy =
        file ? context_.kernel.get_policy(file.get()) : std::nullopt;
    if (!policy) {
      result_.closed.push_back(mount_point_ + path);
    } else {
      note(*policy, path);
    }
  }

  void note(const KernelPolicy& policy, const std::string& path) {
    const auto* key = std::get_if<KeyIdentifier>(&policy.key);
    if (key != nullptr && keys_.contains(*key)) result_.found.push_back(mount_point_ + path);
  }

  const Context& context_;
  const std::set<KeyIdentifier>& keys_;
  std::string mount_point_;
  KeySearch result_;
};

/// The filesystem without what is mounted over its directories, which hides what they hold. Only
/// root may; others see the mounts and stop there.
UniqueFd without_mounts_below(const Filesystem& filesystem) {
  constexpr unsigned kFlags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;
  return UniqueFd(static_cast<int>(::syscall(SYS_open_tree, filesystem.root_fd(), "", kFlags)));
}

}  // namespace

KeySearch search_by_key(const Context& context, const Filesystem& filesystem,
                        const std::set<KeyIdentifier>& keys) {
  if (keys.empty()) return {};
  if (filesystem.mount().root != "/") {
    return {{}, {"parts of the filesystem that are not mounted here"}};
  }
  const std::string& mount_point = filesystem.mount().mount_point;
  Search search(context, keys, mount_point == "/" ? "" : mount_point);
  const UniqueFd whole = without_mounts_below(filesystem);
  const UniqueFd root(::openat(whole ? whole.get() : filesystem.root_fd(), ".",
                               O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root && errno == EACCES) return {{}, {mount_point}};
  if (!root) throw system_error(errno, "opening " + printable(mount_point));
  search.look_through(root.get(), "");
  return search.take_result();
}

}  // namespace fscryptctl
