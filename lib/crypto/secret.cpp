#include "fscryptctl/crypto/secret.h"

#include <openssl/crypto.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <new>

namespace fscryptctl {
namespace {

// Set once, never reset: what was once in unlocked memory may be on a swap device already.
std::atomic<bool>& some_unlocked() noexcept {
  static std::atomic<bool> value = false;
  return value;
}

/// `size` rounded up to whole pages: locking and dump flags apply to pages, and munlock() of a page
/// that two secrets share would unlock both.
std::size_t whole_pages(std::size_t size) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  if (size > std::numeric_limits<std::size_t>::max() - page) throw std::bad_alloc();
  return (size + page - 1) / page * page;
}

/// Private zero pages. No MADV_WIPEONFORK: a child that is forked to work for its parent (the PAM
/// module forks to act as the user) must not find zeros where the key was, for it would take them
/// for a key. A child that runs another program loses the pages with exec.
std::uint8_t* map_pages(std::size_t size) {
  void* pages = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  // Cannot fail on a mapping of our own, except where a kernel lacks it; then RLIMIT_CORE decides.
  (void)madvise(pages, size, MADV_DONTDUMP);
  if (mlock(pages, size) != 0) some_unlocked() = true;
  return static_cast<std::uint8_t*>(pages);
}

}  // namespace

SecretBytes::SecretBytes(std::size_t size) {
  if (size == 0) return;
  mapped_ = whole_pages(size);
  data_ = map_pages(mapped_);
  size_ = size;
}

SecretBytes::SecretBytes(ByteView bytes) : SecretBytes(bytes.size()) {
  std::copy(bytes.begin(), bytes.end(), data_);
}

SecretBytes::SecretBytes(SecretBytes&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      mapped_(std::exchange(other.mapped_, 0)) {}

SecretBytes& SecretBytes::operator=(SecretBytes&& other) noexcept {
  if (this != &other) {
    release();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    mapped_ = std::exchange(other.mapped_, 0);
  }
  return *this;
}

SecretBytes::~SecretBytes() { release(); }

void SecretBytes::truncate(std::size_t size) noexcept {
  if (size >= size_) return;
  explicit_bzero(data_ + size, size_ - size);
  size_ = size;
}

bool SecretBytes::all_locked() noexcept { return !some_unlocked(); }

void SecretBytes::release() noexcept {
  if (data_ == nullptr) return;
  // The whole mapping, not only size_ bytes: truncate() may have shortened it.
  explicit_bzero(data_, mapped_);
  (void)munmap(data_, mapped_);  // unlocks, too
  data_ = nullptr;
  size_ = 0;
  mapped_ = 0;
}

bool equal_secrets(const SecretBytes& a, const SecretBytes& b) noexcept {
  return a.size() == b.size() &&
         (a.empty() || CRYPTO_memcmp(a.view().data(), b.view().data(), a.size()) == 0);
}

}  // namespace fscryptctl
