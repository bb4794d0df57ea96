#pragma once

#include <CLI/App.hpp>
#include <charconv>
#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fscryptctl/base/error.h"

namespace fscryptctl {

/// Texts may be any bytes: use these instead of App::add_option, which drops or splits values such
/// as "{}", "%%" and "[a,b]". `names` as CLI11 takes them: "--name", "-n,--name", or a positional
/// such as "DIRECTORY"; `placeholder` is what the help shows for an option's value. An optional is
/// not required, a vector is an option that may be repeated or a positional that takes all the
/// rest (call ->required() on it for at least one). Empty arguments are refused everywhere.
CLI::Option* add_text(CLI::App& app, const std::string& names, const std::string& placeholder,
                      std::string& value, const std::string& help);
CLI::Option* add_text(CLI::App& app, const std::string& names, const std::string& placeholder,
                      std::optional<std::string>& value, const std::string& help);
CLI::Option* add_text(CLI::App& app, const std::string& names, const std::string& placeholder,
                      std::vector<std::string>& value, const std::string& help);

/// The number that `text` is in plain decimal, up to `max`. `what` names it in the usage error.
[[nodiscard]] std::uint64_t parse_number(const std::string& text, const std::string& what,
                                         std::uint64_t max);

/// A whole decimal number (CLI11's own reading takes 010 for 8). `Number` may be an unsigned
/// integer type or an optional of one.
template <std::unsigned_integral Number>
CLI::Option* add_number(CLI::App& app, const std::string& names, const std::string& placeholder,
                        std::optional<Number>& value, const std::string& help) {
  return app
      .add_option(
          names,
          [&value, names](const CLI::results_t& results) {
            value = static_cast<Number>(
                parse_number(results.front(), names, std::numeric_limits<Number>::max()));
            return true;
          },
          help)
      ->type_name(placeholder);
}
template <std::unsigned_integral Number>
CLI::Option* add_number(CLI::App& app, const std::string& names, const std::string& placeholder,
                        Number& value, const std::string& help) {
  return app
      .add_option(
          names,
          [&value, names](const CLI::results_t& results) {
            value = static_cast<Number>(
                parse_number(results.front(), names, std::numeric_limits<Number>::max()));
            return true;
          },
          help)
      ->type_name(placeholder);
}

/// The arguments of a command rewritten so that CLI11 cannot misread them: every value and every
/// positional gets a leading '=' (which decode_values takes away again), options come under their
/// first long name and joined with their value, "--" is resolved. So "--json" in the result is the
/// option and nothing else. Options may stand anywhere; after "--" all is positional.
/// Throws usage for unknown options, missing or unwanted or empty values, and options given twice.
[[nodiscard]] std::vector<std::string> protect_tokens(const CLI::App& app,
                                                      const std::vector<std::string>& tokens);

/// Makes every option of `app` that takes values undo protect_tokens. Once, after all are added.
void decode_values(CLI::App& app);
/// One value or positional as it was before protect_tokens.
[[nodiscard]] std::string unprotected(const std::string& token);

}  // namespace fscryptctl
