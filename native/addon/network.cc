// Acts inside a network namespace without a process in it, each on a thread of its own that ends with the act and so never has to find back; and
// telling the service manager.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <string>
#include <vector>

#include "../common/fd.h"
#include "calls.h"
#include "error.h"
#include "netns.h"
#include "value.h"
#include "work.h"

namespace berth {
namespace {

// More than sd_notify(3) ever has to say; what is longer is cut.
constexpr size_t kDatagramBytesMax = 4096;

// Some 8000 interfaces.
constexpr size_t kStatsBytesMax = 1024 * 1024;

// What a thread has come to.
struct Outcome {
  const char* call = nullptr;  // Which has failed, with `error`.
  int error = 0;
  std::string text;
  Fd fd;

  void Fail(const char* name, int number) {
    call = name;
    error = number;
  }
};

bool Enter(const std::string& path, Outcome* outcome) {
  const char* failed = EnterNetwork(path);
  if (failed) outcome->Fail(failed, errno);
  return !failed;
}

void ReadStats(const std::string& path, Outcome* outcome) {
  if (!Enter(path, outcome)) return;
  const Fd file(open("/proc/thread-self/net/dev", O_RDONLY | O_CLOEXEC));
  if (!file) return outcome->Fail("open", errno);
  char buffer[16 * 1024];
  for (;;) {
    const ssize_t size = read(file.get(), buffer, sizeof(buffer));
    if (size < 0) return outcome->Fail("read", errno);
    if (size == 0) return;
    outcome->text.append(buffer, static_cast<size_t>(size));
    if (outcome->text.size() > kStatsBytesMax) return outcome->Fail("read", EFBIG);
  }
}

struct Address {
  sockaddr_storage bytes{};
  socklen_t size = 0;
};

bool ParseAddress(const char* host, uint16_t port, Address* address) {
  auto* four = reinterpret_cast<sockaddr_in*>(&address->bytes);
  if (inet_pton(AF_INET, host, &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    address->size = sizeof(*four);
    return true;
  }
  auto* six = reinterpret_cast<sockaddr_in6*>(&address->bytes);
  if (inet_pton(AF_INET6, host, &six->sin6_addr) != 1) return false;
  six->sin6_family = AF_INET6;
  six->sin6_port = htons(port);
  address->size = sizeof(*six);
  return true;
}

void Connect(const std::string& path, const Address& address, int timeout_ms, Outcome* outcome) {
  if (!Enter(path, outcome)) return;
  Fd fd(socket(address.bytes.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return outcome->Fail("socket", errno);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address.bytes), address.size) != 0) {
    if (errno != EINPROGRESS) return outcome->Fail("connect", errno);
    // All signals are blocked on this thread, so EINTR cannot cut the time short.
    pollfd ready{fd.get(), POLLOUT, 0};
    const int count = poll(&ready, 1, timeout_ms);
    if (count <= 0) return outcome->Fail("connect", count < 0 ? errno : ETIMEDOUT);
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) return outcome->Fail("getsockopt", errno);
    if (error != 0) return outcome->Fail("connect", error);
  }
  outcome->fd = std::move(fd);
}

}  // namespace

Napi::Value NetnsStats(const Napi::CallbackInfo& info) {
  const std::string path = Text(info[0], "path").str();
  auto outcome = std::make_shared<Outcome>();
  return Work(
      info.Env(), [path, outcome] { ReadStats(path, outcome.get()); },
      [path, outcome](Napi::Env env) -> Napi::Value {
        if (outcome->call) throw SystemError(env, outcome->error, outcome->call, path.c_str());
        return Napi::String::New(env, outcome->text);
      });
}

Napi::Value NetnsStatsOfAll(const Napi::CallbackInfo& info) {
  auto paths = std::make_shared<std::vector<std::string>>(Texts(info[0], "paths"));
  auto outcomes = std::make_shared<std::vector<Outcome>>(paths->size());
  return Work(
      info.Env(),
      [paths, outcomes] {
        for (size_t i = 0; i < paths->size(); i++) ReadStats((*paths)[i], &(*outcomes)[i]);
      },
      [paths, outcomes](Napi::Env env) -> Napi::Value {
        Napi::Array all = Napi::Array::New(env, paths->size());
        for (uint32_t i = 0; i < paths->size(); i++) {
          const Napi::HandleScope scope(env);
          const Outcome& outcome = (*outcomes)[i];
          if (outcome.call) {
            all.Set(i, SystemError(env, outcome.error, outcome.call, (*paths)[i].c_str()).Value());
          } else {
            all.Set(i, Napi::String::New(env, outcome.text));
          }
        }
        return all;
      });
}

Napi::Value ConnectIn(const Napi::CallbackInfo& info) {
  const std::string path = Text(info[0], "path").str();
  const Text host(info[1], "host");
  Address address;
  if (!ParseAddress(host.c_str(), Integer<uint16_t>(info[2], "port"), &address)) {
    Refuse(info.Env(), "host", "an IPv4 or IPv6 address");
  }
  const int timeout = Int(info[3], "timeoutMs");
  auto outcome = std::make_shared<Outcome>();
  return Work(
      info.Env(), [path, address, timeout, outcome] { Connect(path, address, timeout, outcome.get()); },
      [path, outcome](Napi::Env env) -> Napi::Value {
        if (outcome->call) throw SystemError(env, outcome->error, outcome->call, path.c_str());
        return Napi::Number::New(env, outcome->fd.Release());
      });
}

void NotifySocket(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string path = Text(info[0], "path").str();
  const std::string text = Text(info[1], "text").str();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const bool abstract = path[0] == '@';
  if (!abstract && path[0] != '/') Refuse(env, "path", "absolute, or an abstract name after @");
  // A path ends with a NUL, an abstract name fills all that is said to be there.
  if (path.size() + (abstract ? 0 : 1) > sizeof(address.sun_path)) throw SystemError(env, ENAMETOOLONG, "sendto", path.c_str());
  std::memcpy(address.sun_path, path.data(), path.size());
  if (abstract) address.sun_path[0] = '\0';
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (abstract ? 0 : 1));
  const Fd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) throw SystemError(env, errno, "socket");
  if (sendto(fd.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT, reinterpret_cast<const sockaddr*>(&address),
             size) < 0) {
    throw SystemError(env, errno, "sendto", path.c_str());
  }
}

Napi::Value BindDatagram(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string path = Text(info[0], "path").str();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) throw SystemError(env, ENAMETOOLONG, "bind", path.c_str());
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) throw SystemError(env, errno, "socket");
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    throw SystemError(env, errno, "bind", path.c_str());
  }
  return Napi::Number::New(env, fd.Release());
}

Napi::Value ReceiveDatagram(const Napi::CallbackInfo& info) {
  const int fd = Int(info[0], "fd");
  const int pidfd = Int(info[1], "pidfd");
  struct Received {
    char text[kDatagramBytesMax];
    ssize_t size = -1;
    int error = 0;
  };
  auto received = std::make_shared<Received>();
  const auto run = [fd, pidfd, received] {
    pollfd wait[2] = {{fd, POLLIN, 0}, {pidfd, POLLIN, 0}};
    while (poll(wait, 2, -1) < 0 && errno == EINTR) continue;
    received->size = recv(fd, received->text, sizeof(received->text), MSG_DONTWAIT);
    if (received->size < 0 && errno != EAGAIN) received->error = errno;
  };
  return Work(info.Env(), run, [received](Napi::Env env) -> Napi::Value {
    if (received->error) throw SystemError(env, received->error, "recv");
    if (received->size < 0) return env.Undefined();
    return Napi::Buffer<char>::Copy(env, received->text, static_cast<size_t>(received->size));
  });
}

}  // namespace berth
