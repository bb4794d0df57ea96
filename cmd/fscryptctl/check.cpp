#include "fscryptctl/core/check.h"

#include <algorithm>

#include "commands.h"
#include "invocation.h"
#include "report.h"

namespace fscryptctl {
namespace {

const char* name_of(Severity severity) {
  switch (severity) {
    case Severity::info:
      return "info";
    case Severity::warning:
      return "warning";
    case Severity::error:
      return "error";
  }
  return "";
}

const char* name_of(FindingCode code) {
  switch (code) {
    case FindingCode::damaged:
      return "damaged";
    case FindingCode::untrusted:
      return "untrusted";
    case FindingCode::newer_format:
      return "newer_format";
    case FindingCode::unreadable:
      return "unreadable";
    case FindingCode::squatted:
      return "squatted";
    case FindingCode::foreign:
      return "foreign";
    case FindingCode::leftover:
      return "leftover";
    case FindingCode::not_canonical:
      return "not_canonical";
    case FindingCode::no_way_in:
      return "no_way_in";
    case FindingCode::protector_missing:
      return "protector_missing";
    case FindingCode::protector_unusable:
      return "protector_unusable";
    case FindingCode::unused_protector:
      return "unused_protector";
    case FindingCode::duplicate_name:
      return "duplicate_name";
    case FindingCode::kdf_limit:
      return "kdf_limit";
    case FindingCode::conversion:
      return "conversion";
    case FindingCode::modes_differ:
      return "modes_differ";
    case FindingCode::no_record:
      return "no_record";
    case FindingCode::directory_missing:
      return "directory_missing";
    case FindingCode::stale_hint:
      return "stale_hint";
  }
  return "";
}

/// A command that mends it, if this program has it.
class Fixes {
 public:
  explicit Fixes(const HintContext& context) : context_(context) {}

  [[nodiscard]] std::optional<std::string> of(const Finding& finding) const {
    if (finding.repaired) return std::nullopt;
    switch (finding.code) {
      case FindingCode::damaged:
      case FindingCode::untrusted:
        return restore(finding, " --replace");
      case FindingCode::no_way_in:
      case FindingCode::protector_missing:
      case FindingCode::protector_unusable:
      case FindingCode::no_record:
      case FindingCode::modes_differ:
        return restore(finding, finding.code == FindingCode::no_record ? "" : " --replace");
      case FindingCode::squatted:
        return command("setup", "setup " + shell_quoted(finding.mount_point) + " --user " +
                                    std::to_string(finding.uid.value_or(0)));
      case FindingCode::leftover:
      case FindingCode::not_canonical:
      case FindingCode::stale_hint:
        return command("check", "check " + shell_quoted(finding.mount_point) + " --repair");
      case FindingCode::duplicate_name:
        return named("protector rename", finding, finding.id + " NAME");
      case FindingCode::unused_protector:
        return named("protector remove", finding, finding.id);
      case FindingCode::conversion:
        // It may be another command's; that tells.
        return command("convert", "convert " + shell_quoted(finding.path) + " --status");
      case FindingCode::directory_missing:  // it may only have been moved: unlock notes where to
      case FindingCode::newer_format:
      case FindingCode::unreadable:
      case FindingCode::foreign:
      case FindingCode::kdf_limit:
        return std::nullopt;
    }
    return std::nullopt;
  }

 private:
  [[nodiscard]] std::optional<std::string> command(std::string_view name,
                                                   const std::string& words) const {
    if (!context_.has_command(name)) return std::nullopt;
    return "fscryptctl " + words;
  }

  [[nodiscard]] std::optional<std::string> restore(const Finding& finding,
                                                   const char* option) const {
    return command("restore",
                   "restore BACKUP --mount " + shell_quoted(finding.mount_point) + option);
  }

  [[nodiscard]] std::optional<std::string> named(const std::string& name, const Finding& finding,
                                                 const std::string& arguments) const {
    return command(name, name + " " + arguments + " --mount " + shell_quoted(finding.mount_point));
  }

  const HintContext& context_;
};

Json json_of_finding(const Finding& finding, const std::optional<std::string>& fix) {
  Json object;
  object["severity"] = name_of(severity_of(finding.code));
  object["code"] = name_of(finding.code);
  put_path(object, "path", finding.path);
  object["uid"] = finding.uid ? Json(*finding.uid) : Json();
  object["message"] = finding.message;
  object["fix"] = fix ? Json(*fix) : Json();
  if (!finding.id.empty()) object["id"] = finding.id;
  object["repaired"] = finding.repaired;
  return object;
}

void show(Output& out, const Finding& finding) {
  const std::optional<std::string> fix = Fixes(out.hints).of(finding);
  out.json()["findings"].push_back(json_of_finding(finding, fix));
  std::string text = name_of(severity_of(finding.code));
  text.resize(9, ' ');
  text += printable(finding.path) + ": " + printable(finding.message);
  if (finding.repaired) text += " (repaired)";
  text += "\n";
  if (fix) text += std::string(9, ' ') + "fix: " + *fix + "\n";
  out.data(text);
}

/// What was found on one filesystem, after what needs attention first.
void check_one(Invocation& invocation, Context& context, const Filesystem& filesystem,
               bool repair) {
  Output& out = invocation.out;
  CheckResult result = check_filesystem(context, filesystem, repair);
  if (result.changed) out.set_changed();
  std::stable_sort(
      result.findings.begin(), result.findings.end(),
      [](const Finding& a, const Finding& b) { return severity_of(a.code) > severity_of(b.code); });
  for (const Finding& finding : result.findings) show(out, finding);
  for (const Error& error : result.failures) out.error(error);
  const auto errors = static_cast<std::size_t>(std::count_if(
      result.findings.begin(), result.findings.end(),
      [](const Finding& finding) { return severity_of(finding.code) == Severity::error; }));
  const std::string where = printable(filesystem.mount().mount_point);
  if (errors > 0) {
    out.error(Error(Errc::corrupt_metadata,
                    where + " has " + counted(errors, "error", "errors") + " in its metadata")
                  .with_path(filesystem.mount().mount_point));
  } else if (result.findings.empty() && result.failures.empty()) {
    out.message(where + ": nothing is wrong");
  }
}

/// Those that have metadata; another ordinary user's disk is none of the caller's business.
std::vector<Filesystem> filesystems_to_check(const Context& context) {
  std::vector<Filesystem> all;
  for (Filesystem& filesystem : local_filesystems(context)) {
    if (!filesystem.trusted()) continue;
    // One that cannot be trusted is to be looked at, too.
    bool set_up = true;
    try {
      set_up = filesystem.metadata().has_value();
    } catch (const Error&) {
      set_up = true;
    }
    if (set_up) all.push_back(std::move(filesystem));
  }
  return all;
}

}  // namespace

int run_check(Invocation& invocation) {
  CLI::App app("looks for what is wrong with records, and with the directories that they are for");
  std::optional<std::string> mount_point;
  bool repair = false;
  add_text(app, "MOUNTPOINT", "", mount_point, "a filesystem; default: all that are set up");
  app.add_flag("--repair", repair, "repair what cannot lose access to anything");
  invocation.parse(app);

  Context context = invocation.make_context();
  invocation.out.hints.checking = true;
  invocation.out.json()["findings"] = Json::array();
  if (mount_point) {
    check_one(invocation, context, filesystem_of_path(context, *mount_point), repair);
    return invocation.out.exit_code();
  }
  for (const Filesystem& filesystem : filesystems_to_check(context)) {
    // One filesystem's failure does not hide the others.
    try {
      check_one(invocation, context, filesystem, repair);
    } catch (const Error& error) {
      if (error.code() == Errc::interrupted) throw;
      invocation.out.error(error);
    }
  }
  return invocation.out.exit_code();
}

}  // namespace fscryptctl
