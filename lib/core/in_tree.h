#pragma once

#include <string>

#include "fscryptctl/base/error.h"

namespace fscryptctl {

/// Does something with the tree at `root`. Its errors are about paths relative to that; for people
/// they name the whole path.
template <class Action>
auto in_tree(const std::string& root, const Action& action) {
  try {
    return action();
  } catch (const Error& error) {
    // Records have paths of their own.
    if (error.path().empty() || error.code() == Errc::untrusted_metadata) throw;
    const std::string path = error.path() == "." ? root : root + "/" + error.path();
    throw Error(error.code(), printable(path) + ": " + error.what(), error.sys_errno())
        .with_path(path);
  }
}

}  // namespace fscryptctl
