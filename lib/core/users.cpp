#include "fscryptctl/core/users.h"

#include <pwd.h>
#include <unistd.h>

#include <charconv>
#include <optional>

#include "fscryptctl/base/error.h"

namespace fscryptctl {
namespace {

std::optional<uid_t> parse_uid(const std::string& text) {
  uid_t uid = 0;
  const char* end = text.data() + text.size();
  const auto [stop, failure] = std::from_chars(text.data(), end, uid);
  if (failure != std::errc{} || stop != end || uid == static_cast<uid_t>(-1)) return std::nullopt;
  return uid;
}

}  // namespace

Identity user_from_text(const std::string& name_or_uid) {
  // A name wins over a number, as in chown(1).
  if (const passwd* entry = ::getpwnam(name_or_uid.c_str())) {
    return {entry->pw_uid, entry->pw_gid};
  }
  if (const std::optional<uid_t> uid = parse_uid(name_or_uid)) return user_from_uid(*uid);
  throw Error(Errc::no_such_user, "no such user: " + printable(name_or_uid));
}

Identity user_from_uid(uid_t uid) {
  if (uid == ::geteuid()) return own_identity();
  if (uid == 0) return {0, 0};
  if (const passwd* entry = ::getpwuid(uid)) return {uid, entry->pw_gid};
  return {uid, static_cast<gid_t>(uid)};
}

std::string user_name(uid_t uid) {
  if (const passwd* entry = ::getpwuid(uid)) return entry->pw_name;
  return std::to_string(uid);
}

}  // namespace fscryptctl
