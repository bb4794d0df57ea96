#include "links.h"

#include <fcntl.h>

#include <chrono>
#include <utility>

namespace fscryptctl {

std::optional<std::string> CopiedLinks::first_copy(const EntryStatus& source,
                                                   const Interruption& interruption) {
  std::unique_lock lock(mutex_);
  while (true) {
    const auto [found, is_new] = copies_.try_emplace(source.inode);
    if (is_new) return std::nullopt;
    Copy& copy = found->second;
    if (copy.made) {
      std::string path = copy.path;
      // Once its last name was seen it needs to be remembered no more.
      if (--copy.names_left == 0) copies_.erase(found);
      return path;
    }
    made_.wait_for(lock, std::chrono::milliseconds(100));
    lock.unlock();
    interruption.check();
    lock.lock();
  }
}

void CopiedLinks::done(const EntryStatus& source, std::string path, std::uint32_t late_flags) {
  const std::lock_guard lock(mutex_);
  if (late_flags != 0) late_flags_.emplace_back(path, late_flags);
  Copy& copy = copies_[source.inode];
  copy = {true, std::move(path), source.links - 1};
  made_.notify_all();
}

void CopiedLinks::failed(const EntryStatus& source) {
  const std::lock_guard lock(mutex_);
  copies_.erase(source.inode);
  made_.notify_all();
}

bool CopiedLinks::claim(std::uint64_t destination_inode, const EntryStatus& source) {
  const std::lock_guard lock(mutex_);
  return claims_.try_emplace(destination_inode, source.inode).first->second == source.inode;
}

UniqueFd open_path(int root, const std::string& path) {
  UniqueFd directory;
  std::size_t at = 0;
  while (true) {
    const std::size_t slash = path.find('/', at);
    const int dirfd = directory ? directory.get() : root;
    const std::string name = path.substr(at, slash == std::string::npos ? slash : slash - at);
    if (slash == std::string::npos) return open_entry(dirfd, name);
    directory = open_entry(dirfd, name);
    at = slash + 1;
  }
}

}  // namespace fscryptctl
