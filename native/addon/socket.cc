// UNIX sockets with what Node's own lack: who the other side is, and descriptors that go along with the bytes.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <vector>

#include "../common/fd.h"
#include "calls.h"
#include "error.h"
#include "value.h"
#include "work.h"

namespace berth {
namespace {

// SCM_MAX_FD of the kernel.
constexpr size_t kDescriptorsMax = 253;
// Who connects while we are busy waits in here, or is told at once that it is full (EAGAIN).
constexpr int kBacklog = 128;

struct Accepted {
  Fd fd;
  ucred peer{};
  int error = 0;
};

void Accept(int listener, Accepted* accepted) {
  for (;;) {
    accepted->fd = Fd(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (accepted->fd) break;
    // All signals are blocked on this thread; ECONNABORTED is a client that has gone.
    if (errno != ECONNABORTED && errno != EINTR) {
      accepted->error = errno;
      return;
    }
  }
  socklen_t size = sizeof(accepted->peer);
  if (getsockopt(accepted->fd.get(), SOL_SOCKET, SO_PEERCRED, &accepted->peer, &size) != 0) accepted->error = errno;
}

}  // namespace

Napi::Value ListenUnix(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int directory = Int(info[0], "dirfd");
  const std::string name = Text(info[1], "name").str();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  // Not by the directory's own path, which may be longer than a socket's may be.
  const int length = std::snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", directory, name.c_str());
  if (length < 0 || static_cast<size_t>(length) >= sizeof(address.sun_path)) throw SystemError(env, ENAMETOOLONG, "bind", name.c_str());
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) throw SystemError(env, errno, "socket");
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) throw SystemError(env, errno, "bind", name.c_str());
  // Before anybody can connect, which needs a listener.
  if (fchmodat(directory, name.c_str(), S_IRUSR | S_IWUSR, 0) != 0) throw SystemError(env, errno, "fchmodat", name.c_str());
  if (listen(fd.get(), kBacklog) != 0) throw SystemError(env, errno, "listen", name.c_str());
  return Napi::Number::New(env, fd.Release());
}

Napi::Value AcceptUnix(const Napi::CallbackInfo& info) {
  const int listener = Int(info[0], "fd");
  auto accepted = std::make_shared<Accepted>();
  return Work(
      info.Env(), [listener, accepted] { Accept(listener, accepted.get()); },
      [accepted](Napi::Env env) -> Napi::Value {
        if (accepted->error != 0) throw SystemError(env, accepted->error, "accept4");
        Napi::Object result = Napi::Object::New(env);
        result.Set("fd", Napi::Number::New(env, accepted->fd.Release()));
        result.Set("pid", Napi::Number::New(env, accepted->peer.pid));
        result.Set("uid", Napi::Number::New(env, accepted->peer.uid));
        return result;
      });
}

void ShutdownSocket(const Napi::CallbackInfo& info) {
  if (shutdown(Int(info[0], "fd"), SHUT_RDWR) != 0) throw SystemError(info.Env(), errno, "shutdown");
}

Napi::Value SendDescriptors(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = Int(info[0], "fd");
  const Bytes bytes = BytesOf(info[1], "bytes");
  const std::vector<int> fds = Ints(info[2], "fds");
  if (fds.size() > kDescriptorsMax) throw SystemError(env, EINVAL, "sendmsg");
  iovec part{const_cast<uint8_t*>(bytes.data), bytes.size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  std::vector<char> control;
  if (!fds.empty()) {
    control.resize(CMSG_SPACE(fds.size() * sizeof(int)));
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(head), fds.data(), fds.size() * sizeof(int));
  }
  const ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0) throw SystemError(env, errno, "sendmsg");
  return Napi::Number::New(env, static_cast<double>(sent));
}

}  // namespace berth
