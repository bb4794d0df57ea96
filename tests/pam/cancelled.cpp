// A program whose thread is told to end (pthread_cancel) while it opens a session: cancelled USER.
// Says how that ended.
#include <pthread.h>
#include <security/pam_appl.h>

#include <cstdio>

namespace {

int converse(int /*count*/, const pam_message** /*messages*/, pam_response** /*responses*/,
             void* /*data*/) {
  return PAM_CONV_ERR;
}

void* open_session(void* data) {
  pthread_cancel(pthread_self());
  // Somewhere in here, but not in a module that cannot stand it.
  pam_open_session(static_cast<pam_handle_t*>(data), PAM_SILENT);
  pthread_testcancel();
  return nullptr;
}

}  // namespace

int main(int count, char** words) {
  const pam_conv conversation{converse, nullptr};
  pam_handle_t* handle = nullptr;
  pthread_t thread{};
  void* result = nullptr;
  if (count != 2 || pam_start("hurried", words[1], &conversation, &handle) != PAM_SUCCESS) {
    return 2;
  }
  pam_acct_mgmt(handle, PAM_SILENT);  // reads the services, where a thread may end
  if (pthread_create(&thread, nullptr, open_session, handle) != 0) return 2;
  pthread_join(thread, &result);
  std::puts(result == PTHREAD_CANCELED ? "the thread has ended" : "it did not end");
  return 0;
}
