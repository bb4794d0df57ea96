#include "contents.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

namespace fscryptctl {
namespace {

// Fits a processor's cache, so that what was read is written from there.
constexpr std::size_t kBufferSize = std::size_t{256} << 10;
/// After so much the kernel begins to write, and somebody may want to stop.
constexpr std::uint64_t kStep = std::uint64_t{4} << 20;

/// One for each thread, as long as that lives.
char* thread_buffer(std::size_t number) {
  thread_local const std::unique_ptr<char[]> buffer(new char[2 * kBufferSize]);
  return buffer.get() + number * kBufferSize;
}

/// As much as there is up to `size`.
std::size_t read_at(int fd, char* buffer, std::size_t size, std::uint64_t offset) {
  std::size_t done = 0;
  while (done < size) {
    const ssize_t count = pread(fd, buffer + done, size - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw system_error(errno, "cannot read the contents");
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  return done;
}

void write_at(int fd, const char* data, std::size_t size, std::uint64_t offset) {
  while (size > 0) {
    const ssize_t count = pwrite(fd, data, size, static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw system_error(errno, "cannot write the copy");
    data += count;
    size -= static_cast<std::size_t>(count);
    offset += static_cast<std::uint64_t>(count);
  }
}

std::size_t piece(std::uint64_t left) {
  return static_cast<std::size_t>(std::min<std::uint64_t>(kBufferSize, left));
}

/// Copies a range that has data. False if the source has become shorter.
bool copy_data(int source, int destination, ByteRange range, TreeProgress& progress,
               const Interruption& interruption) {
  char* const buffer = thread_buffer(0);
  std::uint64_t written_back = range.begin;
  for (std::uint64_t at = range.begin; at < range.end;) {
    const std::size_t wanted = piece(range.end - at);
    const std::size_t found = read_at(source, buffer, wanted, at);
    write_at(destination, buffer, found, at);
    at += found;
    progress.bytes += found;
    if (found < wanted) return false;
    if (at - written_back < kStep && at != range.end) continue;
    if (at - written_back >= kWrittenAtOnce) begin_writing(destination, {written_back, at});
    written_back = at;
    interruption.check();
  }
  return true;
}

/// The next place with data (SEEK_DATA) or without (SEEK_HOLE); `size` if there is none.
std::uint64_t seek_to(int fd, std::uint64_t offset, int what, std::uint64_t size) {
  const off_t found = lseek(fd, static_cast<off_t>(offset), what);
  if (found < 0 && errno == ENXIO) return size;
  if (found < 0 && errno == EINVAL) return what == SEEK_DATA ? offset : size;  // knows no holes
  if (found < 0) throw system_error(errno, "cannot look for holes");
  return std::min(static_cast<std::uint64_t>(found), size);
}

/// Where at least one of two files has data next; empty at the end of the range if neither has.
ByteRange next_data(int a, int b, ByteRange range) {
  const std::uint64_t end = range.end;
  const std::uint64_t begin =
      std::min(seek_to(a, range.begin, SEEK_DATA, end), seek_to(b, range.begin, SEEK_DATA, end));
  if (begin == end) return {end, end};
  return {begin, std::max(seek_to(a, begin, SEEK_HOLE, end), seek_to(b, begin, SEEK_HOLE, end))};
}

bool is_at_least(int fd, std::uint64_t size) { return entry_status(fd).size >= size; }

}  // namespace

void begin_writing(int fd, ByteRange range) {
  // What fails here may be told nowhere else.
  if (sync_file_range(fd, static_cast<off_t>(range.begin),
                      static_cast<off_t>(range.end - range.begin), SYNC_FILE_RANGE_WRITE) != 0) {
    throw system_error(errno, "cannot write the copy");
  }
}

void copy_contents(int source, int destination, ByteRange range, TreeProgress& progress,
                   const Interruption& interruption) {
  std::uint64_t end_of_data = range.begin;
  while (end_of_data < range.end) {
    const std::uint64_t data = seek_to(source, end_of_data, SEEK_DATA, range.end);
    progress.bytes += data - end_of_data;
    if (data == range.end) break;
    end_of_data = seek_to(source, data, SEEK_HOLE, range.end);
    if (!copy_data(source, destination, {data, end_of_data}, progress, interruption)) return;
  }
  if (end_of_data == range.end) return;
  if (entry_status(destination).size >= range.end) return;
  if (ftruncate(destination, static_cast<off_t>(range.end)) != 0) {
    throw system_error(errno, "cannot write the copy");
  }
}

bool same_contents(int a, int b, ByteRange range, const Interruption& interruption) {
  char* const buffer_a = thread_buffer(0);
  char* const buffer_b = thread_buffer(1);
  std::uint64_t checked = range.begin;
  std::uint64_t end_of_data = range.end - range.begin > kBufferSize ? range.begin : range.end;
  for (std::uint64_t at = range.begin; at < range.end;) {
    if (at >= end_of_data) {
      const ByteRange data = next_data(a, b, {at, range.end});
      at = data.begin;
      end_of_data = data.end;
      // What is missing at the end is no hole.
      if (at == range.end) return is_at_least(a, range.end) && is_at_least(b, range.end);
    }
    const std::size_t wanted = piece(end_of_data - at);
    const std::size_t found = read_at(b, buffer_b, wanted, at);
    if (found != wanted || read_at(a, buffer_a, wanted, at) != wanted) return false;
    if (std::memcmp(buffer_a, buffer_b, wanted) != 0) return false;
    at += wanted;
    if (at - checked < kStep) continue;
    checked = at;
    interruption.check();
  }
  return true;
}

void drop_cached(int fd) { posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); }

}  // namespace fscryptctl
