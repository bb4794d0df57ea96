#include "fscryptctl/metadata/operations.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "fscryptctl/metadata/yaml_codec.h"
#include "owned_directory.h"

namespace fscryptctl {
namespace {

constexpr mode_t kDirectoryMode = 0700;
constexpr mode_t kFileMode = 0600;
constexpr std::size_t kMaxOperations = 1000;
constexpr std::string_view kJournalSuffix = ".yaml";
constexpr std::string_view kPolicySuffix = ".policy.yaml";

std::string path_of(uid_t uid) {
  return "users/" + std::to_string(uid) + '/' + std::string(kOperationsDirectory);
}

std::string file_name(const OperationId& id, std::string_view suffix) {
  return id.hex().append(suffix);
}

std::optional<UniqueFd> open_directory(const UserStore& store) {
  return open_private_directory(store.directory_fd(), std::string(kOperationsDirectory),
                                store.user().uid, path_of(store.user().uid));
}

UniqueFd provide_directory(const UserStore& store) {
  // False if it exists, which may be news to the disk as well: a flush more does not matter here.
  if (!make_directory_durably(store.directory_fd(), std::string(kOperationsDirectory),
                              kDirectoryMode)) {
    sync_file(store.directory_fd(), "cannot write the directory of the user's records");
  }
  std::optional<UniqueFd> directory = open_directory(store);
  if (!directory) throw Error(Errc::io, "the directory of operations vanished");
  return std::move(*directory);
}

std::optional<std::string> read(const UserStore& store, const std::string& name) {
  const ActAs acting(store.user());
  return with_error_path(
      path_of(store.user().uid) + '/' + name, [&]() -> std::optional<std::string> {
        const std::optional<UniqueFd> directory = open_directory(store);
        if (!directory) return std::nullopt;
        return read_untrusted_file(directory->get(), name, store.user().uid, kMaxRecordSize);
      });
}

void write(const UserStore& store, const std::string& name, const std::string& text) {
  const UserStore::Lock lock = store.lock();
  const ActAs acting(store.user());
  with_error_path(path_of(store.user().uid) + '/' + name, [&] {
    const UniqueFd directory = provide_directory(store);
    write_file_durably(directory.get(), name, text, kFileMode);
  });
}

void remove_file(int directory, const std::string& name) {
  if (unlinkat(directory, name.c_str(), 0) != 0 && errno != ENOENT) {
    throw system_error(errno, "cannot remove a journal");
  }
}

UnfinishedOperation read_operation(const OperationStore& operations, const OperationId& id) {
  UnfinishedOperation operation{id, std::nullopt, {}};
  try {
    const std::optional<std::string> text = operations.journal(id);
    if (!text) return operation;
    operation.journal = parse_journal(*text);
    if (operation.journal->operation == id) return operation;
    operation.journal.reset();
    operation.reason = "it is another operation's";
  } catch (const Error& error) {
    operation.reason = error.what();
  }
  return operation;
}

}  // namespace

std::vector<UnfinishedOperation> OperationStore::list() const {
  std::vector<OperationId> ids;
  {
    const ActAs acting(store_.user());
    const std::optional<UniqueFd> directory = open_directory(store_);
    if (!directory) return {};
    for (const std::string& name : directory_names(directory->get(), kMaxOperations).names) {
      if (!name.ends_with(kJournalSuffix)) continue;
      const auto id = OperationId::from_hex(
          std::string_view(name).substr(0, name.size() - kJournalSuffix.size()));
      if (id) ids.push_back(*id);
    }
  }
  std::sort(ids.begin(), ids.end());
  std::vector<UnfinishedOperation> operations;
  operations.reserve(ids.size());
  for (const OperationId& id : ids) operations.push_back(read_operation(*this, id));
  return operations;
}

std::optional<std::string> OperationStore::journal(const OperationId& id) const {
  return read(store_, file_name(id, kJournalSuffix));
}

void OperationStore::write_journal(const OperationId& id, const std::string& text) const {
  write(store_, file_name(id, kJournalSuffix), text);
}

std::optional<PolicyRecord> OperationStore::policy_after(const OperationId& id) const {
  const std::optional<std::string> text = read(store_, file_name(id, kPolicySuffix));
  if (!text) return std::nullopt;
  return parse_policy(*text);
}

void OperationStore::write_policy_after(const OperationId& id, const PolicyRecord& record) const {
  write(store_, file_name(id, kPolicySuffix), emit(record));
}

void OperationStore::remove(const OperationId& id) const {
  const UserStore::Lock lock = store_.lock();
  const ActAs acting(store_.user());
  with_error_path(path_of(store_.user().uid), [&] {
    const std::optional<UniqueFd> directory = open_directory(store_);
    if (!directory) return;
    remove_file(directory->get(), file_name(id, kPolicySuffix));
    remove_file(directory->get(), file_name(id, kJournalSuffix));
    sync_file(directory->get(), "cannot write the directory of operations");
    // Empty in most cases; what an interrupted writer left stays with the other operations.
    for (const std::string& name : directory_names(directory->get(), kMaxOperations).names) {
      if (!name.starts_with(kTemporaryPrefix)) return;
    }
    for (const std::string& name : directory_names(directory->get(), kMaxOperations).names) {
      remove_file(directory->get(), name);
    }
    unlinkat(store_.directory_fd(), std::string(kOperationsDirectory).c_str(), AT_REMOVEDIR);
  });
}

}  // namespace fscryptctl
