#include "fscryptctl/crypto/machine_memory.h"

#include <fcntl.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <string_view>

#include "fscryptctl/base/proc_file.h"

namespace fscryptctl {
namespace {

constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

std::string read_text(const std::string& path) {
  // MemTotal is the first line, /proc/self/cgroup has one line for each hierarchy: both are short.
  constexpr std::size_t kLimit = 64UL * 1024;
  return read_proc_file(AT_FDCWD, path, kLimit).value_or("");
}

/// Cuts the text before `separator` off the front of `text`, the separator too.
std::string_view take_until(std::string_view& text, char separator) {
  const std::size_t end = text.find(separator);
  const std::string_view taken = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return taken;
}

/// The number at the start of `text` after blanks; nullopt for "max" and everything else.
std::optional<std::uint64_t> leading_number(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  std::uint64_t number = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), number);
  if (result.ec != std::errc()) return std::nullopt;
  return number;
}

std::uint64_t physical_memory_kib(const std::string& root) {
  const std::string text = read_text(root + "proc/meminfo");
  std::string_view rest = text;
  while (!rest.empty()) {
    std::string_view line = take_until(rest, '\n');
    if (take_until(line, ':') != "MemTotal") continue;
    if (const auto kib = leading_number(line)) return *kib;
  }
  struct sysinfo info {};
  if (sysinfo(&info) != 0) return kUnlimited;
  return std::uint64_t{info.totalram} * info.mem_unit / 1024;
}

std::uint64_t limit_of_file_kib(const std::string& path) {
  const auto bytes = leading_number(read_text(path));
  return bytes ? *bytes / 1024 : kUnlimited;
}

/// The smallest limit of the group `group` ("/a/b") and of all that contain it. A group that is not
/// there is passed over: in a container the path may be the host's, and only the root be visible.
template <std::size_t N>
std::uint64_t smallest_limit_kib(const std::string& hierarchy, std::string group,
                                 const std::string_view (&files)[N]) {
  std::uint64_t smallest = kUnlimited;
  // A path through ".." leads out of the container's own hierarchy.
  if (group.find("/..") != std::string::npos) group.clear();
  while (true) {
    while (group.ends_with('/')) group.pop_back();
    for (const std::string_view file : files) {
      smallest = std::min(smallest, limit_of_file_kib(hierarchy + group + "/" + std::string(file)));
    }
    if (group.empty()) return smallest;
    group.erase(std::min(group.rfind('/'), group.size()));
  }
}

bool has_memory_controller(std::string_view controllers) {
  while (!controllers.empty()) {
    if (take_until(controllers, ',') == "memory") return true;
  }
  return false;
}

/// Of one line of /proc/self/cgroup, "HIERARCHY:CONTROLLERS:PATH"; version 2 has no controllers.
std::uint64_t control_group_limit_kib(const std::string& root, std::string_view line) {
  static constexpr std::string_view kVersion2[] = {"memory.max", "memory.high"};
  static constexpr std::string_view kVersion1[] = {"memory.limit_in_bytes"};
  take_until(line, ':');
  const std::string_view controllers = take_until(line, ':');
  const std::string group(line);
  if (controllers.empty()) return smallest_limit_kib(root + "sys/fs/cgroup", group, kVersion2);
  if (!has_memory_controller(controllers)) return kUnlimited;
  return smallest_limit_kib(root + "sys/fs/cgroup/memory", group, kVersion1);
}

}  // namespace

std::uint64_t machine_memory_kib(const std::string& root) {
  const std::string base = root.ends_with('/') ? root : root + "/";
  std::uint64_t memory = physical_memory_kib(base);
  const std::string groups = read_text(base + "proc/self/cgroup");
  std::string_view rest = groups;
  while (!rest.empty()) {
    memory = std::min(memory, control_group_limit_kib(base, take_until(rest, '\n')));
  }
  return memory;
}

}  // namespace fscryptctl
