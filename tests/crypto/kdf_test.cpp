#include "fscryptctl/crypto/kdf.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <future>
#include <sstream>
#include <string>
#include <string_view>

#include "fscryptctl/base/error.h"
#include "support/child_process.h"

namespace fscryptctl {
namespace {

using namespace std::string_literals;

KdfSalt salt() {
  KdfSalt salt;
  std::ranges::copy(std::string_view("0123456789abcdef"), salt.begin());
  return salt;
}

SecretBytes passphrase(std::string_view text) { return SecretBytes(as_bytes(text)); }

std::string derived_hex(std::string_view text, const KdfCosts& costs) {
  return to_hex(derive_wrapping_key(passphrase(text), salt(), costs).view());
}

TEST_CASE("keys come out as the argon2 command makes them") {
  CHECK(derived_hex("correct horse", {1, 64, 1}) ==
        "32364fd7ed54f4951b0d6bc3bed2f212c66235738a114c5f8ba3b6a1ee3abb10");
  CHECK(derived_hex("correct horse", {3, 1024, 4}) ==
        "8b98585ada6f12f73c4a46b1dc549fb7e19d75762349343a5ee34712157ea3c7");
  CHECK(derived_hex("correct horse", {2, 70, 3}) ==
        "48acd45591c3c6ed8db1aaa280b7053c384d1a2e3f172ec66a0a3201f87d1a80");
  CHECK(derived_hex("p\xc3\xb6 \xff\x01" + std::string(100, 'x'), {1, 64, 1}) ==
        "4e8b7fcad6f4508570799c14d7ee393a96b818ad963938bb9a490e89bff80ae8");
}

TEST_CASE("passphrase, salt and every cost change the key") {
  const KdfCosts costs{2, 64, 2};
  const std::string key = derived_hex("a", costs);
  CHECK(derived_hex("a", costs) == key);
  CHECK(derived_hex("b", costs) != key);
  CHECK(derived_hex("a ", costs) != key);
  CHECK(derived_hex("a\0"s, costs) != key);
  CHECK(derived_hex("a", {3, 64, 2}) != key);
  CHECK(derived_hex("a", {2, 72, 2}) != key);
  CHECK(derived_hex("a", {2, 64, 1}) != key);
  KdfSalt other = salt();
  other[15] ^= 1;
  CHECK(to_hex(derive_wrapping_key(passphrase("a"), other, costs).view()) != key);
}

TEST_CASE("hashing leaves the passphrase as it was") {
  const SecretBytes typed = passphrase("correct horse");
  (void)derive_wrapping_key(typed, salt(), {1, 64, 1});
  CHECK(equal_secrets(typed, passphrase("correct horse")));
}

TEST_CASE("passphrases of every length are hashed in full") {
  const KdfCosts costs{1, 8, 1};
  const std::string longest(kMaxPassphraseSize, 'x');
  CHECK(derived_hex(longest, costs) != derived_hex(longest.substr(1), costs));
  CHECK_FALSE(derived_hex("", costs).empty());
}

TEST_CASE("the most lanes that a record may ask for are hashed, on any machine") {
  CHECK(derived_hex("a", {1, 8 * 255, 255}) != derived_hex("a", {1, 8 * 255, 254}));
}

TEST_CASE("costs that Argon2 or the format do not allow are told apart") {
  CHECK(valid_costs({1, 8, 1}));
  CHECK(valid_costs({UINT32_MAX, UINT32_MAX, 255}));
  CHECK(valid_costs({1, 2040, 255}));
  const KdfCosts wrong =
      GENERATE(KdfCosts{0, 64, 1}, KdfCosts{1, 64, 0}, KdfCosts{1, 4096, 256}, KdfCosts{1, 7, 1},
               KdfCosts{1, 0, 1}, KdfCosts{1, 2039, 255}, KdfCosts{1, 64, UINT32_MAX});
  CHECK_FALSE(valid_costs(wrong));
  CHECK_THROWS_AS(derive_wrapping_key(passphrase("a"), salt(), wrong), Error);
}

/// Hashes under a limit of threads that an ordinary user has reached, or nearly.
bool same_key_with_thread_limit(rlim_t processes, const SecretBytes& typed, const KdfCosts& costs,
                                const WrappingKey& expected) {
  return test::holds_in_child([&] {
    const rlimit limit{processes, processes};
    if (!test::become_ordinary_user() || setrlimit(RLIMIT_NPROC, &limit) != 0) return false;
    const WrappingKey key = derive_wrapping_key(typed, salt(), costs);
    return equal_secrets(key.secret(), expected.secret());
  });
}

TEST_CASE("where no thread, or not every thread, can be made the same key comes out") {
  const SecretBytes typed = passphrase("correct horse");
  const KdfCosts costs{2, 8192, 4};
  const WrappingKey expected = derive_wrapping_key(typed, salt(), costs);
  // The child itself is the first process of its user; what follows are threads.
  CHECK(same_key_with_thread_limit(1, typed, costs, expected));
  CHECK(same_key_with_thread_limit(2, typed, costs, expected));
  CHECK(same_key_with_thread_limit(3, typed, costs, expected));
}

/// The flags of a mapping of at least `size_kib`, "rd wr mr ...", or nothing.
std::string flags_of_large_mapping(std::size_t size_kib) {
  std::ifstream smaps("/proc/self/smaps");
  bool large = false;
  bool resident = false;
  for (std::string line; std::getline(smaps, line);) {
    std::istringstream words(line);
    std::string name;
    std::size_t value = 0;
    words >> name >> value;
    if (name == "Size:") large = value >= size_kib && value < size_kib + 16;
    if (name == "Rss:") resident = value > 0;
    if (name == "VmFlags:" && large && resident) return line.substr(8) + " ";
  }
  return "";
}

TEST_CASE("Argon2's memory is not dumped, not inherited, not locked, and gone afterwards") {
  constexpr std::uint32_t kMemoryKib = 48 * 1024 + 64;
  std::future<WrappingKey> hashing = std::async(std::launch::async, [] {
    return derive_wrapping_key(passphrase("a"), salt(), {12, kMemoryKib, 1});
  });
  std::string flags;
  while (flags.empty() && hashing.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    flags = flags_of_large_mapping(kMemoryKib);
  }
  (void)hashing.get();
  CAPTURE(flags);
  CHECK(flags.find(" dd ") != std::string::npos);
  CHECK(flags.find(" wf ") != std::string::npos);
  CHECK(flags.find(" lo ") == std::string::npos);
  CHECK(flags_of_large_mapping(kMemoryKib).empty());
}

TEST_CASE("hashing that finds no memory fails, and works again when there is some") {
  // The child's whole address space may grow by 64 MiB.
  CHECK(test::holds_in_child([] {
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlim_t used = pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE));
    const rlimit limit{used + (64UL << 20U), RLIM_INFINITY};
    if (setrlimit(RLIMIT_AS, &limit) != 0) return false;
    const SecretBytes typed = passphrase("correct horse");
    try {
      (void)derive_wrapping_key(typed, salt(), {1, 256 * 1024, 1});
      return false;
    } catch (const Error& error) {
      if (error.code() != Errc::io || error.sys_errno() != ENOMEM) return false;
    }
    return to_hex(derive_wrapping_key(typed, salt(), {1, 64, 1}).view()) ==
           "32364fd7ed54f4951b0d6bc3bed2f212c66235738a114c5f8ba3b6a1ee3abb10";
  }));
}

TEST_CASE("a machine's own limits allow what it would itself write") {
  const KdfLimits limits = machine_kdf_limits(std::nullopt);
  CHECK(limits.memory_kib >= default_memory_kib());
  CHECK(limits.memory_kib <= 1024 * 1024);
  CHECK(limits.memory_kib_passes == 16 * 1024 * 1024);
  CHECK(default_memory_kib() <= 128 * 1024);
  CHECK(default_lanes() >= 1);
  CHECK(default_lanes() <= 4);
  CHECK(valid_costs({1, default_memory_kib(), default_lanes()}));
}

TEST_CASE("the user's word raises the limits and never lowers them") {
  const KdfLimits usual = machine_kdf_limits(std::nullopt);
  const KdfLimits raised = machine_kdf_limits(8UL * 1024 * 1024);
  CHECK(raised.memory_kib == 8UL * 1024 * 1024);
  CHECK(raised.memory_kib_passes == 128UL * 1024 * 1024);
  CHECK(machine_kdf_limits(1).memory_kib == usual.memory_kib);
  CHECK(machine_kdf_limits(1).memory_kib_passes == usual.memory_kib_passes);
  CHECK(machine_kdf_limits(UINT64_MAX).memory_kib == UINT64_MAX);
  CHECK(machine_kdf_limits(UINT64_MAX).memory_kib_passes == UINT64_MAX);
}

bool within(const KdfCosts& costs, const KdfLimits& limits) {
  return !over_limit(costs, limits).has_value();
}

TEST_CASE("costs over a limit are refused, costs at the limit are not") {
  const KdfLimits limits{1000, 4000};
  CHECK(within({4, 1000, 1}, limits));
  CHECK(within({1, 1000, 1}, limits));
  CHECK_FALSE(within({1, 1001, 1}, limits));
  CHECK_FALSE(within({5, 1000, 1}, limits));
  CHECK_FALSE(within({4001, 1, 1}, limits));
  // Does not wrap around.
  CHECK_FALSE(within({UINT32_MAX, UINT32_MAX, 1}, {UINT32_MAX, 4000}));
}

TEST_CASE("costs below the usual recommendations are worth a warning") {
  CHECK_FALSE(weak_costs({2, 19 * 1024, 1}));
  CHECK_FALSE(weak_costs({1, 46 * 1024, 1}));
  CHECK(weak_costs({1, 19 * 1024, 1}));
  CHECK(weak_costs({2, 19 * 1024 - 1, 1}));
  CHECK(weak_costs({100, 64, 1}));
}

TEST_CASE("calibration gives valid costs and keeps to the memory given") {
  const auto [target_ms, memory_kib, lanes] = GENERATE(table<int, std::uint32_t, std::uint32_t>({
      {0, 65536, 2},
      {1, 65536, 2},
      {1, 8, 1},
      {20, 16, 2},
      {20, 4096, 1},
      {20, 65536, 255},
      {50, 65536, 2},
  }));
  CAPTURE(target_ms, memory_kib, lanes);
  const KdfCosts costs = calibrate(std::chrono::milliseconds(target_ms), memory_kib, lanes);
  CAPTURE(costs.passes, costs.memory_kib, costs.lanes);
  CHECK(valid_costs(costs));
  CHECK(costs.memory_kib <= memory_kib);
  CHECK(costs.lanes == lanes);
  CHECK(within(costs, machine_kdf_limits(std::nullopt)));
}

TEST_CASE("with too little memory for the lanes calibration takes fewer lanes") {
  CHECK(calibrate(std::chrono::milliseconds(1), 20, 4).lanes == 2);
  const KdfCosts least = calibrate(std::chrono::milliseconds(1), 0, 0);
  CHECK(valid_costs(least));
  CHECK(least.memory_kib == 8);
}

TEST_CASE("more time buys more work") {
  const auto work = [](int target_ms) {
    const KdfCosts costs = calibrate(std::chrono::milliseconds(target_ms), 8192, 1);
    return std::uint64_t{costs.passes} * costs.memory_kib;
  };
  // A factor of 100 in time, so that a busy machine's noise does not turn it around.
  CHECK(work(3) < work(300));
}

}  // namespace
}  // namespace fscryptctl
