#include "walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "blocked_signals.h"

namespace fscryptctl {
namespace {

using DirectoryPtr = std::shared_ptr<TreeDirectory>;

/// Each may keep a directory open, so it is well below the number of files that can be open.
constexpr std::size_t kQueueLimit = 128;
constexpr std::chrono::milliseconds kTickInterval{100};

/// Calls `work`, and gives whatever it throws the path that it is about.
template <class Work>
auto about(const TreeDirectory& directory, const std::string& name, const Work& work) {
  try {
    return work();
  } catch (Error& error) {
    const bool has_path = !error.path().empty() || error.code() == Errc::interrupted;
    if (!has_path) error.with_path(directory.path_of(name));
    throw;
  }
}

class Walk final : public WorkSharing {
 public:
  Walk(TreeVisitor& visitor, Interruption& interruption)
      : visitor_(visitor), interruption_(interruption) {
    visitor_.use(this);
  }
  ~Walk() override {
    end();
    visitor_.use(nullptr);
  }

  void run(const DirectoryPtr& root, unsigned threads) {
    start(threads);
    try {
      list(root);
      wait_until_done();
    } catch (...) {
      keep_error(std::current_exception());
    }
    end();
    if (error_) std::rethrow_exception(error_);
  }

  void share(std::size_t count, const std::function<void(std::size_t)>& work) override {
    Shared shared{.work = work, .count = count, .error = nullptr};
    std::unique_lock lock(mutex_);
    shared_.push_back(&shared);
    changed_.notify_all();
    while (shared.next < shared.count) take_part(lock, shared);
    std::erase(shared_, &shared);
    parts_done_.wait(lock, [&] { return shared.active == 0; });
    lock.unlock();
    if (shared.error) std::rethrow_exception(shared.error);
  }

 private:
  struct Shared {
    const std::function<void(std::size_t)>& work;
    std::size_t count;
    std::size_t next = 0;
    std::size_t active = 0;
    std::exception_ptr error;
  };
  struct Item {
    DirectoryPtr directory;
    DirectoryEntry entry;
  };
  struct Level {
    DirectoryPtr directory;
    DirectoryListing listing;
  };

  void start(unsigned threads) {
    const BlockedSignals blocked;
    try {
      while (threads_.size() < threads) threads_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
      // As many as there can be; without any, the caller's thread does everything.
    }
  }

  void end() {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    items_.clear();
  }

  void keep_error(std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    // A caller that only noticed that it is to stop has nothing to say.
    if (!error_ && !interruption_.stopped()) error_ = std::move(error);
    interruption_.stop();
    changed_.notify_all();
  }

  void list(const DirectoryPtr& root) {
    std::vector<Level> levels;
    levels.push_back({root, {}});
    DirectoryEntry entry;
    while (!levels.empty() && !interruption_.stopped()) {
      Level& level = levels.back();
      interruption_.check();
      const DirectoryPtr directory = level.directory;
      const bool found = about(*directory, {}, [&] {
        return next_entry(level.listing, directory->source.get(), entry);
      });
      if (!found) {
        levels.pop_back();
        finish_one(directory);
      } else if (!is_directory_entry(directory->source.get(), entry)) {
        ++directory->pending;
        give({directory, entry});
      } else if (DirectoryPtr child = enter(directory, entry.name)) {
        level.listing.shrink();
        levels.push_back({std::move(child), {}});
      }
    }
  }

  DirectoryPtr enter(const DirectoryPtr& parent, const std::string& name) {
    return about(*parent, name, [&] {
      DirectoryPtr child = visitor_.enter(parent, name);
      if (child) {
        child->parent = parent;
        child->name = name;
        ++parent->pending;
      }
      return child;
    });
  }

  void give(Item item) {
    if (threads_.empty()) return process(item);
    std::unique_lock lock(mutex_);
    while (items_.size() >= kQueueLimit && !interruption_.stopped()) wait(lock);
    items_.push_back(std::move(item));
    if (idle_ > 0) changed_.notify_one();
  }

  void wait_until_done() {
    std::unique_lock lock(mutex_);
    while ((!items_.empty() || busy_ > 0) && !interruption_.stopped()) wait(lock);
  }

  /// The caller's thread, until something may have changed.
  void wait(std::unique_lock<std::mutex>& lock) {
    caller_waits_ = true;
    caller_.wait_for(lock, kTickInterval);
    caller_waits_ = false;
    lock.unlock();
    interruption_.check();
    lock.lock();
  }

  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      ++idle_;
      changed_.wait(lock, [&] {
        return !items_.empty() || open_work() != nullptr || ended_ || interruption_.stopped();
      });
      --idle_;
      if (interruption_.stopped()) return;
      if (items_.empty()) {
        Shared* const shared = open_work();
        if (shared == nullptr) return;
        take_part(lock, *shared);
        continue;
      }
      Item item = std::move(items_.front());
      items_.pop_front();
      ++busy_;
      // Half empty only, so that the two threads do not wake each other for every entry.
      if (caller_waits_ && items_.size() <= kQueueLimit / 2) caller_.notify_one();
      lock.unlock();
      try {
        process(item);
      } catch (const Interruption::Stopped&) {
        // Somebody else has the reason.
      } catch (...) {
        keep_error(std::current_exception());
      }
      item = {};
      lock.lock();
      --busy_;
      if (caller_waits_ && busy_ == 0 && items_.empty()) caller_.notify_one();
    }
  }

  /// What some other thread has more of than it can do at once.
  Shared* open_work() {
    const auto found = std::ranges::find_if(
        shared_, [](const Shared* shared) { return shared->next < shared->count; });
    return found == shared_.end() ? nullptr : *found;
  }

  /// One part of it, without the lock meanwhile.
  void take_part(std::unique_lock<std::mutex>& lock, Shared& shared) {
    const std::size_t part = shared.next++;
    ++shared.active;
    lock.unlock();
    std::exception_ptr error;
    try {
      shared.work(part);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    if (error) {
      if (!shared.error) shared.error = error;
      shared.next = shared.count;  // the rest is for nothing
    }
    if (--shared.active == 0) parts_done_.notify_all();
  }

  void process(Item& item) {
    about(*item.directory, item.entry.name, [&] { visitor_.visit(*item.directory, item.entry); });
    finish_one(std::move(item.directory));
  }

  /// An entry of the directory is done; with the last one so is the directory, an entry itself.
  void finish_one(DirectoryPtr directory) {
    while (directory && --directory->pending == 0) {
      about(*directory, {}, [&] { visitor_.leave(*directory); });
      directory = DirectoryPtr(directory->parent);
    }
  }

  TreeVisitor& visitor_;
  Interruption& interruption_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable changed_;  ///< for the threads
  std::condition_variable caller_;
  std::condition_variable parts_done_;
  std::deque<Item> items_;
  std::vector<Shared*> shared_;
  std::size_t idle_ = 0;
  std::size_t busy_ = 0;
  bool caller_waits_ = false;
  bool ended_ = false;
  std::exception_ptr error_;
};

}  // namespace

TreeDirectory::~TreeDirectory() {
  // One after the other: thousands of levels inside each other would be too much for the stack.
  while (parent && parent.use_count() == 1) parent = std::exchange(parent->parent, nullptr);
}

std::string TreeDirectory::path() const { return path_of({}); }

std::string TreeDirectory::path_of(const std::string& entry) const {
  std::vector<const std::string*> names;
  if (!entry.empty()) names.push_back(&entry);
  for (const TreeDirectory* level = this; level != nullptr && !level->name.empty();
       level = level->parent.get()) {
    names.push_back(&level->name);
  }
  if (names.empty()) return ".";
  std::string path;
  for (auto next = names.rbegin(); next != names.rend(); ++next) {
    if (!path.empty()) path += '/';
    path += **next;
  }
  return path;
}

void Interruption::check() const {
  if (std::this_thread::get_id() == caller_) {
    if (tick_) tick_();
  } else if (stopped_) {
    throw Stopped{};
  }
}

void allow_many_open_files() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);  // without it only deep trees fail, and say so
}

void walk_tree(const DirectoryPtr& root, TreeVisitor& visitor, unsigned threads,
               Interruption& interruption) {
  allow_many_open_files();
  Walk(visitor, interruption).run(root, threads);
}

unsigned default_threads() { return std::clamp(std::thread::hardware_concurrency(), 2U, 8U); }

bool next_entry(DirectoryListing& listing, int fd, DirectoryEntry& entry) {
  try {
    return listing.next(fd, entry);
  } catch (const Error& error) {
    throw tree_error(error.sys_errno(), "cannot list the directory");
  }
}

bool is_empty(int directory) {
  const UniqueFd listed = reopen_directory(directory);
  DirectoryListing listing;
  DirectoryEntry entry;
  return !next_entry(listing, listed.get(), entry);
}

bool is_directory_entry(int dirfd, const DirectoryEntry& entry) {
  if (entry.type != DT_UNKNOWN) return entry.type == DT_DIR;
  const UniqueFd found = find_entry(dirfd, entry.name);
  return found && entry_status(found.get()).is_directory();
}

}  // namespace fscryptctl
