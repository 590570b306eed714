// berth-monitor: `berth-monitor DIRECTORY_FD NAME` becomes a monitor, `berth-monitor once PLANFILE
// [EXECPLANFILE]` runs one container in the foreground, and a second process in it. See docs/native.md.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "../common/sealed.h"
#include "../init/once.h"
#include "monitor.h"

namespace berth {
namespace {

constexpr int kBacklog = 64;
constexpr int kLockTries = 20;
constexpr unsigned kLockTryUs = 5000;
// Below every process of a container, above the kernel's own "never" (-1000).
constexpr char kOomScoreAdj[] = "-999";

int Complain(const char* what) {
  dprintf(2, "berth-monitor: %s: %s\n", what, strerror(errno));
  return 1;
}

// Opens and locks `alive`. The file may be taken away between the two by a monitor that ends.
Fd TakeLock(int directory) {
  for (int i = 0; i < 100; i++) {
    Fd alive(openat(directory, "alive", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!alive) return Fd();
    if (flock(alive.get(), LOCK_EX | LOCK_NB) != 0) {
      // Somebody may just be asking whether a monitor lives, with a shared lock held for a moment.
      if (errno != EWOULDBLOCK || i >= kLockTries) return Fd();
      usleep(kLockTryUs);
      continue;
    }
    struct stat own;
    struct stat named;
    if (fstat(alive.get(), &own) == 0 && fstatat(directory, "alive", &named, AT_SYMLINK_NOFOLLOW) == 0 &&
        own.st_ino == named.st_ino && own.st_dev == named.st_dev) {
      return alive;
    }
  }
  errno = EBUSY;
  return Fd();
}

Fd Listen(int directory) {
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  // Not by the directory's own path, which may be longer than a socket's may be.
  snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/ctl", directory);
  // A socket that a killed monitor left: we hold the lock, so nobody listens on it.
  unlinkat(directory, "ctl", 0);
  umask(0177);
  const bool bound = socket && bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 &&
                     listen(socket.get(), kBacklog) == 0;
  umask(0022);
  return bound ? static_cast<Fd&&>(socket) : Fd();
}

void LowerOomScoreAdj() {
  const Fd file(open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC));
  char text[16] = "";
  if (!file || read(file.get(), text, sizeof(text) - 1) <= 0) return;
  // Without CAP_SYS_RESOURCE it stays as it is.
  const bool changed = pwrite(file.get(), kOomScoreAdj, sizeof(kOomScoreAdj) - 1, 0) > 0;
  KeepOomScoreAdj(atoi(text), changed);
}

int BecomeMonitor(int directory_fd) {
  if (fcntl(directory_fd, F_SETFD, FD_CLOEXEC) != 0) return Complain("the directory's descriptor");
  Fd directory(directory_fd);
  Fd alive = TakeLock(directory.get());
  if (!alive) return Complain("cannot lock \"alive\": another monitor has this directory");
  Fd listener = Listen(directory.get());
  if (!listener) return Complain("cannot bind the socket \"ctl\"");
  const pid_t pid = fork();
  if (pid < 0) return Complain("fork");
  // The lock and the socket live on in the child.
  if (pid > 0) _exit(0);
  setsid();
  if (chdir("/") != 0) return 1;
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd < 3; fd++) dup2(null, fd);
  if (null > 2) close(null);
  prctl(PR_SET_NAME, "berth-monitor");
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  LowerOomScoreAdj();
  RunMonitor(static_cast<Fd&&>(directory), static_cast<Fd&&>(listener), static_cast<Fd&&>(alive));
  _exit(0);
}

}  // namespace
}  // namespace berth

int main(int argc, char** argv) {
  // Before anything of a container exists that could look into this process.
  prctl(PR_SET_DUMPABLE, 0);
  if ((argc == 3 || argc == 4) && strcmp(argv[1], "once") == 0) {
    if (!berth::RunSealed(argv, environ)) return berth::Complain("cannot run from a read-only mount");
    return argc == 3 ? berth::RunOnce(argv[2]) : berth::RunOnceWithExec(argv[2], argv[3]);
  }
  char* end = nullptr;
  const long fd = argc == 3 ? strtol(argv[1], &end, 10) : -1;
  if (fd < 0 || fd > INT_MAX || end == argv[1] || *end != 0) {
    dprintf(2, "usage: berth-monitor DIRECTORY_FD NAME | berth-monitor once PLANFILE [EXECPLANFILE]\n");
    return 2;
  }
  return berth::BecomeMonitor(static_cast<int>(fd));
}
