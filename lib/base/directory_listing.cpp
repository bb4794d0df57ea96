#include "fscryptctl/base/directory_listing.h"

#include <dirent.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "fscryptctl/base/error.h"

namespace fscryptctl {

bool DirectoryListing::next(int fd, DirectoryEntry& entry) {
  constexpr std::size_t kBufferSize = 32768;
  while (true) {
    if (position_ == buffer_.size()) {
      buffer_.resize(kBufferSize);
      position_ = 0;
      const ssize_t size = getdents64(fd, buffer_.data(), buffer_.size());
      buffer_.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
      if (size < 0) throw system_error(errno, "cannot read a directory");
      if (size == 0) return false;
    }
    const char* const record = buffer_.data() + position_;
    std::uint16_t size = 0;
    std::memcpy(&size, record + offsetof(dirent64, d_reclen), sizeof size);
    std::memcpy(&entry.type, record + offsetof(dirent64, d_type), sizeof entry.type);
    entry.name = record + offsetof(dirent64, d_name);
    position_ += size;
    if (entry.name != "." && entry.name != "..") return true;
  }
}

void DirectoryListing::shrink() {
  buffer_.erase(0, position_);
  buffer_.shrink_to_fit();
  position_ = 0;
}

}  // namespace fscryptctl
