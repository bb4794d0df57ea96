#include "fscryptctl/crypto/secret.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <concepts>
#include <cstdint>
#include <fstream>
#include <ostream>
#include <sstream>
#include <string>
#include <type_traits>

#include "support/child_process.h"

namespace fscryptctl {
namespace {

template <class T>
concept Printable = requires(std::ostream& out, const T& value) {
  out << value;
};

// A secret cannot be copied, compared, printed or become a string by mistake.
static_assert(!std::is_copy_constructible_v<SecretBytes>);
static_assert(!std::is_copy_assignable_v<SecretBytes>);
static_assert(std::is_nothrow_move_constructible_v<SecretBytes>);
static_assert(!std::equality_comparable<SecretBytes>);
static_assert(!Printable<SecretBytes>);
static_assert(!std::is_convertible_v<SecretBytes, std::string>);
static_assert(!std::is_convertible_v<SecretBytes, ByteView>);
static_assert(!std::is_convertible_v<ByteView, SecretBytes>);

// A key of one role is no key of another, not even of the same size.
template <class A, class B>
constexpr bool kUnrelated =
    !std::is_constructible_v<A, B> && !std::is_convertible_v<B, A> && !std::is_assignable_v<A&, B>;
static_assert(kUnrelated<PolicyKey, ProtectorKey> && kUnrelated<ProtectorKey, PolicyKey>);
static_assert(kUnrelated<WrappingKey, ProtectorKey> && kUnrelated<ProtectorKey, WrappingKey>);
static_assert(kUnrelated<WrappingKey, PolicyKey> && kUnrelated<PolicyKey, WrappingKey>);
static_assert(!std::is_copy_constructible_v<PolicyKey> && !Printable<PolicyKey>);
static_assert(!std::equality_comparable<PolicyKey>);
static_assert(!std::is_convertible_v<SecretBytes, PolicyKey>);

// AddressSanitizer replaces mlock() by nothing, which says that it worked.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kLockingWorks = false;
#else
constexpr bool kLockingWorks = true;
#endif

constexpr std::array<std::uint8_t, 5> kSecret{1, 2, 3, 4, 5};

SecretBytes secret() { return SecretBytes(ByteView(kSecret)); }

bool holds(const SecretBytes& secret, ByteView bytes) {
  return std::ranges::equal(secret.view(), bytes);
}

bool all_zero(ByteView bytes) {
  return std::ranges::all_of(bytes, [](std::uint8_t byte) { return byte == 0; });
}

/// The kernel's flags of the mapping that `address` lies in, "rd wr mr ...".
std::string mapping_flags(const void* address) {
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  std::ifstream smaps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(smaps, line);) {
    std::uintptr_t first = 0;
    std::uintptr_t last = 0;
    char dash = 0;
    std::istringstream words(line);
    if (words >> std::hex >> first >> dash >> last && dash == '-') {
      inside = first <= wanted && wanted < last;
    }
    if (inside && line.starts_with("VmFlags:")) return line.substr(8) + " ";
  }
  return "";
}

/// Holds on to the physical page of some memory, past the memory's own end.
class PinnedPage {
 public:
  explicit PinnedPage(ByteView memory) : size_(memory.size()) {
    REQUIRE(pipe(ends_) == 0);
    const iovec part{const_cast<std::uint8_t*>(memory.data()), memory.size()};
    REQUIRE(vmsplice(ends_[1], &part, 1, 0) == static_cast<ssize_t>(memory.size()));
  }
  ~PinnedPage() {
    close(ends_[0]);
    close(ends_[1]);
  }
  PinnedPage(const PinnedPage&) = delete;
  PinnedPage& operator=(const PinnedPage&) = delete;

  [[nodiscard]] Bytes contents() const {
    Bytes bytes(size_);
    REQUIRE(read(ends_[0], bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    return bytes;
  }

 private:
  std::size_t size_;
  int ends_[2]{};
};

TEST_CASE("a new secret is zero, of the size asked for, and writable") {
  SecretBytes secret(10000);
  CHECK(secret.size() == 10000);
  CHECK(all_zero(secret.view()));
  secret.writable().back() = 7;
  CHECK(secret.view().back() == 7);
}

TEST_CASE("an empty secret has no memory and no bytes") {
  CHECK(SecretBytes().empty());
  CHECK(SecretBytes(0).empty());
  CHECK(SecretBytes(ByteView{}).view().empty());
}

TEST_CASE("a secret too large for the address space is refused, not made small") {
  CHECK_THROWS_AS(SecretBytes(SIZE_MAX), std::bad_alloc);
  CHECK_THROWS_AS(SecretBytes(SIZE_MAX - 5000), std::bad_alloc);
}

TEST_CASE("moving a secret leaves nothing behind") {
  SecretBytes first = secret();
  const std::uint8_t* memory = first.view().data();
  SecretBytes second(std::move(first));
  CHECK(holds(second, kSecret));
  CHECK(second.view().data() == memory);
  CHECK(first.empty());  // NOLINT(bugprone-use-after-move): this is what is promised

  SecretBytes third(100);
  third = std::move(second);
  CHECK(holds(third, kSecret));
  CHECK(second.empty());  // NOLINT(bugprone-use-after-move)

  SecretBytes& same = third;
  third = std::move(same);
  CHECK(holds(third, kSecret));
}

TEST_CASE("a secret that goes out of scope is wiped from memory") {
  const auto end = GENERATE(0, 1, 2);
  SecretBytes outer;
  {
    SecretBytes inner = secret();
    const PinnedPage before(inner.view());
    REQUIRE(std::ranges::equal(before.contents(), kSecret));
    const PinnedPage after(inner.view());
    if (end == 0) inner = SecretBytes();
    if (end == 1) {
      outer = std::move(inner);
      outer = secret();
    }
    if (end == 2) {
      SecretBytes last = std::move(inner);
    }
    CHECK(all_zero(after.contents()));
  }
}

TEST_CASE("what truncation cuts off is wiped, also when the rest goes") {
  SecretBytes shortened = secret();
  const ByteView whole = shortened.view();
  shortened.truncate(2);
  CHECK(holds(shortened, ByteView(kSecret).first(2)));
  CHECK(all_zero(whole.subspan(2)));
  shortened.truncate(0);
  CHECK(shortened.empty());
  CHECK(all_zero(whole));
}

TEST_CASE("a secret's pages are locked and left out of core dumps") {
  const SecretBytes held = secret();
  const std::string flags = mapping_flags(held.view().data());
  CAPTURE(flags);
  CHECK(flags.find(" dd ") != std::string::npos);
  if (kLockingWorks && SecretBytes::all_locked()) CHECK(flags.find(" lo ") != std::string::npos);
}

TEST_CASE("ordinary memory has not these flags, so that looking at them means something") {
  const std::uint8_t on_stack = 0;
  CHECK(mapping_flags(&on_stack).find(" dd ") == std::string::npos);
}

TEST_CASE("two secrets share no page, so that unlocking one leaves the other locked") {
  const SecretBytes a = secret();
  SecretBytes b = secret();
  const auto distance = static_cast<std::size_t>(std::abs(a.view().data() - b.view().data()));
  CHECK(distance >= static_cast<std::size_t>(sysconf(_SC_PAGESIZE)));
  b = SecretBytes();
  if (kLockingWorks && SecretBytes::all_locked()) {
    CHECK(mapping_flags(a.view().data()).find(" lo ") != std::string::npos);
  }
}

TEST_CASE("a forked child that works for its parent still finds the key") {
  const SecretBytes held = secret();
  CHECK(test::holds_in_child([&] { return holds(held, kSecret); }));
}

TEST_CASE("where nothing may be locked secrets work, and it is known") {
  CHECK(test::holds_in_child([] {
    const rlimit none{0, 0};
    if (!test::become_ordinary_user() || setrlimit(RLIMIT_MEMLOCK, &none) != 0) return false;
    const SecretBytes held = secret();
    return holds(held, kSecret) && SecretBytes::all_locked() != kLockingWorks;
  }));
}

TEST_CASE("secrets are equal if their bytes are") {
  CHECK(equal_secrets(secret(), secret()));
  CHECK(equal_secrets(SecretBytes(), SecretBytes()));
  CHECK_FALSE(equal_secrets(secret(), SecretBytes()));
  CHECK_FALSE(equal_secrets(secret(), SecretBytes(ByteView(kSecret).first(4))));
  SecretBytes other = secret();
  other.writable().back() ^= 0x80;
  CHECK_FALSE(equal_secrets(secret(), other));
}

TEST_CASE("a key takes exactly its own number of bytes") {
  CHECK(PolicyKey(SecretBytes(64)).view().size() == 64);
  CHECK(all_zero(ProtectorKey().view()));
  CHECK_THROWS_AS(PolicyKey(SecretBytes(63)), std::invalid_argument);
  CHECK_THROWS_AS(PolicyKey(SecretBytes(65)), std::invalid_argument);
  CHECK_THROWS_AS(ProtectorKey(SecretBytes()), std::invalid_argument);
}

}  // namespace
}  // namespace fscryptctl
