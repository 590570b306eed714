// Facts of the kernel and of this process, and waiting for a kernel file to change.
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "../common/fd.h"
#include "calls.h"
#include "error.h"
#include "value.h"
#include "work.h"

namespace berth {

Napi::Value PollPriority(const Napi::CallbackInfo& info) {
  const int timeout = Int(info[1], "timeoutMs");
  // A copy: the caller may close its own while the thread waits, and the number may then be another file's.
  const int copy = fcntl(Int(info[0], "fd"), F_DUPFD_CLOEXEC, 0);
  if (copy < 0) throw SystemError(info.Env(), errno, "fcntl");
  auto fd = std::make_shared<Fd>(copy);
  struct Outcome {
    int ready = 0;
    int error = 0;
  };
  auto outcome = std::make_shared<Outcome>();
  return Work(
      info.Env(),
      [fd, timeout, outcome] {
        // All signals are blocked on this thread, so EINTR cannot cut the time short.
        pollfd poll_fd{fd->get(), POLLPRI, 0};
        outcome->ready = poll(&poll_fd, 1, timeout);
        outcome->error = outcome->ready < 0 ? errno : 0;
      },
      [outcome](Napi::Env env) -> Napi::Value {
        if (outcome->error) throw SystemError(env, outcome->error, "poll");
        return Napi::Boolean::New(env, outcome->ready > 0);
      });
}

void RawOutput(const Napi::CallbackInfo& info) {
  const int fd = Int(info[0], "fd");
  termios mode{};
  if (tcgetattr(fd, &mode) != 0) throw SystemError(info.Env(), errno, "tcgetattr");
  mode.c_oflag &= ~static_cast<tcflag_t>(OPOST);
  if (tcsetattr(fd, TCSADRAIN, &mode) != 0) throw SystemError(info.Env(), errno, "tcsetattr");
}

Napi::Value Getrlimit(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  rlimit limit{};
  if (getrlimit(static_cast<__rlimit_resource_t>(Int(info[0], "resource")), &limit)) {
    throw SystemError(env, errno, "getrlimit");
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("soft", Napi::BigInt::New(env, static_cast<uint64_t>(limit.rlim_cur)));
  result.Set("hard", Napi::BigInt::New(env, static_cast<uint64_t>(limit.rlim_max)));
  return result;
}

Napi::Value SeccompActionAvailable(const Napi::CallbackInfo& info) {
  const uint32_t action = Unsigned(info[0], "action");
  if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0) return Napi::Boolean::New(info.Env(), true);
  // EOPNOTSUPP: unknown action. Anything else says that there is no seccomp at all.
  if (errno == EOPNOTSUPP) return Napi::Boolean::New(info.Env(), false);
  throw SystemError(info.Env(), errno, "seccomp");
}

}  // namespace berth
