#include "fscryptctl/crypto/machine_memory.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <string>

#include "support/temporary_directory.h"

namespace fscryptctl {
namespace {

constexpr std::uint64_t kGiB = 1024UL * 1024;  // in KiB

/// A machine with 8 GiB, in a directory.
class Machine {
 public:
  Machine() { file("proc/meminfo", "MemTotal:        8388608 kB\nMemFree:  1000 kB\n"); }

  Machine& file(const std::string& name, const std::string& text) {
    const std::filesystem::path path = directory_.path() + "/" + name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
    return *this;
  }
  [[nodiscard]] std::uint64_t memory_kib() const { return machine_memory_kib(directory_.path()); }

 private:
  test::TemporaryDirectory directory_;
};

TEST_CASE("a machine without control groups has its own memory") {
  CHECK(Machine().memory_kib() == 8 * kGiB);
}

TEST_CASE("a control group's limit counts, with its unit of bytes") {
  Machine machine;
  machine.file("proc/self/cgroup", "0::/user.slice/session.scope\n")
      .file("sys/fs/cgroup/user.slice/session.scope/memory.max", "1073741824\n");
  CHECK(machine.memory_kib() == kGiB);
}

TEST_CASE("the smallest limit on the way to the root counts") {
  Machine machine;
  machine.file("proc/self/cgroup", "0::/a/b/c\n")
      .file("sys/fs/cgroup/a/b/c/memory.max", "max\n")
      .file("sys/fs/cgroup/a/b/memory.max", "4294967296\n")
      .file("sys/fs/cgroup/a/memory.max", "2147483648\n");
  CHECK(machine.memory_kib() == 2 * kGiB);
  machine.file("sys/fs/cgroup/memory.max", "1073741824\n");
  CHECK(machine.memory_kib() == kGiB);
}

TEST_CASE("a limit above which the process would crawl counts as well") {
  Machine machine;
  machine.file("proc/self/cgroup", "0::/a\n")
      .file("sys/fs/cgroup/a/memory.max", "4294967296\n")
      .file("sys/fs/cgroup/a/memory.high", "2147483648\n");
  CHECK(machine.memory_kib() == 2 * kGiB);
}

TEST_CASE("a group's limit above the machine's memory changes nothing") {
  Machine machine;
  machine.file("proc/self/cgroup", "0::/a\n").file("sys/fs/cgroup/a/memory.max", "1099511627776\n");
  CHECK(machine.memory_kib() == 8 * kGiB);
}

TEST_CASE("limits of other groups do not count") {
  Machine machine;
  machine.file("proc/self/cgroup", "0::/a/b\n")
      .file("sys/fs/cgroup/a/bb/memory.max", "1024\n")
      .file("sys/fs/cgroup/a/b/c/memory.max", "1024\n")
      .file("sys/fs/cgroup/b/memory.max", "1024\n");
  CHECK(machine.memory_kib() == 8 * kGiB);
}

TEST_CASE("version 1 of control groups counts where the memory controller is") {
  Machine machine;
  machine.file("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/a/b\n1:name=systemd:/y\n")
      .file("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n")
      .file("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1073741824\n")
      .file("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "1024\n");
  CHECK(machine.memory_kib() == kGiB);
  machine.file("proc/self/cgroup", "4:hugetlb,memory:/a/b\n");
  CHECK(machine.memory_kib() == kGiB);
  machine.file("proc/self/cgroup", "4:memoryless:/a/b\n");
  CHECK(machine.memory_kib() == 8 * kGiB);
}

TEST_CASE("in a container the limit is found at the root that it sees") {
  const auto group = GENERATE("/", "/docker/0123", "/../../other", "/gone (deleted)");
  CAPTURE(group);
  Machine machine;
  machine.file("proc/self/cgroup", "0::" + std::string(group) + "\n")
      .file("sys/fs/cgroup/memory.max", "1073741824\n");
  CHECK(machine.memory_kib() == kGiB);
}

TEST_CASE("files that say nothing limit nothing") {
  const auto text = GENERATE("", "max\n", "nonsense\n", "-1\n", "99999999999999999999999\n");
  CAPTURE(text);
  Machine machine;
  machine.file("proc/self/cgroup", "0::/a\n").file("sys/fs/cgroup/a/memory.max", text);
  CHECK(machine.memory_kib() == 8 * kGiB);
  machine.file("proc/self/cgroup", text);
  CHECK(machine.memory_kib() == 8 * kGiB);
}

TEST_CASE("without /proc the kernel is asked") {
  const test::TemporaryDirectory empty;
  CHECK(machine_memory_kib(empty.path()) > 1024);
  CHECK(machine_memory_kib(empty.path()) < (std::uint64_t{1} << 50U));
}

}  // namespace
}  // namespace fscryptctl
