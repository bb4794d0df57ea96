#include "fscryptctl/core/login_session.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <ctime>
#include <utility>

#include "fscryptctl/base/error.h"
#include "fscryptctl/base/proc_file.h"
#include "fscryptctl/core/policy.h"
#include "fscryptctl/crypto/random.h"
#include "fscryptctl/kernel/holders.h"

namespace fscryptctl {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxEntries = 256;
constexpr std::size_t kMaxSessions = 4096;
constexpr std::size_t kMaxHoldersNamed = 5;
constexpr mode_t kFileMode = 0600;
/// A user can have any number of keys that are in use.
constexpr std::chrono::milliseconds kWorthNaming{1000};

std::string sessions_name(Identity user) { return "sessions-" + std::to_string(user.uid); }

/// When a process started, in the kernel's ticks: with it a number stands for one process only.
std::string start_time(pid_t pid) {
  constexpr std::size_t kMaxStat = 4096;
  constexpr int kFieldsBefore = 19;  // after the command, which may hold anything
  const std::optional<std::string> stat =
      read_proc_file(AT_FDCWD, "/proc/" + std::to_string(pid) + "/stat", kMaxStat);
  if (!stat) return {};
  std::size_t at = stat->rfind(')');
  if (at == std::string::npos) return {};
  for (int field = 0; field <= kFieldsBefore; ++field) {
    at = stat->find(' ', at + 1);
    if (at == std::string::npos) return {};
  }
  return stat->substr(at + 1, stat->find(' ', at + 1) - at - 1);
}

/// What stands in the file of a session: a process that no other one can be, on any boot.
std::string name_of_process(pid_t pid) {
  constexpr std::size_t kMaxId = 64;
  std::string boot =
      read_proc_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", kMaxId).value_or("");
  if (boot.ends_with('\n')) boot.pop_back();
  const std::string started = start_time(pid);
  if (started.empty()) return {};
  return std::to_string(pid) + " " + started + " " + boot;
}

bool process_lives(const std::string& text) {
  const std::size_t blank = text.find(' ');
  if (blank == std::string::npos) return false;
  pid_t pid = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + blank, pid);
  if (error != std::errc() || stop != text.data() + blank) return false;
  return name_of_process(pid) == text;
}

std::string random_name() {
  std::array<std::uint8_t, 8> random{};
  fill_random(random);
  return to_hex(random);
}

bool is_session(const std::string& name) { return !name.starts_with('.'); }

/// A session counts while its file is locked, or while the process that opened it lives: some
/// programs close all descriptors that they do not know.
bool session_lives(int directory, const std::string& name) {
  const UniqueFd file(
      ::openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file) return false;
  if (::flock(file.get(), LOCK_SH | LOCK_NB) != 0) return true;
  std::array<char, 128> text{};
  const ssize_t size = ::pread(file.get(), text.data(), text.size(), 0);
  return size > 0 && process_lives(std::string(text.data(), static_cast<std::size_t>(size)));
}

void sleep_for(std::chrono::milliseconds duration) {
  timespec left{};
  left.tv_nsec = std::chrono::nanoseconds(duration).count();
  ::nanosleep(&left, nullptr);
}

std::string path_of(const LoginPlace& place, const PolicySummary& policy) {
  if (!policy.paths.empty()) {
    if (auto path = place.filesystem.path_of_hint(policy.paths.back())) return *path;
  }
  return place.filesystem.mount().mount_point;
}

/// The user's policies in one place.
class PlaceUnlock {
 public:
  PlaceUnlock(Context& context, const LoginPlace& place,
              const std::map<ProtectorId, ProtectorKey>& keys, const std::set<ProtectorId>& logins,
              const LoginBudget& budget, LoginUnlock& result)
      : context_(context),
        place_(place),
        keys_(keys),
        logins_(logins),
        budget_(budget),
        result_(result) {}

  void run() {
    for (const KeyIdentifier& id : place_.store.policy_ids(kMaxEntries)) {
      if (budget_.over()) {
        result_.complete = false;
        context_.explain("not everything on " + printable(place_.filesystem.mount().mount_point) +
                         " was looked at: it took too long");
        return;
      }
      // One of the loops over independent records.
      try {
        if (const std::optional<PolicyRecord> record = place_.store.policy(id)) look_at(*record);
      } catch (const Error& error) {
        // There can be any number of them: the log gets the first.
        if (std::exchange(damaged_, true)) continue;
        context_.explain("policy " + id.hex() + " was passed over: " + error.what());
      }
    }
  }

 private:
  void look_at(const PolicyRecord& record) {
    const PolicySummary& policy = record.summary;
    const auto key = std::find_if(policy.protectors.begin(), policy.protectors.end(),
                                  [this](const ProtectorId& id) { return keys_.contains(id); });
    if (key == policy.protectors.end() && !is_for_logins(policy)) return;
    // What is wrong with it is told to the person, too.
    try {
      if (has_claim(policy.key_identifier)) {
        ++result_.present;
      } else if (key == policy.protectors.end()) {
        stays_locked(path_of(place_, policy), "");
      } else {
        unlock(record, *key);
        ++result_.added;
      }
    } catch (const Error& error) {
      ++result_.failed;
      stays_locked(path_of(place_, policy), error.what());
      context_.explain(printable(path_of(place_, policy)) + " stays locked: " + error.what());
    }
  }

  bool is_for_logins(const PolicySummary& policy) const {
    return std::any_of(policy.protectors.begin(), policy.protectors.end(),
                       [this](const ProtectorId& id) { return logins_.contains(id); });
  }

  void stays_locked(const std::string& path, const std::string& reason) {
    if (result_.first_path.empty()) result_.first_path = path;
    if (result_.first_reason.empty()) result_.first_reason = reason;
  }

  bool has_claim(const KeyIdentifier& key) const {
    const ActAs acting(place_.store.user());
    const KeyStatus status = context_.kernel.key_status(place_.filesystem.fd(), key);
    return status.state == KeyState::present && status.added_by_self;
  }

  void unlock(const PolicyRecord& record, const ProtectorId& protector) {
    OpenProtector open{ProtectorRecord(), ProtectorKey(SecretBytes(keys_.at(protector).view()))};
    open.record.summary.id = protector;
    const UnlockedPolicy policy = unlock_policy({record}, open);
    // Before the key is there: a mark too many takes nothing away, one too few leaves it unlocked.
    const LoginMarks::Mark added{record.summary.key_identifier, place_.filesystem.mount().device};
    mark(added);
    try {
      const ActAs acting(place_.store.user());
      context_.kernel.add_key(place_.filesystem.fd(), policy.key.secret());
    } catch (const Error&) {
      if (marks_) marks_->remove(added);
      throw;
    }
  }

  /// Nobody is kept out of a home directory because /run is full.
  void mark(const LoginMarks::Mark& added) {
    try {
      if (!marks_) marks_ = LoginMarks::create(place_.store.user());
      marks_->add(added);
    } catch (const Error& error) {
      context_.explain("the last logout will not lock key " + added.key.hex() + ": " +
                       error.what());
    }
  }

  Context& context_;
  const LoginPlace& place_;
  const std::map<ProtectorId, ProtectorKey>& keys_;
  const std::set<ProtectorId>& logins_;
  const LoginBudget& budget_;
  LoginUnlock& result_;
  bool damaged_ = false;
  std::optional<LoginMarks> marks_;
};

std::string holders_text(Kernel& kernel, const Filesystem& filesystem, const KeyIdentifier& key) {
  const HolderScan scan = find_holders(kernel, filesystem.fd(), key);
  std::string text;
  std::size_t named = 0;
  for (const Holder& holder : scan.holders) {
    if (++named > kMaxHoldersNamed) break;
    text += (text.empty() ? "" : ", ") + std::to_string(holder.pid) + " (" +
            printable(holder.command) + ", " + holder.kind + " " + printable(holder.path) + ")";
  }
  return text.empty() ? "files in use" : "in use by " + text;
}

}  // namespace

LoginSession::LoginSession(UniqueFd file, Identity user, std::string name)
    : file_(std::move(file)), user_(user), name_(std::move(name)) {
  const FileInfo info = file_info(file_.get());
  device_ = info.device;
  inode_ = info.inode;
}

LoginSession LoginSession::begin(Identity user) {
  const UniqueFd directory = login_state_directory(sessions_name(user));
  const std::string name = random_name();
  UniqueFd file(::openat(directory.get(), name.c_str(),
                         O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kFileMode));
  if (!file) throw system_error(errno, "cannot count a session");
  // Shared, so that two that look at once do not take each other's look for life.
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) throw system_error(errno, "counting a session");
  const std::string text = name_of_process(::getpid());
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    throw system_error(errno, "cannot count a session");
  }
  return {std::move(file), user, name};
}

LoginSession::~LoginSession() {
  if (!file_) return;
  // Not ours any more, if the program closed it and opened something else.
  struct stat info {};
  const bool ours =
      ::fstat(file_.get(), &info) == 0 && info.st_ino == inode_ && info.st_dev == device_;
  UniqueFd other = std::move(file_);
  if (!ours) static_cast<void>(other.release());
}

void LoginSession::end() noexcept {
  struct stat info {};
  // Its other holders, children that the program forked, must not keep it alive.
  if (file_ && ::fstat(file_.get(), &info) == 0 && info.st_ino == inode_ &&
      info.st_dev == device_) {
    ::flock(file_.get(), LOCK_UN);
  }
  try {
    const UniqueFd directory = login_state_directory(sessions_name(user_));
    ::unlinkat(directory.get(), name_.c_str(), 0);
  } catch (const Error&) {
    return;
  }
}

bool LoginSession::none_left(Identity user) {
  const UniqueFd directory = login_state_directory(sessions_name(user));
  bool none = true;
  for (const std::string& name : directory_names(directory.get(), kMaxSessions).names) {
    if (!is_session(name)) continue;
    if (session_lives(directory.get(), name)) {
      none = false;
    } else {
      ::unlinkat(directory.get(), name.c_str(), 0);
    }
  }
  return none;
}

std::optional<LoginTurn> LoginTurn::take(Identity user, std::chrono::milliseconds patience) {
  const UniqueFd directory = login_state_directory(sessions_name(user));
  UniqueFd file(
      ::openat(directory.get(), ".turn", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, kFileMode));
  if (!file) throw system_error(errno, "cannot wait for other logins");
  const Clock::time_point deadline = Clock::now() + patience;
  while (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) throw system_error(errno, "waiting for a login");
    if (Clock::now() >= deadline) return std::nullopt;
    sleep_for(std::chrono::milliseconds(5));
  }
  return LoginTurn(std::move(file));
}

LoginUnlock unlock_for_login(Context& context,
                             const std::vector<std::shared_ptr<const LoginPlace>>& places,
                             const std::map<ProtectorId, ProtectorKey>& keys,
                             const std::set<ProtectorId>& logins, const LoginBudget& budget) {
  LoginUnlock result;
  for (const auto& place : places) {
    // Another such loop, over filesystems.
    try {
      PlaceUnlock(context, *place, keys, logins, budget, result).run();
    } catch (const Error& error) {
      context.explain(printable(place->filesystem.mount().mount_point) +
                      " was passed over: " + error.what());
    }
  }
  return result;
}

LoginLock lock_after_logout(Context& context, Identity user, bool name_holders) {
  LoginLock result;
  const std::optional<LoginMarks> marks = LoginMarks::open(user);
  if (!marks) return result;
  const std::vector<LoginMarks::Mark> all = marks->all();
  if (all.empty()) return result;
  const std::vector<Filesystem> filesystems = local_filesystems(context);
  const LoginBudget naming(kWorthNaming);
  for (const LoginMarks::Mark& mark : all) {
    const auto filesystem =
        std::find_if(filesystems.begin(), filesystems.end(),
                     [&](const Filesystem& other) { return other.mount().device == mark.device; });
    if (filesystem == filesystems.end()) {
      marks->remove(mark);  // unmounted, which took the key away, too
      continue;
    }
    // Another such loop, over keys.
    try {
      RemoveOutcome outcome{};
      {
        const ActAs acting(user);
        outcome = context.kernel.remove_key(filesystem->fd(), mark.key, RemoveScope::own_claim);
      }
      if (outcome != RemoveOutcome::files_busy) {
        marks->remove(mark);
        context.explain("took key " + mark.key.hex() + " away");
        continue;
      }
      result.complete = false;
      if (name_holders && !naming.over()) {
        result.in_use.push_back("key " + mark.key.hex() + " on " +
                                printable(filesystem->mount().mount_point) + ": " +
                                holders_text(context.kernel, *filesystem, mark.key));
      }
    } catch (const Error& error) {
      context.explain("key " + mark.key.hex() + " stays: " + error.what());
      result.complete = false;
    }
  }
  return result;
}

}  // namespace fscryptctl
