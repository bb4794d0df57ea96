#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <string>

#include "fscryptctl/base/file.h"
#include "output.h"

namespace fscryptctl::test {

/// A file in memory that can be read back.
class CapturedStream {
 public:
  CapturedStream() : fd_(memfd_create("captured", MFD_CLOEXEC)) {}

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] std::string text() const {
    std::string result;
    std::array<char, 4096> buffer{};
    for (;;) {
      const ssize_t count =
          pread(fd_.get(), buffer.data(), buffer.size(), static_cast<off_t>(result.size()));
      if (count <= 0) return result;
      result.append(buffer.data(), static_cast<std::size_t>(count));
    }
  }

 private:
  UniqueFd fd_;
};

/// An Output whose standard output and error can be read back.
struct CapturedOutput {
  CapturedStream out_stream;
  CapturedStream err_stream;
  Output output{out_stream.fd(), err_stream.fd()};

  [[nodiscard]] std::string out() const { return out_stream.text(); }
  [[nodiscard]] std::string err() const { return err_stream.text(); }
  /// Standard output as the one JSON object that it must be.
  [[nodiscard]] Json json() const { return Json::parse(out()); }
};

}  // namespace fscryptctl::test
