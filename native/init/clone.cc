#include "clone.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "../common/end.h"
#include "../common/fd.h"
#include "call.h"

namespace berth {
namespace {

// How long a child may take to its first instruction before it is taken for one that will get there.
constexpr int kBirthMs = 100;

// A fork into new namespaces and, when `cgroup` is not -1, into that cgroup.
pid_t Clone(uint64_t flags, int* pidfd, int cgroup) {
  clone_args arguments = {};
  arguments.flags = flags | CLONE_PIDFD | (cgroup >= 0 ? CLONE_INTO_CGROUP : 0);
  arguments.pidfd = reinterpret_cast<uint64_t>(pidfd);
  arguments.exit_signal = SIGCHLD;
  arguments.cgroup = cgroup >= 0 ? static_cast<uint64_t>(cgroup) : 0;
  return static_cast<pid_t>(Call(SYS_clone3, &arguments, sizeof(arguments)));
}

}  // namespace

int OpenCgroup(const char* path) { return ::open(path, O_PATH | O_DIRECTORY | O_CLOEXEC); }

pid_t CloneInto(uint64_t flags, int* pidfd, int cgroup) {
  if (cgroup < 0) return Clone(flags, pidfd, cgroup);
  int born[2];
  if (::pipe2(born, O_CLOEXEC) != 0) return -1;
  Fd read_end(born[0]);
  Fd write_end(born[1]);
  const pid_t pid = Clone(flags, pidfd, cgroup);
  if (pid < 0) return pid;
  if (pid == 0) {
    if (::write(born[1], "", 1) != 1) End(1);
    return 0;
  }
  write_end.Reset();
  // End of file is a child that never ran. One that is frozen or throttled says nothing for a while: nobody waits for it.
  pollfd sign = {born[0], POLLIN, 0};
  char byte;
  if (::poll(&sign, 1, kBirthMs) != 1 || ::read(born[0], &byte, 1) != 0) return pid;
  ::waitpid(pid, nullptr, 0);
  ::close(*pidfd);
  *pidfd = -1;
  const Fd members(::openat(cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC));
  if (!members) return -1;
  const pid_t again = Clone(flags, pidfd, -1);
  if (again == 0 && ::write(members.get(), "0", 1) != 1) End(1);
  return again;
}

}  // namespace berth
