#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "entry.h"
#include "fscryptctl/base/directory_listing.h"
#include "fscryptctl/tree/progress.h"

namespace fscryptctl {

/// A directory that is being worked on. It is open until everything below it is done.
struct TreeDirectory : std::enable_shared_from_this<TreeDirectory> {
  std::shared_ptr<TreeDirectory> parent;
  std::string name;  ///< in its parent; empty for the root
  UniqueFd source;
  UniqueFd destination;   ///< where there are two trees
  Attributes attributes;  ///< of the source, if somebody needs them at the end
  /// Entries that are not done, and one for the listing itself.
  std::atomic<std::size_t> pending{1};

  TreeDirectory() = default;
  TreeDirectory(const TreeDirectory&) = delete;
  TreeDirectory& operator=(const TreeDirectory&) = delete;
  virtual ~TreeDirectory();

  /// Relative to the root of the tree; "." for the root.
  [[nodiscard]] std::string path() const;
  [[nodiscard]] std::string path_of(const std::string& entry) const;
};

/// Ends work early: what long loops ask again and again, in any thread.
class Interruption {
 public:
  explicit Interruption(const Tick& tick) : tick_(tick), caller_(std::this_thread::get_id()) {}

  /// In the caller's thread it ticks; in the others it throws Stopped once the work is to end.
  void check() const;
  void stop() noexcept { stopped_ = true; }
  [[nodiscard]] bool stopped() const noexcept { return stopped_; }

  struct Stopped {};

 private:
  const Tick& tick_;
  std::thread::id caller_;
  std::atomic<bool> stopped_{false};
};

/// Threads that have nothing else to do.
class WorkSharing {
 public:
  WorkSharing() = default;
  WorkSharing(const WorkSharing&) = delete;
  WorkSharing& operator=(const WorkSharing&) = delete;
  virtual ~WorkSharing() = default;

  /// Calls `work` with every number below `count`, in this thread and whichever are idle meanwhile.
  /// Throws what it throws, when no thread is in it any more.
  virtual void share(std::size_t count, const std::function<void(std::size_t)>& work) = 0;
};

/// What is done with a tree.
class TreeVisitor {
 public:
  TreeVisitor() = default;
  TreeVisitor(const TreeVisitor&) = delete;
  TreeVisitor& operator=(const TreeVisitor&) = delete;
  virtual ~TreeVisitor() = default;

  /// A directory, in the caller's thread, before anything in it: opens it. Null: it is left out.
  virtual std::shared_ptr<TreeDirectory> enter(const std::shared_ptr<TreeDirectory>& parent,
                                               const std::string& name) = 0;
  /// Anything that the listing calls no directory, in any thread.
  virtual void visit(TreeDirectory& parent, const DirectoryEntry& entry) = 0;
  /// When everything in the directory is done, in any thread.
  virtual void leave(TreeDirectory& /*directory*/) {}

  /// For parts of what is large; during walk_tree only.
  void use(WorkSharing* sharing) noexcept { sharing_ = sharing; }

 protected:
  [[nodiscard]] WorkSharing& sharing() const noexcept { return *sharing_; }

 private:
  WorkSharing* sharing_ = nullptr;
};

/// Visits every entry below `root` (whose `source` is listed), directories by the calling thread,
/// the rest by `threads` others (0: by itself), in bounded memory. The first error ends it, with
/// the path that it is about. Throws what the visitor and the tick throw, io.
void walk_tree(const std::shared_ptr<TreeDirectory>& root, TreeVisitor& visitor, unsigned threads,
               Interruption& interruption);

/// Every level of directories needs descriptors: as many as the system allows.
void allow_many_open_files();

/// One for each processor, between two and eight.
[[nodiscard]] unsigned default_threads();

/// The next entry of a listing, whose directory may be gone: then it throws files_in_use.
[[nodiscard]] bool next_entry(DirectoryListing& listing, int fd, DirectoryEntry& entry);

/// Looks without a change of the time of access.
[[nodiscard]] bool is_empty(int directory);

/// Whether the listing's type says that it is a directory, looking for itself where it says
/// nothing.
[[nodiscard]] bool is_directory_entry(int dirfd, const DirectoryEntry& entry);

}  // namespace fscryptctl
