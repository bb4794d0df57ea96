#include "fscryptctl/core/protector_choice.h"

#include <algorithm>
#include <iterator>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/protector.h"

namespace fscryptctl {
namespace {

std::vector<ProtectorSummary> summaries(const std::vector<ProtectorRecord>& records) {
  std::vector<ProtectorSummary> all;
  all.reserve(records.size());
  for (const ProtectorRecord& record : records) all.push_back(record.summary);
  return all;
}

ProtectorChoice all_of_directory(const Context& context, const std::string& path) {
  Target target = look_at(context, path);
  const KeyIdentifier key = require_v2_key(target);
  std::optional<FoundPolicy> found = find_record(context, target.filesystem, target.owner.uid, key);
  if (!found) throw not_managed(target.filesystem, path);
  std::vector<ProtectorSummary> candidates =
      summaries(read_protectors(found->store, found->record.summary.protectors).records);
  return {std::move(target.filesystem), std::move(found->store), std::move(candidates), path};
}

ProtectorChoice all_of_mount(const Context& context, const std::string& mount) {
  Filesystem filesystem = filesystem_of_path(context, mount);
  static_cast<void>(filesystem.require_metadata());
  std::optional<UserStore> store = filesystem.store(context.user_without_path());
  if (!store) {
    throw Error(Errc::no_such_protector,
                "no protectors on " + printable(filesystem.mount().mount_point));
  }
  std::vector<ProtectorSummary> candidates = store->protectors().records;
  return {std::move(filesystem), std::move(*store), std::move(candidates), ""};
}

std::vector<std::string> labels(const std::vector<ProtectorSummary>& protectors) {
  std::vector<std::string> all;
  all.reserve(protectors.size());
  std::transform(protectors.begin(), protectors.end(), std::back_inserter(all), protector_label);
  return all;
}

/// The one that is named. Under a path it may be named by where else it lies.
ProtectorSummary named(const Context& context, const ProtectorChoice& choice,
                       const ProtectorName& name) {
  if (choice.target.empty() || !name.mount) return find_protector(choice.candidates, name.name);
  const ProtectorChoice elsewhere = all_of_mount(context, *name.mount);
  return find_protector(choice.candidates,
                        find_protector(elsewhere.candidates, name.name).id.hex());
}

/// A login password is given as passphrases are.
void keep_kind(ProtectorChoice& choice, Source kind) {
  std::erase_if(choice.candidates, [kind](const ProtectorSummary& candidate) {
    return (candidate.source == Source::raw_key) != (kind == Source::raw_key);
  });
}

}  // namespace

ProtectorChoice choose_protector(const Context& context, const ProtectorWish& wish) {
  std::optional<ProtectorName> name;
  if (wish.protector) name = split_protector_name(*wish.protector);
  const std::string& mount = name && name->mount ? *name->mount : wish.mount;
  ProtectorChoice choice =
      wish.path ? all_of_directory(context, *wish.path) : all_of_mount(context, mount);
  if (name) {
    choice.candidates = {named(context, choice, *name)};
  } else if (wish.kind) {
    keep_kind(choice, *wish.kind);
  }
  if (choice.candidates.empty()) {
    throw Error(Errc::no_such_protector,
                "no such protectors on " + printable(choice.filesystem.mount().mount_point));
  }
  if (!wish.path && choice.candidates.size() > 1) {
    throw Error(Errc::ambiguous, "several protectors could be meant: choose one with --protector")
        .with_candidates(labels(choice.candidates));
  }
  if (!wish.path) choice.target = "protector " + choice.candidates.front().name;
  return choice;
}

}  // namespace fscryptctl
