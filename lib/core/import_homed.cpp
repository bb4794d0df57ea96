#include "fscryptctl/core/import_homed.h"

#include <algorithm>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/policy.h"
#include "fscryptctl/core/users.h"
#include "fscryptctl/crypto/key_identifier.h"
#include "fscryptctl/kernel/v1_key.h"
#include "fscryptctl/metadata/homed.h"

namespace fscryptctl {
namespace {

constexpr uid_t kNobody = 65534;

/// The password that opened a slot, and what came out.
struct Opened {
  SecretBytes password;
  PolicyKey key;
};

bool belongs_to(const PolicyKey& key, const KernelPolicy& policy) {
  if (const auto* identifier = std::get_if<KeyIdentifier>(&policy.key)) {
    return key_identifier_of(key.view()) == *identifier;
  }
  return key_descriptor_of(key.view()) == std::get<KeyDescriptor>(policy.key);
}

class HomedOpening {
 public:
  HomedOpening(Context& context, const std::string& path, const HomedSlots& slots,
               const KernelPolicy& policy)
      : context_(context), path_(path), slots_(slots), policy_(policy) {}

  Opened open(SecretProvider& secrets) {
    SecretProvider::Request request{path_, {Method::passphrase}, 0};
    while (std::optional<Secret> secret = secrets.existing(request)) {
      if (std::optional<Opened> opened = try_secret(*secret)) return std::move(*opened);
      ++request.wrong_so_far;
    }
    // A slot that cannot be used may have been the one for this password.
    if (!slots_.unusable.empty()) throw Error(slots_.unusable.front());
    throw Error(Errc::wrong_key, "wrong passphrase for " + printable(path_)).with_path(path_);
  }

 private:
  std::optional<Opened> try_secret(const Secret& secret) {
    if (secret.kind == Source::raw_key) return std::nullopt;
    if (std::optional<SecretBytes> recovery = normalise_homed_recovery_key(secret.bytes)) {
      if (auto opened = try_password(std::move(*recovery))) return opened;
    }
    return try_password(SecretBytes(secret.bytes.view()));
  }

  std::optional<Opened> try_password(SecretBytes password) {
    for (const HomedSlot& slot : slots_.slots) {
      context_.throw_if_interrupted();
      context_.explain("hashing with " + std::to_string(slot.iterations) + " rounds of PBKDF2");
      std::optional<PolicyKey> key = open_homed_slot(slot, password);
      // Of old slots nothing else tells whether the password was right.
      if (key && belongs_to(*key, policy_)) return Opened{std::move(password), std::move(*key)};
    }
    return std::nullopt;
  }

  Context& context_;
  const std::string& path_;
  const HomedSlots& slots_;
  const KernelPolicy& policy_;
};

/// What can be known of the directory; no descriptor inside it stays open.
struct Home {
  Target target;
  HomedSlots slots;
  std::optional<std::string> hint;
};

Home look_at_home(const Context& context, const std::string& path) {
  Home home{look_at(context, path), {}, std::nullopt};
  if (!home.target.directory) {
    throw Error(Errc::not_a_directory, printable(path) + " is not a directory").with_path(path);
  }
  if (!home.target.policy) {
    throw Error(Errc::not_encrypted, printable(path) + " is not encrypted").with_path(path);
  }
  const NamedFile file = open_named(path);
  home.slots = read_homed_slots(file.fd.get());
  home.hint = home.target.filesystem.hint_of(file.fd.get(), context.mounts);
  if (home.slots.slots.empty() && home.slots.unusable.empty()) {
    throw Error(Errc::not_managed,
                printable(path) + " is encrypted, but not by systemd-homed (no key slots found)")
        .with_path(path);
  }
  if (home.slots.slots.empty()) throw Error(home.slots.unusable.front());
  return home;
}

/// A protector of this name that the password opens, left by an interrupted run.
std::optional<OpenProtector> find_leftover(Context& context, const UserStore& store,
                                           const std::string& name, const Secret& secret,
                                           SecretProvider& secrets) {
  for (const ProtectorSummary& summary : store.protectors().records) {
    if (summary.name != name) continue;
    const std::optional<ProtectorRecord> record = store.protector(summary.id);
    if (!record || summary.source != Source::passphrase) break;
    Opener opener(secrets, context);
    opener.remember({Source::passphrase, SecretBytes(secret.bytes.view())});
    std::optional<ProtectorKey> key = opener.try_known(*record);
    if (!key) break;
    return OpenProtector{*record, std::move(*key)};
  }
  return std::nullopt;
}

bool name_taken(const UserStore& store, const std::string& name) {
  const std::vector<ProtectorSummary> all = store.protectors().records;
  return std::any_of(all.begin(), all.end(),
                     [&](const ProtectorSummary& other) { return other.name == name; });
}

void write_records(Context& context, const Home& home, const HomedImportRequest& request,
                   const UserStore& store, const Opened& opened, SecretProvider& secrets,
                   HomedImport& result) {
  const KeyIdentifier& key = std::get<KeyIdentifier>(result.policy.key);
  if (const std::optional<PolicyRecord> record = store.policy(key)) return;  // done before
  const Secret secret{Source::passphrase, SecretBytes(opened.password.view())};
  std::optional<OpenProtector> protector =
      find_leftover(context, store, request.name, secret, secrets);
  const bool leftover = protector.has_value();
  const auto require_free_name = [&] {
    if (leftover || !name_taken(store, request.name)) return;
    throw Error(Errc::usage, "there is a protector named " + printable(request.name) +
                                 " already: choose another --name");
  };
  require_free_name();
  if (!protector) {
    protector = make_protector(secret, request.name, costs_for_new_hashing(context));
  }
  UnlockedPolicy policy{PolicyRecord{}, PolicyKey(SecretBytes(opened.key.view()))};
  policy.record.summary.key_identifier = key;
  policy.record.options = result.policy.options;
  if (home.hint) add_hint(policy.record, *home.hint);
  wrap_for(policy, *protector);
  context.throw_if_interrupted();

  const UserStore::Lock lock = store.lock(context.throw_if_interrupted);
  require_free_name();
  if (store.policy(key)) return;
  if (!store.protector(protector->record.summary.id)) store.write(lock, protector->record);
  store.write(lock, policy.record);
  result.changed = true;
}

std::vector<ProtectorSummary> protectors_of_policy(const UserStore& store,
                                                   const KeyIdentifier& key) {
  std::vector<ProtectorSummary> all;
  const std::optional<PolicyRecord> record = store.policy(key);
  if (!record) return all;
  for (const ProtectorRecord& protector :
       read_protectors(store, record->summary.protectors).records) {
    all.push_back(protector.summary);
  }
  return all;
}

}  // namespace

HomedImport import_homed(Context& context, const HomedImportRequest& request,
                         SecretProvider& secrets) {
  if (const auto reason = invalid_name(request.name)) throw Error(Errc::usage, *reason);
  if (context.caller.uid != 0) {
    throw Error(Errc::permission, "only root sees the key slots of systemd-homed")
        .with_path(request.path);
  }
  const Home home = look_at_home(context, request.path);
  HomedImport result;
  result.policy = *home.target.policy;
  result.unusable_slots = static_cast<int>(home.slots.unusable.size());
  result.owned_by_nobody = home.target.owner.uid == kNobody;
  const bool version2 = result.policy.version() == 2;
  std::optional<UserStore> store;
  if (version2) {
    result.user = context.user_for(home.target.owner.uid);
    if (result.user->uid == kNobody) {
      throw Error(Errc::usage,
                  printable(request.path) + " belongs to nobody here: say whose it is with --user")
          .with_path(request.path);
    }
    // Before anybody is asked for a password.
    store = home.target.filesystem.store_for_writing(*result.user);
  }
  const Opened opened =
      HomedOpening(context, request.path, home.slots, result.policy).open(secrets);
  if (version2) {
    write_records(context, home, request, *store, opened, secrets, result);
    const std::vector<ProtectorSummary> all =
        protectors_of_policy(*store, std::get<KeyIdentifier>(result.policy.key));
    if (!all.empty()) result.protector = all.front();
    return result;
  }
  const auto& descriptor = std::get<KeyDescriptor>(result.policy.key);
  const int fs_fd = home.target.filesystem.fd();
  const bool there = context.kernel.key_status(fs_fd, descriptor).state == KeyState::present;
  if (!there) add_v1_key(fs_fd, descriptor, opened.key.secret());
  result.changed = !there;
  result.unlocked_for_copying = true;
  return result;
}

}  // namespace fscryptctl
