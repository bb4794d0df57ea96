#pragma once

#include <functional>
#include <optional>
#include <string>

#include "fscryptctl/base/file.h"
#include "fscryptctl/core/context.h"
#include "fscryptctl/metadata/journal.h"
#include "fscryptctl/tree/exchange.h"

namespace fscryptctl {

/// The directory that is converted, where it stands, and the work directory beside it.
///
/// The work directory is `.fscryptctl-ID` beside the directory, ID being the operation's, or where
/// that was before somebody moved it; 0700 and the caller's, not encrypted. In it: `tree`, which
/// the directory becomes, and later what it was; for decrypt `journal-key`.
class ConversionSite {
 public:
  /// Throws no_such_path, not_a_directory, filesystem_root, filesystem, already_encrypted (it lies
  /// in an encrypted directory), permission (its parent cannot be written), metadata_locked.
  [[nodiscard]] static ConversionSite find(const Context& context, const std::string& path);

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] const Filesystem& filesystem() const noexcept { return filesystem_; }
  [[nodiscard]] int parent() const noexcept { return parent_.get(); }
  [[nodiscard]] int directory() const noexcept { return directory_.get(); }
  [[nodiscard]] const FileInfo& info() const noexcept { return info_; }
  [[nodiscard]] Journal::Inode identity() const;
  [[nodiscard]] std::optional<KernelPolicy> policy(const Context& context) const;
  /// Relative to the filesystem's root. Throws filesystem if it cannot be told.
  [[nodiscard]] std::string hint(const Context& context) const;
  /// The same with a slash before it.
  [[nodiscard]] std::string place(const Context& context) const {
    return std::string("/").append(hint(context));
  }

  /// Nobody else converts it meanwhile. Throws metadata_locked.
  void lock();

  /// Opens the work directory, if there is one that may be trusted; locks it. `began_at` is the
  /// hint of the directory at the beginning. Throws untrusted_metadata, permission,
  /// metadata_locked.
  [[nodiscard]] bool open_work(const OperationId& operation, const std::string& began_at);
  /// The same beside the directory, made if it is missing.
  void make_work(const OperationId& operation);
  [[nodiscard]] int work() const noexcept { return work_.get(); }
  [[nodiscard]] const std::string& work_name() const noexcept { return work_name_; }
  /// Where it is, for people.
  [[nodiscard]] std::string work_path() const;
  /// Removes it with everything but `tree`, which must be gone. Durable.
  void remove_work();

  /// Removes work directories of the caller's in which nothing was done yet, except those that
  /// `is_known`: what was cut off before it had a journal. Never throws for what it cannot remove.
  void remove_strays(const std::function<bool(const OperationId&)>& is_known) const;

  /// Opens `tree`; an empty descriptor if there is none.
  [[nodiscard]] UniqueFd open_tree() const;
  [[nodiscard]] UniqueFd make_tree() const;

  /// Lets go of the directory: an open descriptor would keep its key busy.
  void close() noexcept {
    directory_.reset();
    locked_.reset();
  }

  /// The two have changed places: looks again at what stands at the path.
  void look_again();

  static constexpr const char* kTree = "tree";
  static constexpr const char* kJournalKey = "journal-key";

 private:
  ConversionSite(std::string path, Filesystem filesystem)
      : path_(std::move(path)), filesystem_(std::move(filesystem)) {}

  std::string path_;
  Filesystem filesystem_;
  UniqueFd parent_;
  std::string name_;
  UniqueFd directory_;
  FileInfo info_{};
  [[nodiscard]] std::optional<UniqueFd> find_work(const std::string& began_at);
  [[nodiscard]] int work_parent() const noexcept {
    return moved_from_ ? moved_from_.get() : parent_.get();
  }

  UniqueFd work_;
  std::string work_name_;
  UniqueFd moved_from_;  ///< what the directory was in, if the work directory is there
  std::string moved_from_path_;
  UniqueFd locked_;  ///< the directory as it was when lock() was called
};

[[nodiscard]] Journal::Inode journal_inode(const InodeIdentity& identity);
[[nodiscard]] InodeIdentity inode_of(const Journal::Inode& inode);

}  // namespace fscryptctl
