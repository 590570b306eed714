// --init: our process stays as PID 1, passes signals on and reaps. It has the program's user, capabilities and filter.
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "../common/end.h"
#include "../common/signals.h"
#include "call.h"
#include "child.h"
#include "sync.h"

namespace berth {
namespace {

constexpr int kSignalBase = 128;
// Where the filter refuses to wait for the program as well: the code of a runtime that fails.
constexpr int kCannotWait = 125;

// Those that have ended; without WNOHANG in `options` all, and it comes back by an error alone.
void Reap(pid_t program, int options) {
  for (;;) {
    int status = 0;
    const pid_t pid = ::waitpid(-1, &status, options);
    if (pid <= 0) return;
    if (pid != program) continue;
    End(WIFSIGNALED(status) ? kSignalBase + WTERMSIG(status) : WEXITSTATUS(status));
  }
}

[[noreturn]] void PassOn(pid_t program, const sigset_t& all) {
  for (;;) {
    const int signal = ::sigwaitinfo(&all, nullptr);
    if (signal == SIGCHLD) {
      Reap(program, WNOHANG);
    } else if (signal > 0) {
      ::kill(program, signal);
    } else if (errno != EINTR) {
      // The container's filter refuses rt_sigtimedwait(2): signals cannot be passed on then, and to ask again would be for ever.
      Reap(program, 0);
      End(kCannotWait);
    }
  }
}

}  // namespace

void ForkFromReaper(bool terminal) {
  sigset_t all;
  sigset_t none;
  FillSignals(&all);
  ::sigemptyset(&none);
  // Blocked, so that the kernel keeps them for us although PID 1 has no handlers.
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  // Not clone3: filters refuse that, for they cannot see its flags.
  const pid_t child = static_cast<pid_t>(Must(Call(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr), "exec",
                                              "cannot fork from the reaper"));
  if (child == 0) {
    // Its own job, in the foreground, as a shell would start it.
    ::setpgid(0, 0);
    if (terminal) ::tcsetpgrp(0, ::getpid());
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    return;
  }
  ::prctl(PR_SET_NAME, "berth-init", 0, 0, 0);
  // Nothing stays open: the program's pipes must end with the program, the socket with its exec.
  ::syscall(SYS_close_range, 0U, ~0U, 0);
  PassOn(child, all);
}

}  // namespace berth
