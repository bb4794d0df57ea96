#include "login_password.h"

#include <dlfcn.h>
#include <security/pam_appl.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>

#include "fscryptctl/base/error.h"
#include "signals.h"

namespace fscryptctl {
namespace {

template <class Function>
Function symbol(void* library, const char* name) {
  void* const address = dlsym(library, name);
  if (address == nullptr) throw Error(Errc::io, std::string("the PAM library has no ") + name);
  return reinterpret_cast<Function>(address);
}

/// libpam, loaded when a login password is checked: hardly a command does, and it would double the
/// time that all others need to start. It stays loaded.
struct Pam {
  Pam() {
    void* const library = dlopen("libpam.so.0", RTLD_NOW | RTLD_GLOBAL);
    if (library == nullptr) throw Error(Errc::io, "the PAM library (libpam.so.0) is missing");
    start = symbol<decltype(start)>(library, "pam_start");
    end = symbol<decltype(end)>(library, "pam_end");
    authenticate = symbol<decltype(authenticate)>(library, "pam_authenticate");
  }

  decltype(&pam_start) start;
  decltype(&pam_end) end;
  decltype(&pam_authenticate) authenticate;
};

struct Conversation {
  const SecretBytes& password;
  bool asked = false;
  bool asked_for_more = false;
};

/// What PAM is given is its own to free; it wipes it, too.
char* answer_of(const SecretBytes& password) {
  auto* const answer = static_cast<char*>(std::calloc(password.size() + 1, 1));
  if (answer != nullptr) std::memcpy(answer, password.view().data(), password.size());
  return answer;
}

void drop(pam_response* responses, std::size_t count) {
  for (pam_response& response : std::span(responses, count)) {
    if (response.resp == nullptr) continue;
    explicit_bzero(response.resp, std::strlen(response.resp));
    std::free(response.resp);
  }
  std::free(responses);
}

int converse(int count, const pam_message** messages, pam_response** responses, void* data) {
  auto& conversation = *static_cast<Conversation*>(data);
  if (count <= 0 || count > PAM_MAX_NUM_MSG) return PAM_CONV_ERR;
  const auto size = static_cast<std::size_t>(count);
  auto* const answers = static_cast<pam_response*>(std::calloc(size, sizeof(pam_response)));
  if (answers == nullptr) return PAM_BUF_ERR;
  for (std::size_t i = 0; i < size; ++i) {
    const int style = messages[i]->msg_style;
    if (style == PAM_TEXT_INFO || style == PAM_ERROR_MSG) continue;
    const bool first = style == PAM_PROMPT_ECHO_OFF && !std::exchange(conversation.asked, true);
    if (first) answers[i].resp = answer_of(conversation.password);
    if (!first) conversation.asked_for_more = true;
    if (answers[i].resp == nullptr) {
      drop(answers, size);
      return PAM_CONV_ERR;
    }
  }
  *responses = answers;
  return PAM_SUCCESS;
}

[[noreturn]] void cannot_tell(const std::string& user, const std::string& why) {
  throw Error(Errc::io, "the login password of " + printable(user) + " cannot be checked: " + why);
}

/// PAM takes C strings, and a longer password would be cut off by some modules.
bool possible(const SecretBytes& password) {
  const ByteView bytes = password.view();
  return !bytes.empty() && bytes.size() < PAM_MAX_RESP_SIZE &&
         std::find(bytes.begin(), bytes.end(), 0) == bytes.end();
}

int authenticate(const Pam& pam, const std::string& user, Conversation& conversation) {
  const pam_conv how{converse, &conversation};
  pam_handle_t* handle = nullptr;
  if (pam.start(kPamService, user.c_str(), &how, &handle) != PAM_SUCCESS) {
    cannot_tell(user, "PAM does not start");
  }
  const int result = pam.authenticate(handle, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
  pam.end(handle, result);
  return result;
}

}  // namespace

bool verify_login_password(const std::string& user, const SecretBytes& password) {
  if (!possible(password)) return false;
  static const Pam pam;
  Conversation conversation{password};
  const int result = authenticate(pam, user, conversation);
  throw_if_interrupted();
  if (conversation.asked_for_more) cannot_tell(user, "more than a password is asked for");
  switch (result) {
    case PAM_SUCCESS:
      if (!conversation.asked) cannot_tell(user, "PAM does not ask for a password");
      return true;
    case PAM_AUTH_ERR:
    case PAM_PERM_DENIED:
    case PAM_MAXTRIES:
    case PAM_ACCT_EXPIRED:
      return false;
    case PAM_USER_UNKNOWN:
      throw Error(Errc::no_such_user, "no such user: " + printable(user));
    default:
      cannot_tell(user, "PAM gives error " + std::to_string(result));
  }
}

}  // namespace fscryptctl
