#include "admin.h"

#include "report.h"

namespace fscryptctl {
namespace {

std::string question_for(const Loss& loss) {
  const std::string remove = "remove " + loss.subject;
  if (loss.directories.empty() && loss.unknown.empty()) {
    std::string keys;
    for (const KeyIdentifier& key : loss.policies) keys += (keys.empty() ? "" : ", ") + key.hex();
    return remove + "? there is no directory any more with the key " + keys;
  }
  if (loss.directories.empty()) {
    return remove + "? nobody can read its directories again, should there be any in " +
           enumerate(loss.unknown);
  }
  return remove + ", the last way into " + enumerate(loss.directories) +
         "? you cannot read these files again";
}

}  // namespace

Source parse_new_source(const std::string& name) {
  const std::optional<Source> source = source_from_name(name);
  if (source) return *source;
  throw Error(Errc::usage,
              "invalid source: " + printable(name) + " (passphrase, raw-key or login is possible)");
}

Source source_of_new(Context& context, const std::optional<std::string>& typed,
                     bool key_file_given) {
  if (typed) return parse_new_source(*typed);
  return key_file_given ? Source::raw_key : context.config().source;
}

void add_data_loss_option(CLI::App& app, RemovalWishes& wishes) {
  app.add_flag("--allow-data-loss", wishes.allow_data_loss,
               "even if files can never be read again");
}

void ask_before_losses(Invocation& invocation, RemovalWishes& wishes) {
  wishes.confirm = [&invocation](const Loss& loss) { invocation.confirm(question_for(loss)); };
}

MountStatus status_for(Context& context, const Filesystem& filesystem, Identity user) {
  Context as_user = context;
  as_user.user = user;
  return mount_status(as_user, filesystem);
}

void put_protector(Output& out, Context& context, const NamedProtector& place) {
  if (!out.json_wanted()) return;  // what it opens may take a while to find out
  out.json()["protector"] = {{"id", place.id.hex()}};
  const MountStatus status = status_for(context, place.filesystem, place.store.user());
  for (const auto& protector : status.protectors) {
    if (protector->summary.id == place.id) out.json()["protector"] = json_of(*protector);
  }
}

}  // namespace fscryptctl
