// berth-pause: PID 1 of a PID namespace that the containers of a pod share. It reaps what they leave, and does nothing else. Its fd 0 is the
// socket to the monitor, which is told by its end that all is done here (docs/native.md).
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "../common/system.h"

namespace berth {
namespace {

constexpr long kAllSignals = -1;
// Of the kernel's sigset_t, not of the C library's.
constexpr long kSignalSetBytes = 8;
constexpr char kName[] = "berth-pause";

[[noreturn]] void Exit(int code) {
  Call(SYS_exit_group, code);
  // A filter may refuse even that.
  __builtin_trap();
}

[[noreturn]] void Run() {
  // After the exec, which may take the one back (a label's transition does) and takes the other: containers of the same user must not look in here.
  Call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
  Call(SYS_prctl, PR_SET_DUMPABLE, 0);
  Call(SYS_prctl, PR_SET_NAME, Address(kName));
  // Blocked signals are kept for us although PID 1 has no handlers (signal(7)); and no handler needs a way back from it.
  Call(SYS_rt_sigprocmask, SIG_SETMASK, Address(&kAllSignals), 0, kSignalSetBytes);
  // The monitor may have died before we asked to die with it.
  pollfd monitor = {0, 0, 0};
  const timespec now = {};
  Call(SYS_ppoll, Address(&monitor), 1, Address(&now), 0, kSignalSetBytes);
  if (monitor.revents != 0) Exit(1);
  Call(SYS_close, 0);
  for (;;) {
    const long signal = Call(SYS_rt_sigtimedwait, Address(&kAllSignals), 0, 0, kSignalSetBytes);
    if (signal == SIGTERM || signal == SIGINT) Exit(0);
    if (signal != SIGCHLD) continue;
    while (Call(SYS_wait4, -1, 0, WNOHANG, 0) > 0) continue;
  }
}

}  // namespace
}  // namespace berth

#ifdef BERTH_FREESTANDING
extern "C" {
#ifdef __x86_64__
// Entered without a return address: the stack is not as a function has it.
[[gnu::force_align_arg_pointer]]
#endif
void _start() {
  berth::Run();
}
}
#else
int main() { berth::Run(); }
#endif
