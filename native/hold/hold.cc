// berth-hold: keeps a pod's systemd scope from being collected between and before its containers. systemd-run executes it in the new scope;
// what goes on is a child of it, so that its end says that the scope is there. Its fd 0 is the file `alive` of the pod's monitor, locked for
// that one's life: it waits for nothing else, whatever becomes of the daemon (docs/native.md).
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>

#include "../common/system.h"

namespace berth {
namespace {

constexpr char kName[] = "berth-hold";

[[noreturn]] void Exit(int code) {
  Call(SYS_exit_group, code);
  // A filter may refuse even that.
  __builtin_trap();
}

[[noreturn]] void Run() {
  const long child = Call(SYS_clone, SIGCHLD);
  if (child != 0) Exit(child > 0 ? 0 : 1);
  // Containers in the host's PID namespace must not look in here.
  Call(SYS_prctl, PR_SET_DUMPABLE, 0);
  Call(SYS_prctl, PR_SET_NAME, Address(kName));
  for (int fd = 1; fd <= 2; fd++) Call(SYS_close, fd);
  Call(SYS_flock, 0, LOCK_SH);
  Exit(0);
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
