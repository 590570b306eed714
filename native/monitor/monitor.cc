#include "monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "connection.h"
#include "container.h"
#include "exec.h"
#include "held.h"
#include "log.h"
#include "loop.h"
#include "stdio.h"

namespace berth {
namespace {

constexpr int kProtocol = 1;
// A monitor whose starter was killed before it could ask for anything does not stay for ever.
constexpr uint64_t kUnusedMs = 30000;

Fd g_directory;
Fd g_listener;
Fd g_alive;
Fd g_child_event;
Watch g_listener_watch;
Watch g_child_watch;
Timer g_unused;
bool g_used = false;
bool g_status_changed = true;
bool g_quit = false;

void OnChildSignal(int) {
  const int saved = errno;
  const uint64_t one = 1;
  if (write(g_child_event.get(), &one, sizeof(one)) < 0) errno = 0;
  errno = saved;
}

void OnChild(void*, uint32_t) {
  uint64_t count;
  if (read(g_child_event.get(), &count, sizeof(count)) < 0) return;
  int status;
  for (;;) {
    // Looked at before it is reaped: of one that a second clone has made, the first one's message is read while its pidfd still names it.
    siginfo_t info{};
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) return;
    Process::Ending(info.si_pid);
    const pid_t pid = waitpid(info.si_pid, &status, WNOHANG);
    if (pid > 0 && !HeldReaped(pid, status)) Process::Reaped(pid, status);
  }
}

void OnAccept(void*, uint32_t) {
  Fd socket(accept4(g_listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket) return;
  g_used = true;
  Connection::Accept(static_cast<Fd&&>(socket));
}

void OnUnused(void*) { g_used = true; }

void OnIdle() {
  TrimReadBuffer();
  TrimLogBuffer();
  malloc_trim(0);
}

void Handle(int signal, void (*handler)(int)) {
  struct sigaction action{};
  action.sa_handler = handler;
  // A handler, and not SIG_IGN, because exec resets the one and keeps the other.
  action.sa_flags = SA_RESTART | (signal == SIGCHLD ? SA_NOCLDSTOP : 0);
  sigaction(signal, &action, nullptr);
}

void Nothing(int) {}

bool IsDone() {
  if (Container::AnyLive() || Exec::Any() || Connection::AnyOwed(g_quit)) return false;
  if (Container::first() != nullptr) return !HeldAny() || g_quit;
  if (g_quit) return true;
  // Nothing was ever made here, or all of it was removed.
  return g_used && !Connection::Any() && !HeldAny();
}

// What is held ends last: the containers were its guests.
bool IsOver() {
  if (!IsDone()) return false;
  HeldEnd();
  return !HeldAlive();
}

}  // namespace

void StatusChanged() { g_status_changed = true; }

void SaveStatus() {
  if (!g_status_changed) return;
  g_status_changed = false;
  JsonWriter json;
  WriteStatus(&json);
  if (json.ok()) WriteFileAtomic(g_directory.get(), "status.json", json.data(), json.size(), 0600);
}

void WriteStatus(JsonWriter* json) {
  json->BeginObject();
  json->Flag("ok", true);
  json->Number("protocol", kProtocol);
  json->Number("monitor", getpid());
  HeldWrite(json);
  json->Key("containers");
  json->BeginObject();
  for (Container* c = Container::first(); c != nullptr; c = c->next()) {
    if (c->state() != Container::State::kGone) c->WriteStatus(json);
  }
  json->EndObject();
  json->EndObject();
}

void MonitorQuit() { g_quit = true; }

bool WriteFileAtomic(int directory, const char* name, const char* bytes, size_t size, mode_t mode) {
  char temporary[4200];
  const int length = snprintf(temporary, sizeof(temporary), "%s.tmp-%d", name, getpid());
  if (length < 0 || static_cast<size_t>(length) >= sizeof(temporary)) {
    errno = ENAMETOOLONG;
    return false;
  }
  Fd file(openat(directory, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode));
  if (!file) return false;
  const ssize_t done = write(file.get(), bytes, size);
  if (done == static_cast<ssize_t>(size) && renameat(directory, temporary, directory, name) == 0) return true;
  const int error = done >= 0 && done < static_cast<ssize_t>(size) ? ENOSPC : errno;
  unlinkat(directory, temporary, 0);
  errno = error;
  return false;
}

void RunCommand(char* const* arguments) {
  const pid_t pid = fork();
  if (pid != 0) return RestoreOomScoreAdj(pid);
  static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  char* const environment[] = {path, nullptr};
  setsid();
  // The standard descriptors are /dev/null, all others are close-on-exec. What must not be inherited is the lock:
  // it says that we live.
  execve(arguments[0], arguments, environment);
  _exit(127);
}

void RunMonitor(Fd directory, Fd listener, Fd alive) {
  g_directory = static_cast<Fd&&>(directory);
  g_listener = static_cast<Fd&&>(listener);
  g_alive = static_cast<Fd&&>(alive);
  mallopt(M_MMAP_THRESHOLD, 64 * 1024);
  mallopt(M_TRIM_THRESHOLD, 32 * 1024);
  mallopt(M_TOP_PAD, 0);
  g_child_event = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!LoopInit() || !g_child_event || !Log::Init()) return;
  for (const int signal : {SIGPIPE, SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGXFSZ}) {
    Handle(signal, Nothing);
  }
  Handle(SIGCHLD, OnChildSignal);
  g_child_watch = {g_child_event.get(), nullptr, OnChild, 0};
  WatchSet(&g_child_watch, EPOLLIN);
  g_listener_watch = {g_listener.get(), nullptr, OnAccept, 0};
  WatchSet(&g_listener_watch, EPOLLIN);
  g_unused.fire = OnUnused;
  TimerArm(&g_unused, kUnusedMs);
  while (!IsOver()) {
    SaveStatus();
    LoopStep(OnIdle);
    Connection::Sweep();
    Exec::Sweep();
    Container::Sweep();
  }
  // In this order, under the lock: who finds `alive` finds us or knows us dead.
  unlinkat(g_directory.get(), "ctl", 0);
  unlinkat(g_directory.get(), "status.json", 0);
  unlinkat(g_directory.get(), "alive", 0);
  // The writer may hang in a disk, and then holds what is open beyond our end.
  syscall(SYS_close_range, 3U, ~0U, 0);
}

}  // namespace berth
