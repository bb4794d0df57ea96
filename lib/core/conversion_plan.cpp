#include "fscryptctl/core/conversion_plan.h"

#include <sys/quota.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "fscryptctl/base/amount.h"
#include "fscryptctl/base/error.h"
#include "fscryptctl/core/last_way.h"
#include "in_tree.h"

namespace fscryptctl {
namespace {

constexpr std::uint64_t kMebibyte = std::uint64_t{1} << 20U;
/// Beside the copy: records, the journal, and what the filesystem itself needs meanwhile.
constexpr std::uint64_t kReserve = kMebibyte;
constexpr std::uint64_t kPercent = 100;
/// Files that move one by one are written in batches of about this much, or one at a time.
constexpr std::uint64_t kSmallestRoom = 4 * kMebibyte;

struct Room {
  std::uint64_t bytes;
  std::uint64_t inodes;
};

std::uint64_t left(std::uint64_t limit, std::uint64_t used) {
  if (limit == 0) return std::numeric_limits<std::uint64_t>::max();
  return limit > used ? limit - used : 0;
}

constexpr Room kUnlimited{std::numeric_limits<std::uint64_t>::max(),
                          std::numeric_limits<std::uint64_t>::max()};

/// `type` is USRQUOTA or GRPQUOTA, `id` one of the user's.
Room quota_of(const std::string& device, int type, id_t id) {
  dqblk quota{};
  if (::quotactl(QCMD(Q_GETQUOTA, type), device.c_str(), static_cast<int>(id),
                 reinterpret_cast<caddr_t>(&quota)) != 0) {
    return kUnlimited;
  }
  return {left(dbtob(quota.dqb_bhardlimit), quota.dqb_curspace),
          left(quota.dqb_ihardlimit, quota.dqb_curinodes)};
}

/// What quotas leave; root is not bound by them. A project's is in what the filesystem says of its
/// free space.
Room quota_room(const ConversionSite& site) {
  if (::geteuid() == 0) return kUnlimited;
  const std::string& device = site.filesystem().mount().source;
  const Room user = quota_of(device, USRQUOTA, site.info().uid);
  const Room group = quota_of(device, GRPQUOTA, site.info().gid);
  return {std::min(user.bytes, group.bytes), std::min(user.inodes, group.inodes)};
}

Room free_room(const ConversionSite& site) {
  struct statvfs info {};
  if (::fstatvfs(site.directory(), &info) != 0) {
    throw system_error(
        errno, "asking for the free space of " + printable(site.filesystem().mount().mount_point));
  }
  // Filesystems that make inodes as they need them tell 0 of 0.
  const std::uint64_t inodes =
      info.f_files == 0 ? std::numeric_limits<std::uint64_t>::max() : info.f_favail;
  const Room quota = quota_room(site);
  return {std::min<std::uint64_t>(std::uint64_t{info.f_bavail} * info.f_frsize, quota.bytes),
          std::min(inodes, quota.inodes)};
}

/// Rough: what two cores and an ordinary disk do, so that people know whether it is minutes or
/// hours.
double estimate(const TreeScan& scan) {
  constexpr double kBytesPerSecond = 150e6;
  constexpr double kSecondsPerFile = 0.0003;
  return static_cast<double>(scan.bytes_on_disk) / kBytesPerSecond +
         static_cast<double>(scan.files) * kSecondsPerFile;
}

Errc code_of(Obstacle::Kind kind) {
  switch (kind) {
    case Obstacle::Kind::mount_point:
    case Obstacle::Kind::swap_file:
      return Errc::in_use;
    case Obstacle::Kind::encrypted:
      return Errc::already_encrypted;
    case Obstacle::Kind::verity:
    case Obstacle::Kind::symlink_target:
      return Errc::unconvertible;
    case Obstacle::Kind::foreign_owner:
    case Obstacle::Kind::unreadable:
    case Obstacle::Kind::not_movable:
      return Errc::permission;
  }
  return Errc::internal;
}

std::string what_is_in_the_way(Obstacle::Kind kind) {
  switch (kind) {
    case Obstacle::Kind::mount_point:
      return "something is mounted";
    case Obstacle::Kind::swap_file:
      return "a file is in use as swap";
    case Obstacle::Kind::encrypted:
      return "something is encrypted already";
    case Obstacle::Kind::verity:
      return "files are protected by fs-verity";
    case Obstacle::Kind::symlink_target:
      return "symlinks have targets that are too long to be encrypted";
    case Obstacle::Kind::foreign_owner:
      return "files belong to others or are devices, and only root can make such";
    case Obstacle::Kind::unreadable:
      return "files cannot be read";
    case Obstacle::Kind::not_movable:
      return "the directory itself is immutable or append-only (chattr -i -a)";
  }
  return "";
}

Error obstacle_error(const ConversionPlan& plan) {
  const Obstacle::Kind kind = plan.scan.obstacles.front().kind;
  std::vector<std::string> names;
  for (const Obstacle& obstacle : plan.scan.obstacles) {
    if (obstacle.kind == kind) names.push_back(obstacle.path);
  }
  return Error(code_of(kind), "in " + printable(plan.path) + " " + what_is_in_the_way(kind) + ": " +
                                  enumerate(names))
      .with_path(plan.path);
}

Error no_space(const ConversionPlan& plan) {
  const bool low = plan.strategy == Journal::Strategy::low_space;
  return Error(Errc::no_space, human_size(low ? plan.bytes_needed_low_space : plan.bytes_needed) +
                                   (low ? " needed at once, " : " to copy, ") +
                                   human_size(plan.bytes_free) + " free on " +
                                   printable(plan.mount_point))
      .with_path(plan.path);
}

}  // namespace

std::uint64_t free_bytes(const ConversionSite& site) { return free_room(site).bytes; }

bool ConversionPlan::fits() const noexcept { return bytes_needed <= bytes_free; }
bool ConversionPlan::fits_low_space() const noexcept {
  return bytes_needed_low_space <= bytes_free && scan.directories < inodes_free;
}

std::string_view obstacle_name(Obstacle::Kind kind) {
  switch (kind) {
    case Obstacle::Kind::mount_point:
      return "mount_point";
    case Obstacle::Kind::swap_file:
      return "swap_file";
    case Obstacle::Kind::encrypted:
      return "encrypted";
    case Obstacle::Kind::verity:
      return "verity";
    case Obstacle::Kind::symlink_target:
      return "symlink_target";
    case Obstacle::Kind::foreign_owner:
      return "foreign_owner";
    case Obstacle::Kind::unreadable:
      return "unreadable";
    case Obstacle::Kind::not_movable:
      return "not_movable";
  }
  return "";
}

ConversionPlan make_plan(const Context& context, const ConversionSite& site,
                         Journal::Strategy strategy, bool encrypts, TreeProgress& progress,
                         const Tick& tick) {
  ConversionPlan plan;
  plan.path = site.path();
  plan.mount_point = site.filesystem().mount().mount_point;
  plan.strategy = strategy;
  plan.scan = in_tree(site.path(), [&] {
    return scan_tree(site.directory(), {site.info().encrypted, encrypts}, progress, tick);
  });
  const Room room = free_room(site);
  plan.bytes_free = room.bytes;
  plan.inodes_free = room.inodes;
  plan.bytes_needed = plan.scan.bytes_on_disk + plan.scan.bytes_on_disk / kPercent + kReserve;
  // The directories stand twice until the end; a file with several names cannot be moved in parts.
  plan.bytes_needed_low_space = std::max(kSmallestRoom, plan.scan.largest_linked_file + kReserve) +
                                plan.scan.directories * 4096;
  plan.inodes_needed =
      strategy == Journal::Strategy::copy ? plan.scan.inodes + 2 : plan.scan.directories + 16;
  plan.holders = find_holders_below(site.filesystem().fd(), site.place(context));
  // What this process itself was given, it gives back.
  std::erase_if(plan.holders.holders,
                [](const Holder& holder) { return holder.pid == ::getpid(); });
  plan.seconds = estimate(plan.scan);
  return plan;
}

std::optional<Error> refusal(const ConversionPlan& plan) {
  if (!plan.scan.obstacles.empty()) return obstacle_error(plan);
  if (!plan.holders.holders.empty()) {
    return Error(Errc::in_use, printable(plan.path) + " is in use").with_path(plan.path);
  }
  const bool low = plan.strategy == Journal::Strategy::low_space;
  if (low ? !plan.fits_low_space() : !plan.fits()) return no_space(plan);
  if (plan.inodes_needed > plan.inodes_free) {
    return Error(Errc::no_space, std::to_string(plan.inodes_needed) + " inodes needed, " +
                                     std::to_string(plan.inodes_free) + " free on " +
                                     printable(plan.mount_point))
        .with_path(plan.path);
  }
  return std::nullopt;
}

}  // namespace fscryptctl
