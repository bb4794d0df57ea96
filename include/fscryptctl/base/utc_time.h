#pragma once

#include <string>

namespace fscryptctl {

/// The time now as RFC 3339 in UTC with whole seconds: "2026-11-22T10:11:12Z".
[[nodiscard]] std::string now_rfc3339();

}  // namespace fscryptctl
