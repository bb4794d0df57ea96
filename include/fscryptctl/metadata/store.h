#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "fscryptctl/base/error.h"
#include "fscryptctl/base/file.h"
#include "fscryptctl/base/fs_identity.h"
#include "fscryptctl/metadata/model.h"

namespace fscryptctl {

/// Something that lies among records and is none. `file` is relative to `.fscryptctl`.
struct StrayEntry {
  enum class Kind {
    leftover,  ///< of an interrupted writer; the next one removes it
    squatted,  ///< in the place of the directory of user `uid`, and not hers
    foreign,
  };
  std::string file;
  Kind kind;
  uid_t uid;  ///< whose directory it lies in or stands for; for foreign entries of `users` 0
};

struct Strays {
  std::vector<StrayEntry> entries;  ///< sorted by file
  bool complete = true;             ///< false if there were more than the limit
};

/// MOUNTPOINT/.fscryptctl and its `users` directory, opened and checked: owned by root or by
/// `trusted_owner`, not group-writable, `users` at most 1777. A bind mount at `.fscryptctl` itself
/// is allowed; below it none is.
class MetadataRoot {
 public:
  /// `filesystem_root` is the mount's root directory; `trusted_owner` is 0, or the user to whom a
  /// removable disk's root belongs. nullopt if there is no `.fscryptctl/users`.
  /// Throws untrusted_metadata, io.
  [[nodiscard]] static std::optional<MetadataRoot> open(int filesystem_root,
                                                        Identity trusted_owner);

  /// Makes what is missing, durably; `all_users` makes `users` 1777 (never back to 0755).
  /// `changed` is set if anything was made or changed. Throws no_space, permission, io,
  /// untrusted_metadata.
  [[nodiscard]] static MetadataRoot create(int filesystem_root, Identity trusted_owner,
                                           bool all_users, bool& changed);

  /// Removes the whole metadata directory: every user's records. Only for `setup --remove`, whose
  /// checks come before. Descends no symlink and no mount.
  static void remove(int filesystem_root, Identity trusted_owner);

  [[nodiscard]] int users_fd() const noexcept { return users_.get(); }
  [[nodiscard]] Identity trusted_owner() const noexcept { return trusted_owner_; }

  /// True after `setup --all-users`: every user may make her own directory.
  [[nodiscard]] bool open_to_all() const;

  /// Users that have a directory: entries that are a decimal uid equal to their owner, as
  /// identities (gid as the entry's), sorted. Other entries are ignored. At most 65536.
  [[nodiscard]] std::vector<Identity> users() const;

  /// The other entries, at most `limit` of them.
  [[nodiscard]] Strays strays(std::size_t limit) const;

 private:
  MetadataRoot(UniqueFd users, Identity trusted_owner)
      : users_(std::move(users)), trusted_owner_(trusted_owner) {}

  UniqueFd users_;
  Identity trusted_owner_;
};

/// A record file that could not be used. `file` is relative to `.fscryptctl`.
struct DamagedRecord {
  std::string file;
  uid_t uid;
  Errc code;  ///< corrupt_metadata, untrusted_metadata, newer_format, io, ...
  std::string reason;
};

template <class Summary>
struct Listing {
  std::vector<Summary> records;  ///< sorted by identifier
  std::vector<DamagedRecord> damaged;
  bool complete = true;  ///< false if there were more entries than the limit
};

/// One user's records on one filesystem: `users/<uid>`. Everything below happens with the user's
/// filesystem identity (ActAs) and descriptor-relative; paths are never used.
class UserStore {
 public:
  /// nullopt if this user has no directory here. Throws untrusted_metadata for one that is not the
  /// user's, is open to others, is a symlink or a mount; permission; io.
  [[nodiscard]] static std::optional<UserStore> open(const MetadataRoot& root, Identity user);

  /// Makes the directory if it is missing: as root for anybody, as a user for herself where `users`
  /// is open to all (else not_set_up). As root, a wrongly owned entry is moved aside to
  /// `.squatted-<random>` first. `changed` as for MetadataRoot::create.
  [[nodiscard]] static UserStore create(const MetadataRoot& root, Identity user, bool& changed);

  [[nodiscard]] Identity user() const noexcept { return user_; }
  /// The user's directory: a place on this filesystem where she may make something temporary (named
  /// with kTemporaryPrefix, under the lock).
  [[nodiscard]] int directory_fd() const noexcept { return directory_.get(); }

  /// Listings read first documents only and never throw for one bad record. `limit` entries of each
  /// kind are looked at.
  [[nodiscard]] Listing<PolicySummary> policies(std::size_t limit = kNoLimit) const;
  [[nodiscard]] Listing<ProtectorSummary> protectors(std::size_t limit = kNoLimit) const;

  /// What the names of record files say, sorted; nothing is read. Throws io, untrusted_metadata.
  [[nodiscard]] std::vector<KeyIdentifier> policy_ids(std::size_t limit = kNoLimit) const;
  [[nodiscard]] std::vector<ProtectorId> protector_ids(std::size_t limit = kNoLimit) const;

  /// nullopt if there is no such record. Throw corrupt_metadata (also when the content names
  /// another identifier than the file name), untrusted_metadata, newer_format, metadata_locked, io;
  /// the error's path names the file relative to `.fscryptctl`.
  [[nodiscard]] std::optional<PolicyRecord> policy(const KeyIdentifier& id) const;
  [[nodiscard]] std::optional<ProtectorRecord> protector(const ProtectorId& id) const;

  /// The same records as they are written down, after reading them as the two above do.
  [[nodiscard]] std::optional<std::string> policy_text(const KeyIdentifier& id) const;
  [[nodiscard]] std::optional<std::string> protector_text(const ProtectorId& id) const;

  /// Entries of the user's directory and of those for records that are no records, at most `limit`
  /// of each directory. Throws io. What is wrong with the directories is found by listing.
  [[nodiscard]] Strays strays(std::size_t limit) const;

  /// The right to write: the flock on the user's directory. Released when it goes.
  class Lock {
   public:
    Lock(Lock&&) noexcept = default;
    Lock& operator=(Lock&&) noexcept = default;

   private:
    friend class UserStore;
    explicit Lock(UniqueFd fd) : fd_(std::move(fd)) {}
    UniqueFd fd_;  // its own open file description, so that closing it releases the flock
  };

  /// Polls for up to `patience`; throws metadata_locked. Temporary leftovers of interrupted writers
  /// are removed once it is held. Take one at a time; never hash, prompt or call PAM under it:
  /// compute, lock, read again, start over if the record changed.
  /// `while_waiting` is called again and again meanwhile and may throw to give up.
  [[nodiscard]] Lock lock(std::chrono::milliseconds patience = std::chrono::seconds(10)) const {
    return lock([] {}, patience);
  }
  [[nodiscard]] Lock lock(const std::function<void()>& while_waiting,
                          std::chrono::milliseconds patience = std::chrono::seconds(10)) const;

  /// Durable and atomic; makes `policies/` and `protectors/` when they are missing. What was
  /// written is read back from the file and compared. Throws no_space, io, permission,
  /// untrusted_metadata.
  void write(const Lock& lock, const PolicyRecord& record) const;
  void write(const Lock& lock, const ProtectorRecord& record) const;

  /// Durable. False if it was not there.
  bool remove(const Lock& lock, const KeyIdentifier& id) const;
  bool remove(const Lock& lock, const ProtectorId& id) const;

  static constexpr std::size_t kNoLimit = static_cast<std::size_t>(-1);

 private:
  UserStore(UniqueFd directory, Identity user) : directory_(std::move(directory)), user_(user) {}

  UniqueFd directory_;
  Identity user_;
};

}  // namespace fscryptctl
