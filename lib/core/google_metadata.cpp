#include "fscryptctl/core/google_metadata.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <filesystem>
#include <functional>
#include <set>
#include <utility>

#include "fscryptctl/kernel/linux_kernel.h"

namespace fscryptctl {
namespace {

constexpr const char* kDirectoryName = ".fscrypt";
constexpr std::string_view kLinkSuffix = ".link";
/// Where everybody may make files, one user can make many; they must not hide the others'.
constexpr std::size_t kMaxFiles = std::size_t{1} << 20U;

Error untrusted(const std::string& what, const std::string& fault) {
  return Error(Errc::untrusted_metadata, printable(what) + " " + fault).with_path(what);
}

/// Whoever could replace it could give everybody other protectors.
void require_trusted_directory(const FileInfo& info, const Filesystem& filesystem,
                               const std::string& path) {
  if (!S_ISDIR(info.mode)) throw untrusted(path, "is not a directory");
  if (info.uid != 0 && info.uid != filesystem.trusted_owner().uid) {
    throw untrusted(path, "belongs to another user");
  }
  if ((info.mode & (S_IWGRP | S_IWOTH)) != 0 && (info.mode & S_ISVTX) == 0) {
    throw untrusted(path, "is writable by others");
  }
}

/// The mount that a normal absolute path lies on, as the mount table says without touching it.
const Mount* mount_of_path(const std::vector<Mount>& mounts, const std::string& path) {
  const Mount* found = nullptr;
  for (const Mount& mount : mounts) {
    const std::string& point = mount.mount_point;
    const bool holds = point == "/" || path == point || path.starts_with(point + "/");
    if (holds && (found == nullptr || point.size() >= found->mount_point.size())) found = &mount;
  }
  return found;
}

/// A directory named by an absolute path: through no symlink, on a filesystem that cannot hang.
UniqueFd open_plain_path(const Context& context, const std::string& path) {
  const std::string normal = std::filesystem::path(path + "/.").lexically_normal().parent_path();
  const Mount* const mount = mount_of_path(context.mounts, normal);
  if (mount == nullptr || is_network_type(mount->type)) return UniqueFd();
  const std::optional<Filesystem> filesystem = Filesystem::at(*mount);
  if (!filesystem) return UniqueFd();
  const std::size_t prefix = mount->mount_point == "/" ? 0 : mount->mount_point.size();
  const std::string below = normal.substr(std::min(prefix + 1, normal.size()));
  if (below.empty()) return UniqueFd(::openat(filesystem->root_fd(), ".", O_PATH | O_CLOEXEC));
  const std::string root = mount->root == "/" ? "" : mount->root.substr(1) + "/";
  return filesystem->open_hint(root + below);
}

std::string link_text(int fd, const std::string& path) {
  std::array<char, PATH_MAX> text{};
  const ssize_t size = ::readlinkat(fd, "", text.data(), text.size());
  if (size <= 0 || static_cast<std::size_t>(size) == text.size()) {
    throw untrusted(path, "is a symbolic link that cannot be read");
  }
  return {text.data(), static_cast<std::size_t>(size)};
}

/// MOUNTPOINT/.fscrypt, for going through. Administrators replace it by a symbolic link, or mount
/// something there.
UniqueFd open_top(const Context& context, const Filesystem& filesystem, const std::string& path) {
  constexpr int kFlags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
  UniqueFd top(::openat(filesystem.root_fd(), kDirectoryName, kFlags));
  if (!top && errno == ENOENT) return top;
  if (!top) throw system_error(errno, "opening " + printable(path)).with_path(path);
  // Before anything is asked of it: what somebody has mounted there may never answer.
  const Mount* const mount = find_mount(context.mounts, mount_id_of(top.get()));
  if (mount == nullptr || (mount->id != filesystem.mount().id && is_network_type(mount->type))) {
    throw untrusted(path, "is a mount of another kind of filesystem");
  }
  const FileInfo info = file_info(top.get());
  if (!S_ISLNK(info.mode)) return top;
  if (info.uid != 0 && info.uid != filesystem.trusted_owner().uid) {
    throw untrusted(path, "is another user's symbolic link");
  }
  const std::string target = link_text(top.get(), path);
  const std::string absolute =
      target.starts_with('/') ? target : filesystem.mount().mount_point + "/" + target;
  top = open_plain_path(context, absolute);
  if (!top) throw untrusted(path, "is a symbolic link that leads nowhere");
  return top;
}

/// `.fscrypt` of one filesystem, its directories opened and checked.
struct GoogleDirectory {
  std::string path;
  UniqueFd policies;
  UniqueFd protectors;
};

UniqueFd open_part(const Filesystem& filesystem, int top, const std::string& name,
                   const std::string& path) {
  try {
    std::optional<UniqueFd> part = open_directory_beneath(top, name);
    if (!part) throw untrusted(path, "is missing");
    require_trusted_directory(file_info(part->get()), filesystem, path);
    return std::move(*part);
  } catch (Error& error) {
    error.with_path(path);
    throw;
  }
}

std::optional<GoogleDirectory> open_google_directory(const Context& context,
                                                     const Filesystem& filesystem) {
  const std::string& mount_point = filesystem.mount().mount_point;
  const std::string path = (mount_point == "/" ? "" : mount_point) + "/" + kDirectoryName;
  const UniqueFd top = open_top(context, filesystem, path);
  if (!top) return std::nullopt;
  require_trusted_directory(file_info(top.get()), filesystem, path);
  return GoogleDirectory{path, open_part(filesystem, top.get(), "policies", path + "/policies"),
                         open_part(filesystem, top.get(), "protectors", path + "/protectors")};
}

struct ReadFile {
  std::string text;
  uid_t owner;
};

/// The filesystem's UUID as that tool writes it, without its hyphens.
std::string without_hyphens(std::string uuid) {
  std::erase(uuid, '-');
  std::transform(uuid.begin(), uuid.end(), uuid.begin(), [](unsigned char c) {
    return c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : static_cast<char>(c);
  });
  return uuid;
}

class Reader {
 public:
  Reader(const Context& context, const Filesystem& filesystem)
      : context_(context), filesystem_(filesystem) {}

  std::optional<GoogleMetadata> run() {
    const std::optional<GoogleDirectory> directory = open_google_directory(context_, filesystem_);
    if (!directory) return std::nullopt;
    result_.open_to_all = (file_info(directory->policies.get()).mode & S_IWOTH) != 0;
    read_policies(*directory);
    read_protectors(*directory);
    find_missing_protectors();
    return std::move(result_);
  }

 private:
  [[nodiscard]] bool is_root() const { return context_.caller.uid == 0; }
  [[nodiscard]] bool concerns_caller(uid_t owner) const {
    return is_root() || owner == 0 || owner == context_.caller.uid;
  }

  /// Runs `action`; what is wrong with one file is reported and stops nothing else.
  void look(const std::string& file, const std::function<void()>& action) {
    context_.throw_if_interrupted();
    try {
      action();
    } catch (const Error& error) {
      if (error.code() == Errc::interrupted) throw;
      result_.skipped.push_back({file, error.code(), error.what()});
    }
  }

  /// nullopt for what is not the caller's business, or gone.
  [[nodiscard]] std::optional<ReadFile> read(int directory, const std::string& name) const {
    const std::optional<FileInfo> info = entry_info(directory, name);
    if (!info || !concerns_caller(info->uid)) return std::nullopt;
    try {
      std::optional<std::string> text =
          read_untrusted_file(directory, name, info->uid, kMaxGoogleFileSize);
      if (!text) return std::nullopt;
      return ReadFile{std::move(*text), info->uid};
    } catch (const Error& error) {
      const bool others = error.code() == Errc::permission && info->uid != context_.caller.uid;
      if (others && !is_root()) return std::nullopt;
      throw;
    }
  }

  void read_policies(const GoogleDirectory& directory) {
    for (const std::string& name :
         sorted_names(directory.policies.get(), directory.path + "/policies")) {
      if (!KeyIdentifier::from_hex(name) && !KeyDescriptor::from_hex(name)) continue;
      const std::string file = directory.path + "/policies/" + name;
      look(file, [&] {
        const std::optional<ReadFile> found = read(directory.policies.get(), name);
        if (!found) return;
        result_.policies.push_back({parse_google_policy(found->text, name), found->owner, file});
      });
    }
  }

  std::vector<std::string> sorted_names(int directory, const std::string& path) {
    DirectoryNames found = directory_names(directory, kMaxFiles);
    if (!found.complete) {
      result_.skipped.push_back({path, Errc::io, "it has more files than are looked at"});
    }
    std::sort(found.names.begin(), found.names.end());
    return std::move(found.names);
  }

  void read_protectors(const GoogleDirectory& directory) {
    const std::vector<std::string> names =
        sorted_names(directory.protectors.get(), directory.path + "/protectors");
    for (const std::string& name : names) {
      if (!name.ends_with(kLinkSuffix)) continue;
      const auto id = ProtectorId::from_hex(name.substr(0, name.size() - kLinkSuffix.size()));
      if (!id) continue;
      reported_.insert(*id);
      const std::string file = directory.path + "/protectors/" + name;
      look(file, [&] { follow_link(directory, name, *id); });
    }
    // A link wins over a file of the same name, as with the tool itself. But one that leads nowhere
    // takes nothing away: anybody can make one where everybody may make protectors. Only root's
    // word is better than anybody's file.
    for (const std::string& name : names) {
      const std::optional<ProtectorId> id = ProtectorId::from_hex(name);
      if (!id || result_.protectors.contains(*id)) continue;
      reported_.insert(*id);
      const std::string file = directory.path + "/protectors/" + name;
      look(file, [&] {
        const std::optional<FileInfo> info = entry_info(directory.protectors.get(), name);
        if (info && info->uid != 0 && linked_by_root_.contains(*id)) {
          throw untrusted(file, "stands in the place of a protector that root has linked to");
        }
        static_cast<void>(read_protector(directory, *id, filesystem_));
      });
    }
  }

  /// False if there is no such file.
  bool read_protector(const GoogleDirectory& directory, const ProtectorId& id,
                      const Filesystem& filesystem) {
    const std::string file = directory.path + "/protectors/" + id.hex();
    if (!entry_info(directory.protectors.get(), id.hex())) return false;
    const std::optional<ReadFile> found = read(directory.protectors.get(), id.hex());
    if (!found) return true;
    GoogleProtector protector = parse_google_protector(found->text, id);
    // Otherwise anybody could make a login protector of somebody else's.
    if (protector.uid && found->owner != 0 && found->owner != *protector.uid) {
      throw untrusted(file, "belongs to another user than the one whose login it is for");
    }
    const uid_t owner = protector.uid.value_or(found->owner);
    if (!concerns_caller(owner)) return true;
    // Whoever a disk belongs to may have prepared it with files that seem to be somebody else's.
    const uid_t disk_owner = filesystem.trusted_owner().uid;
    if (&filesystem != &filesystem_ && disk_owner != 0 && disk_owner != owner) {
      throw untrusted(file, "lies on a disk that belongs to another user");
    }
    const bool on_root = filesystem.mount().mount_point == "/";
    result_.protectors.insert({id, {std::move(protector), owner, file, on_root}});
    return true;
  }

  void follow_link(const GoogleDirectory& directory, const std::string& name,
                   const ProtectorId& id) {
    const std::optional<ReadFile> found = read(directory.protectors.get(), name);
    if (!found) return;
    if (found->owner == 0) linked_by_root_.insert(id);
    std::optional<Error> failure;
    for (const Filesystem* target : targets_of(parse_google_link(found->text))) {
      // A disk that only seems to be meant must not hide the right one.
      try {
        if (take_from(*target, id, name, found->owner)) return;
      } catch (const Error& error) {
        if (error.code() == Errc::interrupted) throw;
        if (!failure) failure = error;
      }
    }
    if (failure) throw Error(*failure);
    throw Error(Errc::no_such_protector,
                "the protector that it links to is on no filesystem that is mounted here");
  }

  /// False if it is not on that filesystem.
  bool take_from(const Filesystem& target, const ProtectorId& id, const std::string& link,
                 uid_t link_owner) {
    const std::optional<GoogleDirectory> directory = open_google_directory(context_, target);
    if (!directory || !read_protector(*directory, id, target)) return false;
    const auto protector = result_.protectors.find(id);
    const bool others_link = protector != result_.protectors.end() && link_owner != 0 &&
                             link_owner != protector->second.owner;
    if (!others_link) return true;
    // She could have prepared a disk with files that seem to be somebody else's.
    result_.protectors.erase(protector);
    throw untrusted(link, "belongs to another user than the protector that it links to");
  }

  /// Filesystems that a link can mean, the likeliest first.
  std::vector<const Filesystem*> targets_of(const GoogleLink& link) {
    std::vector<const Filesystem*> targets;
    for (const Filesystem& filesystem : mounted()) {
      if (!link.uuid.empty() && has_uuid(filesystem, link.uuid)) targets.push_back(&filesystem);
    }
    for (const Filesystem& filesystem : mounted()) {
      if (filesystem.mount().mount_point == link.path) targets.push_back(&filesystem);
    }
    return targets;
  }

  const std::vector<Filesystem>& mounted() {
    if (!mounted_) mounted_ = local_filesystems(context_);
    return *mounted_;
  }

  static bool has_uuid(const Filesystem& filesystem, const std::string& uuid) {
    struct stat info {};
    const std::string name = "/dev/disk/by-uuid/" + uuid;  // hex digits and hyphens only
    if (::stat(name.c_str(), &info) == 0 && S_ISBLK(info.st_mode) &&
        info.st_rdev == filesystem.mount().device) {
      return true;
    }
    return filesystem.fd() >= 0 && filesystem_uuid(filesystem.fd()) == without_hyphens(uuid);
  }

  /// Protectors without a file or link here: those of login passwords need none.
  void find_missing_protectors() {
    std::optional<Filesystem> root;
    std::optional<GoogleDirectory> directory;
    bool opened = false;
    for (const FoundGooglePolicy& policy : result_.policies) {
      for (const PolicyWrapping& wrapping : policy.policy.wrappings) {
        if (!reported_.insert(wrapping.protector).second) continue;
        if (!std::exchange(opened, true)) {
          root = root_filesystem();
          look("/.fscrypt", [&] {
            if (root) directory = open_google_directory(context_, *root);
          });
        }
        const std::string hex = wrapping.protector.hex();
        look(directory ? directory->path + "/protectors/" + hex : policy.file, [&] {
          if (directory && read_protector(*directory, wrapping.protector, *root)) return;
          if (!is_root()) return;  // it may be one that she must not see
          throw Error(Errc::no_such_protector, "protector " + hex + " of policy " +
                                                   policy.policy.key_identifier.hex() +
                                                   " is nowhere to be found");
        });
      }
    }
  }

  [[nodiscard]] std::optional<Filesystem> root_filesystem() const {
    const Mount* const mount = mount_of_path(context_.mounts, "/");
    if (mount == nullptr || is_network_type(mount->type)) return std::nullopt;
    return Filesystem::at(*mount);
  }

  const Context& context_;
  const Filesystem& filesystem_;
  GoogleMetadata result_;
  std::set<ProtectorId> reported_;  ///< found, or said to be missing
  std::set<ProtectorId> linked_by_root_;
  std::optional<std::vector<Filesystem>> mounted_;
};

}  // namespace

std::optional<GoogleMetadata> read_google_metadata(const Context& context,
                                                   const Filesystem& filesystem) {
  return Reader(context, filesystem).run();
}

}  // namespace fscryptctl
