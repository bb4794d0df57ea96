#include "fscryptctl/metadata/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <utility>

#include "fscryptctl/crypto/random.h"
#include "fscryptctl/metadata/operations.h"
#include "fscryptctl/metadata/yaml_codec.h"
#include "owned_directory.h"

namespace fscryptctl {
namespace {

constexpr mode_t kDirectoryMode = 0700;
/// Of a directory whose name may not be on the disk yet. Whoever finds it so makes the name durable
/// before relying on it; everybody else is spared that flush.
constexpr mode_t kUnfinishedMode = kDirectoryMode | S_ISVTX;
constexpr mode_t kRecordMode = 0600;
constexpr std::string_view kSuffix = ".yaml";
/// Names looked at for leftovers of interrupted writers, of the user's directory and of all that
/// lie in it: besides these there are two directories. No more, or a login would wait for what she
/// puts there.
constexpr std::size_t kMaxCleanup = 4096;
constexpr std::chrono::milliseconds kShortestSleep{1};
constexpr std::chrono::milliseconds kLongestSleep{50};
/// Each round ends because somebody else made or moved the same entry just then.
constexpr int kMaxRounds = 8;

/// What differs between the two kinds of record.
template <class Record>
struct Kind;

template <>
struct Kind<PolicyRecord> {
  using Id = KeyIdentifier;
  static constexpr const char* kDirectory = "policies";
  static PolicySummary parse_summary(std::string_view text) { return parse_policy_summary(text); }
  static PolicyRecord parse(std::string_view text) { return parse_policy(text); }
  static const KeyIdentifier& id(const PolicySummary& summary) { return summary.key_identifier; }
  /// What emit derives or may leave out.
  static void take_derived(PolicyRecord& record, const PolicyRecord& written) {
    record.summary.protectors = written.summary.protectors;
    record.summary.paths = written.summary.paths;
  }
};

template <>
struct Kind<ProtectorRecord> {
  using Id = ProtectorId;
  static constexpr const char* kDirectory = "protectors";
  static ProtectorSummary parse_summary(std::string_view text) {
    return parse_protector_summary(text);
  }
  static ProtectorRecord parse(std::string_view text) { return parse_protector(text); }
  static const ProtectorId& id(const ProtectorSummary& summary) { return summary.id; }
  static void take_derived(ProtectorRecord& record, const ProtectorRecord& written) {
    record.summary.ways = written.summary.ways;
  }
};

std::string user_path(uid_t uid) { return "users/" + std::to_string(uid); }

template <class Id>
std::string file_name(const Id& id) {
  return id.hex() + std::string(kSuffix);
}

template <class Id>
std::optional<Id> id_from_file_name(std::string_view name) {
  if (!name.ends_with(kSuffix)) return std::nullopt;
  name.remove_suffix(kSuffix.size());
  return Id::from_hex(name);
}

/// One directory of records of one user; use it acting as the user.
template <class Record>
class RecordDirectory {
 public:
  using Id = typename Kind<Record>::Id;
  using Summary = decltype(Kind<Record>::parse_summary({}));

  RecordDirectory(int user_directory, uid_t uid)
      : user_directory_(user_directory),
        uid_(uid),
        path_(user_path(uid) + '/' + Kind<Record>::kDirectory) {}

  /// False if there is none.
  [[nodiscard]] bool open() {
    auto found = open_private_directory(user_directory_, Kind<Record>::kDirectory, uid_, path_);
    if (found) fd_ = std::move(*found);
    return static_cast<bool>(fd_);
  }

  /// Adds what is no record.
  void find_strays(Strays& strays, std::size_t limit) const {
    const DirectoryNames found = directory_names(fd_.get(), UserStore::kNoLimit);
    std::size_t count = 0;
    for (const std::string& name : found.names) {
      if (id_from_file_name<Id>(name)) continue;
      if (count++ == limit) {
        strays.complete = false;
        return;
      }
      strays.entries.push_back({path_ + '/' + name, StrayEntry::Kind::foreign, uid_});
    }
  }

  void provide() {
    with_error_path(path_, [&] {
      const bool durable =
          make_directory_durably(user_directory_, Kind<Record>::kDirectory, kUnfinishedMode);
      if (!open()) throw Error(Errc::io, "the directory " + path_ + " vanished");
      if ((file_info(fd_.get()).mode & S_ISVTX) == 0) return;
      if (!durable) {
        sync_file(fd_.get(), "cannot write the directory " + path_);
        sync_file(user_directory_, "cannot write the directory " + user_path(uid_));
      }
      if (fchmod(fd_.get(), kDirectoryMode) != 0) {
        throw system_error(errno, "cannot set the mode of " + path_);
      }
    });
  }

  [[nodiscard]] std::vector<Id> ids(std::size_t limit) const {
    return with_error_path(path_,
                           [&] { return sorted_ids(directory_names(fd_.get(), limit).names); });
  }

  [[nodiscard]] Listing<Summary> list(std::size_t limit) const {
    Listing<Summary> listing;
    const DirectoryNames found =
        with_error_path(path_, [&] { return directory_names(fd_.get(), limit); });
    listing.complete = found.complete;
    for (const Id& id : sorted_ids(found.names)) add_to(listing, id);
    return listing;
  }

  [[nodiscard]] std::optional<Record> read(const Id& id) const {
    return read_as(
        id, [](std::string_view text) { return Kind<Record>::parse(text); },
        [](const Record& record) { return Kind<Record>::id(record.summary); });
  }

  /// The text of a record that is right.
  [[nodiscard]] std::optional<std::string> read_text(const Id& id) const {
    auto both = read_as(
        id,
        [](std::string_view text) {
          return std::pair(std::string(text), Kind<Record>::parse(text).summary);
        },
        [](const auto& parsed) { return Kind<Record>::id(parsed.second); });
    if (!both) return std::nullopt;
    return std::move(both->first);
  }

  void write(const Record& record) const {
    const Id id = Kind<Record>::id(record.summary);
    with_error_path(path_of(id), [&] {
      const std::string text = emit(record);
      // Before the old record is given up: a record that loses something on its way is not written.
      const Record written = Kind<Record>::parse(text);
      Record expected = record;
      Kind<Record>::take_derived(expected, written);
      if (written != expected) throw Error(Errc::internal, "a record cannot be written down");
      write_file_durably(fd_.get(), file_name(id), text, kRecordMode, user_directory_);
      if (read(id) != written) throw Error(Errc::io, "a record reads back other than written");
    });
  }

  [[nodiscard]] bool remove(const Id& id) const {
    return with_error_path(path_of(id), [&] {
      if (unlinkat(fd_.get(), file_name(id).c_str(), 0) != 0) {
        if (errno == ENOENT) return false;
        throw system_error(errno, "cannot remove a record");
      }
      sync_file(fd_.get(), "cannot write the directory " + path_);
      return true;
    });
  }

 private:
  [[nodiscard]] std::string path_of(const Id& id) const { return path_ + '/' + file_name(id); }

  static std::vector<Id> sorted_ids(const std::vector<std::string>& names) {
    std::vector<Id> ids;
    ids.reserve(names.size());
    for (const std::string& name : names) {
      if (const auto id = id_from_file_name<Id>(name)) ids.push_back(*id);
    }
    std::sort(ids.begin(), ids.end());
    return ids;
  }

  template <class Parse, class IdOf>
  auto read_as(const Id& id, Parse parse, IdOf id_of) const {
    using Result = std::optional<decltype(parse(std::string_view()))>;
    return with_error_path(path_of(id), [&]() -> Result {
      const auto text = read_untrusted_file(fd_.get(), file_name(id), uid_, kMaxRecordSize);
      if (!text) return std::nullopt;
      auto parsed = parse(*text);
      if (id_of(parsed) != id) {
        throw Error(Errc::corrupt_metadata, "a record holds another identifier than its name");
      }
      return parsed;
    });
  }

  /// What is wrong with one record is listed beside the others.
  void add_to(Listing<Summary>& listing, const Id& id) const {
    try {
      auto summary = read_as(
          id, [](std::string_view text) { return Kind<Record>::parse_summary(text); },
          [](const Summary& parsed) { return Kind<Record>::id(parsed); });
      if (summary) listing.records.push_back(std::move(*summary));
    } catch (const Error& error) {
      listing.damaged.push_back({error.path(), uid_, error.code(), error.what()});
    }
  }

  int user_directory_;
  uid_t uid_;
  std::string path_;
  UniqueFd fd_;
};

template <class Record>
auto list_records(int user_directory, Identity user, std::size_t limit) {
  const ActAs acting(user);
  RecordDirectory<Record> directory(user_directory, user.uid);
  Listing<typename RecordDirectory<Record>::Summary> listing;
  // A directory that is not to be trusted is one more finding, not the end of all listings.
  try {
    if (directory.open()) listing = directory.list(limit);
  } catch (const Error& error) {
    listing.damaged.push_back({error.path(), user.uid, error.code(), error.what()});
  }
  return listing;
}

template <class Record>
auto record_ids(int user_directory, Identity user, std::size_t limit) {
  const ActAs acting(user);
  RecordDirectory<Record> directory(user_directory, user.uid);
  return directory.open() ? directory.ids(limit)
                          : std::vector<typename RecordDirectory<Record>::Id>();
}

template <class Record>
std::optional<Record> read_record(int user_directory, Identity user,
                                  const typename Kind<Record>::Id& id) {
  const ActAs acting(user);
  RecordDirectory<Record> directory(user_directory, user.uid);
  if (!directory.open()) return std::nullopt;
  return directory.read(id);
}

template <class Record>
std::optional<std::string> read_record_text(int user_directory, Identity user,
                                            const typename Kind<Record>::Id& id) {
  const ActAs acting(user);
  RecordDirectory<Record> directory(user_directory, user.uid);
  if (!directory.open()) return std::nullopt;
  return directory.read_text(id);
}

template <class Record>
void write_record(int user_directory, Identity user, const Record& record) {
  const ActAs acting(user);
  RecordDirectory<Record> directory(user_directory, user.uid);
  directory.provide();
  directory.write(record);
}

template <class Record>
bool remove_record(int user_directory, Identity user, const typename Kind<Record>::Id& id) {
  const ActAs acting(user);
  RecordDirectory<Record> directory(user_directory, user.uid);
  return directory.open() && directory.remove(id);
}

template <class Record>
void find_strays(int user_directory, uid_t uid, Strays& strays, std::size_t limit) {
  RecordDirectory<Record> directory(user_directory, uid);
  // One that is not to be trusted is a finding of the listing.
  try {
    if (directory.open()) directory.find_strays(strays, limit);
  } catch (const Error& error) {
    if (error.code() != Errc::untrusted_metadata) throw;
  }
}

/// What an interrupted writer left: a file, or, of a trial of the ciphers, a directory with an
/// empty entry at the most. Its name may belong to something else by now, that is the user's own
/// affair. The next writer tries again if this fails; whatever made it fail is reported by the
/// write.
void remove_leftovers(int user_directory) {
  std::size_t left = kMaxCleanup;
  for (const std::string& name : directory_names(user_directory, kMaxCleanup).names) {
    if (!name.starts_with(kTemporaryPrefix)) continue;
    if (unlinkat(user_directory, name.c_str(), 0) == 0 || errno != EISDIR) continue;
    if (const auto trial = open_directory_beneath(user_directory, name)) {
      for (const std::string& entry : directory_names(trial->get(), left).names) {
        --left;
        if (unlinkat(trial->get(), entry.c_str(), 0) == 0) continue;
        unlinkat(trial->get(), entry.c_str(), AT_REMOVEDIR);
      }
    }
    unlinkat(user_directory, name.c_str(), AT_REMOVEDIR);
  }
}

void sleep_for(std::chrono::milliseconds duration) {
  timespec left{};
  left.tv_nsec = std::chrono::nanoseconds(duration).count();
  // A signal ends the wait: whoever presses Ctrl-C does not want to wait for the other writer.
  if (nanosleep(&left, nullptr) != 0 && errno == EINTR) {
    throw Error(Errc::interrupted, "interrupted while another program writes the metadata");
  }
}

void lock_directory(int fd, const std::function<void()>& while_waiting,
                    std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  std::chrono::milliseconds pause = kShortestSleep;
  while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) throw system_error(errno, "cannot lock the metadata directory");
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left <= std::chrono::milliseconds::zero()) {
      throw Error(Errc::metadata_locked, "another program is writing the metadata");
    }
    // A signal that came before the sleep does not end it.
    while_waiting();
    sleep_for(std::min(pause, left));
    pause = std::min(2 * pause, kLongestSleep);
  }
}

/// The right to write is for one directory; with another one's it would mean nothing.
void require_same_directory(int lock, int directory) {
  const FileInfo locked = file_info(lock);
  const FileInfo written = file_info(directory);
  if (locked.inode != written.inode || locked.device != written.device) {
    throw Error(Errc::internal, "the lock is another directory's");
  }
}

std::string random_name(std::string_view prefix) {
  std::array<std::uint8_t, 8> random{};
  fill_random(random);
  return std::string(prefix) + to_hex(random);
}

bool is_own_directory(const FileInfo& info, Identity user) {
  return S_ISDIR(info.mode) && info.uid == user.uid;
}

/// Puts what lies in the way of the user's directory under another name.
void move_aside(int users, const std::string& name, Identity user) {
  const std::string aside = random_name(".squatted-");
  if (renameat(users, name.c_str(), users, aside.c_str()) != 0) {
    if (errno == ENOENT) return;
    throw system_error(errno, "cannot move aside what is in the way");
  }
  const std::optional<FileInfo> moved = entry_info(users, aside);
  if (!moved || !is_own_directory(*moved, user)) return;
  // It was replaced by the user's own in the meantime. If it cannot go back, something stands in
  // its place again, and the next round looks at that.
  renameat2(users, aside.c_str(), users, name.c_str(), RENAME_NOREPLACE);
}

/// Where only root makes entries. Under its final name the directory is the user's from the first
/// moment: a crash leaves none of root's that would keep her out. False if something is in the way.
bool make_for_user(int users, const std::string& name, Identity user) {
  const std::string temporary = random_name(".new-");
  if (!make_directory_durably(users, temporary, kDirectoryMode)) return false;
  const std::optional<UniqueFd> directory = open_directory_beneath(users, temporary);
  // A rename of a directory replaces nothing but an empty directory.
  if (directory && fchown(directory->get(), user.uid, user.gid) == 0 &&
      fsync(directory->get()) == 0 &&
      renameat(users, temporary.c_str(), users, name.c_str()) == 0) {
    return true;
  }
  const int failure = errno;
  unlinkat(users, temporary.c_str(), AT_REMOVEDIR);
  if (failure == EEXIST || failure == ENOTEMPTY || failure == ENOTDIR) return false;
  throw system_error(failure, "cannot make the user's metadata directory");
}

/// False if something is in the way.
bool make_user_directory(const MetadataRoot& root, const std::string& name, Identity user) {
  const FileInfo users = file_info(root.users_fd());
  if (root.open_to_all() || users.uid == user.uid) {
    const ActAs acting(user);
    return make_directory_durably(root.users_fd(), name, kDirectoryMode);
  }
  if (geteuid() != 0 || users.uid != 0) {
    throw Error(Errc::not_set_up, "there is no metadata directory for this user");
  }
  return make_for_user(root.users_fd(), name, user);
}

bool may_move_aside(const MetadataRoot& root) {
  return geteuid() == 0 || geteuid() == root.trusted_owner().uid;
}

}  // namespace

std::optional<UserStore> UserStore::open(const MetadataRoot& root, Identity user) {
  const std::string path = user_path(user.uid);
  return with_error_path(path, [&]() -> std::optional<UserStore> {
    if (user.uid == overflow_uid()) {
      throw Error(Errc::untrusted_metadata, "this user's id stands for unknown users");
    }
    const ActAs acting(user);
    auto directory =
        open_private_directory(root.users_fd(), std::to_string(user.uid), user.uid, path);
    if (!directory) return std::nullopt;
    return UserStore(std::move(*directory), user);
  });
}

UserStore UserStore::create(const MetadataRoot& root, Identity user, bool& changed) {
  changed = false;
  const int users = root.users_fd();
  const std::string name = std::to_string(user.uid);
  return with_error_path(user_path(user.uid), [&] {
    for (int round = 0; round < kMaxRounds; ++round) {
      const std::optional<FileInfo> entry = entry_info(users, name);
      if (!entry) {
        if (make_user_directory(root, name, user)) changed = true;
      } else if (is_own_directory(*entry, user) || !may_move_aside(root)) {
        std::optional<UserStore> store = open(root, user);
        // Also of a directory that was there: whoever made it may not have got so far.
        sync_file(users, "cannot write the directory users");
        if (store) return std::move(*store);
      } else {
        const ActAsOwner acting(root.trusted_owner());
        move_aside(users, name, user);
        changed = true;
      }
    }
    throw Error(Errc::untrusted_metadata, "somebody keeps changing the user's directory");
  });
}

Listing<PolicySummary> UserStore::policies(std::size_t limit) const {
  return list_records<PolicyRecord>(directory_.get(), user_, limit);
}

Listing<ProtectorSummary> UserStore::protectors(std::size_t limit) const {
  return list_records<ProtectorRecord>(directory_.get(), user_, limit);
}

std::vector<KeyIdentifier> UserStore::policy_ids(std::size_t limit) const {
  return record_ids<PolicyRecord>(directory_.get(), user_, limit);
}

std::vector<ProtectorId> UserStore::protector_ids(std::size_t limit) const {
  return record_ids<ProtectorRecord>(directory_.get(), user_, limit);
}

std::optional<PolicyRecord> UserStore::policy(const KeyIdentifier& id) const {
  return read_record<PolicyRecord>(directory_.get(), user_, id);
}

std::optional<ProtectorRecord> UserStore::protector(const ProtectorId& id) const {
  return read_record<ProtectorRecord>(directory_.get(), user_, id);
}

std::optional<std::string> UserStore::policy_text(const KeyIdentifier& id) const {
  return read_record_text<PolicyRecord>(directory_.get(), user_, id);
}

std::optional<std::string> UserStore::protector_text(const ProtectorId& id) const {
  return read_record_text<ProtectorRecord>(directory_.get(), user_, id);
}

Strays UserStore::strays(std::size_t limit) const {
  const ActAs acting(user_);
  Strays strays;
  const std::string path = user_path(user_.uid);
  const DirectoryNames own = directory_names(directory_.get(), limit);
  strays.complete = own.complete;
  for (const std::string& name : own.names) {
    if (name == Kind<PolicyRecord>::kDirectory || name == Kind<ProtectorRecord>::kDirectory ||
        name == kOperationsDirectory) {
      continue;
    }
    const bool leftover = name.starts_with(kTemporaryPrefix);
    std::string file = path;
    strays.entries.push_back({file.append("/").append(name),
                              leftover ? StrayEntry::Kind::leftover : StrayEntry::Kind::foreign,
                              user_.uid});
  }
  find_strays<PolicyRecord>(directory_.get(), user_.uid, strays, limit);
  find_strays<ProtectorRecord>(directory_.get(), user_.uid, strays, limit);
  std::sort(strays.entries.begin(), strays.entries.end(),
            [](const StrayEntry& a, const StrayEntry& b) { return a.file < b.file; });
  return strays;
}

UserStore::Lock UserStore::lock(const std::function<void()>& while_waiting,
                                std::chrono::milliseconds patience) const {
  const ActAs acting(user_);
  return with_error_path(user_path(user_.uid), [&] {
    Lock lock(UniqueFd(openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
    if (!lock.fd_) throw system_error(errno, "cannot open the metadata directory");
    lock_directory(lock.fd_.get(), while_waiting, patience);
    remove_leftovers(directory_.get());
    return lock;
  });
}

void UserStore::write(const Lock& lock, const PolicyRecord& record) const {
  require_same_directory(lock.fd_.get(), directory_.get());
  write_record(directory_.get(), user_, record);
}

void UserStore::write(const Lock& lock, const ProtectorRecord& record) const {
  require_same_directory(lock.fd_.get(), directory_.get());
  write_record(directory_.get(), user_, record);
}

bool UserStore::remove(const Lock& lock, const KeyIdentifier& id) const {
  require_same_directory(lock.fd_.get(), directory_.get());
  return remove_record<PolicyRecord>(directory_.get(), user_, id);
}

bool UserStore::remove(const Lock& lock, const ProtectorId& id) const {
  require_same_directory(lock.fd_.get(), directory_.get());
  return remove_record<ProtectorRecord>(directory_.get(), user_, id);
}

}  // namespace fscryptctl
