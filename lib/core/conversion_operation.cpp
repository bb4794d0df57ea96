#include "conversion_operation.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "fscryptctl/base/error.h"
#include "fscryptctl/crypto/random.h"

namespace fscryptctl {
namespace {

Error changed(const ConversionSite& site) {
  return Error(Errc::corrupt_metadata,
               "the journal of the conversion of " + printable(site.path()) + " was changed")
      .with_path(site.path());
}

void write_all(int fd, ByteView bytes, const std::string& what) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw system_error(errno, what);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

}  // namespace

bool is_about(const Journal& journal, const InodeIdentity& directory) {
  const Journal::Inode inode = journal_inode(directory);
  return journal.original == inode || journal.replacement == inode;
}

OperationId new_operation_id() {
  OperationId id;
  fill_random(id.bytes);
  return id;
}

std::optional<Journal> find_unfinished(const UserStore& store, const ConversionSite& site) {
  const InodeIdentity directory = inode_of(site.identity());
  for (const UnfinishedOperation& operation : OperationStore(store).list()) {
    if (operation.journal && is_about(*operation.journal, directory)) return operation.journal;
    if (operation.journal) continue;
    if (!entry_info(site.parent(), ".fscryptctl-" + operation.id.hex())) continue;
    throw Error(Errc::corrupt_metadata, "the journal of a conversion beside " +
                                            printable(site.path()) +
                                            " cannot be read: " + operation.reason)
        .with_path(site.path());
  }
  return std::nullopt;
}

void require_authentic(const OperationStore& operations, const Journal& journal,
                       const JournalKey& key) {
  const std::optional<std::string> text = operations.journal(journal.operation);
  if (text && is_authentic(*text, key) && parse_journal(*text) == journal) return;
  throw Error(Errc::corrupt_metadata, "the journal of operation " + journal.operation.hex() +
                                          " is not what this tool wrote: nothing was moved");
}

JournalKey make_journal_key(const ConversionSite& site) {
  const std::string what = "writing the journal's key";
  // Made inside, it is encrypted as the directory is; a name outside does not change that.
  const UniqueFd file(
      ::openat(site.directory(), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR));
  if (!file) throw system_error(errno, what);
  JournalKey key = random_key<JournalKey>();
  write_all(file.get(), key.view(), what);
  sync_file(file.get(), what);
  const std::string self = "/proc/self/fd/" + std::to_string(file.get());
  if (::linkat(AT_FDCWD, self.c_str(), site.work(), ConversionSite::kJournalKey,
               AT_SYMLINK_FOLLOW) != 0) {
    throw system_error(errno, what);
  }
  sync_file(site.work(), what);
  return key;
}

JournalKey read_journal_key(const ConversionSite& site, const Context& context,
                            const KernelPolicy& policy) {
  const UniqueFd file(::openat(site.work(), ConversionSite::kJournalKey,
                               O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file && errno == ENOKEY) {
    throw Error(Errc::wrong_key, printable(site.path()) + " is locked").with_path(site.path());
  }
  // A file that is encrypted otherwise, or not at all, anybody could have written.
  if (!file || !S_ISREG(file_info(file.get()).mode) ||
      context.kernel.get_policy(file.get()) != policy) {
    throw changed(site);
  }
  SecretBytes bytes(JournalKey::kSize);
  const ssize_t size = ::read(file.get(), bytes.writable().data(), bytes.size());
  if (size != static_cast<ssize_t>(JournalKey::kSize)) throw changed(site);
  return JournalKey(std::move(bytes));
}

}  // namespace fscryptctl
