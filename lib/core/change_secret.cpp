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
        const Source source = open.record.summary.source;
        const bool login = source == Source::login;
        const LoginUser user = login ? login_user(choice.store.user()) : LoginUser{};
        // Asked for once, after the previous one was proven.
        if (!secret) {
          secret = login ? ask_new_login_password(context, user, secrets, choice.target)
                         : secrets.fresh(source, choice.target);
          // A copy may have it already: then it is this one that was left behind.
          opener.remember({secret->kind, SecretBytes(secret->bytes.view())});
        }
        ProtectorRecord changed =
            with_new_secret(open, *secret, costs_for_new_hashing(context), generation);
        if (login) set_hints(changed.summary, user);
        return changed;
      });
}

}  // namespace fscryptctl
