/// The entry points of pam_fscryptctl.so. A login goes on whatever happens here: nothing is thrown
/// out, and nothing but "ignore me" is returned.

#include <pthread.h>
#include <security/pam_ext.h>
#include <security/pam_modules.h>
#include <sys/prctl.h>
#include <syslog.h>

#include <exception>

#include "call.h"

namespace {

/// Acting as another user makes the process undumpable for good, which is the host program's
/// affair.
class KeepDumpable {
 public:
  KeepDumpable() noexcept : before_(::prctl(PR_GET_DUMPABLE)) {}
  ~KeepDumpable() {
    if (before_ == 1 && ::prctl(PR_GET_DUMPABLE) != 1) ::prctl(PR_SET_DUMPABLE, 1);
  }
  KeepDumpable(const KeepDumpable&) = delete;
  KeepDumpable& operator=(const KeepDumpable&) = delete;

 private:
  int before_;
};

/// A thread that the program tells to end does so when this module is done: ending in the middle,
/// through what is noexcept, would end the program.
class KeepThread {
 public:
  KeepThread() noexcept { ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
  ~KeepThread() { ::pthread_setcancelstate(before_, nullptr); }
  KeepThread(const KeepThread&) = delete;
  KeepThread& operator=(const KeepThread&) = delete;

 private:
  int before_ = PTHREAD_CANCEL_ENABLE;
};

using fscryptctl::pam::Call;

int run(pam_handle_t* handle, int flags, int argc, const char** argv,
        void (Call::*phase)()) noexcept {
  const KeepThread thread;
  try {
    const KeepDumpable dumpable;
    Call call(handle, flags, argc, argv);
    (call.*phase)();
  } catch (const std::exception& error) {
    pam_syslog(handle, LOG_ERR, "%s", error.what());
  } catch (...) {
    pam_syslog(handle, LOG_ERR, "unknown failure");
  }
  return PAM_IGNORE;
}

}  // namespace

// The header declares them without noexcept; everything that they do is in run(), which has it.
extern "C" {

int pam_sm_authenticate(pam_handle_t* handle, int flags, int argc, const char** argv) {
  return run(handle, flags, argc, argv, &Call::authenticate);
}

int pam_sm_setcred(pam_handle_t* /*handle*/, int /*flags*/, int /*argc*/, const char** /*argv*/) {
  return PAM_IGNORE;
}

int pam_sm_acct_mgmt(pam_handle_t* handle, int flags, int argc, const char** argv) {
  return run(handle, flags, argc, argv, &Call::account);
}

int pam_sm_open_session(pam_handle_t* handle, int flags, int argc, const char** argv) {
  return run(handle, flags, argc, argv, &Call::open_session);
}

int pam_sm_close_session(pam_handle_t* handle, int flags, int argc, const char** argv) {
  return run(handle, flags, argc, argv, &Call::close_session);
}

int pam_sm_chauthtok(pam_handle_t* handle, int flags, int argc, const char** argv) {
  const bool before = (static_cast<unsigned>(flags) & PAM_PRELIM_CHECK) != 0;
  return run(handle, flags, argc, argv, before ? &Call::password_before : &Call::password_update);
}

}  // extern "C"
