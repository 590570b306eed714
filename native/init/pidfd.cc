#include "pidfd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common/fd.h"

namespace berth {
namespace {

// Of /proc/PID/fdinfo/FD: a pidfd has some lines of a few words.
constexpr size_t kInfoBytesMax = 512;

}  // namespace

pid_t PidOf(int proc, int pidfd) {
  char path[48];
  char text[kInfoBytesMax];
  ::snprintf(path, sizeof(path), "self/fdinfo/%d", pidfd);
  const Fd file(::openat(proc, path, O_RDONLY | O_CLOEXEC));
  const ssize_t size = file ? ::read(file.get(), text, sizeof(text) - 1) : -1;
  if (size < 0) return -1;
  text[size] = '\0';
  const char* line = ::strstr(text, "\nPid:");
  const pid_t pid = line ? static_cast<pid_t>(::strtol(line + 5, nullptr, 10)) : -1;
  if (pid <= 0) errno = ESRCH;
  return pid > 0 ? pid : -1;
}

pid_t PidOf(int pidfd) {
  const Fd proc(::open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
  return proc ? PidOf(proc.get(), pidfd) : -1;
}

bool SignalPidfd(int pidfd, int signal) {
  return ::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) == 0;
}

}  // namespace berth
