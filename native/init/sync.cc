#include "sync.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "call.h"

namespace berth {
namespace {

int g_sync = -1;

[[noreturn]] void DieWith(int error, const char* stage, const char* format, va_list arguments) {
  char message[kSyncBytesMax];
  message[0] = kSyncError;
  const int32_t number = error < 0 ? -error : error;
  std::memcpy(message + 1, &number, sizeof(number));
  size_t used = 1 + sizeof(number);
  used += static_cast<size_t>(std::snprintf(message + used, 64, "%.63s", stage)) + 1;
  // Room is kept for the errno's text.
  constexpr size_t kReserve = 128;
  const size_t room = sizeof(message) - used - kReserve;
  const int wanted = std::vsnprintf(message + used, room, format, arguments);
  used += wanted < 0 ? 0 : static_cast<size_t>(wanted) < room ? static_cast<size_t>(wanted) : room - 1;
  if (error > 0) {
    const char* reason = ::strerrordesc_np(error);
    const int size = std::snprintf(message + used, kReserve, ": %s", reason ? reason : "unknown error");
    used += size < 0 ? 0 : static_cast<size_t>(size);
  }
  message[used++] = '\0';
  // Nobody else can be told when this fails; the monitor sees the end of file without an exec then.
  (void)!::send(g_sync, message, used, MSG_NOSIGNAL);
  ::_exit(1);
}

}  // namespace

void SetSync(int fd) { g_sync = fd; }
int SyncFd() { return g_sync; }

void Die(int error, const char* stage, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  DieWith(error, stage, format, arguments);
}

long Must(long result, const char* stage, const char* format, ...) {
  if (result >= 0) return result;
  const int error = errno;
  va_list arguments;
  va_start(arguments, format);
  DieWith(error, stage, format, arguments);
}

bool SendMessage(int socket, const void* bytes, size_t size, int fd) {
  iovec part = {const_cast<void*>(bytes), size};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof(fd));
  }
  return Call(SYS_sendmsg, socket, &message, MSG_NOSIGNAL) == static_cast<long>(size);
}

void SendPid(pid_t pid, int pidfd) {
  char message[1 + sizeof(int32_t)] = {kSyncPid};
  const int32_t number = pid;
  std::memcpy(message + 1, &number, sizeof(number));
  if (!SendMessage(g_sync, message, sizeof(message), pidfd)) Die(errno, "sync", "cannot pass the process on");
}

void SendTerminal(int master) {
  if (!SendMessage(g_sync, &kSyncTerminal, 1, master)) Die(errno, "sync", "cannot pass the terminal on");
}

void SendReady() {
  if (!SendMessage(g_sync, &kSyncReady, 1, -1)) Die(errno, "sync", "cannot report readiness");
}

void AwaitStart() {
  char message = 0;
  ssize_t size;
  do {
    size = ::recv(g_sync, &message, 1, 0);
  } while (size < 0 && errno == EINTR);
  // The monitor is gone or has given up: a container that nobody watches is not started.
  if (size != 1 || message != kSyncStart) ::_exit(1);
}

}  // namespace berth
