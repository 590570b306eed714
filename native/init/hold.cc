// What the containers of a pod share, made before its first container and kept by the monitor's descriptors: namespaces without a process in
// them, and where there is to be a PID namespace its PID 1.
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>

#include "../common/end.h"
#include "../common/errors.h"
#include "call.h"
#include "child.h"
#include "clone.h"
#include "drop.h"
#include "pidfd.h"
#include "sync.h"

namespace berth {
namespace {

struct Kind {
  int flag;
  const char* path;  // Below /proc.
  Fd HeldNamespaces::* fd;
};

// In the order in which the child sends them.
constexpr Kind kKinds[] = {
    {CLONE_NEWUSER, "self/ns/user", &HeldNamespaces::user},
    {CLONE_NEWNET, "self/ns/net", &HeldNamespaces::network},
    {CLONE_NEWIPC, "self/ns/ipc", &HeldNamespaces::ipc},
    {CLONE_NEWUTS, "self/ns/uts", &HeldNamespaces::uts},
};

// No message of the child takes longer, or its host hangs: the monitor waits for it.
constexpr time_t kAnswerSeconds = 10;
// One above the monitor's own, as the kubelet has it for the first process of a pod.
constexpr char kOomScoreAdj[] = "-998";
// The user of PID 1 where the pod's users are the host's: nobody else's.
constexpr uint32_t kPauseId = 65535;

bool IsHeld(const ContainerPlan& plan, int flag) { return MakesNamespace(plan, flag) || JoinsNamespace(plan, flag); }

void PassOn(const Child& child, const char* path) {
  const int own = static_cast<int>(
      Must(Call(SYS_openat, child.proc, path, O_RDONLY | O_CLOEXEC), "namespace", "%s", path));
  Must(SendMessage(SyncFd(), &kSyncReady, 1, own) ? 0 : -1, "namespace", "cannot pass %s on", path);
  ::close(own);
}

// The program that becomes PID 1, from a read-only detached mount: nobody can write to it through /proc/1/exe (CVE-2019-5736).
int OpenPause(const char* path) {
  const int program = static_cast<int>(Must(CloneTree(AT_FDCWD, path, false), "pause", "%s", path));
  Must(SetAttributes(program, MOUNT_ATTR_RDONLY, 0, MS_PRIVATE, -1, false), "pause", "%s", path);
  struct stat st = {};
  Must(::fstat(program, &st), "pause", "%s", path);
  // It is executed as a user who owns nothing: said here by name, and not as an exec that is not permitted.
  if (!S_ISREG(st.st_mode) || !(st.st_mode & S_IXOTH)) Die(EACCES, "pause", "%s is no program that every user may execute", path);
  return program;
}

void LowerOomScoreAdj(const Child& child) {
  const int fd = static_cast<int>(
      Must(Call(SYS_openat, child.proc, "self/oom_score_adj", O_WRONLY | O_CLOEXEC), "pause", "oom_score_adj"));
  // Without CAP_SYS_RESOURCE it stays as it is.
  if (Call(SYS_write, fd, kOomScoreAdj, sizeof(kOomScoreAdj) - 1) < 0 && errno != EACCES) Die(errno, "pause", "oom_score_adj");
  ::close(fd);
}

// This mount namespace's tree becomes an empty read-only directory, which shows nothing of the host to who looks at /proc/1/root; and in it, where
// there is to be shared memory, the tmpfs at /dev/shm. A detached one would do for no other mount namespace: only what is attached can be cloned
// (before Linux 6.15).
void MakeHeldTree(Child* child, const HoldOptions& options) {
  MakeMountsPrivate();
  char complaint[256];
  const char* root_option = "mode=555";
  child->root = static_cast<int>(Must(NewFileSystem("tmpfs", "berth", {&root_option, 1}, complaint, sizeof(complaint)), "root",
                                      "tmpfs%s", complaint));
  AttachRoot(child);
  EnterRoot(child);
  if (options.shared_memory_bytes > 0) {
    for (const char* name : {"dev", "dev/shm"}) {
      Must(Call(SYS_mkdirat, child->root, name, 0755), "shared memory", "/%s", name);
    }
    char size[32];
    std::snprintf(size, sizeof(size), "size=%llu", static_cast<unsigned long long>(options.shared_memory_bytes));
    const char* shm_options[] = {"mode=1777", size};
    const int shm = static_cast<int>(Must(NewFileSystem("tmpfs", "shm", {shm_options, 2}, complaint, sizeof(complaint)),
                                          "shared memory", "tmpfs%s", complaint));
    Must(SetAttributes(shm, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, 0, 0, -1, false), "shared memory",
         "attributes");
    Must(Call(SYS_move_mount, shm, "", child->root, "dev/shm", MOVE_MOUNT_F_EMPTY_PATH), "shared memory",
         "cannot mount at /dev/shm");
    ::close(shm);
  }
  Must(SetAttributes(child->root, MOUNT_ATTR_RDONLY, 0, 0, -1, false), "root", "read-only root");
}

// PID 1 of the new PID namespace, with nothing but the socket as its fd 0.
[[noreturn]] void BecomePause(const Child& child, int program) {
  const long keyring = Call(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr);
  if (keyring < 0 && errno != ENOSYS) Must(keyring, "pause", "cannot make a session keyring");
  ProcessPlan nobody;
  nobody.uid = nobody.gid = child.in_user_namespace ? 0 : kPauseId;
  DropPrivileges(nobody);
  Must(Call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "pause", "no_new_privs");
  Must(Call(SYS_dup3, SyncFd(), 0, 0), "pause", "cannot set up the socket");
  SetSync(0);
  Must(Call(SYS_dup3, program, 1, O_CLOEXEC), "pause", "cannot keep the program");
  Must(Call(SYS_close_range, 2U, ~0U, 0), "pause", "close_range");
  const char* const arguments[] = {"berth-pause", nullptr};
  const char* const environment[] = {nullptr};
  Call(SYS_execveat, 1, "", arguments, environment, AT_EMPTY_PATH);
  Die(errno, "pause", "cannot execute the first process of the PID namespace");
}

[[noreturn]] void HoldChild(const ContainerPlan& plan, const HoldOptions& options, int sync) {
  SetSync(sync);
  Child child;
  child.plan = &plan;
  OpenHost(&child);
  OpenNamespaces(&child);
  const bool pause = MakesNamespace(plan, CLONE_NEWPID);
  const bool tree = pause || options.shared_memory_bytes > 0;
  int program = -1;
  if (pause) {
    program = OpenPause(options.pause_program);
    LowerOomScoreAdj(child);
  }
  MakeUserNamespace(&child);
  JoinNamespaces(&child);
  if (child.user_namespace >= 0) EnterUserNamespace(&child);
  int fresh = tree ? CLONE_NEWNS : 0;
  for (const Kind& kind : kKinds) {
    if (kind.flag != CLONE_NEWUSER && MakesNamespace(plan, kind.flag)) fresh |= kind.flag;
  }
  Must(Call(SYS_unshare, fresh), "namespace", "unshare");
  SetIdentity(&child);
  for (const Kind& kind : kKinds) {
    if (IsHeld(plan, kind.flag)) PassOn(child, kind.path);
  }
  if (options.shared_memory_bytes > 0) PassOn(child, "self/ns/mnt");
  if (tree) MakeHeldTree(&child, options);
  if (!pause) End(0);
  CloneSibling(CLONE_NEWPID, false);
  BecomePause(child, program);
}

bool Failed(char (&text)[984], const char* call) {
  const int error = errno;
  std::snprintf(text, sizeof(text), "%s: %s", call, ErrorText(error));
  errno = error;
  return false;
}

enum class Answer { kFailed, kFd, kPid, kEnd };

// One message: its fd; or the end of the socket, where that is a word too; or what an 'E' brought.
Answer Receive(int socket, Fd* fd, pid_t* pid, char (&stage)[32], char (&text)[984]) {
  char bytes[kSyncBytesMax + 1];
  int passed;
  const ssize_t size = ReceiveMessage(socket, bytes, kSyncBytesMax, &passed);
  if (size == 0) return Answer::kEnd;
  int32_t number = 0;
  constexpr size_t kHead = 1 + sizeof(number);
  if (size >= static_cast<ssize_t>(kHead)) std::memcpy(&number, bytes + 1, sizeof(number));
  if (passed >= 0) {
    *fd = Fd(passed);
    if (bytes[0] != kSyncPid) return Answer::kFd;
    *pid = number;
    return Answer::kPid;
  }
  std::snprintf(stage, sizeof(stage), "namespace");
  if (size > static_cast<ssize_t>(kHead) && bytes[0] == kSyncError) {
    bytes[size] = '\0';
    const char* at = bytes + kHead;
    const char* end = bytes + size;
    std::snprintf(stage, sizeof(stage), "%.31s", at);
    at += std::strlen(at) + 1;
    if (at < end) std::snprintf(text, sizeof(text), "%.983s", at);
    errno = number;
    return Answer::kFailed;
  }
  const bool late = size < 0 && errno == EAGAIN;
  std::snprintf(text, sizeof(text), late ? "the process that makes it hangs" : "the process that makes it said something unknown");
  errno = late ? ETIMEDOUT : EPROTO;
  return Answer::kFailed;
}

bool ReceiveAs(Answer wanted, int socket, Fd* fd, pid_t* pid, char (&stage)[32], char (&text)[984]) {
  const Answer answer = Receive(socket, fd, pid, stage, text);
  if (answer == wanted) return true;
  if (answer == Answer::kFailed) return false;
  std::snprintf(stage, sizeof(stage), "namespace");
  std::snprintf(text, sizeof(text), "the process that makes it ended without a word");
  errno = EPROTO;
  return false;
}

// The PID namespace of a process that nobody but us reaps.
bool OpenPidNamespace(pid_t pid, int pidfd, Fd* fd, char (&text)[984]) {
  char path[48];
  std::snprintf(path, sizeof(path), "/proc/%d/ns/pid", pid);
  *fd = Fd(::open(path, O_RDONLY | O_CLOEXEC));
  if (!*fd) return Failed(text, path);
  pollfd end = {pidfd, POLLIN, 0};
  if (::poll(&end, 1, 0) == 0) return true;
  std::snprintf(text, sizeof(text), "the first process of the PID namespace has died");
  errno = ESRCH;
  return false;
}

bool ReceiveAll(const ContainerPlan& plan, const HoldOptions& options, int socket, HeldNamespaces* made, char (&stage)[32],
                char (&text)[984]) {
  for (const Kind& kind : kKinds) {
    if (!IsHeld(plan, kind.flag)) continue;
    if (!ReceiveAs(Answer::kFd, socket, &(made->*kind.fd), nullptr, stage, text)) return false;
  }
  if (options.shared_memory_bytes > 0 &&
      !ReceiveAs(Answer::kFd, socket, &made->shared_memory, nullptr, stage, text)) {
    return false;
  }
  const bool pause = MakesNamespace(plan, CLONE_NEWPID);
  if (pause && !ReceiveAs(Answer::kPid, socket, &made->pause, &made->pause_pid, stage, text)) return false;
  if (!ReceiveAs(Answer::kEnd, socket, nullptr, nullptr, stage, text)) return false;
  return !pause || OpenPidNamespace(made->pause_pid, made->pause.get(), &made->pid, text);
}

// What cannot be held; null when all can.
const char* Objection(const ContainerPlan& plan, const HoldOptions& options) {
  for (const NamespacePlan& ns : plan.namespaces) {
    bool known = ns.flag == CLONE_NEWPID;
    for (const Kind& kind : kKinds) known = known || kind.flag == ns.flag;
    if (!known) return "only user, network, ipc, uts and pid namespaces can be held";
  }
  if (JoinsNamespace(plan, CLONE_NEWPID)) return "a PID namespace that is held is a new one";
  const bool pause = MakesNamespace(plan, CLONE_NEWPID);
  if (pause && !options.pause_program[0]) return "a PID namespace needs a program for its first process";
  if (!pause && plan.cgroup[0]) return "a cgroup without a process in it";
  return nullptr;
}

void End(pid_t pid, int pidfd) {
  if (pid <= 0) return;
  (void)SignalPidfd(pidfd, SIGKILL);
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) continue;
}

}  // namespace

bool HoldNamespaces(const ContainerPlan& plan, const HoldOptions& options, HeldNamespaces* held, char (&stage)[32],
                    char (&text)[984]) {
  BeginFaults();
  std::snprintf(stage, sizeof(stage), "namespace");
  text[0] = '\0';
  if (const char* objection = Objection(plan, options)) {
    std::snprintf(text, sizeof(text), "%s", objection);
    errno = EINVAL;
    return false;
  }
  Fd cgroup;
  if (plan.cgroup[0]) {
    cgroup = Fd(OpenCgroup(plan.cgroup));
    if (!cgroup) return Failed(text, plan.cgroup);
  }
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) return Failed(text, "socketpair");
  const Fd ours(fds[0]);
  Fd theirs(fds[1]);
  const timeval patience = {kAnswerSeconds, 0};
  if (::setsockopt(ours.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0) return Failed(text, "setsockopt");
  int number = -1;
  const pid_t pid = CloneInto(0, &number, cgroup.get());
  if (pid < 0) return Failed(text, "clone3");
  if (pid == 0) HoldChild(plan, options, theirs.get());
  const Fd pidfd(number);
  theirs.Reset();
  HeldNamespaces made;
  const bool ok = ReceiveAll(plan, options, ours.get(), &made, stage, text);
  const int error = errno;
  // It has ended, or hangs.
  End(pid, pidfd.get());
  if (!ok) End(made.pause_pid, made.pause.get());
  errno = error;
  if (ok) *held = static_cast<HeldNamespaces&&>(made);
  return ok;
}

}  // namespace berth
