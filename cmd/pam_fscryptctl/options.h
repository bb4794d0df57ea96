#pragma once

#include <chrono>
#include <set>
#include <string>

namespace fscryptctl::pam {

/// What stands behind the module's name in a line of a PAM service; pam_fscryptctl(8).
struct Options {
  bool prompt_everywhere = false;
  std::set<std::string> prompt = {"login", "sshd", "su", "su-l", "gdm-password", "lightdm", "sddm"};
  std::set<std::string> skip = {"cron",   "crond",    "atd",     "systemd-user", "sudo",
                                "sudo-i", "polkit-1", "runuser", "runuser-l"};
  std::chrono::milliseconds budget{5000};
  std::size_t shortest = 6;    ///< bytes of a password that something is wrapped with at a login
  bool keep_unlocked = false;  ///< the last logout locks nothing
  bool quiet = false;          ///< nothing is said to the person but questions
  std::string unknown{};       ///< the first option that is none

  [[nodiscard]] static Options parse(int argc, const char** argv);
};

/// A service whose password is a card's PIN or nothing at all.
[[nodiscard]] bool is_card_service(const std::string& service);

}  // namespace fscryptctl::pam
