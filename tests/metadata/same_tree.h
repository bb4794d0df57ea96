#pragma once

#include <algorithm>

#include "../../lib/metadata/strict_yaml.h"

namespace fscryptctl {

/// True if two readers understood the same.
inline bool same_tree(const yaml::Node& a, const yaml::Node& b) {
  return a.kind == b.kind && a.key == b.key && a.text == b.text &&
         std::equal(a.children.begin(), a.children.end(), b.children.begin(), b.children.end(),
                    same_tree);
}

}  // namespace fscryptctl
