// The first lines of every child: nothing of the monitor's stays open, nobody may trace it.
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>

#include "../common/signals.h"
#include "call.h"
#include "child.h"
#include "path.h"
#include "sync.h"

namespace berth {
namespace {

// Above all numbers that are given out below, but for those that are preserved.
constexpr int kHigh = 64;

void ResetSignals() {
  DefaultSignals();
  const unsigned long none = 0;
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, sizeof(none));
}

int MoveHigh(int fd, int preserved) {
  if (fd < 0) return -1;
  return static_cast<int>(Must(::fcntl(fd, F_DUPFD_CLOEXEC, kHigh + preserved), "start", "cannot keep fd %d", fd));
}

}  // namespace

void EnterChild(Child* child, const ChildStdio& stdio, int sync, int* keep) {
  // First of all: a process of a joined pid or user namespace must not trace us (CVE-2016-9962).
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  SetSync(sync);
  ResetSignals();
  const int count = stdio.preserved_count;
  if (count > kPreservedMax) Die(EMFILE, "start", "%d descriptors to keep", count);
  const int high[3] = {MoveHigh(stdio.stdin_fd, count), MoveHigh(stdio.stdout_fd, count), MoveHigh(stdio.stderr_fd, count)};
  int preserved[kPreservedMax];
  for (int i = 0; i < count; i++) preserved[i] = MoveHigh(stdio.preserved[i], count);
  sync = MoveHigh(sync, count);
  const int listener = MoveHigh(stdio.listener, count);
  if (keep) *keep = MoveHigh(*keep, count);
  for (int i = 0; i < 3; i++) {
    int fd = high[i];
    if (fd < 0) fd = static_cast<int>(Must(Call(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR), "start", "/dev/null"));
    if (fd != i) Must(Call(SYS_dup3, fd, i, 0), "start", "cannot set up stdio");
    if (high[i] < 0 && fd > 2) ::close(fd);
  }
  int next = 3;
  for (int i = 0; i < count; i++) {
    Must(Call(SYS_dup3, preserved[i], next++, 0), "start", "cannot keep a descriptor");
  }
  Must(Call(SYS_dup3, sync, next, O_CLOEXEC), "start", "cannot set up the socket");
  SetSync(next++);
  if (listener >= 0) {
    Must(Call(SYS_dup3, listener, next, O_CLOEXEC), "start", "cannot set up the listener");
    child->listener = next++;
  }
  child->first_free = next;
  if (keep && *keep >= 0) {
    Must(Call(SYS_dup3, *keep, next, O_CLOEXEC), "start", "cannot keep a descriptor");
    *keep = next++;
  }
  Must(Call(SYS_close_range, static_cast<unsigned>(next), ~0U, 0), "start", "close_range");
  Must(Call(SYS_setsid), "start", "setsid");
  ::umask(0);
}

void OpenHost(Child* child) {
  child->proc = static_cast<int>(
      Must(Call(SYS_openat, AT_FDCWD, "/proc", O_PATH | O_DIRECTORY | O_CLOEXEC), "start", "/proc of the host"));
  if (FileSystemOf(child->proc) != PROC_SUPER_MAGIC) Die(ENOTSUP, "start", "/proc of the host is no procfs");
  OpenNullDevice(child);
}

void OpenNullDevice(Child* child) {
  if (child->null_device >= 0) ::close(child->null_device);
  // CVE-2025-31133: what masks files is opened by us, on the host, and looked at.
  child->null_device =
      static_cast<int>(Must(Call(SYS_openat, AT_FDCWD, "/dev/null", O_PATH | O_CLOEXEC), "start", "/dev/null"));
  struct stat st = {};
  Must(::fstat(child->null_device, &st), "start", "/dev/null");
  if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3)) Die(ENODEV, "start", "/dev/null of the host is another file");
}

void PrepareProcess(Child* child) {
  const ProcessPlan& process = *child->process;
  if (process.has_oom_score_adj) {
    const int fd = static_cast<int>(
        Must(Call(SYS_openat, child->proc, "self/oom_score_adj", O_WRONLY | O_CLOEXEC), "process", "oom_score_adj"));
    char text[16];
    const int size = std::snprintf(text, sizeof(text), "%d", process.oom_score_adj);
    const long written = Call(SYS_write, fd, text, size);
    if (written < 0 && errno == EACCES) {
      Die(EACCES, "process", "cannot set oom_score_adj to %d, below berth's own, without CAP_SYS_RESOURCE",
          process.oom_score_adj);
    }
    Must(written, "process", "cannot set oom_score_adj to %d", process.oom_score_adj);
    ::close(fd);
  }
  // Raising needs CAP_SYS_RESOURCE of the host: done here, where we may still have it; lowered to what is asked at
  // the end, so that no limit hits our own work.
  for (const RlimitPlan& limit : process.rlimits) {
    rlimit64 now = {};
    Must(Call(SYS_prlimit64, 0, limit.resource, nullptr, &now), "process", "getrlimit %d", limit.resource);
    if (limit.hard <= now.rlim_max) continue;
    now.rlim_max = limit.hard;
    if (Call(SYS_prlimit64, 0, limit.resource, &now, nullptr) >= 0) continue;
    Die(errno, "process", "cannot raise hard limit %d (RLIMIT_*, getrlimit(2)) to %llu%s", limit.resource,
        static_cast<unsigned long long>(limit.hard), errno == EPERM ? " without CAP_SYS_RESOURCE" : "");
  }
}

void GiveStdio(uint32_t host_uid) {
  for (int fd = 0; fd < 3; fd++) {
    struct stat st = {};
    // A pipe that is not ours to give stays as it is: only opening it anew by name is lost then.
    if (::fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode)) (void)!::syscall(SYS_fchown, fd, host_uid, -1);
  }
}

}  // namespace berth
