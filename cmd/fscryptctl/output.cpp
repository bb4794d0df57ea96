#include "output.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

#include "fscryptctl/base/bytes.h"
#include "fscryptctl/crypto/base64.h"
#include "signals.h"

namespace fscryptctl {
namespace {

void write_all(int fd, std::string_view text, const std::string& what) {
  while (!text.empty()) {
    const ssize_t written = write(fd, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN) {
      wait_until_ready(fd, POLLOUT);
    } else if (errno == EINTR) {
      throw_if_interrupted();
    } else {
      throw system_error(errno, what);
    }
  }
}

std::string_view text_of(const SecretBytes& secret) {
  return {reinterpret_cast<const char*>(secret.view().data()), secret.size()};
}

int exit_code_of(const Error& error) {
  const int code = errc_info(error.code()).exit_code;
  if (error.code() != Errc::interrupted) return code;
  // Below this layer a wait may only know that it was interrupted.
  const int signal = error.sys_errno() != 0 ? error.sys_errno() : noted_signal();
  return signal != 0 ? 128 + signal : code;
}

/// What is wrong with a file is said with its name.
std::string message_of(const Error& error) {
  std::string what = error.what();
  const bool of_file = error.code() == Errc::corrupt_metadata ||
                       error.code() == Errc::untrusted_metadata ||
                       error.code() == Errc::newer_format;
  if (!of_file || error.path().empty()) return what;
  const std::string path = printable(error.path());
  return what.find(path) == std::string::npos ? path + ": " + what : what;
}

}  // namespace

void Output::data(std::string_view text) {
  if (!settings_.json) write_all(out_fd_, text, "standard output");
}

void Output::secret(std::string_view name, SecretBytes text) {
  if (settings_.json) {
    secret_name_ = name;
    secret_ = std::move(text);
    return;
  }
  write_all(out_fd_, text_of(text), "standard output");
  write_all(out_fd_, "\n", "standard output");
}

void Output::to_standard_error(const std::string& text) {
  try {
    write_all(err_fd_, text, "standard error");
  } catch (const Error&) {
    // There is nobody left to tell; the exit code still says what happened.
  }
}

void Output::message_line(std::string_view prefix, std::string_view text) {
  to_standard_error(std::string(prefix) + one_line(text) + "\n");
}

void Output::usage(std::string_view text) {
  if (!settings_.json) to_standard_error(std::string(text));
}

void Output::note(std::string_view text) {
  if (!settings_.quiet) message_line("note: ", text);
}

void Output::verbose(std::string_view text) {
  if (settings_.verbose) message_line("", text);
}

void Output::message(std::string_view text) {
  if (!settings_.quiet && !settings_.json) message_line("", text);
}

void Output::error(const Error& error, std::string_view details) {
  const bool interrupted = error.code() == Errc::interrupted;
  if (exit_code_ == 0 || interrupted) {
    exit_code_ = exit_code_of(error);
    error_ = error_json(error);
  }
  if (!settings_.json) error_text(error, details);
}

void Output::error_text(const Error& error, std::string_view details) {
  message_line("error: ", message_of(error));
  to_standard_error(std::string(details));
  const std::optional<std::string> hint = hint_for(error, hints);
  if (hint) message_line("hint: ", *hint);
}

Json Output::error_json(const Error& error) const {
  const ErrcInfo info = errc_info(error.code());
  Json object = Json::object();
  object["code"] = info.code;
  object["reason"] = info.reason;
  object["message"] = one_line(message_of(error));
  if (const auto hint = hint_for(error, hints)) object["hint"] = one_line(*hint);
  if (!error.path().empty()) put_path(object, "path", error.path());
  object["candidates"] = Json::array();
  for (const std::string& candidate : error.candidates()) {
    object["candidates"].push_back(is_utf8(candidate) ? candidate : printable(candidate));
  }
  return object;
}

void Output::finish(int exit_code) {
  if (!settings_.json) return;
  Json object = Json::object();
  object["schema"] = 1;
  object["command"] = printable(command_);
  object["ok"] = exit_code == 0;
  object["changed"] = changed_;
  object.update(json_);
  if (!error_.is_null()) object["error"] = error_;
  // Bytes that are not UTF-8 belong into put_path; should any get here, the rest must still arrive.
  std::string text = object.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (!secret_.empty()) {
    text.back() = ',';
    write_all(out_fd_, text + Json(secret_name_).dump() + ":\"", "standard output");
    write_all(out_fd_, text_of(secret_), "standard output");
    text = "\"}";
  }
  write_all(out_fd_, text + "\n", "standard output");
}

std::string one_line(std::string_view text) {
  std::string line;
  for (;;) {
    const std::size_t backslash = text.find('\\');
    line += printable(text.substr(0, backslash));
    if (backslash == std::string_view::npos) return line;
    line += '\\';
    text.remove_prefix(backslash + 1);
  }
}

void put_path(Json& object, const std::string& key, std::string_view bytes) {
  if (is_utf8(bytes)) {
    object[key] = bytes;
    return;
  }
  object[key] = printable(bytes);
  object[key + "_base64"] = base64_encode(as_bytes(bytes));
}

}  // namespace fscryptctl
