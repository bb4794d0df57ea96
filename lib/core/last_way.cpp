#include "fscryptctl/core/last_way.h"

#include <fcntl.h>

#include <algorithm>
#include <set>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/directory_search.h"

namespace fscryptctl {
namespace {

constexpr std::size_t kMostNames = 5;

/// A damaged record, or one that cannot be read now, opens nothing that could be relied on.
bool is_whole(const UserStore& store, const ProtectorId& id) {
  try {
    return store.protector(id).has_value();
  } catch (const Error& error) {
    if (error.code() == Errc::interrupted) throw;
    return false;
  }
}

std::vector<std::string> directories_of(const Context& context, const Filesystem& filesystem,
                                        const PolicySummary& policy) {
  std::vector<std::string> directories;
  for (const std::string& hint : policy.paths) {
    if (!leads_to_key(context, filesystem, hint, policy.key_identifier)) continue;
    directories.push_back(filesystem.path_of_hint(hint).value_or("/" + hint));
  }
  return directories;
}

/// Other users' records lie there, closed to everybody else, and no directories of anybody.
bool is_metadata(const Filesystem& filesystem, const std::string& path) {
  const std::string& mount_point = filesystem.mount().mount_point;
  return path.starts_with((mount_point == "/" ? "" : mount_point) + "/.fscryptctl/");
}

template <class Item>
void append(std::vector<Item>& all, const std::vector<Item>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

}  // namespace

bool leads_to_key(const Context& context, const Filesystem& filesystem, const std::string& hint,
                  const KeyIdentifier& key) {
  const UniqueFd found = filesystem.open_hint(hint);
  if (!found) return false;
  const UniqueFd readable(
      ::openat(found.get(), ".", O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC));
  // Closed to this user: then it must be taken for what the record says.
  if (!readable) return file_info(found.get()).encrypted;
  const std::optional<KernelPolicy> policy = context.kernel.get_policy(readable.get());
  return policy && policy->key == KeySpecifier(key);
}

bool has_other_way(const UserStore& store, const PolicySummary& policy,
                   const ProtectorId& without) {
  return std::any_of(policy.protectors.begin(), policy.protectors.end(),
                     [&](const ProtectorId& id) { return id != without && is_whole(store, id); });
}

std::string in_quotes(const std::string& name) {
  return std::string("\"").append(printable(name)).append("\"");
}

std::string enumerate(const std::vector<std::string>& names) {
  const std::size_t shown = names.size() <= kMostNames ? names.size() : kMostNames - 1;
  std::string text;
  for (std::size_t i = 0; i < shown; ++i) {
    if (i > 0) text += i + 1 == names.size() ? " and " : ", ";
    text += printable(names[i]);
  }
  if (shown < names.size()) text += " and " + std::to_string(names.size() - shown) + " more";
  return text;
}

void LastWayGuard::require(const std::string& subject, const std::vector<PolicySummary>& losing) {
  if (losing.empty() || permits(losing)) return;
  const Loss loss = find_loss(subject, losing);
  const bool lost = !loss.directories.empty() || !loss.unknown.empty();
  if (lost && !wishes_.allow_data_loss) throw refuse(loss);
  wishes_.confirm(loss);
  permitted_ = losing;
}

bool LastWayGuard::permits(const std::vector<PolicySummary>& losing) const {
  return std::all_of(losing.begin(), losing.end(), [this](const PolicySummary& policy) {
    return std::find(permitted_.begin(), permitted_.end(), policy) != permitted_.end();
  });
}

Loss LastWayGuard::find_loss(const std::string& subject,
                             const std::vector<PolicySummary>& losing) const {
  Loss loss{subject, {}, {}, {}};
  std::set<KeyIdentifier> not_found;
  for (const PolicySummary& policy : losing) {
    loss.policies.push_back(policy.key_identifier);
    const std::vector<std::string> directories = directories_of(context_, filesystem_, policy);
    append(loss.directories, directories);
    if (directories.empty()) not_found.insert(policy.key_identifier);
  }
  std::sort(loss.directories.begin(), loss.directories.end());
  // Where the hints lead nowhere the directory may have been moved. Not needed for a refusal that
  // is certain already.
  if (not_found.empty() || (!loss.directories.empty() && !wishes_.allow_data_loss)) return loss;
  context_.explain("looking through " + printable(filesystem_.mount().mount_point));
  KeySearch search = search_by_key(context_, filesystem_, not_found);
  std::erase_if(search.closed,
                [this](const std::string& path) { return is_metadata(filesystem_, path); });
  append(loss.directories, search.found);
  loss.unknown = std::move(search.closed);
  return loss;
}

Error LastWayGuard::refuse(const Loss& loss) const {
  const std::string is_last = loss.subject + " is the last way into ";
  if (!loss.directories.empty()) {
    return Error(refusal_, is_last + enumerate(loss.directories))
        .with_path(loss.directories.front())
        .with_candidates(loss.directories);
  }
  return Error(refusal_, is_last + "a directory that may still exist: " + enumerate(loss.unknown) +
                             " could not be looked at")
      .with_path(loss.policies.front().hex())
      .with_candidates(loss.unknown);
}

}  // namespace fscryptctl
