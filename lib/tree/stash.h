#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "fscryptctl/tree/attributes.h"

namespace fscryptctl {

/// Attributes as bytes: format 1, then little endian mode, uid, gid, flags, project (32 bits each),
/// both times (64 and 32 bits), the number of extended attributes, and for each the length and
/// bytes of its name and value.
[[nodiscard]] std::string encode_attributes(const Attributes& attributes);
/// nullopt for anything that encode_attributes does not make.
[[nodiscard]] std::optional<Attributes> decode_attributes(std::string_view bytes);

/// What a file or directory has to become when everything is in its place, kept with itself, so
/// that it goes wherever that goes. Root's is out of the owner's reach (kTrustedStash). Root also
/// follows one of the owner's, as far as the owner could do all that herself.
void put_stash(int fd, const Attributes& attributes);
[[nodiscard]] std::optional<Attributes> find_stash(int fd);
void remove_stash(int fd);

/// As read_attributes, without a stash.
[[nodiscard]] Attributes attributes_without_stash(int fd);

/// Makes it what its stash says, which goes last. False if there is none.
bool follow_stash(int fd);

}  // namespace fscryptctl
