#include "fscryptctl/metadata/model.h"

#include <algorithm>
#include <iterator>

namespace fscryptctl {

std::string_view source_name(Source source) { return method_name(method_of(source)); }

std::optional<Source> source_from_name(std::string_view name) {
  for (const Source source : {Source::passphrase, Source::raw_key, Source::login}) {
    if (source_name(source) == name) return source;
  }
  return std::nullopt;
}

std::string_view method_name(Method method) {
  switch (method) {
    case Method::passphrase:
      return "passphrase";
    case Method::raw_key:
      return "raw-key";
    case Method::login:
      return "login";
    case Method::recovery_key:
      return "recovery-key";
  }
  return {};
}

std::optional<Method> method_from_name(std::string_view name) {
  for (const Method method :
       {Method::passphrase, Method::raw_key, Method::login, Method::recovery_key}) {
    if (method_name(method) == name) return method;
  }
  return std::nullopt;
}

Method method_of(Source source) noexcept {
  switch (source) {
    case Source::passphrase:
      return Method::passphrase;
    case Source::raw_key:
      return Method::raw_key;
    case Source::login:
      break;
  }
  return Method::login;
}

bool is_hashed(Method method) noexcept {
  return method == Method::passphrase || method == Method::login;
}

bool ProtectorSummary::has_recovery_key() const {
  return std::any_of(ways.begin(), ways.end(),
                     [](const Way& way) { return way.method == Method::recovery_key; });
}

std::vector<ProtectorSummary::Way> ways_of(const std::vector<ProtectorWrapping>& wrappings) {
  std::vector<ProtectorSummary::Way> ways;
  ways.reserve(wrappings.size());
  for (const ProtectorWrapping& wrapping : wrappings) {
    std::optional<KdfCosts> costs;
    if (wrapping.kdf) costs = wrapping.kdf->costs;
    ways.push_back({wrapping.method, costs});
  }
  return ways;
}

WrapAlgorithm algorithm_of(const std::vector<ProtectorWrapping>& wrappings) noexcept {
  return wrappings.empty() ? WrapAlgorithm::fscryptctl_wrap_1
                           : algorithm_of(wrappings.front().wrapped);
}

void summarise(ProtectorRecord& record) {
  record.summary.algorithm = algorithm_of(record.wrappings);
  record.summary.ways = ways_of(record.wrappings);
}

void summarise(PolicyRecord& record) {
  record.summary.protectors = protectors_of(record.wrappings);
}

std::vector<ProtectorId> protectors_of(const std::vector<PolicyWrapping>& wrappings) {
  std::vector<ProtectorId> protectors;
  protectors.reserve(wrappings.size());
  std::transform(wrappings.begin(), wrappings.end(), std::back_inserter(protectors),
                 [](const PolicyWrapping& wrapping) { return wrapping.protector; });
  return protectors;
}

ProtectorKeyContext context_of(const ProtectorRecord& record, const ProtectorWrapping& wrapping) {
  return {record.summary.id, std::string(method_name(wrapping.method)), wrapping.generation,
          wrapping.kdf};
}

PolicyKeyContext context_of(const PolicyRecord& record, const ProtectorId& protector) {
  return {record.summary.key_identifier, protector, record.options, record.operation};
}

}  // namespace fscryptctl
