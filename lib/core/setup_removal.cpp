#include "fscryptctl/core/setup_removal.h"

#include <sys/stat.h>

#include <cerrno>
#include <set>
#include <string>
#include <vector>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/directory_search.h"
#include "fscryptctl/core/status.h"

namespace fscryptctl {
namespace {

std::set<KeyIdentifier> recorded_keys(const MountStatus& status) {
  std::set<KeyIdentifier> keys;
  for (const PolicyStatus& policy : status.policies) keys.insert(policy.summary.key_identifier);
  return keys;
}

/// Directories on the filesystem that need its metadata. What cannot be looked at counts, since
/// nobody can tell what it is.
std::vector<std::string> dependents(const Context& context, const Filesystem& filesystem,
                                    const std::set<KeyIdentifier>& keys) {
  KeySearch search = search_by_key(context, filesystem, keys);
  search.found.insert(search.found.end(), search.closed.begin(), search.closed.end());
  return std::move(search.found);
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
