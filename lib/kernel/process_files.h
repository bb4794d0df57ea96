#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "file_set.h"
#include "fscryptctl/base/file.h"
#include "fscryptctl/base/mount_table.h"
#include "fscryptctl/kernel/holders.h"

namespace fscryptctl {

/// Names in an open directory of /proc or /sys; nullopt if it cannot be read (any more).
[[nodiscard]] std::optional<std::vector<std::string>> names_in(int directory);

/// What is the same for all processes.
struct ScanContext {
  FileSet& files;
  dev_t anonymous_device;                        ///< of inotify instances and the like
  std::map<std::uint64_t, std::string> sockets;  ///< bound in its directories: inode and path
};

/// Finds what one process has in use.
class ProcessFiles {
 public:
  /// `process` is the process's directory in /proc, which stays that process's even when its
  /// number is given to another; `mounts` is its table of mounts.
  ProcessFiles(ScanContext& context, pid_t pid, int process, const std::vector<Mount>& mounts);

  /// Adds to `holders`. False if not everything could be looked at.
  [[nodiscard]] bool find(std::vector<Holder>& holders);

 private:
  void find_link(const std::string& link, const std::string& kind);
  void find_descriptors();
  void find_descriptor(int fds, const std::string& number);
  void find_watches(const std::string& number);
  void find_mappings();
  void find_mapping(std::string_view line, int map_files);
  [[nodiscard]] bool is_in_uninterruptible_sleep() const;
  void add(const std::string& kind, const std::string& path, std::uint64_t inode);

  ScanContext& context_;
  pid_t pid_;
  int process_;
  const std::vector<Mount>& mounts_;
  std::set<std::pair<std::string, std::string>> found_;  ///< kind and path
  std::set<std::uint64_t> inodes_;  ///< of files that were found, and of mappings
  bool complete_ = true;
};

/// The name and effective user of the process whose directory in /proc this is; nullopt once it is
/// gone, and with it whatever it had in use.
[[nodiscard]] std::optional<Holder> describe_process(int process, pid_t pid);

}  // namespace fscryptctl
