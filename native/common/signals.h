// Sets of signals. A C library keeps the signals that it wants for its threads out of sigfillset(3) and sigaction(2), each its own (musl SIGRTMIN of all
// others), and we have no threads where this is used: all are the caller's or the container's.
#ifndef BERTH_COMMON_SIGNALS_H_
#define BERTH_COMMON_SIGNALS_H_

#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace berth {

// The kernel's: a bit for each signal.
inline constexpr size_t kSignalSetBytes = 8;

inline void FillSignals(sigset_t* all) { ::memset(all, 0xff, sizeof(*all)); }

// What is ignored would be so in a program that is executed.
inline void DefaultSignals() {
  // struct sigaction as the kernel has it, of whatever architecture: no handler, no flags, nothing blocked.
  constexpr unsigned long kDefault[3 + kSignalSetBytes / sizeof(long)] = {};
  for (int signal = 1; signal < NSIG; signal++) {
    // Fails for SIGKILL and SIGSTOP, which cannot be otherwise anyway.
    ::syscall(SYS_rt_sigaction, signal, kDefault, nullptr, kSignalSetBytes);
  }
}

}  // namespace berth

#endif  // BERTH_COMMON_SIGNALS_H_
