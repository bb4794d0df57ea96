#include "fscryptctl/core/conversion.h"

#include <algorithm>

#include "conversion_run.h"
#include "fscryptctl/base/error.h"

namespace fscryptctl {

ConversionResult Conversion::run() {
  require_encryption(context_, site_.filesystem());
  site_.lock();
  open_store();
  result_.user = user_;
  const std::optional<Journal> unfinished = store_ ? find_unfinished(*store_, site_) : std::nullopt;
  const Found found = unfinished ? take_up(*unfinished) : Found::nothing;
  result_.resumed = found != Found::nothing;
  if (found == Found::nothing && !begin()) return std::move(result_);
  result_.changed = true;
  if (found == Found::done) return std::move(result_);
  finish_states();
  finish();
  return std::move(result_);
}

ConversionPlan Conversion::plan() {
  require_encryption(context_, site_.filesystem());
  require_right_kind();
  return look();
}

ConversionStatus Conversion::status(bool count) {
  open_store();
  ConversionStatus status;
  status.bytes_free = free_bytes(site_);
  std::optional<Journal> unfinished;
  try {
    unfinished = store_ ? find_unfinished(*store_, site_) : std::nullopt;
  } catch (const Error& error) {
    if (error.code() != Errc::corrupt_metadata && error.code() != Errc::newer_format) throw;
    status.state = "damaged";
  }
  if (!unfinished) return status;
  status.state = name_of(unfinished->state);
  status.journal = unfinished;
  if (count && can_open_work(*unfinished)) count_done(*unfinished, status);
  return status;
}

void Conversion::cancel() {
  site_.lock();
  open_store();
  const std::optional<Journal> unfinished = store_ ? find_unfinished(*store_, site_) : std::nullopt;
  if (!unfinished) {
    throw Error(Errc::no_such_path, "nothing is unfinished in " + printable(site_.path()))
        .with_path(site_.path());
  }
  require_command(*unfinished);
  if (site_.identity() == unfinished->replacement || unfinished->state == State::removing) {
    throw Error(Errc::too_late, printable(site_.path()) +
                                    " has been replaced already: repeat the command to "
                                    "remove what is left of the original")
        .with_path(site_.path());
  }
  if (unfinished->strategy == Strategy::low_space && unfinished->state != State::copying) {
    return_files(*unfinished);
  }
  discard(*unfinished);
}

Journal::Strategy Conversion::strategy() const {
  return request_.low_space ? Strategy::low_space : Strategy::copy;
}

bool Conversion::can_open_work(const Journal& journal) {
  try {
    return site_.open_work(journal.operation, journal.path);
  } catch (const Error& error) {
    if (error.code() != Errc::permission) throw;
    return false;
  }
}

void Conversion::count_done(const Journal& journal, ConversionStatus& status) {
  const UniqueFd tree = site_.open_tree();
  if (!tree) return;
  // Once they have changed places, what is left of the original is what is not done.
  const bool exchanged = site_.identity() == journal.replacement;
  const TreeScan scan =
      scan_tree(tree.get(), {true, false, 0}, progress_, context_.throw_if_interrupted);
  status.bytes_done = exchanged ? journal.bytes - std::min(journal.bytes, scan.bytes) : scan.bytes;
  status.files_done = exchanged ? journal.files - std::min(journal.files, scan.files) : scan.files;
  if (journal.part) status.bytes_done += journal.part->size - journal.part->source_size;
}

void Conversion::require_right_kind() const {
  const std::optional<KernelPolicy> policy = site_.policy(context_);
  if (request_.command == Command::convert && policy) {
    throw Error(Errc::already_encrypted, printable(site_.path()) + " is already encrypted")
        .with_path(site_.path());
  }
  if (request_.command != Command::convert && !policy) {
    throw Error(Errc::not_encrypted, printable(site_.path()) + " is not encrypted")
        .with_path(site_.path());
  }
}

ConversionPlan Conversion::look() {
  phase("checking", 0, 0);
  return make_plan(context_, site_, strategy(), encrypts(), progress_, tick());
}

void Conversion::phase(std::string_view name, std::uint64_t bytes, std::uint64_t files) {
  progress_.bytes = 0;
  progress_.files = 0;
  shown_ = {name, 0, bytes, 0, files};
}

Tick Conversion::tick() {
  return [this] {
    context_.throw_if_interrupted();
    shown_.bytes_done = progress_.bytes;
    shown_.files_done = progress_.files;
    request_.progress(shown_);
  };
}

ConversionResult convert_directory(Context& context, const ConversionRequest& request,
                                   SecretProvider& secrets) {
  return Conversion(context, request, secrets).run();
}

ConversionPlan plan_conversion(Context& context, const ConversionRequest& request,
                               SecretProvider& secrets) {
  return Conversion(context, request, secrets).plan();
}

ConversionStatus conversion_status(Context& context, const ConversionRequest& request,
                                   SecretProvider& secrets, bool count) {
  return Conversion(context, request, secrets).status(count);
}

void cancel_conversion(Context& context, const ConversionRequest& request,
                       SecretProvider& secrets) {
  Conversion(context, request, secrets).cancel();
}

}  // namespace fscryptctl
