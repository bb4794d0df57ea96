#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "fscryptctl/base/error.h"
#include "fscryptctl/crypto/secret.h"
#include "hints.h"

namespace fscryptctl {

using Json = nlohmann::ordered_json;

/// All that a command says: data on standard output, messages on standard error; with --json one
/// object on standard output instead of the data, and errors inside it only.
class Output {
 public:
  struct Settings {
    bool quiet = false;
    bool verbose = false;
    bool json = false;
  };

  explicit Output(int out_fd = 1, int err_fd = 2) : out_fd_(out_fd), err_fd_(err_fd) {}
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  void set(Settings settings) noexcept { settings_ = settings; }
  void set_command(std::string_view command) { command_ = command; }
  [[nodiscard]] bool json_wanted() const noexcept { return settings_.json; }
  [[nodiscard]] bool quiet() const noexcept { return settings_.quiet; }

  /// What advice depends on; commands note facts here.
  HintContext hints;  // NOLINT(misc-non-private-member-variables-in-classes): plain data

  /// Text for people on standard output, complete with its newlines; nothing with --json. Parts
  /// that come from elsewhere must have gone through printable(). Throws io, interrupted.
  void data(std::string_view text);

  /// A secret that was asked for on standard output: with --json the last field of the object, of
  /// this name, else a line of its own, at once. `text` needs no escapes. Throws io, interrupted.
  void secret(std::string_view name, SecretBytes text);
  /// Takes it back, as far as it is not written yet.
  void forget_secret() noexcept { secret_ = {}; }

  /// The fields of the JSON object besides schema, command, ok, changed and error. Commands fill it
  /// as they learn things, in text mode too, where it is not shown.
  [[nodiscard]] Json& json() noexcept { return json_; }

  /// Something on disk or in the kernel is different now.
  void set_changed() noexcept { changed_ = true; }

  // All messages become one_line.

  /// "note: TEXT" on standard error, not with --quiet; with --json too.
  void note(std::string_view text);
  /// A line on standard error with --verbose.
  void verbose(std::string_view text);
  /// A message in its own words on standard error, not with --quiet or --json: what was done.
  void message(std::string_view text);

  /// How a command is used, on standard error, before the error that says what was wrong; not with
  /// --json.
  void usage(std::string_view text);

  /// Reports a failure: "error: ..." and "hint: ..." on standard error, or `error` of the JSON
  /// object. Of several, all are printed and the first (or the interruption) is the object's and
  /// makes the exit code. The command goes on or returns exit_code(). `details` are printable lines
  /// such as a Table's, shown between the two.
  void error(const Error& error, std::string_view details = "");
  /// 0, or that of the first error; 128 + signal once there was an interruption.
  [[nodiscard]] int exit_code() const noexcept { return exit_code_; }

  /// {"code", "reason", "message", "hint"?, "path"?, "path_base64"?, "candidates"}, as for
  /// `results[].error`.
  [[nodiscard]] Json error_json(const Error& error) const;

  /// Writes the JSON object. Called once, by whoever runs commands. Throws io, interrupted.
  void finish(int exit_code);
  /// The text of error() in any case.
  void error_text(const Error& error, std::string_view details = "");

 private:
  void to_standard_error(const std::string& text);
  void message_line(std::string_view prefix, std::string_view text);

  int out_fd_;
  int err_fd_;
  Settings settings_;
  std::string command_;
  Json json_ = Json::object();
  Json error_;  // null until there is one
  std::string secret_name_;
  SecretBytes secret_;  // apart from json_, whose strings nobody wipes
  bool changed_ = false;
  int exit_code_ = 0;
};

/// `text` as one line that a terminal only shows. Unlike printable() it leaves backslashes alone,
/// so that what has been made printable already stays as it is.
[[nodiscard]] std::string one_line(std::string_view text);

/// Sets `object[key]` to a path or name: as it is if it is UTF-8, else escaped, with the bytes in
/// `<key>_base64`.
void put_path(Json& object, const std::string& key, std::string_view bytes);

}  // namespace fscryptctl
