#include "fscryptctl/kernel/holders.h"

#include <fcntl.h>
#include <sys/inotify.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "file_set.h"
#include "files_below.h"
#include "fscryptctl/base/file.h"
#include "fscryptctl/base/mount_table.h"
#include "fscryptctl/base/proc_file.h"
#include "keyed_files.h"
#include "proc_text.h"
#include "process_files.h"

namespace fscryptctl {
namespace {

// Whoever has to close this many can look again; and nobody waits longer for a list.
constexpr std::size_t kMaxHolders = 1000;
constexpr std::chrono::seconds kTimeLimit{3};

constexpr std::size_t kMaxTable = std::size_t{64} << 20U;

/// A mount as somebody sees it: the directory of the filesystem, and where it is shown.
using MountName = std::pair<std::string, std::string>;

dev_t anonymous_device() {
  const UniqueFd sample(inotify_init1(IN_CLOEXEC));
  const auto status = remembered_status(sample.get(), "");
  return sample && status ? device_of(*status) : 0;
}

/// Sockets that are bound to a name in a directory of the set: inode and path. A process that has
/// one open keeps the directory in use, and its descriptor does not tell.
std::map<std::uint64_t, std::string> bound_sockets(FileSet& files,
                                                   const std::vector<Mount>& mounts) {
  std::map<std::uint64_t, std::string> sockets;
  const auto text = read_proc_file(AT_FDCWD, "/proc/net/unix", kMaxTable);
  std::string_view lines = text ? std::string_view(*text) : std::string_view();
  while (!lines.empty()) {
    // Address, count, protocol, flags, type, state, inode, path.
    std::string_view line = take_until(lines, '\n');
    constexpr int kColumnsBeforeInode = 6;
    for (int column = 0; column < kColumnsBeforeInode; ++column) take_column(line);
    const auto inode = parse_number<std::uint64_t>(take_column(line), 10);
    if (!inode || !line.starts_with('/')) continue;
    if (files.contains_directory_of_path(mounts, line)) sockets.emplace(*inode, line);
  }
  return sockets;
}

/// The directories that an overlay is made of, as its mounter named them.
std::vector<std::string> overlay_layers(const Mount& overlay) {
  std::vector<std::string> layers;
  for (const std::string& option : filesystem_options(overlay)) {
    std::string_view value = option;
    const std::string_view name = take_until(value, '=');
    if (name == "upperdir" || name == "workdir" || name == "lowerdir+" || name == "datadir+") {
      layers.emplace_back(value);
    }
    if (name != "lowerdir") continue;
    layers.emplace_back();
    for (std::size_t i = 0; i < value.size(); ++i) {
      if (value[i] == ':') {
        layers.emplace_back();
        continue;
      }
      if (value[i] == '\\' && i + 1 < value.size()) ++i;
      layers.back().push_back(value[i]);
    }
  }
  return layers;
}

class Scan {
 public:
  explicit Scan(FileSet& files) : files_(files), own_mounts_(read_mount_table()) {
    files_.learn(own_mounts_);
  }

  HolderScan run() {
    find_mounts(own_mounts_, Holder{0, 0, {}, "mount", {}});
    find_loop_devices();
    find_swap_files();
    find_processes();
    if (result_.holders.size() > kMaxHolders) {
      result_.holders.resize(kMaxHolders);
      result_.complete = false;
    }
    return std::move(result_);
  }

 private:
  void add(Holder holder) { result_.holders.push_back(std::move(holder)); }

  [[nodiscard]] bool is_over_limit() const {
    return result_.holders.size() >= kMaxHolders ||
           std::chrono::steady_clock::now() - start_ >= kTimeLimit;
  }

  [[nodiscard]] bool keeps_in_use(const Mount& mount, const std::vector<Mount>& mounts) {
    if (mount.device == files_.device() && mount.root != "/" && files_.contains_place(mount.root)) {
      return true;
    }
    // Whatever it shows, what it covers cannot go.
    const Mount* const parent = find_mount(mounts, mount.parent_id);
    if (parent != nullptr && parent->device == files_.device()) {
      const auto covered = place_on(*parent, mount.mount_point);
      if (covered && *covered != "/" && files_.contains_place(*covered)) return true;
    }
    if (mount.type != "overlay") return false;
    const std::vector<std::string> layers = overlay_layers(mount);
    return std::ranges::any_of(
        layers, [&](const std::string& layer) { return files_.contains_path(mounts, layer); });
  }

  void find_mounts(const std::vector<Mount>& mounts, Holder holder) {
    for (const Mount& mount : mounts) {
      // Namespaces share mounts: one entry says enough, and the own namespace comes first.
      if (!keeps_in_use(mount, mounts)) continue;
      if (!mounts_found_.emplace(mount.root, mount.mount_point).second) continue;
      holder.path = mount.mount_point;
      add(holder);
    }
  }

  void find_loop_devices() {
    const UniqueFd devices(open("/sys/block", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    for (const std::string& name : names_in(devices.get()).value_or(std::vector<std::string>{})) {
      if (!name.starts_with("loop")) continue;
      auto path = read_proc_file(AT_FDCWD, "/sys/block/" + name + "/loop/backing_file", kMaxTable);
      if (!path) continue;
      if (path->ends_with('\n')) path->pop_back();
      if (!files_.contains_path(own_mounts_, *path)) continue;
      add({0, 0, name, "loop device", *path});
    }
  }

  void find_swap_files() {
    const auto text = read_proc_file(AT_FDCWD, "/proc/swaps", kMaxTable);
    std::string_view lines = text ? std::string_view(*text) : std::string_view();
    take_until(lines, '\n');  // the heading
    while (!lines.empty()) {
      std::string_view line = take_until(lines, '\n');
      const std::string path = decode_octal_escapes(take_until(line, ' '));
      if (files_.contains_path(own_mounts_, path)) add({0, 0, {}, "swap file", path});
    }
  }

  void find_processes() {
    const UniqueFd proc(open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const auto names = names_in(proc.get());
    // Where the first process cannot be seen, those of other users are hidden (hidepid).
    if (!names || !remembered_status(proc.get(), "1")) result_.complete = false;
    ScanContext context{files_, anonymous_device(), bound_sockets(files_, own_mounts_)};
    const auto own = remembered_status(proc.get(), "self/ns/mnt");
    if (own) tables_.emplace(own->stx_ino, own_mounts_);
    for (const std::string& name : names.value_or(std::vector<std::string>{})) {
      const auto pid = parse_number<pid_t>(name, 10);
      if (!pid) continue;
      if (is_over_limit()) {
        result_.complete = false;
        return;
      }
      const UniqueFd process(openat(proc.get(), name.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
      if (process) find_process(context, *pid, process.get());
    }
  }

  void find_process(ScanContext& context, pid_t pid, int process) {
    ProcessFiles files(context, pid, process, mounts_of(process, pid));
    if (!files.find(result_.holders)) result_.complete = false;
  }

  /// The mount table of a process; the first time that its namespace is met, its mounts are looked
  /// at as well.
  const std::vector<Mount>& mounts_of(int process, pid_t pid) {
    const auto space = remembered_status(process, "ns/mnt");
    if (!space) return own_mounts_;
    const auto known = tables_.find(space->stx_ino);
    if (known != tables_.end()) return known->second;
    const auto text = read_proc_file(process, "mountinfo", kMaxTable);
    const auto& mounts =
        tables_.emplace(space->stx_ino, parse_mountinfo(text ? *text : std::string()))
            .first->second;
    files_.learn(mounts);
    if (std::optional<Holder> holder = describe_process(process, pid)) {
      holder->kind = "mount";
      find_mounts(mounts, std::move(*holder));
    }
    return mounts;
  }

  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  FileSet& files_;
  std::vector<Mount> own_mounts_;
  std::map<std::uint64_t, std::vector<Mount>> tables_;  ///< by mount namespace
  std::set<MountName> mounts_found_;
  HolderScan result_{{}, true};
};

}  // namespace

HolderScan find_holders(Kernel& kernel, int fs_fd, const KeySpecifier& key) {
  KeyedFiles files(kernel, fs_fd, key);
  return Scan(files).run();
}

HolderScan find_holders_below(int fs_fd, const std::string& place) {
  FilesBelow files(fs_fd, place);
  return Scan(files).run();
}

}  // namespace fscryptctl
