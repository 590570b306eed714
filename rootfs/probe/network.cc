// Verbs about interfaces and sockets. No names are resolved: a static program would need the C library's plug-ins.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "probe.h"

namespace probe {

namespace {

// One line an address: NAME up|down ADDRESS
int Interfaces(int, char**) {
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return Fail("getifaddrs");
  for (const ifaddrs* i = all; i; i = i->ifa_next) {
    char address[INET6_ADDRSTRLEN] = "-";
    if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET) {
      inet_ntop(AF_INET, &reinterpret_cast<sockaddr_in*>(i->ifa_addr)->sin_addr, address, sizeof address);
    } else if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET6) {
      inet_ntop(AF_INET6, &reinterpret_cast<sockaddr_in6*>(i->ifa_addr)->sin6_addr, address, sizeof address);
    } else if (i->ifa_addr && i->ifa_addr->sa_family != AF_PACKET) {
      continue;
    }
    std::printf("%s %s %s\n", i->ifa_name, i->ifa_flags & IFF_UP ? "up" : "down", address);
  }
  freeifaddrs(all);
  return 0;
}

// A stream socket and the address of `HOST PORT` or `unix:PATH`.
int Open(const char* host, const char* port, sockaddr_storage* address, socklen_t* length) {
  *address = {};
  if (std::strncmp(host, "unix:", 5) == 0) {
    auto* local = reinterpret_cast<sockaddr_un*>(address);
    local->sun_family = AF_UNIX;
    std::snprintf(local->sun_path, sizeof local->sun_path, "%s", host + 5);
    *length = sizeof *local;
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  }
  const auto number = htons(static_cast<uint16_t>(std::atoi(port)));
  auto* six = reinterpret_cast<sockaddr_in6*>(address);
  if (inet_pton(AF_INET6, host, &six->sin6_addr) == 1) {
    six->sin6_family = AF_INET6;
    six->sin6_port = number;
    *length = sizeof *six;
    return socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  }
  auto* four = reinterpret_cast<sockaddr_in*>(address);
  four->sin_family = AF_INET;
  four->sin_port = number;
  *length = sizeof *four;
  if (inet_pton(AF_INET, host, &four->sin_addr) != 1) {
    errno = EINVAL;
    return -1;
  }
  return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

// Sends TEXT, prints what comes back until the other side closes.
int Connect(int argc, char** argv) {
  if (argc < 3 || argc > 4) return Usage();
  sockaddr_storage address;
  socklen_t length = 0;
  const int fd = Open(argv[1], argv[2], &address, &length);
  if (fd < 0) return Fail("socket", argv[1]);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), length) != 0) return Fail("connect", argv[1]);
  if (argc == 4 && write(fd, argv[3], std::strlen(argv[3])) < 0) return Fail("write", argv[1]);
  shutdown(fd, SHUT_WR);
  char bytes[4096];
  for (ssize_t count; (count = read(fd, bytes, sizeof bytes)) > 0;) {
    std::fwrite(bytes, 1, static_cast<size_t>(count), stdout);
  }
  std::printf("\n");
  return 0;
}

// Answers COUNT connections (for ever without it) with TEXT followed by what they sent.
int Listen(int argc, char** argv) {
  if (argc < 4 || argc > 5) return Usage();
  sockaddr_storage address;
  socklen_t length = 0;
  const int fd = Open(argv[1], argv[2], &address, &length);
  if (fd < 0) return Fail("socket", argv[1]);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0) return Fail("bind", argv[1]);
  if (listen(fd, 64) != 0) return Fail("listen", argv[1]);
  std::printf("listening\n");
  std::fflush(stdout);
  const long count = argc == 5 ? std::atol(argv[4]) : -1;
  for (long done = 0; count < 0 || done < count; ++done) {
    const int peer = accept4(fd, nullptr, nullptr, SOCK_CLOEXEC);
    if (peer < 0) return Fail("accept");
    bool ok = write(peer, argv[3], std::strlen(argv[3])) >= 0;
    char bytes[4096];
    for (ssize_t size; ok && (size = read(peer, bytes, sizeof bytes)) > 0;) {
      ok = write(peer, bytes, static_cast<size_t>(size)) == size;
    }
    close(peer);
  }
  return 0;
}

constexpr Verb kVerbs[] = {
    {"interfaces", "", Interfaces},
    {"connect", "ADDRESS PORT [TEXT] (or unix:PATH -)", Connect},
    {"listen", "ADDRESS PORT TEXT [COUNT] (or unix:PATH -)", Listen},
};

}  // namespace

Verbs NetworkVerbs() { return {kVerbs, sizeof kVerbs / sizeof *kVerbs}; }

}  // namespace probe
