#include "sync.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>

#include "../common/end.h"
#include "../common/errors.h"
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
    const int size = std::snprintf(message + used, kReserve, ": %s", ErrorText(error));
    used += size < 0 ? 0 : static_cast<size_t>(size);
  }
  message[used++] = '\0';
  // Nobody else can be told when this fails; the monitor sees the end of file without an exec then.
  (void)!::send(g_sync, message, used, MSG_NOSIGNAL);
  End(1);
}

// One connection. It takes the place of the socket where it says start.
bool TakeStart(int listener, StartTexts* texts) {
  const int connection = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  if (connection < 0) {
    if (errno != EINTR && errno != ECONNABORTED) End(1);
    return false;
  }
  char word = 0;
  const bool whole = ReadAll(connection, &word, 1) && word == kSyncStart && TakeText(connection, &texts->state) &&
                     TakeText(connection, &texts->notify);
  if (whole) {
    // Whoever asks from now on hears that nobody waits any more.
    ::close(listener);
    if (::dup3(connection, g_sync, O_CLOEXEC) < 0) End(1);
  } else {
    for (int* file : {&texts->state, &texts->notify}) {
      if (*file >= 0) ::close(*file);
      *file = -1;
    }
  }
  ::close(connection);
  return whole;
}

}  // namespace

bool ReadAll(int fd, void* to, size_t size) {
  char* at = static_cast<char*>(to);
  while (size > 0) {
    const ssize_t got = ::read(fd, at, size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    size -= static_cast<size_t>(got);
  }
  return true;
}

bool TakeText(int connection, int* file) {
  uint32_t left = 0;
  if (!ReadAll(connection, &left, sizeof(left)) || left > kStateBytesMax) return false;
  if (left == 0) return true;
  *file = ::memfd_create("state", MFD_CLOEXEC);
  if (*file < 0) return false;
  char bytes[4096];
  while (left > 0) {
    const size_t size = left < sizeof(bytes) ? left : sizeof(bytes);
    if (!ReadAll(connection, bytes, size) || ::write(*file, bytes, size) != static_cast<ssize_t>(size)) return false;
    left -= static_cast<uint32_t>(size);
  }
  return true;
}

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

ssize_t ReceiveMessage(int socket, void* bytes, size_t size, int* fd) {
  iovec part = {bytes, size};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t got;
  do {
    got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  *fd = -1;
  const cmsghdr* header = got > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
  if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
    std::memcpy(fd, CMSG_DATA(header), sizeof(*fd));
  }
  return got;
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

int AwaitContinue() {
  if (!SendMessage(g_sync, &kSyncHooks, 1, -1)) Die(errno, "sync", "cannot report that the hooks may run");
  char word = 0;
  int state = -1;
  if (ReceiveMessage(g_sync, &word, 1, &state) != 1 || word != kSyncContinue || state < 0) End(1);
  return state;
}

StartTexts AwaitStart(int listener) {
  StartTexts texts;
  if (listener >= 0) {
    while (!TakeStart(listener, &texts)) continue;
    return texts;
  }
  char message = 0;
  ssize_t size;
  do {
    size = ::recv(g_sync, &message, 1, 0);
  } while (size < 0 && errno == EINTR);
  // The monitor is gone or has given up: a container that nobody watches is not started.
  if (size != 1 || message != kSyncStart) End(1);
  return texts;
}

}  // namespace berth
