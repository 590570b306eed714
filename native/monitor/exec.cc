#include "exec.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "cgroup.h"

namespace berth {
namespace {

constexpr int kExecsMax = 1024;
constexpr char kCgroupPrefix[] = "berth-exec-";
constexpr uint64_t kRemoveMs = 10;
constexpr int kRemovesMax = 100;

int g_count = 0;
uint32_t g_number = 0;

// It stood still on its way: in a frozen cgroup, or in a mount that does not answer.
Failure OutOfTime() {
  Failure failure;
  failure.Set("exec", ETIMEDOUT, "its time was over before the program ran");
  return failure;
}

}  // namespace

Exec* Exec::first_ = nullptr;

const Process::Events Exec::kEvents = {OnTerminal, OnReady, OnStarted, OnFailed, OnExited};

Exec::Exec() : process_(this, &kEvents) {
  timeout_.owner = this;
  timeout_.fire = OnTimeout;
  g_count++;
}

Exec::~Exec() {
  TimerDisarm(&timeout_);
  RemoveCgroup();
  free(id_);
  free(cgroup_);
  g_count--;
}

void Exec::Sweep() {
  for (Exec** at = &first_; *at != nullptr;) {
    Exec* exec = *at;
    if (exec->ended_) {
      *at = exec->next_;
      delete exec;
    } else {
      at = &exec->next_;
    }
  }
}

void Exec::ForgetConnection(const Connection* connection) {
  for (Exec* e = first_; e != nullptr; e = e->next_) {
    if (e->caller_ == connection) e->caller_ = nullptr;
  }
  CutOwned(connection);
}

void Exec::CutOwned(const Connection* owner) {
  for (Exec* e = first_; e != nullptr; e = e->next_) {
    if (e->owner_ != owner) continue;
    e->owner_ = nullptr;
    if (e->process_.IsAlive()) e->Cut();
  }
}

bool Exec::AnyIn(const Container* container) {
  for (Exec* e = first_; e != nullptr; e = e->next_) {
    if (!e->ended_ && e->container_ == container) return true;
  }
  return false;
}

void Exec::Begin(Container* container, const ProcessPlan& plan, const Options& options, Connection* caller) {
  Failure failure;
  Exec* exec = g_count < kExecsMax ? new (std::nothrow) Exec() : nullptr;
  if (exec == nullptr) {
    failure.Set("exec", EAGAIN, "too many exec sessions in this monitor");
    return caller->ReplyFailure(failure);
  }
  exec->container_ = container;
  if (!exec->Launch(plan, options, &failure)) {
    delete exec;
    return caller->ReplyFailure(failure);
  }
  exec->caller_ = caller;
  if (options.owned) exec->owner_ = caller;
  exec->next_ = first_;
  first_ = exec;
}

bool Exec::Launch(const ProcessPlan& plan, const Options& options, Failure* failure) {
  id_ = strdup(options.id);
  timeout_ms_ = options.timeout_ms;
  detach_ = options.detach;
  rows_ = plan.rows;
  columns_ = plan.columns;
  const char* cgroup = container_->cgroup();
  if ((timeout_ms_ > 0 || options.owned) && cgroup[0] != 0) {
    // A cgroup of its own is the only thing that holds the whole tree together, whatever forks and setsids there
    // are. Without controllers of its own it has no cost, and the container's limits hold for it.
    // Those of earlier ones whose children in the background have ended meanwhile are removed first: a probe every few
    // seconds must not fill the hierarchy.
    const Fd directory = CgroupOpen(cgroup);
    if (directory) CgroupRemoveUnused(directory.get(), kCgroupPrefix);
    const size_t size = strlen(cgroup) + 32;
    cgroup_ = static_cast<char*>(malloc(size));
    if (cgroup_ != nullptr) snprintf(cgroup_, size, "%s/%s%u", cgroup, kCgroupPrefix, ++g_number);
    if (cgroup_ != nullptr && mkdir(cgroup_, 0755) == 0) {
      cgroup = cgroup_;
    } else {
      free(cgroup_);
      cgroup_ = nullptr;
    }
  }
  Stdio::Options stdio;
  stdio.terminal = plan.terminal;
  stdio.keep_stdin = options.keep_stdin;
  stdio.stdin_once = true;
  stdio.discard = options.detach;
  ChildStdio child;
  if (!stdio_.Open(stdio, nullptr, &child)) {
    failure->Set("stdio", errno);
    return false;
  }
  Launched launched;
  const char* stage = "exec";
  if (!LaunchExec(plan, container_->process().pidfd(), {cgroup}, child, &launched, &stage)) {
    failure->Set(stage, errno);
    return false;
  }
  stdio_.CloseChild();
  process_.Begin(static_cast<Launched&&>(launched), !plan.has_oom_score_adj);
  // The time of getting there counts: a probe waits for it too.
  if (timeout_ms_ > 0) TimerArm(&timeout_, timeout_ms_);
  return true;
}

void Exec::OnTerminal(void* self, Fd master) {
  auto* exec = static_cast<Exec*>(self);
  exec->stdio_.SetMaster(static_cast<Fd&&>(master));
  if (exec->rows_ != 0) exec->stdio_.Resize(exec->rows_, exec->columns_);
}

void Exec::OnReady(void* self) {
  auto* exec = static_cast<Exec*>(self);
  // Before the program can write its first byte.
  if (exec->caller_ != nullptr && !exec->detach_) exec->caller_->Attach({&exec->stdio_, true, true, true, true});
  exec->process_.Start();
}

void Exec::OnStarted(void* self) {
  auto* exec = static_cast<Exec*>(self);
  exec->started_ns_ = NowNs();
  Connection* caller = exec->caller_;
  exec->caller_ = nullptr;
  if (caller == nullptr) return;
  JsonWriter json;
  json.BeginObject();
  json.Flag("ok", true);
  json.Number("pid", exec->process_.pid());
  json.EndObject();
  caller->Reply(json);
}

void Exec::OnFailed(void* self, const Failure& failure) {
  auto* exec = static_cast<Exec*>(self);
  exec->ended_ = true;
  exec->stdio_.Close();
  exec->owner_ = nullptr;
  Connection* caller = exec->caller_;
  exec->caller_ = nullptr;
  if (caller == nullptr) return;
  caller->Attach({});
  caller->ReplyFailure(exec->timed_out_ ? OutOfTime() : failure);
}

void Exec::OnExited(void* self, int status) {
  auto* exec = static_cast<Exec*>(self);
  TimerDisarm(&exec->timeout_);
  // What it left in the background keeps running, as long as the time given was enough for the exec itself.
  if (exec->timed_out_) exec->KillTree();
  exec->stdio_.Drain();
  // What was killed with it needs a moment to go.
  exec->ended_ = exec->RemoveCgroup() || !exec->timed_out_;
  if (!exec->ended_) TimerArm(&exec->timeout_, kRemoveMs);
  const int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  exec->owner_ = nullptr;
  Connection* caller = exec->caller_;
  exec->caller_ = nullptr;
  if (caller != nullptr) {
    Failure failure;
    failure.Set("exec", ESRCH, "the process was killed before its program ran");
    caller->Attach({});
    return caller->ReplyFailure(exec->timed_out_ ? OutOfTime() : failure);
  }
  JsonWriter json;
  json.BeginObject();
  json.Text("id", exec->container_->id());
  json.Text("execId", exec->id_ == nullptr ? "" : exec->id_);
  json.Number("code", signal != 0 ? 128 + signal : WEXITSTATUS(status));
  json.Number("signal", signal);
  json.Flag("timedOut", exec->timed_out_);
  json.QuotedNumber("startedNs", exec->started_ns_);
  json.QuotedNumber("finishedNs", NowNs());
  json.EndObject();
  Connection::Ended(&exec->stdio_, nullptr, json);
}

void Exec::OnTimeout(void* self) {
  auto* exec = static_cast<Exec*>(self);
  if (exec->timed_out_ && !exec->process_.IsAlive()) {
    exec->ended_ = exec->RemoveCgroup() || ++exec->removals_ == kRemovesMax;
    if (!exec->ended_) TimerArm(&exec->timeout_, kRemoveMs);
    return;
  }
  exec->Cut();
}

// Its time is over, or nobody waits for it any more.
void Exec::Cut() {
  timed_out_ = true;
  KillTree();
}

void Exec::KillTree() {
  if (cgroup_ != nullptr) {
    const Fd directory = CgroupOpen(cgroup_);
    if (directory) CgroupSignal(directory.get(), SIGKILL);
  } else if (process_.IsAlive()) {
    // Without a cgroup there is only its session's process group: init made it the leader of both.
    kill(-process_.pid(), SIGKILL);
  }
  if (process_.IsAlive()) process_.Kill();
}

bool Exec::RemoveCgroup() {
  if (cgroup_ == nullptr) return true;
  const Fd directory = CgroupOpen(cgroup_);
  if (directory) CgroupRemoveChildren(directory.get());
  // Where something lives on in it, it goes with the container's.
  if (rmdir(cgroup_) != 0 && errno == EBUSY) return false;
  free(cgroup_);
  cgroup_ = nullptr;
  return true;
}

}  // namespace berth
