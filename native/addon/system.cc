// Waiting for a kernel file to change, terminals, and a datagram to the service manager.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include <cstddef>

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

}  // namespace berth
