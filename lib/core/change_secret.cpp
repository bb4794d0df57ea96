#include "fscryptctl/core/change_secret.h"

#include "fscryptctl/core/login.h"

namespace fscryptctl {

UpdatedProtector change_secret(Context& context, const ProtectorWish& wish,
                               SecretProvider& secrets) {
  const ProtectorChoice choice = choose_protector(context, wish);
  Opener opener(secrets, context);
  std::optional<Secret> secret;
  return update_protector(
      context, choice, opener, [&](const OpenProtector& open, std::uint64_t generation) {
        // Asked for once, after the previous one was proven.
        if (!secret) {
          const Source source = open.record.summary.source;
          secret = source == Source::login
                       ? ask_new_login_password(context, login_user(choice.store.user()), secrets,
                                                choice.target)
                       : secrets.fresh(source, choice.target);
          // A copy may have it already: then it is this one that was left behind.
          opener.remember({secret->kind, SecretBytes(secret->bytes.view())});
        }
        return with_new_secret(open, *secret, costs_for_new_hashing(context), generation);
      });
}

}  // namespace fscryptctl
