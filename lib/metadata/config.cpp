#include "fscryptctl/metadata/config.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <limits>
#include <sstream>

#include "fscryptctl/base/file.h"
#include "owned_directory.h"
#include "strict_yaml.h"

namespace fscryptctl {
namespace {

constexpr mode_t kConfigMode = 0644;
/// So that in bytes it is still a number of 64 bits.
constexpr std::uint64_t kMaxLimitMib = std::numeric_limits<std::uint64_t>::max() >> 20U;

/// A word or name; people may or may not quote it.
const std::string& scalar(const yaml::Node& node) {
  return node.kind == yaml::Node::Kind::quoted ? yaml::quoted(node) : yaml::plain(node);
}

template <class Value>
Value known(const std::optional<Value>& value, const std::string& key) {
  if (!value) throw yaml::corrupt(key + " has a value that is not known");
  return *value;
}

std::uint32_t cost(yaml::Fields& fields, std::string_view key) {
  return static_cast<std::uint32_t>(
      yaml::integer(fields.required(key), 1, std::numeric_limits<std::uint32_t>::max()));
}

KdfCosts parse_costs(const yaml::Node& node) {
  yaml::Fields fields(node);
  KdfCosts costs{};
  costs.passes = cost(fields, "passes");
  costs.memory_kib = cost(fields, "memory_kib");
  costs.lanes = cost(fields, "lanes");
  fields.finish();
  if (!valid_costs(costs)) throw yaml::corrupt("kdf has costs that do not exist");
  return costs;
}

EncryptionOptions parse_encryption(const yaml::Node& node) {
  constexpr unsigned kMaxPadding = 32;
  yaml::Fields fields(node);
  EncryptionOptions options;
  if (const yaml::Node* const contents = fields.optional("contents")) {
    options.contents = known(contents_mode_from_name(scalar(*contents)), "contents");
  }
  if (const yaml::Node* const filenames = fields.optional("filenames")) {
    options.filenames = known(filenames_mode_from_name(scalar(*filenames)), "filenames");
  }
  if (const yaml::Node* const padding = fields.optional("padding")) {
    options.padding_bytes = static_cast<unsigned>(yaml::integer(*padding, 1, kMaxPadding));
  }
  fields.finish();
  if (const auto fault = invalid_combination(options)) throw yaml::corrupt(*fault);
  return options;
}

Config parse_config(std::string_view text) {
  const yaml::Node document = yaml::read_document(text);
  yaml::Fields fields(document);
  Config config;
  if (const yaml::Node* const source = fields.optional("source")) {
    config.source = known(source_from_name(scalar(*source)), "source");
  }
  if (const yaml::Node* const kdf = fields.optional("kdf")) config.kdf = parse_costs(*kdf);
  if (const yaml::Node* const encryption = fields.optional("encryption")) {
    config.encryption = parse_encryption(*encryption);
  }
  if (const yaml::Node* const limit = fields.optional("kdf_limit_mib")) {
    config.kdf_limit_mib = yaml::integer(*limit, 1, kMaxLimitMib);
  }
  fields.finish();
  return config;
}

std::string config_text(const Config& config) {
  std::ostringstream text;
  text << "# This machine's defaults for new protectors and directories: fscryptctl.yaml(5)\n"
       << "source: " << source_name(config.source) << '\n';
  if (config.kdf) {
    text << "kdf:\n  passes: " << config.kdf->passes << "\n  memory_kib: " << config.kdf->memory_kib
         << "\n  lanes: " << config.kdf->lanes << '\n';
  }
  text << "encryption:\n  contents: " << mode_name(config.encryption.contents)
       << "\n  filenames: " << mode_name(config.encryption.filenames)
       << "\n  padding: " << config.encryption.padding_bytes << '\n';
  if (config.kdf_limit_mib) text << "kdf_limit_mib: " << *config.kdf_limit_mib << '\n';
  return text.str();
}

/// Checked where it leads to: that the configuration is a link into another directory is the
/// administrator's business, that others can write it is not.
void require_trusted(const FileInfo& info) {
  const auto untrusted = [](const std::string& fault) {
    return Error(Errc::untrusted_metadata, "the configuration " + fault);
  };
  if (!S_ISREG(info.mode)) throw untrusted("is not a regular file");
  if (info.uid != 0 && info.uid != geteuid()) throw untrusted("belongs to another user");
  if ((info.mode & (S_IWGRP | S_IWOTH)) != 0) throw untrusted("is writable by others");
}

std::string read_all(int fd) {
  // One byte more than is allowed, so that the parser sees that it is too long.
  std::string text(yaml::kMaxTextSize + 1, '\0');
  std::size_t used = 0;
  while (used < text.size()) {
    const ssize_t count = read(fd, text.data() + used, text.size() - used);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw system_error(errno, "cannot read the configuration");
    if (count == 0) break;
    used += static_cast<std::size_t>(count);
  }
  text.resize(used);
  return text;
}

}  // namespace

std::optional<Config> read_config(const std::string& path) {
  return with_error_path(path, [&]() -> std::optional<Config> {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    if (!fd && errno == ENOENT) return std::nullopt;
    if (!fd) throw system_error(errno, "cannot open the configuration");
    require_trusted(file_info(fd.get()));
    return parse_config(read_all(fd.get()));
  });
}

void write_config(const std::string& path, const Config& config) {
  with_error_path(path, [&] {
    const std::size_t slash = path.rfind('/');
    const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    const UniqueFd fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) throw system_error(errno, "cannot open the configuration's directory");
    const std::string text = config_text(config);
    if (parse_config(text) != config) {
      throw Error(Errc::internal, "a configuration cannot be written down");
    }
    write_file_durably(fd.get(), path.substr(slash == std::string::npos ? 0 : slash + 1), text,
                       kConfigMode);
  });
}

}  // namespace fscryptctl
