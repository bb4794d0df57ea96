#include "process_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string_view>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/base/proc_file.h"
#include "proc_text.h"

namespace fscryptctl {
namespace {

constexpr std::size_t kMaxSmallFile = std::size_t{64} << 10U;
constexpr std::size_t kMaxMaps = std::size_t{64} << 20U;
constexpr std::size_t kMaxFdinfo = std::size_t{4} << 20U;

/// The value of "LABEL:VALUE" in a line of such fields.
std::optional<std::string_view> labelled(std::string_view line, std::string_view label) {
  while (!line.empty()) {
    const std::string_view field = take_until(line, ' ');
    if (field.starts_with(label)) return field.substr(label.size());
  }
  return std::nullopt;
}

template <class Number>
std::optional<Number> labelled_hex(std::string_view line, std::string_view label) {
  const auto text = labelled(line, label);
  return text ? parse_number<Number>(*text, 16) : std::nullopt;
}

/// The kernel's own way to write a device, as inotify shows it.
dev_t device_from_kernel(std::uint32_t number) {
  constexpr unsigned kMinorBits = 20;
  return makedev(number >> kMinorBits, number & ((1U << kMinorBits) - 1));
}

/// Opens the watched file itself by the handle that the kernel shows. Needs root.
UniqueFd open_by_shown_handle(int fs_fd, std::string_view line) {
  const auto type = labelled_hex<int>(line, "fhandle-type:");
  const auto text = labelled(line, "f_handle:");
  const auto bytes = text ? from_hex(*text) : std::nullopt;
  if (!type || !bytes || bytes->size() > MAX_HANDLE_SZ) return UniqueFd();
  struct {
    file_handle header;
    std::array<unsigned char, MAX_HANDLE_SZ> bytes;
  } handle{};
  handle.header.handle_bytes = static_cast<unsigned>(bytes->size());
  handle.header.handle_type = *type;
  std::memcpy(handle.header.f_handle, bytes->data(), bytes->size());
  return UniqueFd(open_by_handle_at(fs_fd, &handle.header, O_PATH | O_CLOEXEC));
}

/// A file that was opened by its handle has a path only as long as somebody else uses it by one.
std::string path_or_inode(int path_fd) {
  const auto status = remembered_status(path_fd, "");
  std::string path = link_text(AT_FDCWD, "/proc/self/fd/" + std::to_string(path_fd));
  const bool has_path = path != "/" || (status && S_ISDIR(status->stx_mode));
  return has_path || !status ? path : "inode " + std::to_string(status->stx_ino);
}

/// A line of /proc/PID/maps: "START-END PERMISSIONS OFFSET MAJOR:MINOR INODE    PATH".
struct Mapping {
  std::string_view range;
  std::string_view device;
  std::uint64_t inode;
  std::string_view path;
};

std::optional<Mapping> parse_mapping(std::string_view line) {
  Mapping mapping{};
  mapping.range = take_until(line, ' ');
  take_until(line, ' ');
  take_until(line, ' ');
  mapping.device = take_until(line, ' ');
  const auto inode = parse_number<std::uint64_t>(take_until(line, ' '), 10);
  if (!inode) return std::nullopt;
  mapping.inode = *inode;
  const std::size_t path = line.find_first_not_of(' ');
  if (path != std::string_view::npos) mapping.path = line.substr(path);
  return mapping;
}

std::string hex_number(unsigned number) {
  std::array<char, 16> text{};
  const auto result = std::to_chars(text.data(), text.data() + text.size(), number, 16);
  const std::string digits(text.data(), result.ptr);
  return digits.size() < 2 ? "0" + digits : digits;
}

/// As maps writes a device.
std::string maps_device(dev_t device) {
  return hex_number(major(device)).append(":").append(hex_number(minor(device)));
}

/// The entry of map_files for a range of maps, which pads addresses with zeros.
std::string map_files_name(std::string_view range) {
  const auto stripped = [](std::string_view number) {
    const std::size_t first = std::min(number.find_first_not_of('0'), number.size() - 1);
    return std::string(number.substr(first));
  };
  const std::string_view start = take_until(range, '-');
  if (start.empty() || range.empty()) return {};
  return stripped(start).append("-").append(stripped(range));
}

}  // namespace

std::optional<std::vector<std::string>> names_in(int directory) {
  std::vector<std::string> names;
  alignas(dirent64) std::array<char, 32768> buffer;
  while (true) {
    const ssize_t size = getdents64(directory, buffer.data(), buffer.size());
    if (size < 0) return std::nullopt;
    if (size == 0) return names;
    for (ssize_t offset = 0; offset < size;) {
      const auto* const entry = reinterpret_cast<const dirent64*>(buffer.data() + offset);
      if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
      offset += entry->d_reclen;
    }
  }
}

std::optional<Holder> describe_process(int process, pid_t pid) {
  constexpr std::string_view kLabel = "\nUid:\t";
  const auto command = read_proc_file(process, "comm", kMaxSmallFile);
  const auto status = read_proc_file(process, "status", kMaxSmallFile);
  const std::size_t label = status ? status->find(kLabel) : std::string::npos;
  if (!command || label == std::string::npos) return std::nullopt;
  std::string_view ids = std::string_view(*status).substr(label + kLabel.size());
  take_until(ids, '\t');
  const auto effective_uid = parse_number<uid_t>(take_until(ids, '\t'), 10);
  if (!effective_uid) return std::nullopt;
  const std::string name = command->substr(0, command->size() - (command->ends_with('\n') ? 1 : 0));
  return Holder{pid, *effective_uid, name, {}, {}};
}

ProcessFiles::ProcessFiles(ScanContext& context, pid_t pid, int process,
                           const std::vector<Mount>& mounts)
    : context_(context), pid_(pid), process_(process), mounts_(mounts) {}

bool ProcessFiles::find(std::vector<Holder>& holders) {
  find_link("cwd", "working directory");
  find_link("root", "root directory");
  find_link("exe", "executable");
  find_descriptors();
  find_mappings();
  if (found_.empty()) return complete_;
  std::optional<Holder> holder = describe_process(process_, pid_);
  if (!holder) return complete_;
  for (const auto& [kind, path] : found_) {
    holder->kind = kind;
    holder->path = path;
    holders.push_back(*holder);
  }
  return complete_;
}

void ProcessFiles::add(const std::string& kind, const std::string& path, std::uint64_t inode) {
  found_.emplace(kind, path);
  inodes_.insert(inode);
}

void ProcessFiles::find_link(const std::string& link, const std::string& kind) {
  const auto status = remembered_status(process_, link);
  if (!status) {
    // Gone, or a kernel thread without an executable: then there is nothing to see.
    if (errno == EACCES || errno == EPERM) complete_ = false;
    return;
  }
  if (context_.files.contains_link(process_, link, *status)) {
    add(kind, link_text(process_, link), status->stx_ino);
  }
}

void ProcessFiles::find_descriptors() {
  const UniqueFd fds(openat(process_, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fds) {
    if (errno == EACCES || errno == EPERM) complete_ = false;
    return;
  }
  for (const std::string& number : names_in(fds.get()).value_or(std::vector<std::string>{})) {
    find_descriptor(fds.get(), number);
  }
}

void ProcessFiles::find_descriptor(int fds, const std::string& number) {
  const auto status = remembered_status(fds, number);
  if (!status) return;
  const dev_t device = device_of(*status);
  if (device == context_.files.device()) {
    if (context_.files.contains_link(fds, number, *status)) {
      add("open file", link_text(fds, number), status->stx_ino);
    }
  } else if (device == context_.anonymous_device) {
    const std::string text = link_text(fds, number);
    if (text == "anon_inode:inotify" || text == "anon_inode:[fanotify]") find_watches(number);
  } else if (S_ISSOCK(status->stx_mode)) {
    const auto socket = context_.sockets.find(status->stx_ino);
    if (socket != context_.sockets.end()) found_.emplace("socket", socket->second);
  }
}

void ProcessFiles::find_watches(const std::string& number) {
  const auto text = read_proc_file(process_, "fdinfo/" + number, kMaxFdinfo);
  std::string_view lines = text ? std::string_view(*text) : std::string_view();
  while (!lines.empty()) {
    const std::string_view line = take_until(lines, '\n');
    if (!line.starts_with("inotify ") && !line.starts_with("fanotify ")) continue;
    const auto device = labelled_hex<std::uint32_t>(line, "sdev:");
    const auto inode = labelled_hex<std::uint64_t>(line, "ino:");
    // Marks of whole mounts and filesystems name no file and keep none in use.
    if (!inode || !device || device_from_kernel(*device) != context_.files.device()) continue;
    const UniqueFd watched = open_by_shown_handle(context_.files.fs_fd(), line);
    if (!watched) {
      complete_ = false;
      continue;
    }
    if (!context_.files.contains_descriptor(watched.get())) continue;
    add(line.starts_with("inotify ") ? "inotify watch" : "fanotify mark",
        path_or_inode(watched.get()), *inode);
  }
}

/// Such a process may hold the lock on its memory for as long as a hung server lets it sleep, and
/// whoever reads its mappings would then sleep as long.
bool ProcessFiles::is_in_uninterruptible_sleep() const {
  const auto text = read_proc_file(process_, "stat", kMaxSmallFile);
  if (!text) return false;
  // "PID (NAME) STATE ...", and the name may hold anything.
  const std::size_t name_end = text->rfind(')');
  return name_end != std::string::npos && text->substr(name_end + 1, 2) == " D";
}

void ProcessFiles::find_mappings() {
  if (is_in_uninterruptible_sleep()) {
    complete_ = false;
    return;
  }
  const auto text = read_proc_file(process_, "maps", kMaxMaps);
  if (!text) return;
  // Most processes map nothing of the filesystem, so lines are looked at only around its device.
  const std::string device =
      std::string(" ").append(maps_device(context_.files.device())).append(" ");
  UniqueFd map_files;
  for (std::size_t hit = text->find(device); hit != std::string::npos;) {
    const std::size_t begin = text->rfind('\n', hit) + 1;
    const std::size_t end = std::min(text->find('\n', hit), text->size());
    if (!map_files) {
      map_files.reset(openat(process_, "map_files", O_PATH | O_DIRECTORY | O_CLOEXEC));
    }
    find_mapping(std::string_view(*text).substr(begin, end - begin), map_files.get());
    hit = text->find(device, end);
  }
}

void ProcessFiles::find_mapping(std::string_view line, int map_files) {
  const std::optional<Mapping> mapping = parse_mapping(line);
  if (!mapping || mapping->device != maps_device(context_.files.device())) return;
  // A file is mapped in several pieces, and what is open as well was found already.
  if (context_.files.is_known_outside(mapping->inode)) return;
  if (!inodes_.insert(mapping->inode).second) return;
  const std::string name = map_files_name(mapping->range);
  const auto status = remembered_status(map_files, name);
  const std::string path = decode_octal_escapes(mapping->path);
  const bool contained = status ? context_.files.contains_link(map_files, name, *status)
                                : context_.files.contains_path(mounts_, path);
  if (contained) add("mapped file", path, mapping->inode);
}

}  // namespace fscryptctl
