#include <unistd.h>

#include <algorithm>

#include "conversion_run.h"
#include "fscryptctl/base/error.h"
#include "fscryptctl/core/last_way.h"
#include "fscryptctl/tree/copy.h"
#include "fscryptctl/tree/remove.h"

namespace fscryptctl {
namespace {

constexpr std::size_t kMaxFindings = 100;
/// How often changed files are copied again before the person is asked to stop changing them.
constexpr int kMaxRounds = 5;

FileTime file_time(const Journal::Time& time) { return {time.seconds, time.nanoseconds}; }
Journal::Time journal_time(const FileTime& time) { return {time.seconds, time.nanoseconds}; }

Journal::Part journal_part(const PartMove& part) {
  return {journal_inode(part.source),
          journal_inode(part.destination),
          part.path,
          part.size,
          part.source_size,
          journal_time(part.accessed),
          journal_time(part.modified),
          journal_time(part.source_modified)};
}

PartMove part_move(const Journal::Part& part) {
  PartMove move;
  move.source = inode_of(part.source);
  move.destination = inode_of(part.destination);
  move.path = part.path;
  move.size = part.size;
  move.source_size = part.source_size;
  move.accessed = file_time(part.accessed);
  move.modified = file_time(part.modified);
  move.source_modified = file_time(part.source_modified);
  return move;
}

/// Findings of the directory itself are left out: its change time changes when it is renamed.
std::vector<std::string> paths_below(const std::vector<TreeFinding>& findings) {
  std::vector<std::string> paths;
  for (const TreeFinding& finding : findings) {
    if (finding.path != ".") paths.push_back(finding.path);
  }
  return paths;
}

bool is_open_for_writing(const std::vector<TreeFinding>& findings) {
  return std::any_of(findings.begin(), findings.end(),
                     [](const TreeFinding& finding) { return finding.what == kOpenForWriting; });
}

}  // namespace

void Conversion::finish_states() {
  while (true) {
    switch (operation_->journal().state) {
      case State::copying:
        copy();
        break;
      case State::moving:
        move();
        break;
      case State::exchanging:
        exchange();
        break;
      case State::removing:
        remove_original();
        return;
      case State::returning:
        throw Error(Errc::internal, "a conversion goes on and back at once");
    }
  }
}

UniqueFd Conversion::open_tree_of(const Journal::Inode& wanted) const {
  UniqueFd tree = site_.work() >= 0 ? site_.open_tree() : UniqueFd();
  if (!tree || journal_inode(inode_identity(tree.get())) != wanted) {
    throw Error(Errc::corrupt_metadata,
                printable(site_.work_path()) + " is not what was made there")
        .with_path(site_.path());
  }
  return tree;
}

void Conversion::copy() {
  if (++rounds_ > kMaxRounds) {
    throw Error(Errc::files_in_use,
                "the files of " + printable(site_.path()) + " keep changing while they are copied")
        .with_path(site_.path());
  }
  const Journal& journal = operation_->journal();
  const UniqueFd copy = tree();
  const FileTime since = filesystem_now(site_.work());
  phase("copying", journal.bytes, journal.files);
  const bool empty = directory_names(copy.get(), 1).names.empty();
  in_tree(site_.path(), [&] {
    copy_tree(site_.directory(), copy.get(), {empty, 0}, progress_, tick());
  });
  phase("syncing", 0, 0);
  tick()();
  sync_tree(copy.get());
  if (journal.verify && !is_copy_right(copy.get(), since)) return;
  operation_->update([&](Journal& next) {
    next.since = journal_time(since);
    next.state = State::exchanging;
  });
}

bool Conversion::is_copy_right(int copy, FileTime since) {
  const Journal& journal = operation_->journal();
  phase("comparing", journal.bytes, journal.files);
  const std::vector<TreeFinding> differences = in_tree(site_.path(), [&] {
    return compare_trees(site_.directory(), copy, kMaxFindings, progress_, tick());
  });
  if (differences.empty()) return true;
  if (!changes_of_original(since).empty()) return false;
  std::vector<std::string> names;
  names.reserve(differences.size());
  for (const TreeFinding& difference : differences) {
    names.push_back(difference.path + " (" + difference.what + ")");
  }
  throw Error(Errc::io, "the copy of " + printable(site_.path()) +
                            " is not what was written to it: " + enumerate(names))
      .with_path(site_.path());
}

std::vector<TreeFinding> Conversion::changes_of_original(FileTime since) {
  phase("checking", 0, 0);
  if (filesystem_now(site_.work()) < since) {
    context_.explain("the clock was set back meanwhile: what changed cannot be told");
    return {{".", "changed"}};
  }
  std::vector<TreeFinding> changes = in_tree(site_.path(), [&] {
    return changes_since(site_.directory(), since, ChangeSigns::times_and_writers, kMaxFindings,
                         progress_, tick());
  });
  if (is_open_for_writing(changes)) throw in_use(paths_below(changes));
  for (const TreeFinding& change : changes) {
    context_.explain("changed meanwhile: " + printable(change.path));
  }
  return changes;
}

Error Conversion::in_use(const std::vector<std::string>& paths) const {
  return Error(Errc::files_in_use,
               "in " + printable(site_.path()) + " files are open for writing: " + enumerate(paths))
      .with_path(site_.path());
}

MoveRequest Conversion::move_request(int source, int destination) {
  MoveRequest move;
  move.source = source;
  move.destination = destination;
  move.work = site_.work();
  move.journal = [this](const std::optional<PartMove>& part) {
    operation_->update([&](Journal& next) {
      next.part.reset();
      if (part) next.part = journal_part(*part);
    });
  };
  if (operation_->journal().part) move.resumed = part_move(*operation_->journal().part);
  return move;
}

void Conversion::move() {
  const Journal& journal = operation_->journal();
  const UniqueFd destination = tree();
  phase("moving", journal.bytes, journal.files);
  in_tree(site_.path(), [&] {
    move_tree(move_request(site_.directory(), destination.get()), progress_, tick());
  });
  sync_tree(destination.get());
  operation_->update([&](Journal& next) {
    next.since = journal_time(filesystem_now(site_.work()));
    next.state = State::exchanging;
  });
}

void Conversion::exchange() {
  const Journal& journal = operation_->journal();
  const HolderScan holders = find_holders_below(site_.filesystem().fd(), site_.place(context_));
  require_no_holders(holders);
  if (journal.strategy == Strategy::copy) {
    if (!changes_of_original(file_time(journal.since)).empty()) return go_back_to(State::copying);
  } else if (!directory_names(site_.directory(), 1).names.empty()) {
    return go_back_to(State::moving);
  }
  static_cast<void>(tree());
  context_.throw_if_interrupted();
  exchange_directories(site_.parent(), site_.name(), inode_of(journal.original), site_.work(),
                       ConversionSite::kTree, inode_of(journal.replacement));
  site_.look_again();
  context_.explain("exchanged " + printable(site_.path()) + " and its copy");
  leave_exchange();
}

void Conversion::leave_exchange() {
  if (operation_->journal().strategy == Strategy::copy) {
    const UniqueFd original = open_tree_of(operation_->journal().original);
    phase("checking", 0, 0);
    const FileTime since = file_time(operation_->journal().since);
    // Who has a file open for writing is asked again when it is removed.
    const std::vector<std::string> changed = paths_below(in_tree(work_tree(), [&] {
      return changes_since(original.get(), since, ChangeSigns::times, kMaxFindings, progress_,
                           tick());
    }));
    if (!changed.empty()) throw late_changes(changed);
  }
  operation_->update([](Journal& next) { next.state = State::removing; });
}

Error Conversion::late_changes(const std::vector<std::string>& paths) const {
  return Error(Errc::files_in_use,
               "files of the original were changed since they were copied, and stay in " +
                   printable(work_tree()) + " until you have moved them away: " + enumerate(paths))
      .with_path(site_.path());
}

void Conversion::go_back_to(State state) {
  operation_->update([&](Journal& next) { next.state = state; });
}

void Conversion::require_no_holders(const HolderScan& scan) const {
  std::vector<std::string> names;
  for (const Holder& holder : scan.holders) {
    if (holder.pid != ::getpid()) {
      names.push_back(holder.command + " (" + std::to_string(holder.pid) + ")");
    }
  }
  if (names.empty()) return;
  throw Error(Errc::files_in_use, printable(site_.path()) + " is in use by " + enumerate(names))
      .with_path(site_.path());
}

void Conversion::require_exchanged(const Journal& journal) const {
  if (site_.identity() == journal.replacement) return;
  throw Error(Errc::conflict, printable(site_.path()) +
                                  " was replaced by its copy, and is not that copy any more: "
                                  "move it back to where it was")
      .with_path(site_.path());
}

void Conversion::remove_original() {
  const Journal& journal = operation_->journal();
  phase("removing", 0, journal.files);
  require_exchanged(journal);
  if (site_.work() < 0) {
    request_.note(printable(site_.work_name()) +
                  " is not there any more; if somebody has moved it, the original is still in it");
    return;
  }
  if (site_.open_tree()) static_cast<void>(open_tree_of(journal.original));
  const Replaced replaced{file_time(journal.since), site_.directory()};
  const std::vector<std::string> changed = paths_below(in_tree(work_tree(), [&] {
    return remove_tree(site_.work(), ConversionSite::kTree, replaced, progress_, tick());
  }));
  if (!changed.empty()) throw late_changes(changed);
  site_.remove_work();
}

}  // namespace fscryptctl
