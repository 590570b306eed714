#include "launch.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../common/end.h"
#include "call.h"
#include "child.h"
#include "clone.h"
#include "path.h"
#include "pidfd.h"
#include "sync.h"

namespace berth {
namespace {

constexpr size_t kProcBytesMax = 4096;

uint64_t NewFlags(const ContainerPlan& plan) {
  uint64_t flags = 0;
  for (const NamespacePlan& ns : plan.namespaces) {
    if (!ns.path) flags |= static_cast<unsigned>(ns.flag);
  }
  return flags;
}

// Whether one clone does: nothing that must happen between the host's privileges and the namespaces. A joined pid
// namespace holds only for children, and the monitor itself must never stand in one.
bool OneCloneDoes(const ContainerPlan& plan) {
  if (MakesNamespace(plan, CLONE_NEWUSER) || JoinsNamespace(plan, CLONE_NEWUSER)) return false;
  if (JoinsNamespace(plan, CLONE_NEWPID) || plan.monotonic.given || plan.boottime.given) return false;
  for (const MountPlan& mount : plan.mounts) {
    if (mount.idmap) return false;
  }
  return true;
}

// runtime-spec: the host's hooks, then those of the container's namespaces with the host's files, before pivot_root.
void HookCreation(Child* child) {
  const ContainerPlan& plan = *child->plan;
  if (!plan.awaits_hooks) return;
  const int state = AwaitContinue();
  RunHooks(plan.create_hooks, "createContainer", state, plan.hook_directory);
  ::close(state);
}

void SetStdio(Child* child, bool console) {
  if (child->process->terminal) {
    OpenTerminal(child, child->root, console);
  } else {
    TakeOwnNull(*child, child->root);
  }
}

// The part inside: all namespaces are there.
[[noreturn]] void Inside(Child* child) {
  const ContainerPlan& plan = *child->plan;
  // Not at clone: the new namespace's root is the cgroup in which the unsharing process already is.
  if (MakesNamespace(plan, CLONE_NEWCGROUP)) Must(Call(SYS_unshare, CLONE_NEWCGROUP), "namespace", "cgroup namespace");
  OpenLabels(child);
  SetIdentity(child);
  if (!JoinsNamespace(plan, CLONE_NEWNS)) {
    AttachRoot(child);
    MountAll(child);
    MakeDeviceNodes(child);
    MakeLinks(child);
    HidePaths(child);
    MakeCwd(child, child->root);
    SetStdio(child, true);
    HookCreation(child);
    EnterRoot(child);
  } else {
    child->root = static_cast<int>(Must(Call(SYS_openat, AT_FDCWD, "/", O_PATH | O_CLOEXEC), "root", "/"));
    MakeCwd(child, child->root);
    SetStdio(child, false);
    HookCreation(child);
  }
  Finish(child);
}

void Prepare(Child* child, const ChildStdio& stdio, int sync) {
  EnterChild(child, stdio, sync, nullptr);
  OpenHost(child);
  const ContainerPlan& plan = *child->plan;
  if (!SharesMounts(plan) && !MakesNamespace(plan, CLONE_NEWNS) && !JoinsNamespace(plan, CLONE_NEWNS)) {
    Die(-EINVAL, "namespace", "a container needs a mount namespace of its own, or one to join");
  }
  PrepareProcess(child);
  uint32_t uid = child->process->uid;
  const bool user = MakesNamespace(plan, CLONE_NEWUSER) || JoinsNamespace(plan, CLONE_NEWUSER);
  const bool mapped = !user || (plan.id_mappings && MapOut(plan.id_mappings->uids, uid, &uid));
  if (mapped && !child->process->terminal) GiveStdio(uid);
  OpenNamespaces(child);
  ConnectNotify(child);
}

// In the mount namespace in which the container's mounts will be, or that of which theirs is a copy.
void TakeFromHost(Child* child) {
  OpenSources(child);
  CloneSlaveRoot(child);
  if (MakesNamespace(*child->plan, CLONE_NEWNS)) MakeMountsPrivate();
  MakeRoot(child);
  MakeViews(child);
  MakeDevices(child);
  DropScratch(child);
}

[[noreturn]] void DirectChild(const ContainerPlan& plan, const ChildStdio& stdio, int sync) {
  Child child;
  child.plan = &plan;
  child.process = &plan.process;
  Prepare(&child, stdio, sync);
  if (!JoinsNamespace(plan, CLONE_NEWNS)) TakeFromHost(&child);
  JoinNamespaces(&child);
  Inside(&child);
}

[[noreturn]] void IndirectChild(const ContainerPlan& plan, const ChildStdio& stdio, int sync) {
  Child child;
  child.plan = &plan;
  child.process = &plan.process;
  Prepare(&child, stdio, sync);
  // Opened before the user namespace takes the right to; a kernel may have no time namespaces.
  const bool clocks = MakesNamespace(plan, CLONE_NEWTIME);
  const long offsets = clocks ? Must(Call(SYS_openat, child.proc, "self/timens_offsets", O_WRONLY | O_CLOEXEC),
                                     "time namespace", "offsets")
                              : -1;
  uint64_t flags = NewFlags(plan) & ~static_cast<uint64_t>(CLONE_NEWUSER | CLONE_NEWCGROUP | CLONE_NEWTIME);
  MakeUserNamespace(&child);
  if (MakesNamespace(plan, CLONE_NEWNS)) {
    Must(Call(SYS_unshare, CLONE_NEWNS), "namespace", "mount namespace");
    // A mount of another mount namespace cannot be cloned.
    OpenNullDevice(&child);
    // Ours serves the container as well, unless a user namespace must own it.
    if (child.user_namespace < 0) flags &= ~static_cast<uint64_t>(CLONE_NEWNS);
  }
  if (!JoinsNamespace(plan, CLONE_NEWNS)) TakeFromHost(&child);
  JoinNamespaces(&child);
  if (child.user_namespace >= 0) EnterUserNamespace(&child);
  if (clocks) {
    SetTimeOffsets(&child, static_cast<int>(offsets));
    ::close(static_cast<int>(offsets));
  }

  CloneSibling(flags, false);
  Inside(&child);
}

struct Pair {
  Fd monitor;
  Fd child;
};

bool MakePair(Pair* pair) {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) return false;
  pair->monitor = Fd(fds[0]);
  pair->child = Fd(fds[1]);
  return ::fcntl(fds[0], F_SETFL, O_RDWR | O_NONBLOCK) == 0;
}

void Fill(Launched* launched, pid_t pid, int pidfd, Pair* pair) {
  launched->pid = pid;
  launched->pidfd = Fd(pidfd);
  launched->sync = std::move(pair->monitor);
}

// Reads a small file below /proc as text; its length, or -1.
ssize_t ReadProc(int proc, const char* path, char (*text)[kProcBytesMax]) {
  const Fd fd(::openat(proc, path, O_RDONLY | O_CLOEXEC));
  if (!fd) return -1;
  const ssize_t size = ::read(fd.get(), *text, sizeof(*text) - 1);
  (*text)[size < 0 ? 0 : size] = '\0';
  return size;
}

// The cgroup in which the first process is now. `cgroup` is the container's directory; the process's path begins with
// the end of it, which tells where the hierarchy is mounted.
int OpenOwnCgroup(int container_pidfd, const char* cgroup) {
  const Fd proc(::open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
  const pid_t pid = proc ? PidOf(proc.get(), container_pidfd) : -1;
  char path[PATH_MAX];
  char text[kProcBytesMax];
  std::snprintf(path, sizeof(path), "%d/cgroup", pid);
  if (pid < 0 || ReadProc(proc.get(), path, &text) < 0) return -1;
  char* own = std::strncmp(text, "0::", 3) == 0 ? text : std::strstr(text, "\n0::");
  own = own ? std::strchr(own, '/') : nullptr;
  if (!own) {
    errno = ENOENT;
    return -1;
  }
  own[std::strcspn(own, "\n")] = '\0';
  for (const char* end = cgroup; (end = std::strchr(end, '/')); end++) {
    if (!IsBelow(own, end)) continue;
    std::snprintf(path, sizeof(path), "%.*s%s", static_cast<int>(end - cgroup), cgroup, own);
    return OpenCgroup(path);
  }
  errno = ENOENT;
  return -1;
}

// Whether the container has frozen this cgroup of its own, or one between it and the container's (`top`): what is cloned there may never run. The
// container's own, frozen by `pause`, is the caller's matter.
bool IsFrozenBelow(int group, int top) {
  struct stat end = {};
  struct stat here = {};
  if (::fstat(top, &end) != 0) return false;
  Fd parent;
  for (int at = group; ::fstat(at, &here) == 0 && here.st_ino != end.st_ino;) {
    char state = '0';
    const Fd file(::openat(at, "cgroup.freeze", O_RDONLY | O_CLOEXEC));
    // The hierarchy's root has none: the process has left the container's.
    if (!file || ::read(file.get(), &state, 1) != 1) return false;
    if (state == '1') return true;
    parent = Fd(::openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
    at = parent.get();
  }
  return false;
}

struct NamedNamespace {
  const char* name;
  int flag;
};

constexpr NamedNamespace kNamespaces[] = {
    {"user", CLONE_NEWUSER}, {"pid", CLONE_NEWPID}, {"net", CLONE_NEWNET},       {"ipc", CLONE_NEWIPC},
    {"uts", CLONE_NEWUTS},   {"mnt", CLONE_NEWNS},  {"cgroup", CLONE_NEWCGROUP}, {"time", CLONE_NEWTIME},
};

// CLONE_NEW* of all namespaces in which that process differs from us.
int DifferingNamespaces(int proc, pid_t pid) {
  int flags = 0;
  for (const NamedNamespace& ns : kNamespaces) {
    char path[48];
    struct stat ours = {};
    struct stat theirs = {};
    std::snprintf(path, sizeof(path), "self/ns/%s", ns.name);
    if (::fstatat(proc, path, &ours, 0) != 0) continue;  // A kernel without it.
    std::snprintf(path, sizeof(path), "%d/ns/%s", pid, ns.name);
    Must(::fstatat(proc, path, &theirs, 0), "namespace", "cannot look at the container's namespaces");
    if (ours.st_ino != theirs.st_ino || ours.st_dev != theirs.st_dev) flags |= ns.flag;
  }
  return flags;
}

// The host's uid for one of the container, from the first process's uid_map.
bool HostUid(int proc, pid_t pid, uint32_t inside, uint32_t* outside) {
  char path[48];
  char text[kProcBytesMax];
  std::snprintf(path, sizeof(path), "%d/uid_map", pid);
  if (ReadProc(proc, path, &text) < 0) return false;
  for (char* at = text; *at;) {
    char* end = at;
    const unsigned long from = std::strtoul(at, &end, 10);
    const unsigned long to = std::strtoul(end, &end, 10);
    const unsigned long size = std::strtoul(end, &end, 10);
    if (end == at) return false;
    if (inside >= from && inside - from < size) {
      *outside = static_cast<uint32_t>(to + (inside - from));
      return true;
    }
    at = end + std::strspn(end, " \n");
  }
  return false;
}

[[noreturn]] void ExecChild(const ProcessPlan& process, int pidfd, const ChildStdio& stdio, int sync) {
  Child child;
  child.process = &process;
  EnterChild(&child, stdio, sync, &pidfd);
  OpenHost(&child);
  const pid_t first = static_cast<pid_t>(Must(PidOf(child.proc, pidfd), "exec", "the container is not running"));
  PrepareProcess(&child);
  uint32_t uid = 0;
  if (!process.terminal && HostUid(child.proc, first, process.uid, &uid)) GiveStdio(uid);
  const int flags = DifferingNamespaces(child.proc, first);
  char path[32];
  std::snprintf(path, sizeof(path), "%d/root", first);
  const long root = process.in_root ? Must(Call(SYS_openat, child.proc, path, O_PATH | O_DIRECTORY | O_CLOEXEC), "root",
                                           "the container is not running")
                                    : -1;
  // What was read by number belongs to the container only if that is still alive.
  Must(Call(SYS_pidfd_send_signal, pidfd, 0, nullptr, 0), "exec", "the container is not running");
  // All at once, with the host's privileges for each: the namespaces may be owned by different user namespaces.
  if (flags) Must(Call(SYS_setns, pidfd, flags), "namespace", "cannot join the container's namespaces");
  ::close(pidfd);
  if (root >= 0) {
    Must(Call(SYS_fchdir, root), "root", "cannot enter the root");
    Must(Call(SYS_chroot, "."), "root", "chroot");
    ::close(static_cast<int>(root));
  }
  if (flags & CLONE_NEWUSER) {
    // Their failure (0 unmapped, setgroups denied) shows at the change to the process's user.
    (void)Call(SYS_setgroups, 0, nullptr);
    (void)Call(SYS_setresgid, 0, 0, 0);
    (void)Call(SYS_setresuid, 0, 0, 0);
  }
  child.clones_last = flags & CLONE_NEWPID;
  OpenLabels(&child);
  child.root = static_cast<int>(Must(Call(SYS_openat, AT_FDCWD, "/", O_PATH | O_CLOEXEC), "root", "/"));
  MakeCwd(&child, child.root);
  SetStdio(&child, false);
  Finish(&child);
}

}  // namespace

void CloneSibling(uint64_t flags, bool terminal) {
  int turn[2];
  Must(Call(SYS_pipe2, turn, O_CLOEXEC), "clone", "pipe");
  int pidfd = -1;
  // Not clone3: the container's filter may be in force, and filters refuse that, for they cannot see its flags.
  const pid_t pid = static_cast<pid_t>(Must(
      Call(SYS_clone, flags | CLONE_PARENT | CLONE_PIDFD, nullptr, &pidfd, nullptr, nullptr), "clone", "clone"));
  char byte = 0;
  if (pid > 0) {
    SendPid(pid, pidfd);
    // The end of file of this socket tells that the program runs: it must not wait for our own end.
    ::close(SyncFd());
    (void)!::write(turn[1], &byte, 1);
    End(0);
  }
  // Until 'P' is sent: no message of its own may come before.
  ::close(turn[1]);
  if (::read(turn[0], &byte, 1) != 1) End(1);
  ::close(turn[0]);
  Must(Call(SYS_setsid), "start", "setsid");
  if (terminal) Must(Call(SYS_ioctl, 0, TIOCSCTTY, 0), "terminal", "TIOCSCTTY");
}

bool LaunchContainer(const ContainerPlan& plan, const ChildStdio& stdio, Launched* launched, const char** stage) {
  BeginFaults();
  *stage = "cgroup";
  Fd cgroup;
  if (plan.cgroup[0]) {
    cgroup = Fd(OpenCgroup(plan.cgroup));
    if (!cgroup) return false;
  }
  *stage = "clone";
  Pair pair;
  if (!MakePair(&pair)) return false;
  const bool direct = OneCloneDoes(plan);
  const uint64_t flags = direct ? NewFlags(plan) & ~static_cast<uint64_t>(CLONE_NEWCGROUP) : 0;
  int pidfd = -1;
  const pid_t pid = CloneInto(flags, &pidfd, cgroup.get());
  if (pid < 0) return false;
  if (pid == 0) direct ? DirectChild(plan, stdio, pair.child.get()) : IndirectChild(plan, stdio, pair.child.get());
  Fill(launched, pid, pidfd, &pair);
  return true;
}

namespace {

// Where we run, until the end of a scope somewhere else: what is cloned meanwhile begins there.
class Affinity {
 public:
  // False with errno.
  bool Set(Bytes cpus) {
    size_ = Call(SYS_sched_getaffinity, 0, sizeof(before_), before_);
    return size_ > 0 && Call(SYS_sched_setaffinity, 0, cpus.size, cpus.data) == 0;
  }
  ~Affinity() {
    if (size_ > 0) (void)Call(SYS_sched_setaffinity, 0, size_, before_);
  }

 private:
  // For as many processors as a kernel can be built for.
  unsigned long before_[8192 / 8 / sizeof(unsigned long)];
  long size_ = 0;
};

// With errno and the stage, for LaunchExec.
bool Frozen(const char** stage) {
  *stage = "the container has frozen its cgroup";
  errno = EBUSY;
  return false;
}

}  // namespace

bool LaunchExec(const ProcessPlan& process, int container_pidfd, const ExecCgroup& wanted, const ChildStdio& stdio,
                Launched* launched, const char** stage) {
  const char* cgroup = wanted.path;
  BeginFaults();
  *stage = "cgroup";
  Fd top;
  if (cgroup[0]) top = Fd(OpenCgroup(cgroup));
  if (cgroup[0] && !top && (wanted.below || errno != ENOENT)) return false;
  Fd below;
  if (wanted.below) {
    *stage = "--cgroup";
    // The container may make what it likes below its own.
    below = Fd(OpenPlain(top.get(), wanted.below, O_PATH | O_DIRECTORY));
    if (!below) return false;
    if (IsFrozenBelow(below.get(), top.get())) return Frozen(stage);
  }
  *stage = "process.execCPUAffinity.initial";
  Affinity affinity;
  if (!process.initial_cpus.empty() && !affinity.Set(process.initial_cpus)) return false;
  *stage = "clone";
  Pair pair;
  if (!MakePair(&pair)) return false;
  int pidfd = -1;
  pid_t pid = -1;
  errno = ENOENT;
  if (!cgroup[0] || top) pid = CloneInto(0, &pidfd, below ? below.get() : top.get());
  const bool is_closed = pid < 0 && (errno == EBUSY || errno == ENOENT || errno == EOPNOTSUPP);
  if (is_closed && wanted.below) *stage = "--cgroup";
  if (is_closed && cgroup[0] && !wanted.below) {
    // The container has made cgroups below its own: processes live only in the leaves (cgroups(7)).
    *stage = "cgroup";
    below = Fd(OpenOwnCgroup(container_pidfd, cgroup));
    if (!below) return false;
    if (top && IsFrozenBelow(below.get(), top.get())) return Frozen(stage);
    *stage = "clone";
    pid = CloneInto(0, &pidfd, below.get());
  }
  if (pid < 0) return false;
  if (pid == 0) ExecChild(process, container_pidfd, stdio, pair.child.get());
  Fill(launched, pid, pidfd, &pair);
  return true;
}

}  // namespace berth
