#pragma once

namespace fscryptctl {

/// Tells the disk which blocks of the filesystem of `fd` are free (FITRIM), so that it may forget
/// them. Throws permission, io (also where the disk knows no such thing).
void trim_filesystem(int fd);

}  // namespace fscryptctl
