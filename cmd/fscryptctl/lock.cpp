#include "fscryptctl/core/lock.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "commands.h"
#include "fscryptctl/core/users.h"
#include "invocation.h"
#include "report.h"
#include "signals.h"

namespace fscryptctl {
namespace {

struct Arguments {
  std::vector<std::string> paths;
  bool all = false;
  bool all_users = false;
  std::optional<unsigned> wait_seconds;
};

std::size_t count_processes(const std::vector<Holder>& holders) {
  std::vector<pid_t> pids;
  for (const Holder& holder : holders) {
    if (std::find(pids.begin(), pids.end(), holder.pid) == pids.end()) pids.push_back(holder.pid);
  }
  return pids.size();
}

Error in_use(const LockResult& result, const std::string& name) {
  const std::size_t processes = count_processes(result.scan.holders);
  const std::string who = result.scan.holders.empty()
                              ? "files are still in use"
                              : counted(processes, "process uses it", "processes use it");
  return Error(Errc::files_in_use, printable(name) + " is not completely locked: " + who)
      .with_path(name);
}

Error other_users(const LockResult& result, const std::string& name) {
  const std::string who = counted(result.key.user_count, "other user", "other users");
  return Error(Errc::other_users, printable(name) + " is still unlocked for " + who +
                                      (result.changed ? " (your own key is removed)" : ""))
      .with_path(name);
}

Json json_of_result(const LockResult& result, const std::string& name) {
  Json object;
  put_path(object, "path", name);
  object["ok"] = result.locked();
  object["changed"] = result.changed;
  put_specifier(object, result.specifier);
  put_key(object, result.key);
  object["other_users"] =
      result.key.state == KeyState::present ? Json(result.key.user_count) : Json(0);
  object["holders"] = json_list(result.scan.holders);
  object["holders_complete"] = result.scan.complete;
  return object;
}

void report(Output& out, const LockResult& result, const std::string& name) {
  if (result.changed) out.set_changed();
  Json object = json_of_result(result, name);
  if (result.locked()) {
    out.message(result.changed ? "locked " + printable(name)
                               : printable(name) + " is locked already");
  } else {
    const bool busy = result.key.state == KeyState::incompletely_removed;
    const Error error = busy ? in_use(result, name) : other_users(result, name);
    out.hints.version_1 = std::holds_alternative<KeyDescriptor>(result.specifier);
    object["reason"] = errc_info(error.code()).reason;
    object["error"] = out.error_json(error);
    out.error(error, holder_table(result.scan));
    if (!result.scan.complete) {
      out.note(own_identity().uid == 0 ? "some processes could not be looked at"
                                       : "other users' processes are not visible; try sudo");
    }
  }
  out.json()["results"].push_back(std::move(object));
}

void report_failure(Output& out, const Error& error, const std::string& name) {
  if (error.code() == Errc::interrupted) throw Error(error);
  Json object;
  put_path(object, "path", name);
  object["ok"] = false;
  object["changed"] = false;
  object["error"] = out.error_json(error);
  out.error(error);
  out.json()["results"].push_back(std::move(object));
}

/// Our own working directory may lie inside what is to be locked and would keep the key busy.
/// Returns the paths as seen from elsewhere.
std::vector<std::string> leave_working_directory(const std::vector<std::string>& paths) {
  std::vector<std::string> absolute;
  for (const std::string& path : paths) {
    std::error_code failure;
    const std::filesystem::path here =
        path.starts_with('/') ? "/" : std::filesystem::current_path(failure);
    if (failure) throw system_error(failure.value(), "the working directory");
    absolute.push_back((here / path).string());
  }
  if (::chdir("/") != 0) throw system_error(errno, "changing to /");
  return absolute;
}

void lock_paths(Invocation& invocation, Context& context, const Arguments& arguments,
                const LockRequest& request) {
  const std::vector<std::string> absolute = leave_working_directory(arguments.paths);
  for (std::size_t i = 0; i < absolute.size(); ++i) {
    throw_if_interrupted();
    try {
      report(invocation.out, lock_directory(context, absolute[i], request), arguments.paths[i]);
    } catch (const Error& error) {
      report_failure(invocation.out, error, arguments.paths[i]);
    }
  }
}

void lock_all_of(Invocation& invocation, Context& context, const Filesystem& filesystem,
                 const LockRequest& request) {
  const LockReport reports{
      [&](const LockResult& result) {
        report(invocation.out, result,
               result.paths.empty() ? "policy " + hex_of(result.specifier) : result.paths.back());
      },
      [&](const Error& error) { report_failure(invocation.out, error, error.path()); }};
  lock_filesystem(context, filesystem, request, reports);
}

/// Independent of the other filesystems.
template <class Find>
void lock_all_on(Invocation& invocation, Context& context, const LockRequest& request,
                 const std::string& name, Find find) {
  try {
    lock_all_of(invocation, context, find(), request);
  } catch (const Error& error) {
    report_failure(invocation.out, error, name);
  }
}

void lock_everything(Invocation& invocation, Context& context, const Arguments& arguments,
                     const LockRequest& request) {
  const std::vector<std::string> absolute = leave_working_directory(arguments.paths);
  if (absolute.empty()) {
    for (const Filesystem& filesystem : local_filesystems(context)) {
      if (!filesystem.trusted()) continue;
      lock_all_on(invocation, context, request, filesystem.mount().mount_point,
                  [&]() -> const Filesystem& { return filesystem; });
    }
  }
  for (std::size_t i = 0; i < absolute.size(); ++i) {
    lock_all_on(invocation, context, request, arguments.paths[i], [&] {
      Filesystem filesystem = filesystem_of_path(context, absolute[i]);
      static_cast<void>(filesystem.require_metadata());
      return filesystem;
    });
  }
  if (invocation.out.json()["results"].empty()) invocation.out.message("nothing is unlocked");
}

int run(Invocation& invocation, CLI::App& app, Arguments& arguments) {
  app.add_flag("--all-users", arguments.all_users, "also for other users; needs root");
  add_number(app, "--wait", "SECONDS", arguments.wait_seconds,
             "how long to wait for files in use (1)");
  invocation.parse(app);
  if (!arguments.all && arguments.paths.empty()) {
    throw Error(Errc::missing_input, "name the directory to lock, or use --all");
  }
  Context context = invocation.make_context();
  if (arguments.all_users && context.caller.uid != 0) {
    throw Error(Errc::permission, "only root can lock for all users");
  }
  LockRequest request;
  request.all_users = arguments.all_users;
  if (arguments.wait_seconds) request.wait = std::chrono::seconds(*arguments.wait_seconds);
  invocation.out.json()["results"] = Json::array();
  if (arguments.all) {
    lock_everything(invocation, context, arguments, request);
  } else {
    lock_paths(invocation, context, arguments, request);
  }
  throw_if_interrupted();
  return invocation.out.exit_code();
}

}  // namespace

int run_lock(Invocation& invocation) {
  CLI::App app("makes the files of encrypted directories unreadable");
  Arguments arguments;
  add_text(app, "PATH", "", arguments.paths, "encrypted directories; with --all, mount points");
  app.add_flag("--all", arguments.all, "everything on these filesystems, or on all");
  return run(invocation, app, arguments);
}

int run_purge(Invocation& invocation) {
  CLI::App app("locks everything on filesystems: another name for lock --all");
  Arguments arguments;
  arguments.all = true;
  add_text(app, "MOUNTPOINT", "", arguments.paths, "mount points")->required();
  return run(invocation, app, arguments);
}

}  // namespace fscryptctl
