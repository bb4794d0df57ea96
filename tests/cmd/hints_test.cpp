#include "hints.h"

#include <array>
#include <catch2/catch.hpp>
#include <vector>

#include "output.h"

namespace fscryptctl {
namespace {

constexpr std::array kNow = {
    Command{"setup", "", CommandGroup::everyday},  Command{"encrypt", "", CommandGroup::everyday},
    Command{"unlock", "", CommandGroup::everyday}, Command{"lock", "", CommandGroup::everyday},
    Command{"status", "", CommandGroup::everyday},
};
constexpr std::array kComplete = {
    Command{"setup", "", CommandGroup::everyday},
    Command{"encrypt", "", CommandGroup::everyday},
    Command{"unlock", "", CommandGroup::everyday},
    Command{"lock", "", CommandGroup::everyday},
    Command{"status", "", CommandGroup::everyday},
    Command{"policy add-protector", "", CommandGroup::protectors},
    Command{"recovery create", "", CommandGroup::protectors},
    Command{"restore", "", CommandGroup::metadata},
    Command{"check", "", CommandGroup::metadata},
    Command{"convert", "", CommandGroup::existing_data},
    Command{"reencrypt", "", CommandGroup::existing_data},
    Command{"import google-fscrypt", "", CommandGroup::other_tools},
};

const HintContext kUser = [] {
  HintContext context;
  context.commands = kComplete;
  return context;
}();

std::optional<std::string> hint(Errc code, const std::string& path,
                                const HintContext& context = kUser) {
  return hint_for(Error(code, "message").with_path(path), context);
}

TEST_CASE("whoever gave a recovery key is not told of it", "[cmd][hints]") {
  HintContext context = kUser;
  context.recovery_key_tried = true;
  CHECK_FALSE(hint(Errc::wrong_key, "/p", context));
}

TEST_CASE("hints name the next command", "[cmd][hints]") {
  CHECK(hint(Errc::not_enabled, "/home") == "sudo fscryptctl setup /home --enable-encryption");
  CHECK(hint(Errc::not_set_up, "/home") == "sudo fscryptctl setup /home");
  CHECK(hint(Errc::wrong_key, "/p") == "a recovery key is accepted here too");
  CHECK(hint(Errc::previous_login_password, "/p") ==
        "fscryptctl change-passphrase --protector login /p");
  CHECK(hint(Errc::files_in_use, "/p") ==
        "close it, then lock again; \"fscryptctl unlock /p\" undoes this");
  CHECK(hint(Errc::other_users, "/team") == "sudo fscryptctl lock --all-users /team");
  CHECK(hint(Errc::not_empty, "/p") == "fscryptctl convert /p");
  CHECK(hint(Errc::last_way, "/p") ==
        "add another first: fscryptctl policy add-protector /p --source passphrase");
  CHECK(hint(Errc::not_managed, "/p") == "fscryptctl restore BACKUP");
  CHECK(hint(Errc::already_encrypted, "/p") == "fscryptctl status /p");
  CHECK(hint(Errc::permission, "/p") == "try sudo");
}

TEST_CASE("root is not told to use sudo", "[cmd][hints]") {
  HintContext root = kUser;
  root.root = true;
  CHECK(hint(Errc::not_enabled, "/home", root) == "fscryptctl setup /home --enable-encryption");
  CHECK(hint(Errc::other_users, "/team", root) == "fscryptctl lock --all-users /team");
  CHECK(hint(Errc::permission, "/p", root) == std::nullopt);
  CHECK(hint(Errc::corrupt_metadata, "") == "fscryptctl check");
  CHECK(hint(Errc::conflict, "") == "--replace puts the backup's records in their place");
}

TEST_CASE("who forgot the passphrase of an unlocked directory is told how to save the files",
          "[cmd][hints]") {
  HintContext context = kUser;
  context.unlocked_now = true;
  CHECK(hint(Errc::wrong_key, "/p", context) ==
        "/p is unlocked now: run \"fscryptctl reencrypt /p\" or copy your files out before locking "
        "or rebooting");
  context.commands = kNow;
  CHECK(hint(Errc::wrong_key, "/p", context) ==
        "/p is unlocked now: copy your files out before locking or rebooting");
}

TEST_CASE("a directory of google/fscrypt can be imported", "[cmd][hints]") {
  HintContext context = kUser;
  context.google_fscrypt_mount = [](const std::string&) { return "/home"; };
  CHECK(hint(Errc::not_managed, "/home/p", context) ==
        "sudo fscryptctl import google-fscrypt /home --dry-run");
}

TEST_CASE("an import that a user cannot do is advised to root", "[cmd][hints]") {
  HintContext context = kUser;
  context.importing = true;
  CHECK(hint(Errc::not_set_up, "/home", context) == "sudo fscryptctl import google-fscrypt /home");
  // `check` would find nothing in another tool's files.
  CHECK(hint(Errc::corrupt_metadata, "/home", context) == std::nullopt);
  CHECK(hint(Errc::untrusted_metadata, "/home/.fscrypt", context) == std::nullopt);
}

TEST_CASE("a version 1 policy is not unlocked by this program", "[cmd][hints]") {
  HintContext context = kUser;
  context.version_1 = true;
  CHECK(hint(Errc::files_in_use, "/p", context) == "close it, then lock again");
}

TEST_CASE("a malformed key file has its own hint among usage errors", "[cmd][hints]") {
  CHECK(hint(Errc::usage, "k") == std::nullopt);
  HintContext context = kUser;
  context.malformed_key_file = true;
  CHECK(hint(Errc::usage, "k", context) == "a newline at its end, or text? see --key-format");
}

TEST_CASE("candidates are listed", "[cmd][hints]") {
  const Error error = Error(Errc::ambiguous, "message").with_candidates({"mine", "work", "\x1b"});
  CHECK(hint_for(error, kUser) == "one of: mine, work, \\x1b");
}

// Every Errc; a new one belongs here as well.
const std::vector<Errc> kAll = {
    Errc::io,
    Errc::no_space,
    Errc::key_quota,
    Errc::declined,
    Errc::internal,
    Errc::usage,
    Errc::missing_input,
    Errc::ambiguous,
    Errc::not_a_directory,
    Errc::filesystem_root,
    Errc::wrong_key,
    Errc::stale_copy,
    Errc::previous_login_password,
    Errc::no_such_path,
    Errc::no_such_user,
    Errc::not_set_up,
    Errc::not_managed,
    Errc::not_encrypted,
    Errc::no_such_policy,
    Errc::no_such_protector,
    Errc::files_in_use,
    Errc::other_users,
    Errc::metadata_locked,
    Errc::not_enabled,
    Errc::no_kernel_support,
    Errc::filesystem,
    Errc::mode,
    Errc::policy_version,
    Errc::permission,
    Errc::corrupt_metadata,
    Errc::untrusted_metadata,
    Errc::newer_format,
    Errc::last_way,
    Errc::not_empty,
    Errc::already_encrypted,
    Errc::in_use,
    Errc::kdf_limit,
    Errc::exists,
    Errc::conflict,
    Errc::recovery_key_exists,
    Errc::unconvertible,
    Errc::too_late,
    Errc::unexpected,
    Errc::interrupted,
};

TEST_CASE("no hint names a command that does not exist", "[cmd][hints]") {
  REQUIRE(kAll.size() == static_cast<std::size_t>(Errc::interrupted) + 1);
  HintContext context;
  context.commands = kNow;
  context.google_fscrypt_mount = [](const std::string&) { return "/home"; };
  for (const bool unlocked : {false, true}) {
    context.unlocked_now = unlocked;
    for (const Errc code : kAll) {
      const std::string text = hint(code, "/p", context).value_or("");
      CAPTURE(text);
      for (const Command& command : kComplete) {
        if (context.has_command(command.name)) continue;
        CHECK(text.find("fscryptctl " + std::string(command.name)) == std::string::npos);
      }
      CHECK(text.find("recovery key") == std::string::npos);
    }
  }
}

TEST_CASE("hints are one printable line without a full stop, with and without a path",
          "[cmd][hints]") {
  for (const Errc code : kAll) {
    for (const char* path : {"", "/p", "/\n\xff"}) {
      const std::string text = hint(code, path).value_or("x");
      CAPTURE(text);
      CHECK(one_line(text) == text);
      CHECK_FALSE(text.empty());
      CHECK(text.back() != '.');
      CHECK(text.find("  ") == std::string::npos);
    }
  }
}

TEST_CASE("a path in a hint can be pasted into a shell", "[cmd][hints]") {
  CHECK(shell_quoted("/home/alice/private") == "/home/alice/private");
  CHECK(shell_quoted("a b") == "'a b'");
  CHECK(shell_quoted("it's") == "'it'\\''s'");
  CHECK(shell_quoted("$(reboot)") == "'$(reboot)'");
  CHECK(shell_quoted("~") == "'~'");
  CHECK(shell_quoted("-rf") == "./-rf");
  CHECK(shell_quoted("") == "''");
  CHECK(shell_quoted("caf\u00e9") == "'caf\u00e9'");
  CHECK(shell_quoted("a\nb'\xff") == "$'a\\x0ab\\x27\\xff'");
}

}  // namespace
}  // namespace fscryptctl
