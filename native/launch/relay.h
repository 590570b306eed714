// A container's terminal in the caller's own.
#ifndef BERTH_LAUNCH_RELAY_H_
#define BERTH_LAUNCH_RELAY_H_

namespace berth {

// Copies between three descriptors from `stdio` on and the pty's master until the process ends, with the caller's terminal raw and both of one size. SIGWINCH
// must be blocked.
void RelayTerminal(int master, int stdio, int pidfd);

}  // namespace berth

#endif  // BERTH_LAUNCH_RELAY_H_
