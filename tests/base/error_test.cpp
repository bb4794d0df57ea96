#include "fscryptctl/base/error.h"

#include <cerrno>

#include <catch2/catch.hpp>
#include <set>
#include <string>
#include <string_view>
#include <utility>

namespace fscryptctl {
namespace {

using namespace std::string_view_literals;

/// Every Errc: they are numbered without gaps, from io to interrupted.
std::vector<Errc> all_codes() {
  std::vector<Errc> codes;
  for (int i = static_cast<int>(Errc::io); i <= static_cast<int>(Errc::interrupted); ++i) {
    codes.push_back(static_cast<Errc>(i));
  }
  return codes;
}

TEST_CASE("each JSON error code has the exit code that scripts rely on") {
  const std::set<std::pair<std::string_view, int>> documented{
      {"failure", 1}, {"usage", 2},       {"wrong_key", 3},     {"not_found", 4},
      {"busy", 5},    {"unsupported", 6}, {"permission", 7},    {"corrupt_metadata", 8},
      {"refused", 9}, {"unexpected", 10}, {"interrupted", 130},
  };
  std::set<std::pair<std::string_view, int>> found;
  for (const Errc code : all_codes()) {
    found.emplace(errc_info(code).code, errc_info(code).exit_code);
  }
  CHECK(found == documented);
}

TEST_CASE("the reasons that scripts rely on keep their names and codes") {
  const auto [code, json_code, reason] = GENERATE(table<Errc, std::string_view, std::string_view>({
      {Errc::io, "failure", "io"},
      {Errc::no_space, "failure", "no_space"},
      {Errc::key_quota, "failure", "key_quota"},
      {Errc::declined, "failure", "declined"},
      {Errc::internal, "failure", "internal"},
      {Errc::usage, "usage", "usage"},
      {Errc::missing_input, "usage", "missing_input"},
      {Errc::ambiguous, "usage", "ambiguous"},
      {Errc::not_a_directory, "usage", "not_a_directory"},
      {Errc::filesystem_root, "usage", "filesystem_root"},
      {Errc::wrong_key, "wrong_key", "wrong_key"},
      {Errc::stale_copy, "wrong_key", "stale_copy"},
      {Errc::previous_login_password, "wrong_key", "previous_login_password"},
      {Errc::no_such_path, "not_found", "path"},
      {Errc::no_such_user, "not_found", "user"},
      {Errc::not_set_up, "not_found", "not_set_up"},
      {Errc::not_managed, "not_found", "not_managed"},
      {Errc::not_encrypted, "not_found", "not_encrypted"},
      {Errc::no_such_policy, "not_found", "policy"},
      {Errc::no_such_protector, "not_found", "protector"},
      {Errc::files_in_use, "busy", "files_in_use"},
      {Errc::other_users, "busy", "other_users"},
      {Errc::metadata_locked, "busy", "metadata_locked"},
      {Errc::not_enabled, "unsupported", "not_enabled"},
      {Errc::no_kernel_support, "unsupported", "no_kernel_support"},
      {Errc::filesystem, "unsupported", "filesystem"},
      {Errc::mode, "unsupported", "mode"},
      {Errc::policy_version, "unsupported", "policy_version"},
      {Errc::permission, "permission", "permission"},
      {Errc::corrupt_metadata, "corrupt_metadata", "corrupt_metadata"},
      {Errc::untrusted_metadata, "corrupt_metadata", "untrusted"},
      {Errc::newer_format, "corrupt_metadata", "newer_format"},
      {Errc::last_way, "refused", "last_way"},
      {Errc::not_empty, "refused", "not_empty"},
      {Errc::already_encrypted, "refused", "already_encrypted"},
      {Errc::in_use, "refused", "in_use"},
      {Errc::kdf_limit, "refused", "kdf_limit"},
      {Errc::exists, "refused", "exists"},
      {Errc::conflict, "refused", "conflict"},
      {Errc::recovery_key_exists, "refused", "recovery_key_exists"},
      {Errc::unconvertible, "refused", "unconvertible"},
      {Errc::too_late, "refused", "too_late"},
      {Errc::unexpected, "unexpected", "unexpected"},
      {Errc::interrupted, "interrupted", "interrupted"},
  }));
  CHECK(errc_info(code).code == json_code);
  CHECK(errc_info(code).reason == reason);
}

TEST_CASE("no two errors look the same to a script") {
  std::set<std::pair<std::string_view, std::string_view>> seen;
  for (const Errc code : all_codes()) {
    const ErrcInfo info = errc_info(code);
    CAPTURE(info.code, info.reason);
    CHECK(seen.emplace(info.code, info.reason).second);
  }
}

TEST_CASE("an error carries its path and what an ambiguous name could have meant") {
  const Error error = Error(Errc::ambiguous, "several protectors match")
                          .with_path("/mnt/a\xff")
                          .with_candidates({"0123456789abcdef", "0123ffffffffffff"});
  CHECK(error.code() == Errc::ambiguous);
  CHECK(std::string(error.what()) == "several protectors match");
  CHECK(error.sys_errno() == 0);
  CHECK(error.path() == "/mnt/a\xff");
  CHECK(error.candidates().size() == 2);
}

TEST_CASE("a failed system call becomes the error that its errno means") {
  const auto [number, code] = GENERATE(table<int, Errc>({
      {ENOSPC, Errc::no_space},
      {EDQUOT, Errc::no_space},
      {EACCES, Errc::permission},
      {EPERM, Errc::permission},
      {ENOENT, Errc::no_such_path},
      {ENOTDIR, Errc::not_a_directory},
      {EROFS, Errc::io},
      {EIO, Errc::io},
      {123456, Errc::io},
  }));
  const Error error = system_error(number, "opening /mnt");
  CHECK(error.code() == code);
  CHECK(error.sys_errno() == number);
}

TEST_CASE("a failed system call is told in words") {
  CHECK(std::string(system_error(ENOENT, "opening /mnt").what()) ==
        "opening /mnt: No such file or directory");
  CHECK(std::string(system_error(123456, "opening /mnt").what()) == "opening /mnt: error 123456");
}

TEST_CASE("text that a terminal shows as it is stays as it is") {
  const auto text =
      GENERATE(""sv, "plain name (1)"sv, "'\"$`*"sv, "\u00e4\u00f6\u00fc"sv, "\u4f60\u597d"sv,
               "\U0001f600"sv, "\u2764\ufe0f\u200d\U0001f525"sv, "\u0645\u200c\u0645"sv);
  CHECK(printable(text) == text);
}

TEST_CASE("what is not printable is shown byte by byte") {
  const auto [text, shown] = GENERATE(table<std::string_view, std::string_view>({
      {"a\nb", "a\\x0ab"},
      {"\x1b[2J", "\\x1b[2J"},
      {"tab\there", "tab\\x09here"},
      {"\x7f", "\\x7f"},
      {"\0z"sv, "\\x00z"},
      {"\u009b2J", "\\xc2\\x9b2J"},                 // C1 controls
      {"\u202egpj.exe", "\\xe2\\x80\\xaegpj.exe"},  // text in reverse order
      {"\u2066x\u2069", "\\xe2\\x81\\xa6x\\xe2\\x81\\xa9"},
      {"a\u2028b\u2029", "a\\xe2\\x80\\xa8b\\xe2\\x80\\xa9"},  // line and paragraph separators
      {"\u200bx", "\\xe2\\x80\\x8bx"},                         // invisible
      {"\ufeffx", "\\xef\\xbb\\xbfx"},
      {"\U000e0041", "\\xf3\\xa0\\x81\\x81"},
      {"\xff\xc3", "\\xff\\xc3"},
      {"\xc3\xa4\xc3", "\u00e4\\xc3"},
      {"\xc0\xaf", "\\xc0\\xaf"},           // overlong
      {"\xed\xa0\x80", "\\xed\\xa0\\x80"},  // surrogate
  }));
  CHECK(printable(text) == shown);
}

TEST_CASE("a name that spells an escape looks different from the byte that it spells") {
  CHECK(printable("\\xff") == "\\\\xff");
  CHECK(printable("\xff") == "\\xff");
}

}  // namespace
}  // namespace fscryptctl
