#include "call.h"

#include <security/pam_ext.h>
#include <security/pam_modutil.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <utility>

#include "fscryptctl/base/error.h"

namespace fscryptctl::pam {
namespace {

using std::chrono::milliseconds;

constexpr const char* kState = "fscryptctl-login";
constexpr const char* kTicket = "FSCRYPTCTL_TICKET";
constexpr const char* kConfig = "/etc/fscryptctl.yaml";
constexpr const char* kOwnService = "fscryptctl";
constexpr int kQuestions = 3;
/// How long the end of a session waits for files that processes are just about to close.
constexpr milliseconds kWaitForFiles{1000};
constexpr milliseconds kPause{100};
constexpr milliseconds kPatience{1000};
constexpr const char* kQuestion =
    "Your login password has changed. Previous password or recovery key (Enter to skip): ";

void drop_state(pam_handle_t* /*handle*/, void* data, int /*status*/) {
  delete static_cast<State*>(data);
}

std::string text_item(pam_handle_t* handle, int type) {
  const void* value = nullptr;
  if (pam_get_item(handle, type, &value) != PAM_SUCCESS || value == nullptr) return {};
  return static_cast<const char*>(value);
}

SecretBytes copy_of(const char* text) { return SecretBytes(as_bytes(text)); }

ProtectorKeys copy_of(const ProtectorKeys& keys) {
  ProtectorKeys copy;
  for (const auto& [id, key] : keys) copy.try_emplace(id, SecretBytes(key.view()));
  return copy;
}

void wipe(char* text) {
  explicit_bzero(text, std::strlen(text));
  std::free(text);
}

void sleep_for(milliseconds duration) {
  timespec time{};
  time.tv_nsec = std::chrono::nanoseconds(duration).count();
  ::nanosleep(&time, nullptr);
}

bool lingers(const std::string& user) {
  struct stat info {};
  const std::string file = "/var/lib/systemd/linger/" + user;
  return user.find('/') == std::string::npos && ::stat(file.c_str(), &info) == 0;
}

bool changes_user(const std::string& service) { return service == "su" || service == "su-l"; }

/// What a script reads must be what the command in it says.
bool is_for_scripts(const std::string& service) {
  return changes_user(service) && (::isatty(STDIN_FILENO) == 0 || ::isatty(STDOUT_FILENO) == 0);
}

/// A card's PIN arrives as a password does, not only in services that are named for it.
bool may_be_pin(const SecretBytes& secret) {
  constexpr std::size_t kLongestPin = 12;
  return secret.size() <= kLongestPin && std::ranges::all_of(secret.view(), [](std::uint8_t byte) {
           return byte >= '0' && byte <= '9';
         });
}

}  // namespace

Call::Call(pam_handle_t* handle, int flags, int argc, const char** argv)
    : handle_(handle),
      flags_(flags),
      options_(Options::parse(argc, argv)),
      service_(text_item(handle, PAM_SERVICE)),
      name_(text_item(handle, PAM_USER)),
      budget_(options_.budget) {
  if (!options_.unknown.empty()) log(LOG_WARNING, "unknown option: " + options_.unknown);
}

bool Call::skipped() const {
  return name_.empty() || service_ == kOwnService || options_.skip.contains(service_);
}

std::optional<Call::Person> Call::person() const {
  const passwd* const entry = pam_modutil_getpwnam(handle_, name_.c_str());
  if (entry == nullptr) return std::nullopt;
  // A program without root's rights can only work for the user that it runs as.
  if (::geteuid() != 0 && ::geteuid() != entry->pw_uid) return std::nullopt;
  LoginUser user = login_user({entry->pw_uid, entry->pw_gid}, entry->pw_name);
  return Person{std::move(user), entry->pw_dir == nullptr ? "" : entry->pw_dir};
}

std::optional<SecretBytes> Call::item(int type) const {
  const void* value = nullptr;
  if (pam_get_item(handle_, type, &value) != PAM_SUCCESS || value == nullptr) return std::nullopt;
  const auto* const text = static_cast<const char*>(value);
  const std::size_t size = ::strnlen(text, kMaxPassphraseSize + 1);
  if (size == 0 || size > kMaxPassphraseSize) return std::nullopt;
  return copy_of(text);
}

State* Call::state_if_any() const {
  const void* data = nullptr;
  if (pam_get_data(handle_, kState, &data) != PAM_SUCCESS || data == nullptr) return nullptr;
  // PAM hands out a pointer to const; the state is this module's own.
  auto* const found = static_cast<State*>(const_cast<void*>(data));
  // Some modules change the name on the way: what is known is another user's then.
  return found->user == name_ ? found : nullptr;
}

State& Call::state() {
  if (State* const found = state_if_any()) return *found;
  auto fresh = std::make_unique<State>();
  fresh->user = name_;
  if (pam_set_data(handle_, kState, fresh.get(), drop_state) != PAM_SUCCESS) {
    throw Error(Errc::io, "PAM keeps nothing for this module");
  }
  return *fresh.release();
}

Context Call::make_context(const LoginUser& user) {
  return Context{kernel_,        mounts_for_login(read_mount_table()),
                 own_identity(), user.identity,
                 kConfig,        std::nullopt,
                 [] {},          [this](const std::string& text) { log(LOG_NOTICE, text); }};
}

void Call::log(int priority, const std::string& text) const {
  pam_syslog(handle_, priority, "%s", text.c_str());
}

void Call::say(bool error, const std::string& text) const {
  if ((static_cast<unsigned>(flags_) & PAM_SILENT) != 0 || options_.quiet ||
      is_for_scripts(service_))
    return;
  pam_prompt(handle_, error ? PAM_ERROR_MSG : PAM_TEXT_INFO, nullptr, "%s", text.c_str());
}

std::optional<SecretBytes> Call::ask(const char* question) {
  char* reply = nullptr;
  budget_.pause();
  const int result = pam_prompt(handle_, PAM_PROMPT_ECHO_OFF, &reply, "%s", question);
  budget_.resume();
  if (reply == nullptr) return std::nullopt;
  std::optional<SecretBytes> secret;
  const std::size_t size = std::strlen(reply);
  if (result == PAM_SUCCESS && size > 0 && size <= kMaxPassphraseSize) secret = copy_of(reply);
  wipe(reply);
  return secret;
}

bool Call::may_prompt() const {
  // What a script feeds to the command would be taken for the answer.
  if (changes_user(service_) && ::isatty(STDIN_FILENO) == 0) return false;
  if (is_card_service(service_)) return false;
  return options_.prompt_everywhere || options_.prompt.contains(service_);
}

void Call::keep(const LoginKeys& keys, State& state) const { state.keys = copy_of(keys.keys()); }

void Call::leave_for_session(const State& state, uid_t user) const {
  try {
    // Of the same login, before it knew more.
    static_cast<void>(take_from_environment(user));
    std::optional<std::string> ticket = hand_over(state.keys, user);
    if (!ticket) return;
    std::string setting;
    setting.reserve(std::strlen(kTicket) + 1 + ticket->size());
    setting.append(kTicket).append("=").append(*ticket);
    pam_putenv(handle_, setting.c_str());
    explicit_bzero(setting.data(), setting.size());
    explicit_bzero(ticket->data(), ticket->size());
  } catch (const Error& error) {
    log(LOG_NOTICE, error.what());
  }
}

ProtectorKeys Call::take_from_environment(uid_t user) const {
  const char* const ticket = pam_getenv(handle_, kTicket);
  if (ticket == nullptr) return {};
  std::string text = ticket;
  // Whatever comes of it: nothing of it belongs into the user's session.
  pam_putenv(handle_, kTicket);
  ProtectorKeys keys = take_over(text, user);
  explicit_bzero(text.data(), text.size());
  return keys;
}

void Call::authenticate() {
  if (skipped()) return;
  State& known = state();
  known.keys.clear();
  known.hashed.clear();
  known.password.reset();
  known.unsettled = false;
  std::optional<SecretBytes> password = item(PAM_AUTHTOK);
  known.had_password = password.has_value();
  const std::optional<Person> who = password ? person() : std::nullopt;
  if (!who) return;
  Context context = make_context(who->user);
  LoginKeys keys(context, who->user, who->home, budget_);
  if (!keys.any()) return;
  keys.open(*password, known.hashed);
  keep(keys, known);
  known.unsettled = !keys.settled();
  if (keys.some_closed()) known.password = std::move(password);
  leave_for_session(known, who->user.identity.uid);
}

void Call::account() {
  State* const known = skipped() ? nullptr : state_if_any();
  if (known == nullptr) return;
  // Nothing after this needs the password or what hashing it gave: they go, whatever comes of it.
  const HashedPassword hashed = std::exchange(known->hashed, {});
  const std::optional<SecretBytes> password = std::exchange(known->password, std::nullopt);
  if (!std::exchange(known->unsettled, false) && !password) return;
  const std::optional<Person> who = person();
  if (!who) return;
  Context context = make_context(who->user);
  LoginKeys keys(context, who->user, who->home, budget_);
  keys.open(hashed);
  // What is open already stays so for the session.
  try {
    keys.settle();
    if (password && keys.some_closed() && may_prompt()) heal(keys, *password, hashed);
  } catch (const Error& error) {
    log(LOG_ERR, error.what());
  }
  keep(keys, *known);
  leave_for_session(*known, who->user.identity.uid);
}

/// The login password is right, but something does not open with it: it was changed where this
/// machine could not notice. Whoever still knows the previous one loses nothing.
void Call::heal(LoginKeys& keys, const SecretBytes& password,
                const HashedPassword& hashed_password) {
  bool any = false;
  for (int i = 0; i < kQuestions && keys.some_closed(); ++i) {
    const std::optional<SecretBytes> reply = ask(kQuestion);
    // The same again comes from a program that answers every question so.
    if (!reply || equal_secrets(*reply, password)) break;
    HashedPassword hashed;
    const RecoveryKeyReading recovery_key = read_recovery_key(reply->view());
    if (recovery_key.key ? keys.open(*recovery_key.key) : keys.open(*reply, hashed)) {
      any = true;
    } else {
      say(true, "That does not open your directories.");
    }
  }
  if (!any) return;
  if (password.size() < options_.shortest || may_be_pin(password)) {
    log(LOG_WARNING, "the login password is too short to open anything with");
    say(true,
        "Your login password is too short, or may be a card's PIN: your directories still open "
        "with the previous one.");
    return;
  }
  const bool written = keys.rewrap(password, hashed_password);
  say(!written, written ? "Your directories open with the new login password from now on."
                        : "Not everything could be changed: the next login asks again.");
}

void Call::open_session() {
  const std::optional<Person> who = name_.empty() ? std::nullopt : person();
  if (!who) {
    pam_putenv(handle_, kTicket);
    return;
  }
  const uid_t uid = who->user.identity.uid;
  ProtectorKeys left = take_from_environment(uid);
  if (skipped() || ::geteuid() != 0) return;
  State& known = state();
  // The session lasts: no secret stays in the program's memory.
  ProtectorKeys keys = std::exchange(known.keys, {});
  known.hashed.clear();
  known.password.reset();
  known.hashed_old.clear();
  keys.merge(left);
  Context context = make_context(who->user);
  const LoginKeys found(context, who->user, who->home, budget_);
  if (found.places().empty()) return;
  LoginUnlock result;
  {
    const std::optional<LoginTurn> turn = count_session(known, who->user.identity);
    result = unlock_for_login(context, found.places(), keys, found.ids(), budget_);
  }
  if (result.added > 0) {
    log(LOG_INFO, "unlocked " + std::to_string(result.added) + " of " + printable(name_));
  }
  explain_locked(known, result);
}

std::optional<LoginTurn> Call::count_session(State& known, Identity user) const {
  // Where it cannot be counted, another session's end may lock too early: better than staying
  // locked now.
  try {
    std::optional<LoginTurn> turn = LoginTurn::take(user, kPatience);
    if (!turn) log(LOG_WARNING, "another login or logout takes too long; not waiting for it");
    if (!known.session) known.session.emplace(LoginSession::begin(user));
    return turn;
  } catch (const Error& error) {
    log(LOG_WARNING, std::string("this session does not count: ") + error.what());
    return std::nullopt;
  }
}

void Call::explain_locked(const State& state, const LoginUnlock& result) const {
  if (!result.complete) {
    say(false, "There was no time to unlock everything. To unlock a directory: fscryptctl unlock");
  }
  if (result.first_path.empty()) return;
  std::string why = "the login password did not open it";
  if (!result.first_reason.empty()) {
    why = result.first_reason;
  } else if (!state.had_password) {
    why = "no password was given to this login";
  }
  say(false, printable(result.first_path) + " stays locked: " + why +
                 ". To unlock it: fscryptctl unlock " + printable(result.first_path));
}

void Call::close_session() {
  if (skipped() || ::geteuid() != 0) return;
  const std::optional<Person> who = person();
  if (!who) return;
  const Identity user = who->user.identity;
  State* const known = state_if_any();
  if (known != nullptr && known->session) {
    known->session->end();
    known->session.reset();
  }
  if (options_.keep_unlocked || lingers(name_)) return;
  if (!LoginMarks::open(user)) return;
  Context context = make_context(who->user);
  const LoginBudget waiting(kWaitForFiles);
  while (true) {
    const bool last = waiting.over();
    LoginLock result;
    {
      const std::optional<LoginTurn> turn = LoginTurn::take(user, kPatience);
      if (!turn) log(LOG_WARNING, "another login or logout takes too long; it has to lock");
      if (!turn || !LoginSession::none_left(user)) return;
      result = lock_after_logout(context, user, last);
    }
    for (const std::string& text : result.in_use) log(LOG_WARNING, text);
    if (result.complete || last) return;
    sleep_for(kPause);
  }
}

void Call::password_before() {
  if (skipped()) return;
  const std::optional<Person> who = person();
  const std::optional<SecretBytes> old = item(PAM_OLDAUTHTOK);
  if (!who || !old) return;
  Context context = make_context(who->user);
  LoginKeys keys(context, who->user, who->home, budget_);
  if (!keys.any()) return;
  State& known = state();
  known.hashed_old.clear();
  keys.open(*old, known.hashed_old);
  if (keys.some_closed()) {
    say(true,
        "Your encrypted directories do not open with this password. They will still need the one "
        "that they open with now.");
  }
  if (!keys.writable()) {
    say(true,
        "What opens your encrypted directories cannot be written. They will still need this "
        "password after the change.");
  }
}

void Call::password_update() {
  if (skipped() || is_card_service(service_)) return;
  const std::optional<Person> who = person();
  const std::optional<SecretBytes> fresh = item(PAM_AUTHTOK);
  if (!who || !fresh) return;
  Context context = make_context(who->user);
  LoginKeys keys(context, who->user, who->home, budget_);
  if (!keys.any()) return;
  const std::optional<SecretBytes> old = item(PAM_OLDAUTHTOK);
  if (!old) {
    say(true, "The encrypted directories of " + printable(name_) +
                  " still open with the previous password. The next login asks for it once.");
    return;
  }
  State& known = state();
  keys.open(*old, known.hashed_old);
  known.hashed_old.clear();
  if (keys.keys().empty()) return;
  if (!keys.rewrap(*fresh, HashedPassword())) {
    say(true,
        "Not all of your encrypted directories open with the new password yet. The next "
        "login asks for the previous one.");
  }
  // A password that had to be changed during the login: the session still needs the keys.
  keep(keys, known);
  leave_for_session(known, who->user.identity.uid);
}

}  // namespace fscryptctl::pam
