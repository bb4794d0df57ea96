#include "fscryptctl/core/recovery.h"

#include <algorithm>

#include "fscryptctl/base/error.h"

namespace fscryptctl {
namespace {

Error already_there(const ProtectorSummary& protector) {
  return Error(Errc::recovery_key_exists,
               "protector " + printable(protector.name) + " has a recovery key already");
}

const ProtectorWrapping* recovery_wrapping(const ProtectorRecord& record) {
  const auto found =
      std::ranges::find(record.wrappings, Method::recovery_key, &ProtectorWrapping::method);
  return found == record.wrappings.end() ? nullptr : &*found;
}

WrappingKey wrapping_key_of(const RecoveryKey& key) { return WrappingKey(SecretBytes(key.view())); }

/// One run of create_recovery_key.
class Creation {
 public:
  Creation(Context& context, const ProtectorWish& wish, bool replace, SecretProvider& secrets,
           RecoveryKeyKeeper& keeper)
      : context_(context),
        choice_(choose_protector(context, wish)),
        replace_(replace),
        keeper_(keeper),
        opener_(secrets, context) {}

  RecoveryChange run() {
    const std::optional<RecoveryKey> left = keeper_.left_over();
    // Nobody is asked for anything that would then be refused.
    if (!replace_ && !left && choice_.candidates.size() == 1 &&
        choice_.candidates.front().has_recovery_key()) {
      throw already_there(choice_.candidates.front());
    }
    try {
      RecoveryChange change{update_protector(context_, choice_, opener_,
                                             [&](const OpenProtector& open, std::uint64_t least) {
                                               return with_new_key(open, left, least);
                                             }),
                            changed_};
      keeper_.finish();
      return change;
    } catch (...) {
      // One of the few places that catch: a key that opens nothing is not left lying about.
      forget_unless_written();
      throw;
    }
  }

 private:
  ProtectorRecord with_new_key(const OpenProtector& open, const std::optional<RecoveryKey>& left,
                               std::uint64_t generation) {
    const ProtectorSummary& protector = open.record.summary;
    if (left && opens_with(open.record, *left)) {
      keeper_.set_in_use(true);
      changed_ = false;
      return open.record;
    }
    if (!replace_ && protector.has_recovery_key()) throw already_there(protector);
    // Once, even if somebody else changes the record meanwhile.
    if (!key_) key_ = keeper_.keep({choice_.target, protector, mount_point()});
    if (!key_) throw Error(Errc::declined, "no recovery key is wanted");
    context_.throw_if_interrupted();
    protector_ = protector.id;
    keeper_.set_in_use(true);
    changed_ = true;
    return with_recovery_key(open, *key_, generation);
  }

  [[nodiscard]] const std::string& mount_point() const {
    return choice_.filesystem.mount().mount_point;
  }

  void forget_unless_written() noexcept {
    if (!key_ || !protector_) return;
    try {
      const std::optional<ProtectorRecord> now = choice_.store.protector(*protector_);
      if (now && !opens_with(*now, *key_)) keeper_.set_in_use(false);
    } catch (const std::exception&) {
      return;  // whether it opens something cannot be known: it stays
    }
  }

  Context& context_;
  ProtectorChoice choice_;
  bool replace_;
  RecoveryKeyKeeper& keeper_;
  Opener opener_;
  std::optional<RecoveryKey> key_;
  std::optional<ProtectorId> protector_;
  bool changed_ = false;
};

}  // namespace

ProtectorRecord with_recovery_key(const OpenProtector& protector, const RecoveryKey& key,
                                  std::uint64_t at_least) {
  ProtectorRecord record = protector.record;
  ProtectorWrapping wrapping;
  wrapping.method = Method::recovery_key;
  wrapping.generation = std::max(newest_generation(record) + 1, at_least);
  wrapping.wrapped = wrap(wrapping_key_of(key), context_of(record, wrapping), protector.key);
  record = without_recovery_key(std::move(record));
  record.wrappings.push_back(std::move(wrapping));
  record.summary.ways = ways_of(record.wrappings);
  // What may be the only way in one day is opened once before anything relies on it.
  if (!opens_with(record, key)) throw Error(Errc::internal, "a new wrapping does not open");
  return record;
}

ProtectorRecord without_recovery_key(ProtectorRecord record) {
  std::erase_if(record.wrappings, [](const ProtectorWrapping& wrapping) {
    return wrapping.method == Method::recovery_key;
  });
  record.summary.ways = ways_of(record.wrappings);
  return record;
}

bool opens_with(const ProtectorRecord& record, const RecoveryKey& key) {
  const ProtectorWrapping* const wrapping = recovery_wrapping(record);
  return wrapping != nullptr &&
         unwrap(wrapping_key_of(key), context_of(record, *wrapping), wrapping->wrapped);
}

RecoveryChange create_recovery_key(Context& context, const ProtectorWish& wish, bool replace,
                                   SecretProvider& secrets, RecoveryKeyKeeper& keeper) {
  return Creation(context, wish, replace, secrets, keeper).run();
}

RecoveryChange remove_recovery_key(Context& context, const ProtectorWish& wish,
                                   SecretProvider& secrets) {
  const ProtectorChoice choice = choose_protector(context, wish);
  Opener opener(secrets, context);
  bool had_one = false;
  UpdatedProtector updated = update_protector(
      context, choice, opener, [&had_one](const OpenProtector& open, std::uint64_t) {
        if (open.opened_with == Method::recovery_key) {
          throw Error(Errc::last_way, "a recovery key cannot remove itself: protector " +
                                          printable(open.record.summary.name) +
                                          " must be opened with its own secret");
        }
        had_one = open.record.summary.has_recovery_key();
        return without_recovery_key(open.record);
      });
  const bool changed = had_one || updated.copies.size() > 1;
  return {std::move(updated), changed};
}

ProtectorSummary verify_recovery_key(Context& context, const ProtectorWish& wish,
                                     SecretProvider& secrets) {
  const ProtectorChoice choice = choose_protector(context, wish);
  std::vector<ProtectorId> ids;
  for (const ProtectorSummary& candidate : choice.candidates) ids.push_back(candidate.id);
  ReadProtectors read = read_protectors(choice.store, ids);
  // With no other wrapping in sight nothing but a recovery key can open them.
  for (ProtectorRecord& record : read.records) {
    std::erase_if(record.wrappings, [](const ProtectorWrapping& wrapping) {
      return wrapping.method != Method::recovery_key;
    });
  }
  std::erase_if(read.records,
                [](const ProtectorRecord& record) { return record.wrappings.empty(); });
  if (read.records.empty() && !read.unreadable) {
    throw Error(Errc::wrong_key, printable(choice.target) + " has no recovery key")
        .with_path(choice.target);
  }
  Opener opener(secrets, context);
  return opener.open_any(read, choice.target, true).record.summary;
}

}  // namespace fscryptctl
