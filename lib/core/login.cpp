#include "fscryptctl/core/login.h"

#include <fcntl.h>

#include <algorithm>
#include <utility>

#include "fscryptctl/base/error.h"
#include "fscryptctl/base/proc_file.h"
#include "fscryptctl/core/policy.h"
#include "fscryptctl/core/users.h"
#include "fscryptctl/metadata/record_rules.h"

namespace fscryptctl {
namespace {

constexpr int kTries = 3;
constexpr const char* kLoginName = "login";

std::string read_machine_id() {
  constexpr std::size_t kDigits = 32;
  const std::optional<std::string> text = read_proc_file(AT_FDCWD, "/etc/machine-id", kDigits + 1);
  if (!text || text->size() < kDigits) return {};
  std::string id = text->substr(0, kDigits);
  return from_hex(id) ? id : std::string();
}

bool is_login(const ProtectorSummary& protector) { return protector.source == Source::login; }

bool name_is_free(const std::vector<ProtectorSummary>& all, const std::string& name) {
  return std::none_of(all.begin(), all.end(),
                      [&](const ProtectorSummary& other) { return other.name == name; });
}

/// Secrets that were given before, and no others.
class NoSecrets final : public SecretProvider {
 public:
  std::optional<Secret> existing(const Request& /*request*/) override { return std::nullopt; }
  Secret fresh(Source /*kind*/, const std::string& /*target*/) override {
    throw Error(Errc::internal, "a secret was asked for twice");
  }
};

/// A directory that the protector opens, or where its record lies.
std::string what_it_opens(const LoginCopy& copy) {
  const Filesystem& filesystem = copy.place->filesystem;
  for (const PolicySummary& policy : copy.place->store.policies().records) {
    const auto& ids = policy.protectors;
    if (std::find(ids.begin(), ids.end(), copy.record.summary.id) == ids.end()) continue;
    if (policy.paths.empty()) continue;
    if (auto path = filesystem.path_of_hint(policy.paths.back())) return *path;
  }
  return filesystem.mount().mount_point;
}

/// Of a place that cannot be listed none.
std::vector<ProtectorId> protectors_in(const LoginPlace& place, std::size_t limit) {
  try {
    return place.store.protector_ids(limit);
  } catch (const Error& error) {
    if (error.code() == Errc::interrupted) throw;
    return {};
  }
}

Error wrong_password(const LoginUser& user) {
  return Error(Errc::wrong_key, "this is not the login password of " + printable(user.name));
}

/// One choice of a login protector; its parts stand in the order in which they happen.
class LoginChoice {
 public:
  LoginChoice(Context& context, const Filesystem& filesystem, const UserStore& store,
              const Secret& password)
      : context_(context),
        filesystem_(filesystem),
        store_(store),
        password_(password),
        user_(login_user(store.user())),
        opener_(nobody_, context) {
    opener_.remember({Source::login, SecretBytes(password.bytes.view())});
  }

  LoginProtector run() {
    const std::vector<LoginCopy> copies = find_login_copies(places(), user_);
    if (std::optional<LoginProtector> opened = open_first(copies)) {
      if (opened->origin == LoginProtector::Origin::copied) bring_up_to_date(copies, opened->open);
      return std::move(*opened);
    }
    for (const LoginCopy& copy : copies) {
      if (hints_at(copy.record.summary, user_)) throw still_previous_password(what_it_opens(copy));
    }
    return make();
  }

 private:
  /// This filesystem first.
  std::vector<std::shared_ptr<const LoginPlace>> places() const {
    std::vector<Filesystem> filesystems = local_filesystems(context_);
    std::stable_partition(filesystems.begin(), filesystems.end(),
                          [this](const Filesystem& other) { return is_here(other); });
    return login_places(std::move(filesystems), user_.identity);
  }

  bool is_here(const Filesystem& other) const {
    return other.mount().device == filesystem_.mount().device;
  }

  std::optional<LoginProtector> open_first(const std::vector<LoginCopy>& copies) {
    int strangers = 0;
    for (const LoginCopy& copy : copies) {
      // Those of other machines and users may happen to have the same password, as after an
      // installation anew; but there can be any number of them.
      if (!hints_at(copy.record.summary, user_) && ++strangers > Opener::kMaxHashings) break;
      std::optional<ProtectorKey> key = opener_.try_known(copy.record);
      if (!key) continue;
      const auto origin = is_here(copy.place->filesystem) ? LoginProtector::Origin::here
                                                          : LoginProtector::Origin::copied;
      return LoginProtector{{copy.record, std::move(*key)}, origin};
    }
    return std::nullopt;
  }

  /// A copy here that the password does not open gets the wrappings that it does open, if the
  /// protector key proves to be the one that this filesystem's policies rely on.
  void bring_up_to_date(const std::vector<LoginCopy>& copies, const OpenProtector& good) {
    for (const LoginCopy& copy : copies) {
      const ProtectorId& id = copy.record.summary.id;
      if (id != good.record.summary.id || !is_here(copy.place->filesystem)) continue;
      constexpr std::chrono::seconds kPatience{10};
      if (!opens_some_policy(copy.place->store, good) ||
          !replace_copy(context_, copy, with_login_wrappings(copy.record, good.record),
                        kPatience)) {
        throw still_previous_password(what_it_opens(copy));
      }
      context_.explain("brought the record of protector " + id.hex() + " up to date");
    }
  }

  LoginProtector make() {
    const std::vector<ProtectorSummary> all = store_.protectors().records;
    // Another machine's login protector may have the name already.
    const std::string name =
        name_is_free(all, kLoginName) ? kLoginName : free_name(kLoginName, all);
    OpenProtector made = make_protector({Source::login, SecretBytes(password_.bytes.view())}, name,
                                        costs_for_new_hashing(context_));
    set_hints(made.record.summary, user_);
    return {std::move(made), LoginProtector::Origin::made};
  }

  Context& context_;
  const Filesystem& filesystem_;
  const UserStore& store_;
  const Secret& password_;
  LoginUser user_;
  NoSecrets nobody_;
  Opener opener_;
};

}  // namespace

LoginUser login_user(Identity identity) { return login_user(identity, user_name(identity.uid)); }

LoginUser login_user(Identity identity, const std::string& name) {
  return {identity, name, read_machine_id()};
}

bool hints_at(const ProtectorSummary& protector, const LoginUser& user) {
  return is_login(protector) && protector.user == user.name &&
         protector.machine_id == user.machine_id;
}

void set_hints(ProtectorSummary& protector, const LoginUser& user) {
  protector.user = valid_user_hint(user.name) ? user.name : std::string();
  protector.machine_id = user.machine_id;
}

std::vector<std::shared_ptr<const LoginPlace>> login_places(std::vector<Filesystem> filesystems,
                                                            Identity user) {
  std::vector<std::shared_ptr<const LoginPlace>> places;
  for (Filesystem& filesystem : filesystems) {
    // One of the loops over independent filesystems: another's bad records stop nothing here.
    try {
      std::optional<UserStore> store = filesystem.store(user);
      if (!store) continue;
      places.push_back(
          std::make_shared<const LoginPlace>(LoginPlace{std::move(filesystem), std::move(*store)}));
    } catch (const Error& error) {
      if (error.code() == Errc::interrupted) throw;
    }
  }
  return places;
}

std::vector<LoginCopy> find_login_copies(
    const std::vector<std::shared_ptr<const LoginPlace>>& places, const LoginUser& user,
    const LoginSearch& search) {
  std::vector<LoginCopy> copies;
  for (const auto& place : places) {
    for (const ProtectorId& id : protectors_in(*place, search.limit)) {
      if (search.enough()) break;
      // Another such loop, over records.
      try {
        std::optional<ProtectorRecord> record = place->store.protector(id);
        if (record && is_login(record->summary)) copies.push_back({place, std::move(*record)});
      } catch (const Error& error) {
        if (error.code() == Errc::interrupted) throw;
      }
    }
  }
  std::stable_partition(copies.begin(), copies.end(), [&user](const LoginCopy& copy) {
    return hints_at(copy.record.summary, user);
  });
  return copies;
}

bool opens_some_policy(const UserStore& store, const OpenProtector& protector,
                       const LoginSearch& search) {
  const ProtectorId& id = protector.record.summary.id;
  for (const KeyIdentifier& policy : store.policy_ids(search.limit)) {
    if (search.enough()) return false;
    // Another such loop: any one that opens is proof enough.
    try {
      const std::optional<PolicyRecord> record = store.policy(policy);
      if (!record) continue;
      const auto& ids = record->summary.protectors;
      if (std::find(ids.begin(), ids.end(), id) == ids.end()) continue;
      static_cast<void>(unlock_policy({*record}, protector));
      return true;
    } catch (const Error& error) {
      if (error.code() == Errc::interrupted) throw;
    }
  }
  return false;
}

ProtectorRecord with_login_wrappings(const ProtectorRecord& record, const ProtectorRecord& other) {
  ProtectorRecord changed = record;
  std::erase_if(changed.wrappings,
                [](const ProtectorWrapping& wrapping) { return wrapping.method == Method::login; });
  const bool has_recovery_key = !changed.wrappings.empty();
  std::vector<ProtectorWrapping> wrappings = other.wrappings;
  if (has_recovery_key) {
    std::erase_if(wrappings, [](const ProtectorWrapping& wrapping) {
      return wrapping.method != Method::login;
    });
  }
  wrappings.insert(wrappings.end(), changed.wrappings.begin(), changed.wrappings.end());
  changed.wrappings = std::move(wrappings);
  // Whose password it is goes with it.
  changed.summary.user = other.summary.user;
  changed.summary.machine_id = other.summary.machine_id;
  summarise(changed);
  return changed;
}

bool replace_copy(const Context& context, const LoginCopy& seen, const ProtectorRecord& record,
                  std::chrono::milliseconds patience) {
  const UserStore& store = seen.place->store;
  const UserStore::Lock lock = store.lock(context.throw_if_interrupted, patience);
  if (store.protector(seen.record.summary.id) != seen.record) return false;
  store.write(lock, record);
  return true;
}

Secret ask_login_password(const Context& context, const LoginUser& user, SecretProvider& secrets,
                          const std::string& target) {
  SecretProvider::Request request{target, {Method::login}, 0};
  while (std::optional<Secret> secret = secrets.existing(request)) {
    if (secret->kind == Source::raw_key) {
      throw Error(Errc::usage, "a login password is needed, not a raw key");
    }
    if (context.verify_login(user.name, secret->bytes)) {
      return {Source::login, std::move(secret->bytes)};
    }
    ++request.wrong_so_far;
  }
  throw wrong_password(user);
}

Secret ask_new_login_password(const Context& context, const LoginUser& user,
                              SecretProvider& secrets, const std::string& target) {
  std::optional<Secret> previous;
  for (int tries = 0; tries < kTries; ++tries) {
    Secret secret = secrets.fresh(Source::login, target);
    // A file says the same every time.
    if (previous && equal_secrets(previous->bytes, secret.bytes)) break;
    if (context.verify_login(user.name, secret.bytes)) return secret;
    previous = std::move(secret);
  }
  throw wrong_password(user);
}

Error still_previous_password(const std::string& what) {
  return Error(Errc::previous_login_password,
               printable(what) + " still opens with the previous login password")
      .with_path(what);
}

LoginProtector choose_login_protector(Context& context, const Filesystem& filesystem,
                                      const UserStore& store, const Secret& password) {
  return LoginChoice(context, filesystem, store, password).run();
}

bool still_first_login_protector(const UserStore& store, const LoginUser& user,
                                 const ProtectorId& made) {
  const std::vector<ProtectorSummary> all = store.protectors().records;
  return std::none_of(all.begin(), all.end(), [&](const ProtectorSummary& other) {
    return other.id != made && hints_at(other, user);
  });
}

}  // namespace fscryptctl
