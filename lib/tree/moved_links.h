#pragma once

#include <string>

#include "entry.h"

namespace fscryptctl {

/// Which files with several names are each other's copies while their names move one by one: links
/// to both in a directory of the work directory, each under the other's identity, so that it is
/// known in both directions and after a crash.
class MovedLinks {
 public:
  explicit MovedLinks(int work);

  /// The counterpart of a file with several names, O_PATH; empty if it has none yet.
  [[nodiscard]] UniqueFd find_copy(int source, const EntryStatus& status) const;
  void add(int source, int copy) const;
  /// After a name of `source` was removed: with the last one the pair is forgotten, and the copy
  /// gets the flags that were remembered with it.
  void name_gone(int source, int copy) const;
  /// What is left belongs to files with names elsewhere.
  void finish() const;

 private:
  UniqueFd directory_;
};

}  // namespace fscryptctl
