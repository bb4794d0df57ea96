#include "conversion_command.h"

#include <algorithm>
#include <cmath>

#include "fscryptctl/base/amount.h"
#include "fscryptctl/core/status.h"
#include "progress_display.h"
#include "report.h"
#include "table.h"

namespace fscryptctl {
namespace {

using Strategy = Journal::Strategy;

Json json_of(const Obstacle& obstacle) {
  Json object;
  put_path(object, "path", obstacle.path);
  object["reason"] = obstacle_name(obstacle.kind);
  return object;
}

void put_plan(Json& json, const ConversionPlan& plan) {
  json["strategy"] = name_of(plan.strategy);
  json["bytes_total"] = plan.scan.bytes;
  json["files_total"] = plan.scan.files;
  json["bytes_free"] = plan.bytes_free;
  json["bytes_needed"] = plan.bytes_needed;
  json["bytes_needed_low_space"] = plan.bytes_needed_low_space;
  json["inodes_needed"] = plan.inodes_needed;
  json["inodes_free"] = plan.inodes_free;
  json["fits"] = plan.fits();
  json["fits_low_space"] = plan.fits_low_space();
  json["linked_outside"] = plan.scan.linked_outside;
  json["seconds"] = std::ceil(plan.seconds);
  json["obstacles"] = Json::array();
  for (const Obstacle& obstacle : plan.scan.obstacles) {
    json["obstacles"].push_back(json_of(obstacle));
  }
  json["obstacles_complete"] = plan.scan.obstacles_complete;
  json["holders"] = json_list(plan.holders.holders);
  json["holders_complete"] = plan.holders.complete;
}

void put_status(Json& json, const ConversionStatus& status) {
  json["state"] = status.state;
  json["resumable"] = status.journal.has_value();
  json["bytes_free"] = status.bytes_free;
  json["bytes_done"] = status.bytes_done;
  json["files_done"] = status.files_done;
  // What a plan has told already stays.
  for (const char* total : {"bytes_total", "files_total"}) {
    if (!json.contains(total)) json[total] = 0;
  }
  if (!json.contains("strategy")) json["strategy"] = nullptr;
  if (!status.journal) return;
  json["command_begun"] = name_of(status.journal->command);
  json["strategy"] = name_of(status.journal->strategy);
  json["bytes_total"] = status.journal->bytes;
  json["files_total"] = status.journal->files;
}

std::string verb(Journal::Command command) {
  switch (command) {
    case Journal::Command::convert:
      return "encrypt";
    case Journal::Command::reencrypt:
      return "encrypt with a new key";
    case Journal::Command::decrypt:
      return "decrypt";
  }
  return "";
}

std::string amount(std::uint64_t bytes, std::uint64_t files) {
  return human_size(bytes) + " in " + counted(files, "file", "files");
}

std::string obstacle_table(const ConversionPlan& plan) {
  constexpr std::size_t kShown = 20;
  Table table({"IN THE WAY", "PATH"});
  const std::vector<Obstacle>& obstacles = plan.scan.obstacles;
  for (std::size_t i = 0; i < std::min(kShown, obstacles.size()); ++i) {
    table.add({std::string(obstacle_name(obstacles[i].kind)), obstacles[i].path});
  }
  if (obstacles.size() <= kShown) return table.text();
  return table.text() + "and " + std::to_string(obstacles.size() - kShown) + " more\n";
}

std::string details(const ConversionPlan& plan) {
  if (!plan.scan.obstacles.empty()) return obstacle_table(plan);
  if (!plan.holders.holders.empty()) return holder_table(plan.holders);
  return "";
}

std::string plan_text(const ConversionPlan& plan, Journal::Command command) {
  const bool low = plan.strategy == Strategy::low_space;
  std::string text =
      verb(command) + " " + printable(plan.path) +
      (low ? ", moving its files one by one\n" : ", by a copy that then takes its place\n");
  const auto line = [&](const std::string& name, const std::string& value) {
    text += "  " + name + std::string(10 - name.size(), ' ') + value + "\n";
  };
  line("data", amount(plan.scan.bytes, plan.scan.files));
  line("space", human_size(low ? plan.bytes_needed_low_space : plan.bytes_needed) + " needed, " +
                    human_size(plan.bytes_free) + " free on " + printable(plan.mount_point) +
                    (!low && !plan.fits() && plan.fits_low_space() ? " (--low-space fits)" : ""));
  line("time", human_time(plan.seconds));
  line("in use", plan.holders.holders.empty()
                     ? (plan.holders.complete ? "no" : "no, as far as can be seen")
                     : "yes");
  return text + details(plan);
}

std::string state_text(const ConversionStatus& status, const std::string& path) {
  if (!status.journal) {
    return printable(path) +
           (status.state == "damaged" ? "  the journal is damaged\n" : "  nothing is unfinished\n");
  }
  const Journal& journal = *status.journal;
  return printable(path) + "  " + std::string(name_of(journal.command)) + " " + status.state +
         "\n  done      " + amount(status.bytes_done, status.files_done) + " of " +
         amount(journal.bytes, journal.files) + "\n";
}

/// How the command is repeated.
std::string repetition(const Invocation& invocation, const std::string& path) {
  return "fscryptctl " + invocation.command() + " " + shell_quoted(path);
}

class Run {
 public:
  Run(Invocation& invocation, const ConversionOptions& options)
      : invocation_(invocation), options_(options), out_(invocation.out), display_(out_) {}

  int run(Context& context, SecretProvider& secrets, ConversionRequest& request) {
    const std::string& path = request.encrypt.path;
    out_.hints.conversion = repetition(invocation_, path);
    request.progress = [this](const ConversionProgress& now) {
      last_ = now;
      display_.show(now);
    };
    request.note = [this](const std::string& text) { say([&] { out_.note(text); }); };
    request.planned = [this](const ConversionPlan& plan) { take(plan); };
    put_path(out_.json(), "path", path);
    if (options_.status) return show_status(context, request, secrets);
    if (options_.dry_run) return show_plan(context, request, secrets);
    try {
      if (options_.cancel) {
        cancel_conversion(context, request, secrets);
        out_.set_changed();
        put_status(out_.json(), conversion_status(context, request, secrets, false));
        say([&] { out_.message(printable(path) + " is as it was before"); });
      } else {
        report(convert_directory(context, request, secrets), request);
      }
    } catch (const Error& error) {
      display_.clear();
      note_state(context, request, secrets);
      out_.error(error, plan_ ? details(*plan_) : "");
    }
    return out_.exit_code();
  }

 private:
  template <class Action>
  void say(Action action) {
    display_.clear();
    action();
  }

  void take(const ConversionPlan& plan) {
    put_plan(out_.json(), plan);
    plan_ = plan;
    out_.hints.low_space_fits =
        plan.strategy == Strategy::copy && !plan.fits() && plan.fits_low_space();
    display_.clear();
    if (plan.scan.linked_outside > 0) {
      out_.note(counted(plan.scan.linked_outside, "file has", "files have") +
                " another name outside, by which the contents " + what_stays_outside());
    }
    if (refusal(plan)) return;
    plan_.reset();
    out_.message(verb_ing(plan));
  }

  [[nodiscard]] std::string what_stays_outside() const {
    return options_.command == Journal::Command::convert
               ? "as they are now stay readable"
               : "stay as they are now, encrypted with the key that the directory has now";
  }

  [[nodiscard]] std::string verb_ing(const ConversionPlan& plan) const {
    return amount(plan.scan.bytes, plan.scan.files) + " to " +
           (plan.strategy == Strategy::copy ? "copy" : "move") + ", " +
           human_size(plan.bytes_free) + " free on " + printable(plan.mount_point);
  }

  int show_plan(Context& context, const ConversionRequest& request, SecretProvider& secrets) {
    const ConversionPlan plan = plan_conversion(context, request, secrets);
    display_.clear();
    put_plan(out_.json(), plan);
    const ConversionStatus status = conversion_status(context, request, secrets, true);
    put_status(out_.json(), status);
    out_.json()["bytes_total"] = plan.scan.bytes;
    out_.json()["files_total"] = plan.scan.files;
    out_.hints.low_space_fits =
        plan.strategy == Strategy::copy && !plan.fits() && plan.fits_low_space();
    out_.data(plan_text(plan, options_.command));
    if (status.journal) note_unfinished(status, request.encrypt.path);
    if (const std::optional<Error> error = refusal(plan)) out_.error(*error);
    return out_.exit_code();
  }

  int show_status(Context& context, const ConversionRequest& request, SecretProvider& secrets) {
    const ConversionStatus status = conversion_status(context, request, secrets, true);
    display_.clear();
    put_status(out_.json(), status);
    out_.data(state_text(status, request.encrypt.path));
    if (status.journal) note_unfinished(status, request.encrypt.path);
    return out_.exit_code();
  }

  void note_unfinished(const ConversionStatus& status, const std::string& path) {
    out_.note("go on with: fscryptctl " + std::string(name_of(status.journal->command)) + " " +
              shell_quoted(path));
  }

  /// After a failure, for whoever wants to go on.
  void note_state(Context& context, const ConversionRequest& request, SecretProvider& secrets) {
    try {
      ConversionStatus status = conversion_status(context, request, secrets, false);
      status.bytes_done = last_.bytes_done;
      status.files_done = last_.files_done;
      put_status(out_.json(), status);
      out_.hints.unfinished = status.journal.has_value();
    } catch (const Error&) {
      // What went wrong is told by the error that is reported.
      return;
    }
  }

  void report(const ConversionResult& result, const ConversionRequest& request) {
    display_.clear();
    const std::string& path = request.encrypt.path;
    if (result.changed) out_.set_changed();
    Json& json = out_.json();
    json["state"] = "done";
    json["resumable"] = false;
    json["strategy"] = name_of(result.strategy);
    json["bytes_done"] = json["bytes_total"] = result.bytes;
    json["files_done"] = json["files_total"] = result.files;
    if (result.key_identifier) json["key_identifier"] = result.key_identifier->hex();
    json["recovery_key_made"] = result.recovery_key_made;
    if (!result.changed) return out_.message(printable(path) + " is encrypted already");
    out_.message(done(path, result));
    if (options_.command != Journal::Command::decrypt && !result.protectors.empty()) {
      out_.note("it opens with " + way_in(result.protectors.front()) +
                (has_recovery_key(result) ? "" : "; there is no recovery key"));
    }
    say_what_is_left(result);
  }

  static bool has_recovery_key(const ConversionResult& result) {
    return std::any_of(result.protectors.begin(), result.protectors.end(),
                       [](const auto& protector) { return protector.has_recovery_key(); });
  }

  [[nodiscard]] std::string done(const std::string& path, const ConversionResult& result) const {
    const std::string what = " (" + amount(result.bytes, result.files) + ")";
    switch (options_.command) {
      case Journal::Command::convert:
        return "encrypted " + printable(path) + what;
      case Journal::Command::reencrypt:
        return "encrypted " + printable(path) + " with a new key" + what;
      case Journal::Command::decrypt:
        return "decrypted " + printable(path) + " for good" + what;
    }
    return "";
  }

  void say_what_is_left(const ConversionResult& result) {
    for (const ProtectorSummary& protector : result.unused) {
      out_.note("protector \"" + printable(protector.name) +
                "\" opens nothing any more: fscryptctl protector remove " + protector.id.hex());
    }
    if (!result.previous_in_use.empty()) {
      out_.note("the previous key is still that of " + printable(result.previous_in_use.front()));
    }
    if (options_.command != Journal::Command::convert) return;
    out_.note(result.trimmed
                  ? "freed blocks were trimmed; what the disk itself or its backups and snapshots "
                    "keep of the plain files is out of reach of this tool"
                  : "the plain files are deleted, but their blocks may be readable on the disk "
                    "until they are overwritten (on SSDs --trim, or fstrim, helps)");
  }

  Invocation& invocation_;
  const ConversionOptions& options_;
  Output& out_;
  ProgressDisplay display_;
  std::optional<ConversionPlan> plan_;
  ConversionProgress last_;
};

void require_one_way(const ConversionOptions& options) {
  if (options.dry_run + options.status + options.cancel > 1) {
    throw Error(Errc::usage, "--dry-run, --status and --cancel exclude each other");
  }
}

/// With one secret only, that is the new one; with both, the existing one opens what is locked.
Spelling spelling_of(const ConversionOptions& options, bool only_new) {
  const SecretOptions& secrets = options.policy.secrets;
  if (options.command == Journal::Command::decrypt) return Spelling::existing_and_new;
  const bool new_given = secrets.new_passphrase_file || secrets.new_key_file;
  const bool existing_given = secrets.passphrase_file || secrets.key_file;
  return !only_new || (new_given && existing_given) ? Spelling::new_may_open : Spelling::all_new;
}

}  // namespace

void add_conversion_options(CLI::App& app, ConversionOptions& options) {
  add_text(app, "DIRECTORY", "", options.policy.request.path, "the directory, with all below it")
      ->required();
  app.add_flag("--low-space", options.low_space,
               "move file by file, with hardly any free space; slower");
  app.add_flag("--no-verify", options.no_verify, "do not read back what was written");
  app.add_flag("--trim", options.trim, "tell the disk at the end which blocks are free (root)");
  app.add_flag("--dry-run", options.dry_run, "show the plan, change nothing");
  app.add_flag("--status", options.status, "show how far it is, change nothing");
  app.add_flag("--cancel", options.cancel, "go back to the directory as it was");
}

int run_conversion(Invocation& invocation, CLI::App& app, ConversionOptions& options) {
  invocation.add_mount_option(app);
  invocation.add_kdf_limit_option(app);
  invocation.parse(app);
  require_one_way(options);
  Context context = invocation.make_context();
  const bool encrypts = options.command != Journal::Command::decrypt;
  const bool only_new = encrypts && settle(options.policy, invocation, context);
  CommandLineSecrets secrets(options.policy.secrets, spelling_of(options, only_new), invocation);
  ConversionRequest request;
  request.command = options.command;
  request.encrypt = options.policy.request;
  request.low_space = options.low_space;
  request.verify = !options.no_verify;
  request.verify_given = options.no_verify;
  request.trim = options.trim;
  const bool looks_only = options.dry_run || options.status || options.cancel;
  if (!encrypts || looks_only) return Run(invocation, options).run(context, secrets, request);
  RecoveryKeyOutput recovery_key = recovery_key_output(options.policy, only_new, invocation);
  request.encrypt.recovery_key = &recovery_key;
  return Run(invocation, options).run(context, secrets, request);
}

}  // namespace fscryptctl
