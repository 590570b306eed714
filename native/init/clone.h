// The monitor's side of a birth: a fork into namespaces and a cgroup.
#ifndef BERTH_INIT_CLONE_H_
#define BERTH_INIT_CLONE_H_

#include <sys/types.h>

#include <cstdint>

namespace berth {

// -1 with errno set.
int OpenCgroup(const char* path);

// A fork into the namespaces and, when it is not -1, the cgroup. That may have been killed before: newer kernels (measured: 6.1.176, 6.18.44,
// 7.2.7) kill whatever is cloned into a cgroup that cgroup.kill was ever used on, at once, every time, also when it was empty then. Such a child
// is made again outside, and moves itself in before it does anything else.
pid_t CloneInto(uint64_t flags, int* pidfd, int cgroup);

}  // namespace berth

#endif  // BERTH_INIT_CLONE_H_
