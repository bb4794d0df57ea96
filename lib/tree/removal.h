#pragma once

#include <string>

#include "fscryptctl/tree/remove.h"
#include "walk.h"

namespace fscryptctl {

/// remove_tree for what is part of larger work: `name`, of any kind, and everything below it.
void remove_entry(int parent, const std::string& name, const Interruption& interruption);

/// Lets the caller make and remove entries of a directory: its mode gets u+rwx, the flags that
/// forbid it are cleared. False if there was nothing to do.
bool open_up(int directory);
/// open_tree_directory of what `path_fd` is; one that may not even be read gets u+rwx first.
[[nodiscard]] UniqueFd open_readable_directory(int dirfd, const std::string& name, int path_fd);

}  // namespace fscryptctl
