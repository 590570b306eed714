// berth-launch: makes one process and hands it to whoever is left: `berth-launch create|exec|criu [OPTION…]`. Its parent is then the next
// subreaper above (conmon, a shim), as with every OCI runtime. With --foreground it stays until the process ends. See docs/native.md.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/order.h"
#include "../common/sealed.h"
#include "../common/signals.h"
#include "../init/launch.h"
#include "../init/pidfd.h"
#include "../init/sync.h"
#include "caller.h"
#include "criu.h"
#include "order.h"
#include "relay.h"

namespace berth {
namespace {

constexpr int kBacklog = 16;
constexpr char kPidfdSocket[] = "pidfd socket";
constexpr char kKilled[] = "the process was killed while it was being made";

struct Options {
  bool exec = false;
  bool foreground = false;
  bool scoped = false;
  const char* console = nullptr;
  const char* pidfd = nullptr;
  const char* cgroup = nullptr;
  int preserved = 0;
};

struct Launch {
  Options options;
  Launched process;
  Fd terminal;
  // Of who gets the pidfd: connected before there is a process, so that nothing runs where nobody listens.
  Fd pidfd_socket;
  // `process` is the second of two clones.
  bool passed_on = false;
};

bool ParseOptions(int argc, char** argv, Options* options) {
  if (argc < 2) return false;
  options->exec = ::strcmp(argv[1], "exec") == 0;
  if (!options->exec && ::strcmp(argv[1], "create") != 0) return false;
  for (int i = 2; i < argc; i++) {
    if (::strcmp(argv[i], "--foreground") == 0) {
      options->foreground = true;
    } else if (::strcmp(argv[i], "--scoped") == 0) {
      options->scoped = true;
    } else if (::strncmp(argv[i], "--console=", 10) == 0) {
      options->console = argv[i] + 10;
    } else if (::strncmp(argv[i], "--pidfd=", 8) == 0) {
      options->pidfd = argv[i] + 8;
    } else if (::strncmp(argv[i], "--cgroup=", 9) == 0) {
      options->cgroup = argv[i] + 9;
    } else if (::strncmp(argv[i], "--preserve=", 11) == 0) {
      options->preserved = ::atoi(argv[i] + 11);
    } else {
      return false;
    }
  }
  return options->preserved >= 0 && options->preserved <= kPreservedMax;
}

// Where the start of a container comes in.
Fd Listen() {
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  // Not by the directory's own path, which may be longer than a socket's may be.
  ::snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/start", kPlace);
  ::umask(0177);
  const bool bound = socket && ::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 &&
                     ::listen(socket.get(), kBacklog) == 0;
  return bound ? static_cast<Fd&&>(socket) : Fd();
}

// `C`, u32 size, the state for the hooks inside.
bool PassContinue(const Launched& process) {
  char word = 0;
  if (!ReadAll(kCommands, &word, 1) || word != kSyncContinue) return false;
  int file = -1;
  const bool whole = TakeText(kCommands, &file);
  const Fd state(file);
  if (!whole) return false;
  return SendMessage(process.sync.get(), &kSyncContinue, 1, state.get());
}

enum class Step { kGoOn, kReady, kExecuted, kFailed };

Step TakeError(const char* bytes, size_t size) {
  int32_t error = 0;
  if (size >= 5) ::memcpy(&error, bytes + 1, sizeof(error));
  const char* stage = bytes + (size < 5 ? size : 5);
  const char* text = stage + ::strlen(stage) + 1;
  ReportError(stage, error, text < bytes + size ? text : "");
  return Step::kFailed;
}

// The real first process, which the one that we have cloned has made.
Step TakeSecond(Launch* launch, Fd pidfd) {
  const pid_t pid = PidOf(pidfd.get());
  if (pid <= 0) {
    // Dead and reaped before it was told of: a process of a PID namespace that it has joined may do that.
    ReportError("create", ECHILD, kKilled);
    return Step::kFailed;
  }
  Reap(launch->process.pidfd);
  launch->passed_on = true;
  launch->process.pid = pid;
  launch->process.pidfd = static_cast<Fd&&>(pidfd);
  return Step::kGoOn;
}

// With runc's words. Only when no second process will be made any more.
bool PassPidfd(Launch* launch) {
  const Fd socket = static_cast<Fd&&>(launch->pidfd_socket);
  if (!socket) return true;
  const char* word = launch->options.exec ? "setns" : "standard";
  if (SendMessage(socket.get(), word, ::strlen(word), launch->process.pidfd.get())) return true;
  Failed(kPidfdSocket);
  return false;
}

Step TakeMessage(Launch* launch, const char* bytes, size_t size, Fd passed) {
  Launched& process = launch->process;
  switch (bytes[0]) {
    case kSyncPid:
      // Once: who takes the second process over by ptrace(2) must not have us report, and kill, another one.
      if (!passed || launch->passed_on) break;
      return TakeSecond(launch, static_cast<Fd&&>(passed));
    case kSyncTerminal:
      launch->terminal = static_cast<Fd&&>(passed);
      if (!launch->options.console || SendTerminalTo(launch->options.console, launch->terminal.get())) return Step::kGoOn;
      Failed("console socket");
      return Step::kFailed;
    case kSyncHooks:
      ReportNumber("hooks", process.pid);
      return PassContinue(process) ? Step::kGoOn : Step::kFailed;
    case kSyncReady:
      if (!launch->options.exec) return PassPidfd(launch) ? Step::kReady : Step::kFailed;
      (void)!::send(process.sync.get(), &kSyncStart, 1, MSG_NOSIGNAL);
      return Step::kGoOn;
    case kSyncError:
      return TakeError(bytes, size);
  }
  ReportError("create", EPROTO, "the process that was being made said something unknown");
  return Step::kFailed;
}

Step Converse(Launch* launch) {
  for (;;) {
    // The caller's end is ours: what it began must not go on without it.
    pollfd wait[2] = {{launch->process.sync.get(), POLLIN, 0}, {kCommands, 0, 0}};
    if (::poll(wait, 2, -1) < 0) continue;
    if (wait[1].revents & (POLLHUP | POLLERR)) return Step::kFailed;
    char bytes[kSyncBytesMax + 1];
    int passed;
    const ssize_t size = ReceiveMessage(launch->process.sync.get(), bytes, kSyncBytesMax, &passed);
    if (size < 0 && errno == EAGAIN) continue;
    if (size <= 0) {
      if (launch->options.exec) return PassPidfd(launch) ? Step::kExecuted : Step::kFailed;
      ReportError("create", ECHILD, kKilled);
      return Step::kFailed;
    }
    bytes[size] = '\0';
    const Step step = TakeMessage(launch, bytes, static_cast<size_t>(size), Fd(passed));
    if (step != Step::kGoOn) return step;
  }
}

bool Begin(Launch* launch, Arena* arena) {
  const char* error = nullptr;
  const ContainerPlan* plan = LoadContainer(kPlan, arena, &error);
  if (!plan) return ReportError("plan", errno, error), false;
  int preserved[kPreservedMax];
  for (int i = 0; i < launch->options.preserved; i++) preserved[i] = kFirstPreserved + i;
  ChildStdio stdio = {.stdin_fd = kProgramStdio, .stdout_fd = kProgramStdio + 1, .stderr_fd = kProgramStdio + 2, .preserved = preserved,
                      .preserved_count = launch->options.preserved, .listener = -1};
  const char* stage = "start socket";
  if (launch->options.pidfd) {
    launch->pidfd_socket = ConnectTo(launch->options.pidfd);
    if (!launch->pidfd_socket) return Failed(kPidfdSocket), false;
  }
  if (launch->options.exec) {
    if (LaunchExec(plan->process, kPlace, {plan->cgroup, launch->options.cgroup}, stdio, &launch->process, &stage)) return true;
    return Failed(stage), false;
  }
  // Closed here when it is in the container: that it answers means that the container waits.
  const Fd listener = Listen();
  stdio.listener = listener.get();
  if (listener && LaunchContainer(*plan, stdio, &launch->process, &stage)) return true;
  return Failed(stage), false;
}

int Run(const Options& options) {
  if (options.scoped && !AwaitScope()) return 1;
  Arena arena;
  Launch launch;
  launch.options = options;
  if (!Begin(&launch, &arena)) return 1;
  arena.Reset();
  const Step step = Converse(&launch);
  if (step == Step::kFailed) {
    launch.process.sync.Reset();
    SignalPidfd(launch.process.pidfd.get(), SIGKILL);
    Reap(launch.process.pidfd);
    return 1;
  }
  ReportNumber("pid", launch.process.pid);
  if (!options.foreground) return 0;
  launch.process.sync.Reset();
  if (launch.terminal && !options.console) RelayTerminal(launch.terminal.get(), kProgramStdio, launch.process.pidfd.get());
  ReportNumber("exit", Reap(launch.process.pidfd));
  return 0;
}

}  // namespace
}  // namespace berth

int main(int argc, char** argv) {
  // Before anything of a container exists that could look into this process.
  ::prctl(PR_SET_DUMPABLE, 0);
  const bool waits = argc == 2 && ::strcmp(argv[1], berth::kWaitForOrder) == 0;
  // Who has us wait executes another one where this cannot be.
  if (waits && !(berth::RunSealed(argv, environ) && berth::TakeOrder(&argc, &argv))) return 1;
  berth::Options options;
  const bool criu = argc > 2 && ::strcmp(argv[1], "criu") == 0;
  if (!criu && !berth::ParseOptions(argc, argv, &options)) {
    ::dprintf(2, "usage: berth-launch create|exec [--foreground] [--scoped] [--console=PATH] [--pidfd=PATH] [--cgroup=PATH] [--preserve=N]\n");
    return 2;
  }
  if (!waits && !berth::RunSealed(argv, environ)) return berth::Failed("cannot run from a read-only mount");
  // Ours: the caller passes signals on to the container itself.
  sigset_t all;
  berth::FillSignals(&all);
  ::sigprocmask(SIG_BLOCK, &all, nullptr);
  for (int fd : {berth::kReport, berth::kCommands, berth::kPlan, berth::kPlace}) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  return criu ? berth::RunCriu(argc, argv) : berth::Run(options);
}
