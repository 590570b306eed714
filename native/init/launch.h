// Starts processes in containers: everything between clone and exec. Called by the monitor; never blocks it.
#ifndef BERTH_INIT_LAUNCH_H_
#define BERTH_INIT_LAUNCH_H_

#include <sys/types.h>

#include "../common/fd.h"
#include "../common/plan.h"

namespace berth {

// The child's ends of its stdio. With a terminal they are unused: the child opens a pty in its own devpts and
// sends the master as message 'T'.
struct ChildStdio {
  int stdin_fd = -1;
  int stdout_fd = -1;
  int stderr_fd = -1;
};

// A process on its way: `sync` speaks the protocol of docs/native.md, "Inside: from clone to exec".
struct Launched {
  pid_t pid = -1;  // A direct child; where 'P' follows, a short-lived one, and the real one is then a child too.
  Fd pidfd;
  Fd sync;  // SOCK_SEQPACKET, close-on-exec, non-blocking.
};

// Clones the first process of a container. On failure returns false with errno set and `stage` saying at what.
bool LaunchContainer(const ContainerPlan& plan, const ChildStdio& stdio, Launched* launched, const char** stage);

// Clones a further process into the container whose first process is `container_pidfd`: joins all its namespaces
// and its cgroup (that of the first process where `cgroup` cannot be joined because the container has delegated it).
bool LaunchExec(const ProcessPlan& process, int container_pidfd, const char* cgroup, const ChildStdio& stdio,
                Launched* launched, const char** stage);

// Namespaces that processes of several containers share: a pod's. Held by these fds, without any process in them.
struct HeldNamespaces {
  Fd user;
  Fd network;
  Fd ipc;
  Fd uts;
};

// Makes the plan's namespaces (of the four types; others are EINVAL), all owned by the user namespace where there is one, and sets what they say
// about themselves: names, lo, sysctls. Waits for it. On failure returns false with errno, the stage and the text set.
bool HoldNamespaces(const ContainerPlan& plan, HeldNamespaces* held, char (&stage)[32], char (&text)[984]);

}  // namespace berth

#endif  // BERTH_INIT_LAUNCH_H_
