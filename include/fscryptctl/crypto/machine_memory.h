#pragma once

#include <cstdint>
#include <string>

namespace fscryptctl {

/// The memory in KiB that machine and control groups give this process: the smallest of MemTotal
/// and of the limits of every control group from this process's own up to the root (version 2:
/// memory.max and memory.high, above which a process is slowed to a crawl; version 1:
/// memory.limit_in_bytes). What cannot be read limits nothing. `root` is "/", or in tests a
/// directory with files as /proc and /sys hold them.
[[nodiscard]] std::uint64_t machine_memory_kib(const std::string& root);

}  // namespace fscryptctl
