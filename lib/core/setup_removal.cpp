#include "fscryptctl/core/setup_removal.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <set>
#include <string>
#include <vector>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/status.h"

namespace fscryptctl {
namespace {

/// Finds directories by key. Path hints do not do: directories are moved. What cannot be looked at
/// counts as found, since nobody can tell what it is.
class Search {
 public:
  Search(Context& context, const std::set<KeyIdentifier>& keys, const std::string& mount_point)
      : context_(context), keys_(keys), mount_point_(mount_point) {}

  /// Looks through `directory` and what is below it. What is encrypted is not entered: all below
  /// has the same key. Throws io, also when descriptors run out.
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
        found_.push_back(mount_point_ + entry);
      }
    }
  }

  [[nodiscard]] const std::vector<std::string>& found() const noexcept { return found_; }

 private:
  void look_at_entry(int directory, const std::string& name, const std::string& path) {
    const std::optional<FileInfo> info = entry_info(directory, name);
    if (!info || !S_ISDIR(info->mode)) return;
    const std::optional<UniqueFd> child = open_directory_beneath(directory, name);
    if (!child) return;
    const std::optional<KernelPolicy> policy = context_.kernel.get_policy(child->get());
    if (!policy) return look_through(child->get(), path);
    const auto* key = std::get_if<KeyIdentifier>(&policy->key);
    if (key != nullptr && keys_.contains(*key)) found_.push_back(mount_point_ + path);
  }

  Context& context_;
  const std::set<KeyIdentifier>& keys_;
  std::string mount_point_;
  std::vector<std::string> found_;
};

std::set<KeyIdentifier> recorded_keys(const MountStatus& status) {
  std::set<KeyIdentifier> keys;
  for (const PolicyStatus& policy : status.policies) keys.insert(policy.summary.key_identifier);
  return keys;
}

/// The filesystem without what is mounted over its directories, which hides what they hold. Only
/// root may; others see the mounts and stop there.
UniqueFd without_mounts_below(const Filesystem& filesystem) {
  constexpr unsigned kFlags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;
  return UniqueFd(static_cast<int>(::syscall(SYS_open_tree, filesystem.root_fd(), "", kFlags)));
}

/// Directories on the filesystem that need its metadata.
std::vector<std::string> dependents(Context& context, const Filesystem& filesystem,
                                    const std::set<KeyIdentifier>& keys) {
  if (keys.empty()) return {};
  if (filesystem.mount().root != "/") return {"parts of the filesystem that are not mounted here"};
  const std::string& mount_point = filesystem.mount().mount_point;
  Search search(context, keys, mount_point == "/" ? "" : mount_point);
  const UniqueFd whole = without_mounts_below(filesystem);
  const UniqueFd root(::openat(whole ? whole.get() : filesystem.root_fd(), ".",
                               O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root) throw system_error(errno, "opening " + printable(mount_point));
  search.look_through(root.get(), "");
  return search.found();
}

Context for_everybody(const Context& context) {
  Context everybody = context;
  everybody.user.reset();
  return everybody;
}

/// While it lives, nobody but root and the disk's owner can make a directory of her own there.
class ClosedToUsers {
 public:
  ClosedToUsers(const MetadataRoot& root) : root_(root), mode_(file_info(root.users_fd()).mode) {
    set_mode(0711);
  }
  ~ClosedToUsers() {
    const ActAs acting(owner());
    static_cast<void>(::fchmod(root_.users_fd(), mode_ & 07777U));
  }
  ClosedToUsers(const ClosedToUsers&) = delete;
  ClosedToUsers& operator=(const ClosedToUsers&) = delete;

 private:
  [[nodiscard]] Identity owner() const {
    return own_identity().uid == 0 ? root_.trusted_owner() : own_identity();
  }
  void set_mode(mode_t mode) {
    const ActAs acting(owner());
    if (::fchmod(root_.users_fd(), mode) != 0) throw system_error(errno, "closing the metadata");
  }

  const MetadataRoot& root_;
  mode_t mode_;
};

}  // namespace

void require_removable(Context& context, const Filesystem& filesystem) {
  const std::string& mount_point = filesystem.mount().mount_point;
  if (context.caller.uid != 0 && context.caller.uid != filesystem.trusted_owner().uid) {
    throw Error(Errc::permission, "only root can remove the metadata of " + printable(mount_point))
        .with_path(mount_point);
  }
  Context everybody = for_everybody(context);
  const MountStatus status = mount_status(everybody, filesystem);
  if (!status.damaged.empty()) {
    throw Error(Errc::corrupt_metadata, "some records on " + printable(mount_point) +
                                            " cannot be read, so nobody can tell what they open")
        .with_path(mount_point);
  }
  const std::vector<std::string> paths = dependents(everybody, filesystem, recorded_keys(status));
  if (paths.empty()) return;
  std::string list;
  for (const std::string& path : paths) list += (list.empty() ? "" : ", ") + printable(path);
  throw Error(Errc::in_use,
              "still encrypted with keys kept on " + printable(mount_point) + ": " + list)
      .with_path(paths.front())
      .with_candidates(paths);
}

void remove_set_up(Context& context, const Filesystem& filesystem) {
  require_removable(context, filesystem);
  const MetadataRoot root = filesystem.require_metadata();
  const ClosedToUsers closed(root);
  // Whoever encrypts holds one of these until the directory is encrypted. Everybody else takes one
  // at a time, so that holding all cannot deadlock.
  std::vector<UserStore::Lock> locks;
  for (const Identity& user : root.users()) {
    if (const std::optional<UserStore> store = UserStore::open(root, user)) {
      locks.push_back(store->lock(context.throw_if_interrupted));
    }
  }
  require_removable(context, filesystem);
  MetadataRoot::remove(filesystem.root_fd(), filesystem.trusted_owner());
}

}  // namespace fscryptctl
