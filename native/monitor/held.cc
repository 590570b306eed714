#include "held.h"

#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loop.h"
#include "monitor.h"

namespace berth {
namespace {

constexpr uint64_t kEndMs = 10000;

HeldNamespaces g_held;
bool g_any = false;
bool g_aside = false;
bool g_ending = false;
char* g_cgroup = nullptr;
// How PID 1 has ended; -1 where there is none, or it lives.
int g_code = -1;
int g_signal = 0;
Timer g_patience;

void Forget() {
  g_held.pause.Reset();
  g_held.pause_pid = -1;
  // Nothing can join it any more.
  g_held.pid.Reset();
  if (g_cgroup != nullptr) rmdir(g_cgroup);
  free(g_cgroup);
  g_cgroup = nullptr;
  StatusChanged();
}

void OnPatience(void*) { Forget(); }

struct Place {
  int flag;
  Fd HeldNamespaces::* fd;
};

// What can be made beside what is held already.
constexpr Place kPlaces[] = {
    {CLONE_NEWNET, &HeldNamespaces::network},
    {CLONE_NEWIPC, &HeldNamespaces::ipc},
    {CLONE_NEWUTS, &HeldNamespaces::uts},
};

// Those that a plan has and that are not held; false where there is another one that is not.
bool Missing(const ContainerPlan& plan, NamespacePlan (&missing)[3], size_t* count) {
  for (const NamespacePlan& ns : plan.namespaces) {
    const Place* place = nullptr;
    for (const Place& each : kPlaces) {
      if (each.flag == ns.flag) place = &each;
    }
    if (place == nullptr) return false;
    if (g_held.*place->fd) continue;
    if (*count == 3) return false;
    missing[(*count)++] = ns;
  }
  return true;
}

bool MakeMore(const ContainerPlan& plan, HoldOptions options, Failure* failure) {
  NamespacePlan missing[3];
  size_t count = 0;
  if (g_held.user || g_held.pause_pid > 0 || !Missing(plan, missing, &count)) {
    failure->Set("namespace", EINVAL, "a user or PID namespace can only be held from the first on");
    return false;
  }
  if (g_held.shared_memory) options.shared_memory_bytes = 0;
  if (count == 0 && options.shared_memory_bytes == 0) return true;
  ContainerPlan rest = plan;
  rest.namespaces = {missing, count};
  HeldNamespaces made;
  if (!HoldNamespaces(rest, options, &made, failure->stage, failure->text)) {
    failure->error = errno;
    return false;
  }
  for (const Place& place : kPlaces) {
    if (made.*place.fd) g_held.*place.fd = static_cast<Fd&&>(made.*place.fd);
  }
  if (made.shared_memory) g_held.shared_memory = static_cast<Fd&&>(made.shared_memory);
  StatusChanged();
  return true;
}

void WritePath(JsonWriter* json, const char* name, const Fd& fd) {
  if (!fd) return;
  char path[64];
  snprintf(path, sizeof(path), "/proc/%d/fd/%d", getpid(), fd.get());
  json->Text(name, path);
}

}  // namespace

bool HeldMake(const ContainerPlan& plan, const HoldOptions& options, bool more, bool aside, Failure* failure) {
  if (!aside) g_aside = false;
  if (g_any) return !more || MakeMore(plan, options, failure);
  g_cgroup = strdup(plan.cgroup);
  if (g_cgroup == nullptr) {
    failure->Set("namespace", ENOMEM);
    return false;
  }
  if (!HoldNamespaces(plan, options, &g_held, failure->stage, failure->text)) {
    failure->error = errno;
    free(g_cgroup);
    g_cgroup = nullptr;
    return false;
  }
  g_any = true;
  g_aside = aside;
  StatusChanged();
  return true;
}

bool HeldAny() { return g_any && !g_aside; }

bool HeldAlive() { return g_held.pause_pid > 0; }

void HeldEnd() {
  if (!HeldAlive() || g_ending) return;
  g_ending = true;
  syscall(SYS_pidfd_send_signal, g_held.pause.get(), SIGKILL, nullptr, 0);
  g_patience.fire = OnPatience;
  TimerArm(&g_patience, kEndMs);
}

bool HeldReaped(pid_t pid, int status) {
  if (!HeldAlive() || pid != g_held.pause_pid) return false;
  TimerDisarm(&g_patience);
  g_signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  g_code = g_signal != 0 ? 128 + g_signal : WEXITSTATUS(status);
  Forget();
  return true;
}

void HeldWrite(JsonWriter* json) {
  json->Key("namespaces");
  json->BeginObject();
  WritePath(json, "user", g_held.user);
  WritePath(json, "network", g_held.network);
  WritePath(json, "ipc", g_held.ipc);
  WritePath(json, "uts", g_held.uts);
  WritePath(json, "pid", g_held.pid);
  WritePath(json, "sharedMemory", g_held.shared_memory);
  json->EndObject();
  if (!HeldAlive() && g_code < 0) return;
  json->Key("pause");
  json->BeginObject();
  json->Number("pid", HeldAlive() ? g_held.pause_pid : 0);
  if (!HeldAlive()) {
    json->Number("code", g_code);
    json->Number("signal", g_signal);
  }
  json->EndObject();
}

}  // namespace berth
