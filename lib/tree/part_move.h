#pragma once

#include "contents.h"
#include "fscryptctl/tree/move.h"
#include "walk.h"

namespace fscryptctl {

/// A single file, from its end, when there is no space for it twice.
class PartMover {
 public:
  PartMover(const MoveRequest& request, TreeProgress& progress, const Interruption& interruption)
      : request_(request), progress_(progress), interruption_(interruption) {}

  /// Nobody has `name` open but the caller, who closed it before; its directory's counterpart is
  /// there. Throws files_in_use, no_space before anything was changed.
  void move(const TreeDirectory& parent, const std::string& name);
  /// What the journal says.
  void resume(const PartMove& part);
  /// What was left by a move that the journal does not know (yet, or any more).
  void clear();

 private:
  struct Files {
    UniqueFd source;
    UniqueFd destination;
    bool placed = false;  ///< the destination has its name in the tree already
  };

  void make_destination(const TreeDirectory& parent, const Attributes& attributes,
                        std::uint64_t size);
  void take_source(int dirfd, const std::string& name);
  Files find_files(const PartMove& part);
  void move_pieces(PartMove part, const Files& files);
  bool move_piece(const Files& files, ByteRange range, const EntryStatus& status);
  bool copy_piece(int source, int destination, ByteRange range);
  void finish(const PartMove& part, const Files& files);
  [[nodiscard]] std::uint64_t piece_size() const;

  const MoveRequest& request_;
  TreeProgress& progress_;
  const Interruption& interruption_;
};

/// What ordinary users have, less some for directories and the like.
[[nodiscard]] std::uint64_t free_space(int fd);

/// Moves a name to one that must be free. Throws conflict if it is not.
void rename_to_free(int from, const std::string& name, int to, const std::string& new_name);

/// Opens a directory below `root`, O_PATH; the root itself for a path without one.
[[nodiscard]] UniqueFd open_directory_of(int root, const std::string& path);

}  // namespace fscryptctl
