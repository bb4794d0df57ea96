#pragma once

#include "fscryptctl/tree/attributes.h"

namespace fscryptctl {

/// Makes a directory of the destination ready to be filled: the owner may do everything, and what
/// has to be set while it is empty is set. False if that is too late.
[[nodiscard]] bool prepare_directory(int directory, const Attributes& attributes);

}  // namespace fscryptctl
