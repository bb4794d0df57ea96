#include "stash.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <concepts>
#include <utility>

#include "entry.h"
#include "fscryptctl/tree/move.h"

namespace fscryptctl {
namespace {

constexpr char kFormat = 1;
constexpr std::size_t kMaxSize = std::size_t{64} << 10;
constexpr std::uint32_t kLockingFlags = FS_IMMUTABLE_FL | FS_APPEND_FL;

const char* own_name() { return geteuid() == 0 ? kTrustedStash : kStash; }

bool is_stash(const std::string& name) { return name == kStash || name == kTrustedStash; }

template <std::unsigned_integral Number>
void append(std::string& out, Number number) {
  for (std::size_t i = 0; i < sizeof number; ++i) {
    out += static_cast<char>(static_cast<unsigned char>(number >> (8 * i)));
  }
}

void append(std::string& out, const std::string& text) {
  append(out, static_cast<std::uint32_t>(text.size()));
  out += text;
}

/// Takes values off the beginning; after the first failure nothing counts.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  template <std::unsigned_integral Number>
  Number number() {
    Number result = 0;
    const std::string_view raw = take(sizeof result);
    for (std::size_t i = 0; i < raw.size(); ++i) {
      result = static_cast<Number>(result | Number{static_cast<unsigned char>(raw[i])} << (8 * i));
    }
    return result;
  }
  std::string text() { return std::string(take(number<std::uint32_t>())); }
  FileTime time() {
    const auto seconds = static_cast<std::int64_t>(number<std::uint64_t>());
    return {seconds, number<std::uint32_t>()};
  }
  [[nodiscard]] bool failed() const noexcept { return failed_; }
  [[nodiscard]] bool complete() const noexcept { return !failed_ && bytes_.empty(); }

 private:
  std::string_view take(std::size_t size) {
    failed_ = failed_ || size > bytes_.size();
    if (failed_) return {};
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }

  std::string_view bytes_;
  bool failed_ = false;
};

void append(std::string& out, const FileTime& time) {
  append(out, static_cast<std::uint64_t>(time.seconds));
  append(out, time.nanoseconds);
}

std::optional<std::string> xattr(int fd, const char* name) {
  std::string value(kMaxSize, '\0');
  const ssize_t size = fgetxattr(fd, name, value.data(), value.size());
  if (size < 0) {
    if (errno == ENODATA || errno == EOPNOTSUPP) return std::nullopt;
    throw system_error(errno, "cannot read the remembered attributes");
  }
  value.resize(static_cast<std::size_t>(size));
  return value;
}

/// Whether the owner could have made it so without help.
bool is_harmless(const Attributes& wanted, const EntryStatus& status) {
  const bool same_kind = (wanted.mode & S_IFMT) == (status.mode & S_IFMT);
  const bool same_owner = wanted.uid == status.uid && wanted.gid == status.gid;
  const bool plain_flags = (wanted.flags & (kLockingFlags | FS_JOURNAL_DATA_FL)) == 0;
  return same_kind && same_owner && plain_flags &&
         std::ranges::all_of(wanted.xattrs, [](const auto& attribute) {
           return attribute.first.starts_with("user.") ||
                  attribute.first.starts_with("system.posix_acl_");
         });
}

std::optional<Attributes> decode_kept(const std::optional<std::string>& bytes) {
  if (!bytes) return std::nullopt;
  auto attributes = decode_attributes(*bytes);
  if (!attributes) throw Error(Errc::io, "the remembered attributes are damaged");
  return attributes;
}

}  // namespace

std::string encode_attributes(const Attributes& attributes) {
  std::string out(1, kFormat);
  append(out, std::uint32_t{attributes.mode});
  append(out, std::uint32_t{attributes.uid});
  append(out, std::uint32_t{attributes.gid});
  append(out, attributes.flags);
  append(out, attributes.project);
  append(out, attributes.accessed);
  append(out, attributes.modified);
  append(out, static_cast<std::uint32_t>(attributes.xattrs.size()));
  for (const auto& [name, value] : attributes.xattrs) {
    append(out, name);
    append(out, value);
  }
  return out;
}

std::optional<Attributes> decode_attributes(std::string_view bytes) {
  if (bytes.empty() || bytes.front() != kFormat) return std::nullopt;
  Reader reader(bytes.substr(1));
  Attributes attributes;
  attributes.mode = reader.number<std::uint32_t>();
  attributes.uid = reader.number<std::uint32_t>();
  attributes.gid = reader.number<std::uint32_t>();
  attributes.flags = reader.number<std::uint32_t>();
  attributes.project = reader.number<std::uint32_t>();
  attributes.accessed = reader.time();
  attributes.modified = reader.time();
  const auto count = reader.number<std::uint32_t>();
  for (std::uint32_t i = 0; i < count && !reader.failed(); ++i) {
    std::string name = reader.text();
    std::string value = reader.text();
    attributes.xattrs.emplace_back(std::move(name), std::move(value));
  }
  if (!reader.complete() || !std::ranges::is_sorted(attributes.xattrs)) return std::nullopt;
  return attributes;
}

void put_stash(int fd, const Attributes& attributes) {
  const std::string value = encode_attributes(attributes);
  if (fsetxattr(fd, own_name(), value.data(), value.size(), 0) != 0) {
    throw system_error(errno, "cannot remember the attributes");
  }
}

std::optional<Attributes> find_stash(int fd) {
  if (geteuid() != 0) return decode_kept(xattr(fd, kStash));
  if (const auto trusted = xattr(fd, kTrustedStash)) return decode_kept(trusted);
  const auto owners = xattr(fd, kStash);
  auto attributes = owners ? decode_attributes(*owners) : std::nullopt;
  if (!attributes || !is_harmless(*attributes, entry_status(fd))) return std::nullopt;
  return attributes;
}

void remove_stash(int fd) {
  for (const char* const name : {kStash, kTrustedStash}) {
    // Asked first: removing even what is not there needs write permission.
    if (fgetxattr(fd, name, nullptr, 0) < 0 || fremovexattr(fd, name) == 0) continue;
    throw system_error(errno, "cannot remove the remembered attributes");
  }
}

Attributes attributes_without_stash(int fd) {
  Attributes attributes = read_attributes(fd);
  std::erase_if(attributes.xattrs, [](const auto& xattr) { return is_stash(xattr.first); });
  return attributes;
}

bool follow_stash(int fd) {
  const std::optional<Attributes> wanted = find_stash(fd);
  if (!wanted) return false;
  // The stash stays until everything else is done. While it is there the flags that would forbid to
  // remove it are not.
  Attributes first = *wanted;
  first.flags &= ~kLockingFlags;
  for (const auto& kept : read_attributes(fd).xattrs) {
    if (is_stash(kept.first)) first.xattrs.push_back(kept);
  }
  std::ranges::sort(first.xattrs);
  try {
    apply_attributes(fd, first);
  } catch (const Error& error) {
    if (error.code() != Errc::no_space) throw;
    return apply_attributes(fd, *wanted), true;  // no room for both
  }
  // Their mode may forbid the owner what follows.
  if ((wanted->mode & S_IWUSR) == 0 && fchmod(fd, (wanted->mode & 07777) | S_IWUSR) != 0) {
    throw system_error(errno, "cannot set the mode");
  }
  remove_stash(fd);
  apply_attributes(fd, *wanted);
  return true;
}

}  // namespace fscryptctl
