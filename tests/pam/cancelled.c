/* A program whose thread is told to end (pthread_cancel) while it opens a session: cancelled USER.
   Says how that ended. */
#include <pthread.h>
#include <security/pam_appl.h>
#include <stdio.h>

static int converse(int count, const struct pam_message** messages, struct pam_response** responses,
                    void* data) {
  (void)count, (void)messages, (void)responses, (void)data;
  return PAM_CONV_ERR;
}

static void* open_session(void* handle) {
  pthread_cancel(pthread_self());
  /* Somewhere in here, but not in a module that cannot stand it. */
  pam_open_session(handle, PAM_SILENT);
  pthread_testcancel();
  return NULL;
}

int main(int count, char** words) {
  const struct pam_conv conversation = {converse, NULL};
  pam_handle_t* handle = NULL;
  pthread_t thread;
  void* result = NULL;
  if (count != 2 || pam_start("hurried", words[1], &conversation, &handle) != PAM_SUCCESS) return 2;
  pam_acct_mgmt(handle, PAM_SILENT); /* reads the services, where a thread may end */
  if (pthread_create(&thread, NULL, open_session, handle) != 0) return 2;
  pthread_join(thread, &result);
  puts(result == PTHREAD_CANCELED ? "the thread has ended" : "it did not end");
  return 0;
}
