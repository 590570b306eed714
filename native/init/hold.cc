// Namespaces without a process in them: a pod's, made before its first container and kept by the monitor's descriptors.
#include <fcntl.h>
#include <linux/sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>

#include "call.h"
#include "child.h"
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

bool IsHeld(const ContainerPlan& plan, int flag) { return MakesNamespace(plan, flag) || JoinsNamespace(plan, flag); }

[[noreturn]] void HoldChild(const ContainerPlan& plan, int sync) {
  SetSync(sync);
  Child child;
  child.plan = &plan;
  OpenHost(&child);
  OpenNamespaces(&child);
  MakeUserNamespace(&child);
  JoinNamespaces(&child);
  if (child.user_namespace >= 0) EnterUserNamespace(&child);
  int fresh = 0;
  for (const Kind& kind : kKinds) {
    if (kind.flag != CLONE_NEWUSER && MakesNamespace(plan, kind.flag)) fresh |= kind.flag;
  }
  Must(Call(SYS_unshare, fresh), "namespace", "unshare");
  SetIdentity(&child);
  for (const Kind& kind : kKinds) {
    if (!IsHeld(plan, kind.flag)) continue;
    const int own = static_cast<int>(
        Must(Call(SYS_openat, child.proc, kind.path, O_RDONLY | O_CLOEXEC), "namespace", "%s", kind.path));
    Must(SendMessage(sync, &kSyncReady, 1, own) ? 0 : -1, "namespace", "cannot pass %s on", kind.path);
    ::close(own);
  }
  ::_exit(0);
}

bool Failed(char (&text)[984], const char* call) {
  const int error = errno;
  std::snprintf(text, sizeof(text), "%s: %s", call, std::strerror(error));
  errno = error;
  return false;
}

// The fd of one message, or what an 'E' brought.
bool Receive(int socket, Fd* fd, char (&stage)[32], char (&text)[984]) {
  char bytes[kSyncBytesMax + 1];
  iovec part = {bytes, kSyncBytesMax};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t size;
  do {
    size = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  const cmsghdr* header = size > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
  if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
    int number;
    std::memcpy(&number, CMSG_DATA(header), sizeof(number));
    *fd = Fd(number);
    return true;
  }
  int32_t error = EPROTO;
  std::snprintf(stage, sizeof(stage), "namespace");
  std::snprintf(text, sizeof(text), "the process that makes it ended without a word");
  constexpr size_t kErrorHead = 1 + sizeof(error);
  if (size > static_cast<ssize_t>(kErrorHead) && bytes[0] == kSyncError) {
    bytes[size] = '\0';
    std::memcpy(&error, bytes + 1, sizeof(error));
    const char* at = bytes + kErrorHead;
    const char* end = bytes + size;
    std::snprintf(stage, sizeof(stage), "%.31s", at);
    at += std::strlen(at) + 1;
    if (at < end) std::snprintf(text, sizeof(text), "%.983s", at);
  }
  errno = error;
  return false;
}

}  // namespace

bool HoldNamespaces(const ContainerPlan& plan, HeldNamespaces* held, char (&stage)[32], char (&text)[984]) {
  BeginFaults();
  std::snprintf(stage, sizeof(stage), "namespace");
  text[0] = '\0';
  for (const NamespacePlan& ns : plan.namespaces) {
    bool known = false;
    for (const Kind& kind : kKinds) known = known || kind.flag == ns.flag;
    if (known) continue;
    std::snprintf(text, sizeof(text), "only user, network, ipc and uts namespaces live without a process");
    errno = EINVAL;
    return false;
  }
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) return Failed(text, "socketpair");
  const Fd ours(fds[0]);
  Fd theirs(fds[1]);
  clone_args arguments = {};
  arguments.exit_signal = SIGCHLD;
  const pid_t pid = static_cast<pid_t>(Call(SYS_clone3, &arguments, sizeof(arguments)));
  if (pid < 0) return Failed(text, "clone3");
  if (pid == 0) HoldChild(plan, theirs.get());
  theirs.Reset();
  HeldNamespaces made;
  bool ok = true;
  for (const Kind& kind : kKinds) {
    if (ok && IsHeld(plan, kind.flag)) ok = Receive(ours.get(), &(made.*kind.fd), stage, text);
  }
  const int error = errno;
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) continue;
  errno = error;
  if (ok) *held = static_cast<HeldNamespaces&&>(made);
  return ok;
}

}  // namespace berth
