#include "argon2_threads.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <csignal>
#include <thread>

// libargon2 makes and joins its threads through three functions of its own. We define them, and
// since the library is linked statically its own definitions stay out of the program.
//
// Why: when the library cannot make a thread (the user's limit of processes is reached, which a
// user can arrange for a login), it returns at once, while the threads that it already made go on
// with memory that it has freed and that its caller is about to unmap. Here such a lane runs in the
// calling thread instead, with the same result, only later: making a thread never fails.

namespace {

using ThreadFunction = void* (*)(void*);

/// Never a thread's own handle: glibc's are addresses.
constexpr pthread_t kRanInCaller = 0;

/// All signals stay with the program's own threads, whose handlers expect to run there.
class Attributes {
 public:
  Attributes() noexcept {
    ok_ = pthread_attr_init(&attributes_) == 0;
    sigset_t all;
    sigfillset(&all);
    ok_ = ok_ && pthread_attr_setsigmask_np(&attributes_, &all) == 0;
  }
  ~Attributes() { pthread_attr_destroy(&attributes_); }
  Attributes(const Attributes&) = delete;
  Attributes& operator=(const Attributes&) = delete;

  [[nodiscard]] bool start(pthread_t* thread, ThreadFunction function, void* argument) noexcept {
    return ok_ && pthread_create(thread, &attributes_, function, argument) == 0;
  }

 private:
  pthread_attr_t attributes_{};
  bool ok_ = false;
};

}  // namespace

extern "C" {

int argon2_thread_create(pthread_t* thread, ThreadFunction function, void* argument) {
  Attributes attributes;
  if (!attributes.start(thread, function, argument)) {
    function(argument);
    *thread = kRanInCaller;
  }
  return 0;
}

int argon2_thread_join(pthread_t thread) {
  return thread == kRanInCaller ? 0 : pthread_join(thread, nullptr);
}

/// The library calls it last in a lane's function, which then returns: in a thread that ends the
/// thread, and in the caller it must not end anything.
void argon2_thread_exit() {}

}  // extern "C"

namespace fscryptctl::crypto {

std::uint32_t usable_cores() noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    return static_cast<std::uint32_t>(std::max(CPU_COUNT(&set), 1));
  }
  return std::max(std::thread::hardware_concurrency(), 1U);  // more processors than a cpu_set_t
}

}  // namespace fscryptctl::crypto
