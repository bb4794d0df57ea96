#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "fscryptctl/base/encryption_options.h"
#include "fscryptctl/crypto/kdf.h"
#include "fscryptctl/metadata/model.h"

namespace fscryptctl {

/// /etc/fscryptctl.yaml: this machine's defaults. Every key is optional; fscryptctl.yaml(5).
struct Config {
  Source source = Source::passphrase;      ///< source: passphrase | raw-key | login
  std::optional<KdfCosts> kdf;             ///< kdf: {passes, memory_kib, lanes}
  EncryptionOptions encryption;            ///< encryption: {contents, filenames, padding}
  std::optional<std::uint64_t> kdf_limit_mib;  ///< kdf_limit_mib: what reading a record may cost

  bool operator==(const Config&) const = default;
};

/// nullopt if the file does not exist. It must be a regular file owned by root or the caller and
/// not writable by group or others. Throws corrupt_metadata (with line-free messages as for
/// records), untrusted_metadata, io. The error's path is the file's.
[[nodiscard]] std::optional<Config> read_config(const std::string& path);

/// Durable replacement, mode 0644. Throws permission, no_space, io.
void write_config(const std::string& path, const Config& config);

}  // namespace fscryptctl
