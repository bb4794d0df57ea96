#include "sealed_text.h"

#include <algorithm>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/crypto/digest.h"
#include "strict_yaml.h"

namespace fscryptctl {
namespace {

using yaml::corrupt;

constexpr std::string_view kMark = "---\n";
constexpr std::string_view kKey = "sha256: ";
constexpr std::size_t kLineSize = kKey.size() + 2 * sizeof(Sha256Digest) + 1;

std::string line_for(std::string_view covered) {
  return std::string(kKey) + to_hex(sha256_of(as_bytes(covered))) + "\n";
}

}  // namespace

std::string with_digest(std::string text) {
  text += kMark;
  return text + line_for(text);
}

std::string_view without_digest(std::string_view text) {
  const auto allowed = [](char c) { return c == '\n' || (c >= ' ' && c <= '~'); };
  if (!std::all_of(text.begin(), text.end(), allowed)) {
    throw corrupt("the text has a character that is not printable ASCII");
  }
  const auto cut_off = [] { return corrupt("the text is cut off or damaged"); };
  if (text.size() < kLineSize) throw cut_off();
  const std::string_view covered = text.substr(0, text.size() - kLineSize);
  if (!covered.ends_with("\n---\n") || text.substr(covered.size()) != line_for(covered)) {
    throw cut_off();
  }
  return covered.substr(0, covered.size() - kMark.size());
}

}  // namespace fscryptctl
