#include "fscryptctl/core/protector.h"

#include <algorithm>

#include "fscryptctl/base/error.h"
#include "fscryptctl/base/utc_time.h"
#include "fscryptctl/core/login.h"
#include "fscryptctl/core/rotate.h"
#include "fscryptctl/crypto/key_identifier.h"
#include "fscryptctl/crypto/random.h"

namespace fscryptctl {
namespace {

/// A passphrase is also tried on login protectors: the login password is one.
bool accepts(Method method, const Secret& secret) {
  if (secret.recovery_key) return false;
  switch (method) {
    case Method::passphrase:
    case Method::login:
      return secret.kind != Source::raw_key;
    case Method::raw_key:
      return secret.kind == Source::raw_key;
    case Method::recovery_key:
      return false;
  }
  return false;
}

std::optional<ProtectorKey> try_recovery_key(const RecoveryKey& recovery_key,
                                             const ProtectorRecord& record) {
  for (const ProtectorWrapping& wrapping : record.wrappings) {
    if (wrapping.method != Method::recovery_key) continue;
    const WrappingKey wrapping_key(SecretBytes(recovery_key.view()));
    if (auto key = unwrap(wrapping_key, context_of(record, wrapping), wrapping.wrapped)) {
      return key;
    }
  }
  return std::nullopt;
}

std::vector<Method> methods_of(const std::vector<ProtectorRecord>& records) {
  std::vector<Method> methods;
  for (const ProtectorRecord& record : records) {
    for (const ProtectorWrapping& wrapping : record.wrappings) {
      if (std::find(methods.begin(), methods.end(), wrapping.method) == methods.end()) {
        methods.push_back(wrapping.method);
      }
    }
  }
  return methods;
}

ProtectorWrapping wrap_with_secret(const Secret& secret, const ProtectorRecord& record,
                                   const ProtectorKey& key, const KdfCosts& costs,
                                   std::uint64_t generation) {
  ProtectorWrapping wrapping;
  wrapping.method = method_of(record.summary.source);
  wrapping.generation = generation;
  if (is_hashed(wrapping.method)) {
    wrapping.kdf = Argon2id{costs, {}};
    fill_random(wrapping.kdf->salt);
  }
  const WrappingKey wrapping_key =
      wrapping.kdf ? derive_wrapping_key(secret.bytes, wrapping.kdf->salt, costs)
                   : WrappingKey(SecretBytes(secret.bytes.view()));
  wrapping.wrapped = wrap(wrapping_key, context_of(record, wrapping), key);
  // What will be the only way in is opened once before anything relies on it. The store then
  // compares the file, byte by byte, with what was opened here.
  const auto again = unwrap(wrapping_key, context_of(record, wrapping), wrapping.wrapped);
  if (!again || !equal_secrets(again->secret(), key.secret())) {
    throw Error(Errc::internal, "a new wrapping does not open");
  }
  return wrapping;
}

SecretBytes copy_of(const SecretBytes& secret) { return SecretBytes(secret.view()); }

/// What to call a secret that opened nothing.
std::string wrong_secret(const Secret& secret, const RecoveryKeyReading& reading) {
  if (secret.recovery_key || reading.key || reading.resembles) return "wrong recovery key";
  return secret.kind == Source::raw_key ? "wrong key" : "wrong passphrase";
}

/// What a person must know to type a recovery key right; nothing about other secrets.
std::string fault_of(const Secret& secret, const RecoveryKeyReading& reading) {
  return secret.recovery_key || reading.resembles ? reading.fault : "";
}

bool is_hex_digits(const std::string& text) {
  return text.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
}

/// C0, DEL and, encoded in UTF-8, C1.
bool has_control_characters(const std::string& text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x20 || byte == 0x7f) return true;
    if (byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0) {
      return true;
    }
  }
  return false;
}

/// What of a file name can stand in a protector's name.
std::string sanitised(const std::string& wish) {
  std::string name = wish.substr(0, 200);
  // Not in the middle of a character, if these are characters.
  if (is_utf8(wish)) {
    while (!is_utf8(name)) name.pop_back();
  }
  if (!is_utf8(name)) {
    std::replace_if(
        name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; },
        '-');
  }
  for (char& c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f || c == ':' || c == '/') c = '-';
  }
  return name.empty() || has_control_characters(name) ? "protector" : name;
}

}  // namespace

const KdfLimits& Opener::limits() {
  if (!limits_) limits_ = context_.kdf_limits();
  return *limits_;
}

const WrappingKey* Opener::wrapping_key(Known& known, const Argon2id& kdf, Attempt& attempt) {
  for (const auto& [hashed_kdf, key] : known.hashed) {
    if (hashed_kdf == kdf) return &key;
  }
  if (!attempt.unlimited && attempt.hashings >= kMaxHashings) return nullptr;
  ++attempt.hashings;
  context_.explain("hashing with " + std::to_string(kdf.costs.memory_kib) + " KiB and " +
                   std::to_string(kdf.costs.passes) + " passes");
  known.hashed.emplace_back(kdf, derive_wrapping_key(known.secret.bytes, kdf.salt, kdf.costs));
  return &known.hashed.back().second;
}

std::optional<Opener::Opened> Opener::try_record(Known& known, const ProtectorRecord& record,
                                                 Attempt& attempt) {
  for (const ProtectorWrapping& wrapping : record.wrappings) {
    if (!accepts(wrapping.method, known.secret)) continue;
    std::optional<ProtectorKey> key;
    if (!wrapping.kdf) {
      const WrappingKey raw(SecretBytes(known.secret.bytes.view()));
      key = unwrap(raw, context_of(record, wrapping), wrapping.wrapped);
    } else if (const auto reason = over_limit(wrapping.kdf->costs, limits())) {
      attempt.over_limit = reason;
    } else if (const WrappingKey* hashed = wrapping_key(known, *wrapping.kdf, attempt)) {
      key = unwrap(*hashed, context_of(record, wrapping), wrapping.wrapped);
    } else {
      attempt.untried.push_back(protector_label(record.summary));
    }
    if (key) return Opened{std::move(*key), wrapping.method};
  }
  return std::nullopt;
}

const OpenProtector* Opener::try_all(Known& known, const std::vector<ProtectorRecord>& candidates,
                                     Attempt& attempt) {
  attempt.hashings = 0;
  attempt.untried.clear();
  const auto keep = [this](const ProtectorRecord& record, ProtectorKey key, Method with) {
    const auto [entry, added] =
        open_.insert_or_assign(record.summary.id, OpenProtector{record, std::move(key), with});
    return &entry->second;
  };
  // Before anything is hashed, and for all candidates: it costs next to nothing.
  for (const ProtectorRecord& record : candidates) {
    if (!known.recovery_key.key) break;
    if (std::optional<ProtectorKey> key = try_recovery_key(*known.recovery_key.key, record)) {
      return keep(record, std::move(*key), Method::recovery_key);
    }
  }
  for (const ProtectorRecord& record : candidates) {
    if (std::optional<Opened> opened = try_record(known, record, attempt)) {
      return keep(record, std::move(opened->key), opened->with);
    }
  }
  return nullptr;
}

void Opener::require_some_within_limits(const std::vector<ProtectorRecord>& candidates,
                                        const std::string& target) {
  std::optional<std::string> reason;
  for (const ProtectorRecord& record : candidates) {
    for (const ProtectorWrapping& wrapping : record.wrappings) {
      if (!wrapping.kdf) return;
      const std::optional<std::string> over = over_limit(wrapping.kdf->costs, limits());
      if (!over) return;
      reason = over;
    }
  }
  if (reason) throw Error(Errc::kdf_limit, *reason).with_path(target);
}

const OpenProtector& Opener::open_any(const ReadProtectors& read, const std::string& target,
                                      bool named) {
  const std::vector<ProtectorRecord>& candidates = read.records;
  for (const ProtectorRecord& record : candidates) {
    const auto found = open_.find(record.summary.id);
    if (found != open_.end() && found->second.record == record) return found->second;
  }
  Attempt attempt{.unlimited = named};
  for (Known& known : known_) {
    if (const OpenProtector* opened = try_all(known, candidates, attempt)) return *opened;
  }
  require_some_within_limits(candidates, target);
  SecretProvider::Request request{target, methods_of(candidates), 0};
  // Nobody knows what an unreadable one opens with: no kind of secret is out of place.
  if (read.unreadable) {
    request.ways = {Method::passphrase, Method::raw_key, Method::recovery_key};
  }
  while (std::optional<Secret> secret = provider_.existing(request)) {
    Known& known = learn(std::move(*secret));
    if (const OpenProtector* opened = try_all(known, candidates, attempt)) return *opened;
    ++request.wrong_so_far;
    request.fault = fault_of(known.secret, known.recovery_key);
  }
  if (!attempt.untried.empty()) {
    throw Error(Errc::ambiguous, "more than " + std::to_string(kMaxHashings) +
                                     " protectors could open " + printable(target) +
                                     ": name one with --protector")
        .with_path(target)
        .with_candidates(attempt.untried);
  }
  if (read.unreadable) throw Error(*read.unreadable);
  if (attempt.over_limit) {
    throw Error(Errc::kdf_limit, *attempt.over_limit).with_path(target);
  }
  if (!known_.empty() && is_newer_login_password(known_.back().secret, candidates)) {
    throw still_previous_password(target);
  }
  throw wrong_key(target);
}

Error Opener::wrong_key(const std::string& target) const {
  std::string what = "wrong passphrase";
  std::string fault;
  if (!known_.empty()) {
    what = wrong_secret(known_.back().secret, known_.back().recovery_key);
    fault = fault_of(known_.back().secret, known_.back().recovery_key);
  }
  what += " for " + printable(target) + (fault.empty() ? "" : ": " + fault);
  return Error(Errc::wrong_key, what).with_path(target);
}

bool Opener::is_newer_login_password(const Secret& secret,
                                     const std::vector<ProtectorRecord>& candidates) const {
  if (secret.kind == Source::raw_key || secret.recovery_key) return false;
  // Whose password it may be says the caller, never a record alone: it may come from a stranger.
  const LoginUser user = login_user(context_.user_without_path());
  const bool hers = std::any_of(
      candidates.begin(), candidates.end(),
      [&user](const ProtectorRecord& record) { return hints_at(record.summary, user); });
  if (!hers) return false;
  try {
    return context_.verify_login(user.name, secret.bytes);
  } catch (const Error& error) {
    if (error.code() == Errc::interrupted) throw;
    return false;
  }
}

std::optional<ProtectorKey> Opener::try_known(const ProtectorRecord& record) {
  Attempt attempt{.unlimited = true};
  for (Known& known : known_) {
    if (known.recovery_key.key) {
      if (auto key = try_recovery_key(*known.recovery_key.key, record)) return key;
    }
    if (std::optional<Opened> opened = try_record(known, record, attempt)) {
      return std::move(opened->key);
    }
  }
  return std::nullopt;
}

std::optional<ProtectorWrapping> Opener::wrap_again(const ProtectorRecord& record,
                                                    const ProtectorKey& key) {
  Attempt attempt{.unlimited = true};
  ProtectorWrapping wrapping = record.wrappings.front();  // an imported record has no other
  for (Known& known : known_) {
    const std::optional<Opened> opened = try_record(known, record, attempt);
    if (!opened || !equal_secrets(opened->key.secret(), key.secret())) continue;
    const WrappingKey raw = wrapping.kdf ? WrappingKey() : WrappingKey(copy_of(known.secret.bytes));
    const WrappingKey* const with =
        wrapping.kdf ? wrapping_key(known, *wrapping.kdf, attempt) : &raw;
    wrapping.wrapped = wrap(*with, context_of(record, wrapping), key);
    const auto again = unwrap(*with, context_of(record, wrapping), wrapping.wrapped);
    if (!again || !equal_secrets(again->secret(), key.secret())) {
      throw Error(Errc::internal, "a new wrapping does not open");
    }
    return wrapping;
  }
  return std::nullopt;
}

std::optional<Secret> Opener::known_secret(const ProtectorRecord& record) {
  ProtectorRecord own = record;
  const Method method = method_of(record.summary.source);
  std::erase_if(own.wrappings,
                [method](const auto& wrapping) { return wrapping.method != method; });
  Attempt attempt{.unlimited = true};
  for (Known& known : known_) {
    if (!try_record(known, own, attempt)) continue;
    return Secret{record.summary.source, SecretBytes(known.secret.bytes.view())};
  }
  return std::nullopt;
}

Opener::Known& Opener::learn(Secret secret) {
  RecoveryKeyReading reading;
  if (secret.kind != Source::raw_key || secret.recovery_key) {
    reading = read_recovery_key(secret.bytes.view());
  }
  known_.push_back({std::move(secret), std::move(reading), {}});
  return known_.back();
}

void Opener::remember(Secret secret) { learn(std::move(secret)); }

OpenProtector make_protector(const Secret& secret, const std::string& name, const KdfCosts& costs) {
  OpenProtector protector{ProtectorRecord{}, random_key<ProtectorKey>()};
  ProtectorSummary& summary = protector.record.summary;
  summary.id = protector_id_of(protector.key);
  summary.name = name;
  summary.source = secret.kind;
  summary.created = now_rfc3339();
  protector.record.wrappings.push_back(
      wrap_with_secret(secret, protector.record, protector.key, costs, 1));
  summary.ways = ways_of(protector.record.wrappings);
  return protector;
}

std::uint64_t newest_generation(const ProtectorRecord& record) {
  std::uint64_t newest = 0;
  for (const ProtectorWrapping& wrapping : record.wrappings) {
    newest = std::max(newest, wrapping.generation);
  }
  return newest;
}

ProtectorRecord with_new_secret(const OpenProtector& protector, const Secret& secret,
                                const KdfCosts& costs, std::uint64_t at_least) {
  ProtectorRecord record = protector.record;
  if (secret.kind != record.summary.source) {
    throw Error(Errc::usage, "protector " + printable(record.summary.name) + " opens with a " +
                                 std::string(source_name(record.summary.source)) + ", not with a " +
                                 std::string(source_name(secret.kind)));
  }
  const std::uint64_t generation = std::max(newest_generation(record) + 1, at_least);
  const Method own = method_of(record.summary.source);
  std::erase_if(record.wrappings,
                [own](const ProtectorWrapping& wrapping) { return wrapping.method == own; });
  record.wrappings.insert(record.wrappings.begin(),
                          wrap_with_secret(secret, record, protector.key, costs, generation));
  summarise(record);
  return record;
}

ProtectorRecord with_newer_login_password(const OpenProtector& protector, const Secret& secret,
                                          const KdfCosts& costs, std::uint64_t at_least,
                                          std::uint64_t kept) {
  ProtectorRecord record = protector.record;
  const std::uint64_t generation = std::max(newest_generation(record) + 1, at_least);
  std::uint64_t newest = 0;
  bool found = false;
  for (const ProtectorWrapping& wrapping : record.wrappings) {
    if (wrapping.method != Method::login) continue;
    newest = std::max(newest, wrapping.generation);
    found = found || wrapping.generation == kept;
  }
  const std::uint64_t stays = found ? kept : newest;
  std::erase_if(record.wrappings, [stays](const ProtectorWrapping& wrapping) {
    // An imported wrapping cannot stand beside one of ours.
    const bool imported = algorithm_of(wrapping.wrapped) != WrapAlgorithm::fscryptctl_wrap_1;
    return imported || (wrapping.method == Method::login && wrapping.generation != stays);
  });
  record.wrappings.insert(record.wrappings.begin(),
                          wrap_with_secret(secret, record, protector.key, costs, generation));
  summarise(record);
  return record;
}

KdfCosts costs_for_new_hashing(Context& context) {
  if (const std::optional<KdfCosts> configured = context.config().kdf) return *configured;
  return {3, default_memory_kib(), default_lanes()};
}

std::optional<std::string> invalid_name(const std::string& name) {
  if (name.empty()) return "a protector's name must not be empty";
  if (name.size() > kMaxNameSize) return "a protector's name has at most 255 bytes";
  if (!is_utf8(name)) return "a protector's name must be UTF-8";
  if (has_control_characters(name)) return "a protector's name has no control characters";
  if (name.find_first_of(":/") != std::string::npos) return "a protector's name has no ':' or '/'";
  if (name == "login") return "the name \"login\" is kept for login protectors";
  if (name.size() >= 4 && name.size() <= 16 && is_hex_digits(name)) {
    return "a protector's name must not look like an id (4 to 16 hex digits)";
  }
  if (parse_rotation_mark(name)) return "a protector's name must not look like that of a rotation";
  return std::nullopt;
}

std::string free_name(const std::string& wish, const std::vector<ProtectorSummary>& existing) {
  const auto usable = [&](const std::string& name) {
    return !invalid_name(name) &&
           std::none_of(existing.begin(), existing.end(),
                        [&](const ProtectorSummary& other) { return other.name == name; });
  };
  const std::string base = sanitised(wish);
  std::string name = base;
  for (std::size_t i = 2; !usable(name); ++i) name = base + "-" + std::to_string(i);
  return name;
}

std::string protector_label(const ProtectorSummary& protector) {
  return protector.name + " (" + protector.id.hex() + ")";
}

ProtectorName split_protector_name(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos) return {std::nullopt, text};
  return {text.substr(0, colon), text.substr(colon + 1)};
}

const ProtectorSummary& find_protector(const std::vector<ProtectorSummary>& all,
                                       const std::string& name) {
  for (const ProtectorSummary& protector : all) {
    if (protector.name == name) return protector;
  }
  std::vector<const ProtectorSummary*> matches;
  if (name.size() >= 4 && name.size() <= 2 * ProtectorId::kSize) {
    for (const ProtectorSummary& protector : all) {
      if (protector.id.hex().starts_with(name)) matches.push_back(&protector);
    }
  }
  if (matches.size() == 1) return *matches.front();
  if (matches.empty()) {
    throw Error(Errc::no_such_protector, "no such protector: " + printable(name));
  }
  std::vector<std::string> candidates;
  candidates.reserve(matches.size());
  for (const ProtectorSummary* match : matches) candidates.push_back(protector_label(*match));
  throw Error(Errc::ambiguous, "more than one protector's id starts with " + printable(name))
      .with_candidates(candidates);
}

ReadProtectors read_protectors(const UserStore& store, const std::vector<ProtectorId>& ids) {
  ReadProtectors read;
  for (const ProtectorId& id : ids) {
    try {
      if (std::optional<ProtectorRecord> record = store.protector(id)) {
        read.records.push_back(std::move(*record));
      }
    } catch (const Error& error) {
      if (!read.unreadable) read.unreadable = error;
    }
  }
  if (read.records.empty() && read.unreadable) throw Error(*read.unreadable);
  if (read.records.empty()) {
    throw Error(Errc::no_such_protector, "the records of its protectors are missing");
  }
  return read;
}

}  // namespace fscryptctl
