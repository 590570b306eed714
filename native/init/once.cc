#include "once.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "../common/errors.h"
#include "launch.h"
#include "sync.h"

namespace berth {
namespace {

constexpr int kFailed = 125;
constexpr int kNotExecutable = 126;
constexpr int kNotFound = 127;
constexpr int kSignalBase = 128;

struct Conversation {
  Launched launched;
  Fd terminal;
  bool executed = false;
  int failure = 0;
};

int FailureCode(const char* stage, int error) {
  if (std::strcmp(stage, "exec") != 0) return kFailed;
  return error == ENOENT || error == ENOTDIR ? kNotFound : kNotExecutable;
}

void Reap(const Fd& pidfd, siginfo_t* info) {
  while (::waitid(P_PIDFD, static_cast<id_t>(pidfd.get()), info, WEXITED) < 0 && errno == EINTR) continue;
}

// Talks until the exec has happened or has failed.
void Converse(Conversation* c) {
  for (;;) {
    pollfd wait = {c->launched.sync.get(), POLLIN, 0};
    if (::poll(&wait, 1, -1) < 0) continue;
    char bytes[kSyncBytesMax + 1];
    int passed;
    const ssize_t size = ReceiveMessage(c->launched.sync.get(), bytes, kSyncBytesMax, &passed);
    if (size < 0 && errno == EAGAIN) continue;
    Fd fd(passed);
    if (size <= 0) {
      c->executed = true;
      return;
    }
    bytes[size] = '\0';
    if (bytes[0] == kSyncPid) {
      siginfo_t info = {};
      Reap(c->launched.pidfd, &info);
      c->launched.pidfd = static_cast<Fd&&>(fd);
      int32_t pid = 0;
      std::memcpy(&pid, bytes + 1, sizeof(pid));
      c->launched.pid = pid;
    } else if (bytes[0] == kSyncTerminal) {
      c->terminal = static_cast<Fd&&>(fd);
    } else if (bytes[0] == kSyncReady) {
      (void)!::send(c->launched.sync.get(), &kSyncStart, 1, MSG_NOSIGNAL);
    } else if (bytes[0] == kSyncError) {
      int32_t error = 0;
      std::memcpy(&error, bytes + 1, sizeof(error));
      const char* stage = bytes + 5;
      const char* text = stage + std::strlen(stage) + 1;
      std::fprintf(stderr, "%s: %s\n", stage, text <= bytes + size ? text : "");
      c->failure = FailureCode(stage, error);
      return;
    }
  }
}

// Output of a terminal ends with EIO when its last slave is closed.
void CopyTerminal(int master) {
  char buffer[4096];
  for (;;) {
    const ssize_t size = ::read(master, buffer, sizeof(buffer));
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return;
    (void)!::write(1, buffer, static_cast<size_t>(size));
  }
}

int Finish(Conversation* c) {
  if (c->terminal && c->executed) CopyTerminal(c->terminal.get());
  siginfo_t info = {};
  Reap(c->launched.pidfd, &info);
  // Dead without a word, before its exec: the end of file was no success, but no text came either.
  if (c->failure) return c->failure;
  return info.si_code == CLD_EXITED ? info.si_status : kSignalBase + info.si_status;
}

const ContainerPlan* Load(const char* path, Arena* arena) {
  const char* error = nullptr;
  const ContainerPlan* plan = LoadContainer(path, arena, &error);
  if (!plan) std::fprintf(stderr, "plan: %s: %s: %s\n", path, error, ErrorText(errno));
  return plan;
}

bool Start(const ContainerPlan& plan, const ChildStdio& stdio, Conversation* c) {
  const char* stage = "";
  if (!LaunchContainer(plan, stdio, &c->launched, &stage)) {
    std::fprintf(stderr, "%s: %s\n", stage, ErrorText(errno));
    return false;
  }
  Converse(c);
  return true;
}

}  // namespace

int RunOnce(const char* plan_path) {
  Arena arena;
  const ContainerPlan* plan = Load(plan_path, &arena);
  Conversation conversation;
  if (!plan || !Start(*plan, {0, 1, 2}, &conversation)) return kFailed;
  return Finish(&conversation);
}

int RunOnceWithExec(const char* plan_path, const char* exec_plan_path) {
  Arena arena;
  const ContainerPlan* plan = Load(plan_path, &arena);
  const ContainerPlan* further = plan ? Load(exec_plan_path, &arena) : nullptr;
  int ready[2];
  if (!further || ::pipe(ready) != 0) return kFailed;
  Conversation first;
  const bool started = Start(*plan, {-1, ready[1], 2}, &first);
  ::close(ready[1]);
  if (!started) return kFailed;
  if (first.failure) return Finish(&first);
  char byte;
  while (::read(ready[0], &byte, 1) == 1 && byte != '\n') continue;

  Conversation second;
  const char* stage = "";
  int code = kFailed;
  if (LaunchExec(further->process, first.launched.pidfd.get(), {further->cgroup}, {0, 1, 2}, &second.launched, &stage)) {
    Converse(&second);
    code = Finish(&second);
  } else {
    std::fprintf(stderr, "%s: %s\n", stage, ErrorText(errno));
  }
  ::kill(first.launched.pid, SIGKILL);
  Finish(&first);
  return code;
}

}  // namespace berth
