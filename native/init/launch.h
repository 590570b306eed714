// Starts processes in containers: everything between clone and exec. Called by the monitor; never blocks it.
#ifndef BERTH_INIT_LAUNCH_H_
#define BERTH_INIT_LAUNCH_H_

#include <sys/types.h>

#include <cstdint>

#include "../common/fd.h"
#include "../common/plan.h"

namespace berth {

// The child's ends of its stdio. With a terminal they are unused: the child opens a pty in its own devpts and
// sends the master as message 'T'.
struct ChildStdio {
  int stdin_fd = -1;
  int stdout_fd = -1;
  int stderr_fd = -1;
  // Further descriptors that the program gets, as 3, 4 … Beyond kPreservedMax they are EMFILE.
  const int* preserved = nullptr;
  int preserved_count = 0;
  // A listening stream socket: the start comes over a connection of it, whoever made the container (AwaitStart in
  // sync.h). -1: over `sync`.
  int listener = -1;
};

inline constexpr int kPreservedMax = 256;

// A process on its way: `sync` speaks the protocol of docs/native.md, "Inside: from clone to exec".
struct Launched {
  pid_t pid = -1;  // A direct child; where 'P' follows, a short-lived one, and the real one is then a child too.
  Fd pidfd;
  Fd sync;  // SOCK_SEQPACKET, close-on-exec, non-blocking.
};

// Clones the first process of a container. On failure returns false with errno set and `stage` saying at what.
bool LaunchContainer(const ContainerPlan& plan, const ChildStdio& stdio, Launched* launched, const char** stage);

struct ExecCgroup {
  // The container's; "" where the process stays in ours.
  const char* path;
  // Relative to it: that one, or none. Without, the first process's is taken where the container's cannot be joined because it has been delegated.
  const char* below = nullptr;
};

// Clones a further process into the container whose first process is `container_pidfd`: joins all its namespaces
// and its cgroup.
bool LaunchExec(const ProcessPlan& process, int container_pidfd, const ExecCgroup& wanted, const ChildStdio& stdio,
                Launched* launched, const char** stage);

// What the containers of a pod share. Held by these fds; without any process, but PID 1 of the PID namespace.
struct HeldNamespaces {
  Fd user;
  Fd network;
  Fd ipc;
  Fd uts;
  Fd pid;
  // A mount namespace with the pod's tmpfs at /dev/shm, in an otherwise empty root.
  Fd shared_memory;
  pid_t pause_pid = -1;
  Fd pause;  // Its pidfd. A direct child.
};

struct HoldOptions {
  // What becomes PID 1 of a PID namespace, in the plan's cgroup (docs/native.md).
  const char* pause_program = "";
  // 0: no shared memory.
  uint64_t shared_memory_bytes = 0;
};

// Makes the plan's namespaces (of these types; others are EINVAL), all owned by the user namespace where there is one, and sets what they say
// about themselves: names, lo, sysctls. Waits for it. On failure returns false with errno, the stage and the text set, and nothing is left.
bool HoldNamespaces(const ContainerPlan& plan, const HoldOptions& options, HeldNamespaces* held, char (&stage)[32],
                    char (&text)[984]);

}  // namespace berth

#endif  // BERTH_INIT_LAUNCH_H_
