#pragma once

#include <map>
#include <string>

namespace fscryptctl::test {

/// No difference, no finding: what a failed check then shows is there.
inline const std::string kNothing;

/// Everything that can be seen of a tree, as text for each path; "" is the root. Made with plain
/// paths and calls of its own, so that it shares no mistake with what is tested. Change times and
/// inode numbers are left out; files with several names have the first of them.
using Snapshot = std::map<std::string, std::string>;
[[nodiscard]] Snapshot snapshot(const std::string& root);

/// Where two differ, for messages; empty if they do not.
[[nodiscard]] std::string first_difference(const Snapshot& a, const Snapshot& b);

}  // namespace fscryptctl::test
