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

void NotifySocket(const Napi::CallbackInfo& info) {
  const std::string path = Text(info[0], "path").str();
  const std::string text = Text(info[1], "text").str();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    Refuse(info.Env(), "path", "a socket's path of 1 to 107 bytes");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  // unix(7): an abstract name begins with NUL, and all bytes that the length covers belong to it.
  if (path[0] == '@') address.sun_path[0] = '\0';
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  const Fd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) throw SystemError(info.Env(), errno, "socket");
  // Without waiting: a service manager that does not read must not stop the caller.
  const ssize_t sent = sendto(fd.get(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                              reinterpret_cast<const sockaddr*>(&address), size);
  if (sent < 0) throw SystemError(info.Env(), errno, "sendto", path.c_str());
}

}  // namespace berth
