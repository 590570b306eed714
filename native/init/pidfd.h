#ifndef BERTH_INIT_PIDFD_H_
#define BERTH_INIT_PIDFD_H_

#include <sys/types.h>

namespace berth {

// The number of the process behind a pidfd, in the PID namespace of the procfs whose root `proc` is; -1 with errno where there is none: it has
// been reaped (ESRCH), or is of another namespace.
pid_t PidOf(int proc, int pidfd);
// The same by our own /proc.
pid_t PidOf(int pidfd);

// pidfd_send_signal(2): never another process of the same number. False with errno set.
bool SignalPidfd(int pidfd, int signal);

}  // namespace berth

#endif  // BERTH_INIT_PIDFD_H_
