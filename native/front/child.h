// A program that the daemon wants to be the caller's child: what the caller has (namespaces, limits, keyring, label, cgroup) is then the program's.
#ifndef BERTH_FRONT_CHILD_H_
#define BERTH_FRONT_CHILD_H_

#include <sys/types.h>

#include <cstddef>

namespace berth {

// Of a kFrameSpawn. Closes the passed descriptors. -1 with errno where the request is not understood or the program cannot be executed.
pid_t SpawnChild(const char* payload, size_t size, const int* passed, int passed_count);

}  // namespace berth

#endif  // BERTH_FRONT_CHILD_H_
