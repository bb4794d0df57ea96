#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/crypto/journal_key.h"

namespace fscryptctl {

/// How far a conversion is, as it is kept for whoever repeats the command. Normative text:
/// metadata-format/README.md, "Journals".
struct Journal {
  enum class Command { convert, reencrypt, decrypt };
  enum class Strategy { copy, low_space };
  enum class State {
    copying,     ///< nothing of the original has been touched
    moving,      ///< low-space: files go one by one
    exchanging,  ///< the copy is whole; it is taking the original's place
    removing,    ///< the copy is in place, and the original is going
    returning,   ///< low-space, cancelled: files go back
  };
  /// A directory or file, as long as it lives.
  struct Inode {
    std::uint64_t number = 0;
    std::uint32_t generation = 0;
    bool operator==(const Inode&) const = default;
  };
  struct Time {
    std::int64_t seconds = 0;
    std::uint32_t nanoseconds = 0;
    bool operator==(const Time&) const = default;
  };
  /// A file that is moved in parts.
  struct Part {
    Inode source;
    Inode destination;
    std::string path;  ///< relative to the directory
    std::uint64_t size = 0;
    std::uint64_t source_size = 0;
    Time accessed;
    Time modified;
    Time source_modified;
    bool operator==(const Part&) const = default;
  };

  OperationId operation;
  Command command = Command::convert;
  Strategy strategy = Strategy::copy;
  State state = State::copying;
  bool verify = true;
  /// The policy's record carries the operation's id. It does unless the policy was there before.
  bool bound = true;
  std::optional<KeyIdentifier> key;       ///< of what it becomes; none for decrypt
  std::optional<KeyIdentifier> previous;  ///< of what it was; none for plain and version 1
  std::string path;                       ///< of the directory, relative to the filesystem's root
  Inode original;
  Inode replacement;
  std::uint32_t original_mode = 0;  ///< permissions of the directory before
  std::uint32_t mode = 0;           ///< and at the end
  Time since;  ///< what the original has had changed from then on is not in the copy yet
  std::uint64_t files = 0;
  std::uint64_t bytes = 0;
  std::optional<Part> part;

  bool operator==(const Journal&) const = default;
};

/// "convert", "reencrypt", "decrypt"; "copy", "low-space"; "copying", "moving", ...
[[nodiscard]] std::string_view name_of(Journal::Command command);
[[nodiscard]] std::string_view name_of(Journal::Strategy strategy);
[[nodiscard]] std::string_view name_of(Journal::State state);

[[nodiscard]] std::string emit(const Journal& journal, const JournalKey& key);

/// Hostile bytes: what is not authentic may be shown, and nothing may be done by it. Throws
/// corrupt_metadata, newer_format.
[[nodiscard]] Journal parse_journal(std::string_view text);
/// True if whoever wrote this text had the key.
[[nodiscard]] bool is_authentic(std::string_view text, const JournalKey& key);

}  // namespace fscryptctl
