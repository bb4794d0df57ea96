#include "secret_file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "fscryptctl/base/error.h"
#include "signals.h"

namespace fscryptctl {
namespace {

// A FIFO is waited for: whoever writes into it may come later.
UniqueFd open_secret(const std::string& file) {
  for (;;) {
    UniqueFd fd(open(file.c_str(), O_RDONLY | O_NOCTTY | O_CLOEXEC));
    if (fd) return fd;
    const int problem = errno;
    if (problem != EINTR) throw system_error(problem, "opening " + printable(file)).with_path(file);
    throw_if_interrupted();
  }
}

}  // namespace

SecretFile::SecretFile(const std::string& file)
    : opened_(file == "-" ? UniqueFd() : open_secret(file)),
      fd_(file == "-" ? STDIN_FILENO : opened_.get()),
      name_(file == "-" ? "standard input" : printable(file)),
      path_(file == "-" ? "" : file) {}

std::size_t SecretFile::read_some(std::span<std::uint8_t> out) {
  for (;;) {
    wait_until_ready(fd_, POLLIN);
    const ssize_t count = ::read(fd_, out.data(), out.size());
    if (count >= 0) return static_cast<std::size_t>(count);
    if (errno == EINTR || errno == EAGAIN) continue;
    throw system_error(errno, "reading " + name_).with_path(path_);
  }
}

SecretBytes SecretFile::line() {
  std::optional<SecretBytes> line = next_line();
  if (!line) throw Error(Errc::missing_input, "end of input: " + name_).with_path(path_);
  if (line->empty()) {
    throw Error(Errc::usage, "the passphrase is empty: " + name_).with_path(path_);
  }
  return std::move(*line);
}

std::optional<SecretBytes> SecretFile::next_line() {
  SecretBytes line(kMaxPassphraseSize + 1);
  std::size_t size = 0;
  for (;;) {
    const std::span<std::uint8_t> next = line.writable().subspan(size, 1);
    if (read_some(next) == 0) {
      if (size == 0) return std::nullopt;
      break;
    }
    if (next[0] == '\n') break;
    if (next[0] == 0) {
      throw Error(Errc::usage, "a passphrase must not hold a NUL byte: " + name_).with_path(path_);
    }
    if (++size > kMaxPassphraseSize) {
      throw Error(Errc::usage, "a passphrase has at most " + std::to_string(kMaxPassphraseSize) +
                                   " bytes: " + name_)
          .with_path(path_);
    }
  }
  line.truncate(size);
  return line;
}

SecretBytes SecretFile::bytes(std::size_t size) {
  SecretBytes result(size);
  std::size_t have = 0;
  while (have < size) {
    const std::size_t count = read_some(result.writable().subspan(have));
    if (count == 0) break;
    have += count;
  }
  result.truncate(have);
  return result;
}

std::optional<std::uint64_t> SecretFile::remaining() const {
  struct stat info {};
  if (fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode)) return std::nullopt;
  const off_t position = lseek(fd_, 0, SEEK_CUR);
  if (position < 0) return std::nullopt;
  return info.st_size > position ? static_cast<std::uint64_t>(info.st_size - position) : 0;
}

SecretBytes without_comments(const SecretBytes& text) {
  SecretBytes rest(text.size());
  std::size_t size = 0;
  bool at_start = true;
  bool comment = false;
  for (const std::uint8_t byte : text.view()) {
    if (at_start) comment = byte == '#';
    at_start = byte == '\n';
    if (!comment) rest.writable()[size++] = byte;
  }
  rest.truncate(size);
  return rest;
}

}  // namespace fscryptctl
