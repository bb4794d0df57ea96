#include "arguments.h"

#include <algorithm>
#include <system_error>

namespace fscryptctl {
namespace {

// In front of every value and positional while CLI11 has them. What starts with it is neither an
// option nor a list "[a,b]" nor any of the separators "%%", "{}", "++", nor empty.
constexpr char kGuard = '=';

std::string guarded(const std::string& value) {
  if (value.empty()) throw Error(Errc::usage, "an argument is empty");
  return kGuard + value;
}

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

std::string canonical_name(const CLI::Option& option) {
  return option.get_lnames().empty() ? "-" + option.get_snames().front()
                                     : "--" + option.get_lnames().front();
}

/// Walks over the tokens once. Options come out under their first long name, values joined.
class TokenProtector {
 public:
  TokenProtector(const CLI::App& app, const std::vector<std::string>& tokens)
      : app_(app), tokens_(tokens) {}

  std::vector<std::string> run() {
    for (; next_ < tokens_.size(); ++next_) take(tokens_[next_]);
    return std::move(result_);
  }

 private:
  void take(const std::string& token) {
    if (positional_only_ || token.size() < 2 || token[0] != '-') {
      result_.push_back(guarded(token));
    } else if (token == "--") {
      positional_only_ = true;
    } else if (token[1] == '-') {
      take_long(token);
    } else {
      take_short(token);
    }
  }

  void take_long(const std::string& token) {
    const std::size_t equals = token.find('=');
    const std::string name = token.substr(0, equals);
    const CLI::Option& option = find(name);
    if (!takes_value(option)) {
      if (equals != std::string::npos)
        throw Error(Errc::usage, "option " + printable(name) + " takes no value");
      result_.push_back(canonical_name(option));
    } else if (equals != std::string::npos) {
      push_value(option, name, token.substr(equals + 1));
    } else {
      push_value(option, name, following_value(name));
    }
  }

  // "-qy" and "-nVALUE"
  void take_short(const std::string& token) {
    for (std::size_t i = 1; i < token.size(); ++i) {
      const std::string name{'-', token[i]};
      const CLI::Option& option = find(name);
      if (takes_value(option)) {
        push_value(option, name,
                   i + 1 < token.size() ? token.substr(i + 1) : following_value(name));
        return;
      }
      result_.push_back(canonical_name(option));
    }
  }

  const CLI::Option& find(const std::string& name) const {
    const CLI::Option* option = app_.get_option_no_throw(name);
    if (option == nullptr) throw Error(Errc::usage, "unknown option: " + printable(name));
    return *option;
  }

  std::string following_value(const std::string& name) {
    if (next_ + 1 == tokens_.size())
      throw Error(Errc::usage, "option " + printable(name) + " needs a value");
    return tokens_[++next_];
  }

  void push_value(const CLI::Option& option, const std::string& name, const std::string& value) {
    const bool once = option.get_multi_option_policy() == CLI::MultiOptionPolicy::Throw;
    if (once && std::find(seen_.begin(), seen_.end(), &option) != seen_.end()) {
      throw Error(Errc::usage, "option " + printable(name) + " is given twice");
    }
    seen_.push_back(&option);
    const std::string canonical = canonical_name(option);
    const std::string separator = canonical.starts_with("--") ? "=" : "";
    result_.push_back(canonical + separator + guarded(value));
  }

  const CLI::App& app_;
  const std::vector<std::string>& tokens_;
  std::size_t next_ = 0;
  bool positional_only_ = false;
  std::vector<const CLI::Option*> seen_;
  std::vector<std::string> result_;
};

}  // namespace

CLI::Option* add_text(CLI::App& app, const std::string& names, const std::string& placeholder,
                      std::string& value, const std::string& help) {
  const auto assign = [&value](const CLI::results_t& results) {
    value = results.front();
    return true;
  };
  return app.add_option(names, assign, help)->type_name(placeholder);
}

CLI::Option* add_text(CLI::App& app, const std::string& names, const std::string& placeholder,
                      std::optional<std::string>& value, const std::string& help) {
  const auto assign = [&value](const CLI::results_t& results) {
    value = results.front();
    return true;
  };
  return app.add_option(names, assign, help)->type_name(placeholder);
}

CLI::Option* add_text(CLI::App& app, const std::string& names, const std::string& placeholder,
                      std::vector<std::string>& value, const std::string& help) {
  const auto assign = [&value](const CLI::results_t& results) {
    value = results;
    return true;
  };
  CLI::Option* option = app.add_option(names, assign, help)->type_name(placeholder);
  option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  // An option takes one value each time, or it would swallow the positionals behind it.
  if (option->get_positional()) option->expected(1, -1)->allow_extra_args();
  return option;
}

std::uint64_t parse_number(const std::string& text, const std::string& what, std::uint64_t max) {
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, problem] = std::from_chars(text.data(), end, number);
  if (problem != std::errc() || stop != end || number > max) {
    throw Error(Errc::usage, "invalid number for " + what + ": " + printable(text));
  }
  return number;
}

std::vector<std::string> protect_tokens(const CLI::App& app,
                                        const std::vector<std::string>& tokens) {
  return TokenProtector(app, tokens).run();
}

std::string unprotected(const std::string& token) {
  return token.starts_with(kGuard) ? token.substr(1) : token;
}

void decode_values(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    if (!takes_value(*option)) continue;
    option->transform([](const std::string& value) { return unprotected(value); });
  }
}

}  // namespace fscryptctl
