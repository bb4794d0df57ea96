#include "fscryptctl/base/mount_table.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <optional>

#include "fscryptctl/base/error.h"
#include "fscryptctl/base/proc_file.h"

namespace fscryptctl {
namespace {

/// More than the kernel's default limit of 100,000 mounts a namespace makes with long paths.
constexpr std::size_t kMaxMountinfoSize = std::size_t{64} << 20U;

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  parts.reserve(16);
  while (true) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

template <class Number>
std::optional<Number> parse_number(std::string_view text) {
  Number number{};
  const char* const end = text.data() + text.size();
  const auto [parsed_to, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || parsed_to != end) return std::nullopt;
  return number;
}

std::optional<dev_t> parse_device(std::string_view text) {
  const std::size_t colon = std::min(text.find(':'), text.size());
  const auto major_number = parse_number<unsigned>(text.substr(0, colon));
  const auto minor_number = parse_number<unsigned>(text.substr(std::min(colon + 1, text.size())));
  if (!major_number || !minor_number) return std::nullopt;
  return makedev(*major_number, *minor_number);
}

/// The kernel writes "rw" or "ro" first; a later "ro" may be part of some filesystem's own option.
bool starts_read_only(std::string_view options) {
  return options == "ro" || options.starts_with("ro,");
}

/// "ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [OPTIONAL]... - TYPE SOURCE OPTIONS"; the source may
/// be empty, which leaves two blanks in a row.
std::optional<Mount> parse_line(std::string_view line) {
  constexpr std::ptrdiff_t kFirstOptional = 6;
  const std::vector<std::string_view> fields = split(line, ' ');
  if (std::ssize(fields) <= kFirstOptional) return std::nullopt;
  const auto dash = std::find(fields.begin() + kFirstOptional, fields.end(), "-");
  if (fields.end() - dash != 4) return std::nullopt;
  const auto id = parse_number<std::uint64_t>(fields[0]);
  const auto parent_id = parse_number<std::uint64_t>(fields[1]);
  const std::optional<dev_t> device = parse_device(fields[2]);
  if (!id || !parent_id || !device) return std::nullopt;
  Mount mount{};
  mount.id = *id;
  mount.parent_id = *parent_id;
  mount.device = *device;
  mount.root = decode_octal_escapes(fields[3]);
  mount.mount_point = decode_octal_escapes(fields[4]);
  mount.type = decode_octal_escapes(dash[1]);
  mount.source = decode_octal_escapes(dash[2]);
  mount.read_only = starts_read_only(fields[5]) || starts_read_only(dash[3]);
  mount.filesystem_options = dash[3];
  return mount;
}

std::uint64_t mount_id_from_fdinfo(int fd) {
  constexpr std::string_view kLabel = "mnt_id:\t";
  constexpr std::size_t kMaxFdinfoSize = 65536;
  const std::string path = "/proc/self/fdinfo/" + std::to_string(fd);
  const std::optional<std::string> text = read_proc_file(AT_FDCWD, path, kMaxFdinfoSize);
  for (const std::string_view line : split(text ? *text : std::string_view(), '\n')) {
    if (!line.starts_with(kLabel)) continue;
    if (const auto id = parse_number<std::uint64_t>(line.substr(kLabel.size()))) return *id;
  }
  throw Error(Errc::io, "cannot find out which mount a file is on (is /proc mounted?)");
}

}  // namespace

std::vector<Mount> parse_mountinfo(std::string_view text) {
  std::vector<Mount> mounts;
  for (const std::string_view line : split(text, '\n')) {
    if (std::optional<Mount> mount = parse_line(line)) mounts.push_back(std::move(*mount));
  }
  return mounts;
}

std::vector<std::string> filesystem_options(const Mount& mount) {
  std::vector<std::string> options;
  for (const std::string_view option : split(mount.filesystem_options, ',')) {
    options.push_back(decode_octal_escapes(option));
  }
  return options;
}

std::vector<Mount> read_mount_table() {
  const std::optional<std::string> text =
      read_proc_file(AT_FDCWD, "/proc/self/mountinfo", kMaxMountinfoSize);
  if (!text) throw Error(Errc::io, "cannot read the table of mounts, /proc/self/mountinfo");
  return parse_mountinfo(*text);
}

const Mount* find_mount(const std::vector<Mount>& mounts, std::uint64_t id) noexcept {
  const auto found =
      std::find_if(mounts.begin(), mounts.end(), [&](const Mount& m) { return m.id == id; });
  return found == mounts.end() ? nullptr : &*found;
}

bool is_network_type(std::string_view type) noexcept {
  constexpr std::array<std::string_view, 22> kTypes = {
      "9p",    "acfs",     "afs",    "autofs", "beegfs", "ceph",    "cifs", "coda",
      "davfs", "fuse",     "gpfs",   "lustre", "nfs",    "nfs4",    "ncp",  "ncpfs",
      "ocfs2", "orangefs", "prl_fs", "pvfs2",  "vboxsf", "virtiofs"};
  return std::find(kTypes.begin(), kTypes.end(), type) != kTypes.end() ||
         type.starts_with("fuse.") || type == "fuseblk" || type.starts_with("smb") ||
         type.starts_with("gfs");
}

std::uint64_t mount_id_of(int fd) {
  // STATX_MNT_ID alone: with STATX_MNT_ID_UNIQUE the answer would not match mountinfo.
  struct statx status {};
  if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID, &status) == 0 &&
      (status.stx_mask & STATX_MNT_ID) != 0) {
    return status.stx_mnt_id;
  }
  return mount_id_from_fdinfo(fd);
}

}  // namespace fscryptctl
