#pragma once

#include <cstdint>

#include "fscryptctl/tree/progress.h"
#include "walk.h"

namespace fscryptctl {

/// A part of a file.
struct ByteRange {
  std::uint64_t begin;
  std::uint64_t end;
};

/// From this size on the kernel is made to write a range as soon as it is copied, which is when it
/// encrypts: so each thread encrypts what it copied.
constexpr std::uint64_t kWrittenAtOnce = std::uint64_t{256} << 10;

/// Lets the kernel write, and so encrypt, what is in its cache of a file. Throws io, no_space.
void begin_writing(int fd, ByteRange range);

/// Copies a range of a regular file to the same place of another, where nothing is yet, with its
/// holes. The destination gets the size `range.end` if it ends with a hole.
void copy_contents(int source, int destination, ByteRange range, TreeProgress& progress,
                   const Interruption& interruption);

/// Whether two regular files are the same there. Short files are not.
[[nodiscard]] bool same_contents(int a, int b, ByteRange range, const Interruption& interruption);

/// What is cached of a file and already written is forgotten, so that reading asks the disk.
void drop_cached(int fd);

}  // namespace fscryptctl
