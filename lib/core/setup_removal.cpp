#include "fscryptctl/core/setup_removal.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/status.h"

namespace fscryptctl {
namespace {

/// Finds directories by key. Path hints do not do: directories are moved.
class Search {
 public:
  Search(Context& context, const std::set<KeyIdentifier>& keys, const std::string& mount_point)
      : context_(context), keys_(keys), mount_point_(mount_point) {}

  /// Looks through `directory` and what is below it on the same mount. What is encrypted is not
  /// entered: all below has the same key. Throws io if descriptors run out.
  void look_through(int directory, const std::string& path) {
    context_.throw_if_interrupted();
    for (const std::string& name : subdirectories(directory)) {
      if (const UniqueFd child = open(directory, name)) look_at(child.get(), path + "/" + name);
    }
  }

  [[nodiscard]] const std::vector<std::string>& found() const noexcept { return found_; }

 private:
  void look_at(int directory, const std::string& path) {
    const std::optional<KernelPolicy> policy = context_.kernel.get_policy(directory);
    if (!policy) return look_through(directory, path);
    const auto* key = std::get_if<KeyIdentifier>(&policy->key);
    if (key != nullptr && keys_.contains(*key)) found_.push_back(mount_point_ + path);
  }

  static std::vector<std::string> subdirectories(int directory) {
    const int copy = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (copy < 0) throw system_error(errno, "looking for encrypted directories");
    const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(copy), ::closedir);
    if (!stream) throw system_error(errno, "looking for encrypted directories");
    std::vector<std::string> names;
    while (const dirent* entry = ::readdir(stream.get())) {
      const std::string name = entry->d_name;
      const bool maybe = entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN;
      if (maybe && name != "." && name != "..") names.push_back(name);
    }
    return names;
  }

  /// Empty for what is no directory, another mount, gone, or closed to this user, who then has
  /// nothing of hers in it.
  static UniqueFd open(int directory, const std::string& name) {
    try {
      std::optional<UniqueFd> child = open_directory_beneath(directory, name);
      return child ? std::move(*child) : UniqueFd();
    } catch (const Error& error) {
      if (error.code() == Errc::untrusted_metadata || error.code() == Errc::permission) return {};
      throw;
    }
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

/// Directories on the filesystem that need its metadata.
std::vector<std::string> dependents(Context& context, const Filesystem& filesystem,
                                    const std::set<KeyIdentifier>& keys) {
  if (keys.empty()) return {};
  if (filesystem.mount().root != "/") return {"parts of the filesystem that are not mounted here"};
  const std::string& mount_point = filesystem.mount().mount_point;
  Search search(context, keys, mount_point == "/" ? "" : mount_point);
  search.look_through(filesystem.fd(), "");
  return search.found();
}

Context for_everybody(const Context& context) {
  Context everybody = context;
  everybody.user.reset();
  return everybody;
}

}  // namespace

void require_removable(Context& context, const Filesystem& filesystem) {
  Context everybody = for_everybody(context);
  const MountStatus status = mount_status(everybody, filesystem);
  const std::string& mount_point = filesystem.mount().mount_point;
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
  const MetadataRoot root = filesystem.require_metadata();
  Context everybody = for_everybody(context);
  // Whoever encrypts holds one of these until the directory is encrypted. They only ever hold one,
  // so that holding all cannot deadlock.
  std::vector<UserStore::Lock> locks;
  for (const Identity& user : everybody.users_to_list(root)) {
    if (const std::optional<UserStore> store = UserStore::open(root, user)) {
      locks.push_back(store->lock());
    }
  }
  require_removable(context, filesystem);
  MetadataRoot::remove(filesystem.root_fd(), filesystem.trusted_owner());
}

}  // namespace fscryptctl
