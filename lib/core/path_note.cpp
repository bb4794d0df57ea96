#include "fscryptctl/core/path_note.h"

#include <fcntl.h>

#include <algorithm>

#include "fscryptctl/base/error.h"
#include "fscryptctl/core/last_way.h"
#include "fscryptctl/core/policy.h"

namespace fscryptctl {
namespace {

constexpr int kMaxDepth = 256;

/// The encrypted directory itself: its parent is plain. An empty descriptor if that cannot be told,
/// as where only a part of it is mounted.
UniqueFd top_of(const std::string& path) {
  UniqueFd here(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  for (int depth = 0; here && depth < kMaxDepth; ++depth) {
    UniqueFd parent(::openat(here.get(), "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!parent) return {};
    const FileInfo info = file_info(parent.get());
    if (info.mount_id != file_info(here.get()).mount_id) return {};
    if (!info.encrypted) return here;
    here = std::move(parent);
  }
  return {};
}

/// If just one directory is not where it was, it is this one that was moved.
void forget_old_place(const Context& context, const Filesystem& filesystem, PolicyRecord& record) {
  std::vector<std::string>& paths = record.summary.paths;
  const KeyIdentifier& key = record.summary.key_identifier;
  const auto lost = [&](const std::string& hint) {
    return !leads_to_key(context, filesystem, hint, key);
  };
  if (std::count_if(paths.begin(), paths.end(), lost) == 1) std::erase_if(paths, lost);
}

}  // namespace

std::optional<std::string> encrypted_directory_hint(const Context& context,
                                                    const Filesystem& filesystem,
                                                    const std::string& path) noexcept {
  try {
    const UniqueFd top = top_of(path);
    return top ? filesystem.hint_of(top.get(), context.mounts) : std::nullopt;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

void note_hint(Context& context, const Filesystem& filesystem, const FoundPolicy& found,
               const std::string& hint) noexcept {
  try {
    if (has_hint(found.record, hint)) return;
    const UserStore::Lock lock = found.store.lock(std::chrono::milliseconds(0));
    std::optional<PolicyRecord> record = found.store.policy(found.record.summary.key_identifier);
    if (!record || has_hint(*record, hint)) return;
    forget_old_place(context, filesystem, *record);
    add_hint(*record, hint);
    found.store.write(lock, *record);
    context.explain("noted that the directory is at " + printable(hint) + " now");
  } catch (const std::exception& error) {
    try {
      context.explain(std::string("the directory's path was not noted: ") + error.what());
    } catch (const std::exception&) {
      return;
    }
  }
}

}  // namespace fscryptctl
