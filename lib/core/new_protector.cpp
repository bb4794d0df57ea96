#include "fscryptctl/core/new_protector.h"

#include <algorithm>
#include <filesystem>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/last_way.h"

namespace fscryptctl {
namespace {

class NoSecrets final : public SecretProvider {
 public:
  std::optional<Secret> existing(const Request& /*request*/) override { return std::nullopt; }
  Secret fresh(Source /*kind*/, const std::string& /*target*/) override {
    throw Error(Errc::internal, "a secret was asked for twice");
  }
};

std::optional<OpenProtector> opened_by(Context& context, const UserStore& store,
                                       const ProtectorSummary& summary, const Secret& secret) {
  if (summary.source != secret.kind) return std::nullopt;
  std::optional<ProtectorRecord> record = store.protector(summary.id);
  if (!record) return std::nullopt;
  NoSecrets nothing;
  Opener opener(nothing, context);
  opener.remember({secret.kind, SecretBytes(secret.bytes.view())});
  std::optional<ProtectorKey> key = opener.try_known(*record);
  if (!key) return std::nullopt;
  return OpenProtector{std::move(*record), std::move(*key)};
}

bool is_taken(const std::vector<ProtectorSummary>& all, const std::string& name) {
  return std::any_of(all.begin(), all.end(),
                     [&](const ProtectorSummary& other) { return other.name == name; });
}

}  // namespace

NewProtector make_or_take_up(Context& context, const UserStore& store, const Secret& secret,
                             const NameWish& wish, const MayTakeUp& may_take_up) {
  if (wish.name) {
    if (const auto reason = invalid_name(*wish.name)) throw Error(Errc::usage, *reason);
  }
  const std::vector<ProtectorSummary> all = store.protectors().records;
  const std::string name = wish.name.value_or(free_name(wish.otherwise, {}));
  for (const ProtectorSummary& other : all) {
    if (other.name != name || !may_take_up(other.id)) continue;
    if (std::optional<OpenProtector> left = opened_by(context, store, other, secret)) {
      return {std::move(*left), true};
    }
  }
  if (wish.name && is_taken(all, name)) {
    throw Error(Errc::usage, "there is another protector named " + printable(name) +
                                 " already: choose another --name");
  }
  return {make_protector(secret, free_name(name, all), costs_for_new_hashing(context)), false};
}

bool write_new(const UserStore& store, const UserStore::Lock& lock, const NameWish& wish,
               NewProtector& protector) {
  ProtectorRecord& record = protector.open.record;
  if (protector.there) return store.protector(record.summary.id) == record;
  const std::vector<ProtectorSummary> all = store.protectors().records;
  if (wish.name && is_taken(all, *wish.name)) return false;
  record.summary.name = free_name(record.summary.name, all);
  store.write(lock, record);
  return true;
}

std::string base_name(const std::string& path) {
  const std::filesystem::path normal = std::filesystem::absolute(path).lexically_normal();
  return (normal.has_filename() ? normal : normal.parent_path()).filename().string();
}

bool require_copy_opens(const UserStore& store, const std::string& mount_point, Opener& opener,
                        const OpenProtector& protector) {
  const ProtectorSummary& summary = protector.record.summary;
  const std::optional<ProtectorRecord> copy = store.protector(summary.id);
  if (!copy) return false;
  const std::optional<ProtectorKey> key = opener.try_known(*copy);
  if (key && equal_secrets(key->secret(), protector.key.secret())) return true;
  throw Error(Errc::stale_copy, "the copy of protector " + in_quotes(copy->summary.name) + " on " +
                                    printable(mount_point) + " still opens with a previous secret")
      .with_path(mount_point)
      .with_candidates({summary.id.hex()});
}

}  // namespace fscryptctl
