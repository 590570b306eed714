#include "container.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "cgroup.h"
#include "exec.h"
#include "monitor.h"

namespace berth {
namespace {

// docker's backoff: doubled at each restart, from the start again after a run of ten seconds.
constexpr uint32_t kBackoffMinMs = 100;
constexpr uint32_t kBackoffMaxMs = 60000;
constexpr uint64_t kBackoffResetMs = 10000;
// How long killed processes may take to go (a process in an uninterruptible wait does not) before the end is told
// without them.
constexpr uint64_t kEndMs = 10000;
// Between two looks: the event of a group that somebody else removes in this moment may be lost (src/cgroup/control.ts).
constexpr uint64_t kEndLookMs = 100;
constexpr uint64_t kRecordRetryMs = 1000;

}  // namespace

Container* Container::first_ = nullptr;

const Process::Events Container::kEvents = {OnTerminal, OnReady, OnStarted, OnFailed, OnExited};

Container::Container() : process_(this, &kEvents), log_(this, OnLogFree) {
  timer_.owner = this;
  timer_.fire = OnTimer;
}

Container::~Container() {
  WatchDrop(&cgroup_watch_);
  TimerDisarm(&timer_);
  Connection::Forget(this);
  free(texts_);
  free(error_);
}

Container* Container::Find(const char* id) {
  for (Container* c = first_; c != nullptr; c = c->next_) {
    if (c->state_ != State::kGone && strcmp(c->id_, id) == 0) return c;
  }
  return nullptr;
}

void Container::Sweep() {
  for (Container** at = &first_; *at != nullptr;) {
    Container* container = *at;
    if (container->state_ == State::kGone) {
      *at = container->next_;
      delete container;
    } else {
      at = &container->next_;
    }
  }
}

void Container::ForgetConnection(const Connection* connection) {
  for (Container* c = first_; c != nullptr; c = c->next_) {
    if (c->caller_ == connection) c->caller_ = nullptr;
  }
}

bool Container::AnyLive() {
  for (Container* c = first_; c != nullptr; c = c->next_) {
    if (c->state_ < State::kStopped || c->owes_record_) return true;
  }
  return false;
}

void Container::Create(const char* plan_path, Connection* caller) {
  Failure failure;
  Arena arena;
  const char* error = nullptr;
  const ContainerPlan* plan = LoadContainer(plan_path, &arena, &error);
  if (plan == nullptr) {
    failure.Set("plan", errno, error);
    return caller->ReplyFailure(failure);
  }
  if (Find(plan->id) != nullptr) {
    failure.Set("create", EEXIST, "this monitor has a container of that id already");
    return caller->ReplyFailure(failure);
  }
  auto* container = new (std::nothrow) Container();
  if (container == nullptr || !container->Adopt(*plan, plan_path, &failure) || !container->Launch(*plan, &failure)) {
    if (container == nullptr) failure.Set("create", ENOMEM);
    delete container;
    return caller->ReplyFailure(failure);
  }
  container->caller_ = caller;
  container->created_ns_ = NowNs();
  container->next_ = first_;
  first_ = container;
  StatusChanged();
}

bool Container::Adopt(const ContainerPlan& plan, const char* plan_path, Failure* failure) {
  const char* const texts[] = {plan.id, plan_path, plan.cgroup, plan.log_path, plan.exit_record};
  const char** const places[] = {&id_, &plan_path_, &cgroup_, &log_path_, &record_path_};
  size_t size = sizeof(char*) * (plan.exit_command.size + 1);
  for (const char* text : texts) size += strlen(text) + 1;
  for (const char* text : plan.exit_command) size += strlen(text) + 1;
  texts_ = static_cast<char*>(calloc(1, size));
  if (texts_ == nullptr) {
    failure->Set("create", ENOMEM);
    return false;
  }
  exit_command_ = reinterpret_cast<char**>(texts_);
  char* at = texts_ + sizeof(char*) * (plan.exit_command.size + 1);
  for (size_t i = 0; i < plan.exit_command.size; i++) {
    exit_command_[i] = at;
    at = stpcpy(at, plan.exit_command[i]) + 1;
  }
  for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
    *places[i] = at;
    at = stpcpy(at, texts[i]) + 1;
  }
  policy_ = plan.restart;
  restart_maximum_ = plan.restart_maximum;
  if (plan.log == LogKind::kCri && !log_.Open(log_path_)) {
    failure->Set("log", errno);
    return false;
  }
  if (cgroup_[0] != 0) {
    cgroup_fd_ = CgroupOpen(cgroup_);
    if (!cgroup_fd_) {
      failure->Set("cgroup", errno);
      return false;
    }
    cgroup_events_ = Fd(openat(cgroup_fd_.get(), "cgroup.events", O_RDONLY | O_CLOEXEC));
  }
  return true;
}

bool Container::Launch(const ContainerPlan& plan, Failure* failure) {
  Stdio::Options options;
  options.terminal = plan.process.terminal;
  options.keep_stdin = plan.keep_stdin;
  options.stdin_once = plan.stdin_once;
  ChildStdio child;
  Launched launched;
  const char* stage = "create";
  if (!stdio_.Open(options, log_.IsOpen() ? &log_ : nullptr, &child)) {
    failure->Set("stdio", errno);
    return false;
  }
  if (cgroup_fd_) oom_before_ = CgroupOomKills(cgroup_fd_.get());
  if (!LaunchContainer(plan, child, &launched, &stage)) {
    failure->Set(stage, errno);
    stdio_.Close();
    return false;
  }
  stdio_.CloseChild();
  rows_ = plan.process.rows;
  columns_ = plan.process.columns;
  process_.Begin(static_cast<Launched&&>(launched), !plan.process.has_oom_score_adj);
  return true;
}

void Container::Start(Connection* caller) {
  caller_ = caller;
  process_.Start();
}

bool Container::Signal(int signal, bool all, bool stop, Failure* failure) {
  if (stop) stop_asked_ = true;
  if (state_ == State::kRestarting && stop) {
    if (process_.IsAlive()) {
      process_.Kill();
    } else {
      Finish();
    }
    return true;
  }
  if (state_ == State::kEnding && stop) return true;
  // What hangs on its way (in a mount, or stopped by a process of a PID namespace that it has joined) can be ended, no more.
  if (!process_.IsAlive() || (state_ == State::kCreating && signal != SIGKILL)) {
    failure->Set("signal", ESRCH, "the container is not running");
    return false;
  }
  if (all && cgroup_fd_) return CgroupSignal(cgroup_fd_.get(), signal);
  if (process_.Signal(signal)) return true;
  failure->Set("signal", errno);
  return false;
}

bool Container::ReopenLog() { return log_.IsOpen() ? log_.Open(log_path_) : true; }

void Container::Update(RestartPolicy policy, uint32_t maximum) {
  policy_ = policy;
  restart_maximum_ = maximum;
}

void Container::OnTerminal(void* self, Fd master) {
  auto* container = static_cast<Container*>(self);
  container->stdio_.SetMaster(static_cast<Fd&&>(master));
  if (container->rows_ != 0) container->stdio_.Resize(container->rows_, container->columns_);
}

void Container::OnReady(void* self) {
  auto* container = static_cast<Container*>(self);
  if (container->state_ == State::kRestarting) return container->Start(nullptr);
  container->state_ = State::kCreated;
  StatusChanged();
  Connection* caller = container->caller_;
  container->caller_ = nullptr;
  if (caller == nullptr) return;
  JsonWriter json;
  json.BeginObject();
  json.Flag("ok", true);
  json.Number("pid", container->process_.pid());
  json.EndObject();
  caller->Reply(json);
}

void Container::OnStarted(void* self) {
  auto* container = static_cast<Container*>(self);
  container->state_ = State::kRunning;
  container->started_ns_ = NowNs();
  container->started_ms_ = NowMs();
  container->code_ = container->signal_ = 0;
  container->finished_ns_ = 0;
  container->oom_killed_ = false;
  free(container->error_);
  container->error_ = nullptr;
  // The record of the run before would otherwise speak for this one, should the monitor be killed.
  if (container->record_path_[0] != 0) unlink(container->record_path_);
  container->first_start_ = false;
  StatusChanged();
  Connection* caller = container->caller_;
  container->caller_ = nullptr;
  if (caller != nullptr) caller->ReplyOk();
}

void Container::OnFailed(void* self, const Failure& failure) {
  auto* container = static_cast<Container*>(self);
  Connection* caller = container->caller_;
  container->caller_ = nullptr;
  // A process that joined no PID namespace of its own may have left another.
  if (container->cgroup_fd_) CgroupSignal(container->cgroup_fd_.get(), SIGKILL);
  if (container->state_ == State::kCreating) {
    // It was never a container: nothing of it is left, and who has attached to it or waits for it already is told so.
    container->code_ = static_cast<uint8_t>(failure.ExitCode());
    container->error_ = strdup(failure.text);
    JsonWriter json;
    container->WriteRecord(&json);
    Connection::Ended(&container->stdio_, container, json);
    container->stdio_.Close();
    container->state_ = State::kGone;
    StatusChanged();
    if (caller != nullptr) caller->ReplyFailure(failure);
    return;
  }
  container->code_ = static_cast<uint8_t>(failure.ExitCode());
  container->signal_ = 0;
  free(container->error_);
  container->error_ = strdup(failure.text);
  container->End();
  if (caller != nullptr) caller->ReplyFailure(failure);
}

void Container::OnExited(void* self, int status) {
  auto* container = static_cast<Container*>(self);
  container->signal_ = static_cast<uint8_t>(WIFSIGNALED(status) ? WTERMSIG(status) : 0);
  container->code_ =
      static_cast<uint8_t>(WIFSIGNALED(status) ? 128 + container->signal_ : WEXITSTATUS(status));
  container->End();
  Connection* caller = container->caller_;
  container->caller_ = nullptr;
  if (caller == nullptr) return;
  Failure failure;
  failure.Set("start", ESRCH, "the container was killed before its program ran");
  caller->ReplyFailure(failure);
}

void Container::End() {
  state_ = State::kEnding;
  finished_ns_ = NowNs();
  if (!cgroup_fd_) return AfterEnd();
  // Before anything else can take the counts away with the cgroup.
  oom_killed_ = CgroupOomKills(cgroup_fd_.get()) > oom_before_;
  if (!cgroup_events_ || !CgroupPopulated(cgroup_events_.get())) return AfterEnd();
  CgroupSignal(cgroup_fd_.get(), SIGKILL);
  cgroup_watch_ = {cgroup_events_.get(), this, OnCgroupEvent, 0};
  WatchSet(&cgroup_watch_, EPOLLPRI);
  end_by_ms_ = NowMs() + kEndMs;
  TimerArm(&timer_, kEndLookMs);
  OnCgroupEvent(this, 0);
}

void Container::OnCgroupEvent(void* self, uint32_t) {
  auto* container = static_cast<Container*>(self);
  if (container->state_ != State::kEnding || CgroupPopulated(container->cgroup_events_.get())) return;
  container->AfterEnd();
}

void Container::AfterEnd() {
  WatchDrop(&cgroup_watch_);
  TimerDisarm(&timer_);
  stdio_.Drain();
  if (cgroup_fd_) {
    // An exec's process may have been the one that was killed.
    oom_killed_ = oom_killed_ || CgroupOomKills(cgroup_fd_.get()) > oom_before_;
    CgroupRemoveChildren(cgroup_fd_.get());
  }
  awaits_log_ = log_.Owes();
  if (!awaits_log_) AfterLog();
}

void Container::OnLogFree(void* self) {
  auto* container = static_cast<Container*>(self);
  container->stdio_.Resume();
  if (!container->awaits_log_ || container->log_.Owes()) return;
  container->awaits_log_ = false;
  container->AfterLog();
}

void Container::AfterLog() {
  if (!WantsRestart()) return Finish();
  if (NowMs() - started_ms_ >= kBackoffResetMs) backoff_ms_ = 0;
  backoff_ms_ = backoff_ms_ == 0 ? kBackoffMinMs : backoff_ms_ * 2;
  if (backoff_ms_ > kBackoffMaxMs) backoff_ms_ = kBackoffMaxMs;
  SaveRecord();
  state_ = State::kRestarting;
  StatusChanged();
  TimerArm(&timer_, backoff_ms_);
}

bool Container::WantsRestart() const {
  // What never ran is not tried again: its start has told the caller why.
  if (stop_asked_ || first_start_) return false;
  switch (policy_) {
    case RestartPolicy::kNo:
      return false;
    case RestartPolicy::kAlways:
    case RestartPolicy::kUnlessStopped:
      return true;
    case RestartPolicy::kOnFailure:
      return code_ != 0 && (restart_maximum_ == 0 || restarts_ < restart_maximum_);
  }
  return false;
}

void Container::OnTimer(void* self) {
  auto* container = static_cast<Container*>(self);
  switch (container->state_) {
    case State::kEnding:
      if (NowMs() >= container->end_by_ms_) return container->AfterEnd();
      TimerArm(&container->timer_, kEndLookMs);
      return OnCgroupEvent(self, 0);
    case State::kRestarting:
      return container->Restart();
    case State::kStopped:
      if (container->owes_record_ && !container->SaveRecord()) TimerArm(&container->timer_, kRecordRetryMs);
      return;
    default:
      return;
  }
}

void Container::Restart() {
  restarts_++;
  started_ms_ = NowMs();
  Failure failure;
  Arena arena;
  const char* error = nullptr;
  const ContainerPlan* plan = LoadContainer(plan_path_, &arena, &error);
  if (plan == nullptr) failure.Set("plan", errno, error);
  if (plan != nullptr && Launch(*plan, &failure)) return StatusChanged();
  OnFailed(this, failure);
}

void Container::Finish() {
  TimerDisarm(&timer_);
  state_ = State::kStopped;
  if (cgroup_fd_) {
    cgroup_events_.Reset();
    cgroup_fd_.Reset();
    // Still busy only with a process that cannot be killed; the engine tries again.
    rmdir(cgroup_);
  }
  // With a full disk the clients are told all the same, and it is tried again until it is written.
  owes_record_ = !SaveRecord();
  if (owes_record_) TimerArm(&timer_, kRecordRetryMs);
  // Who is told of the end and then looks must not find it running.
  StatusChanged();
  SaveStatus();
  JsonWriter json;
  WriteRecord(&json);
  Connection::Ended(&stdio_, this, json);
  if (exit_command_[0] != nullptr) RunCommand(exit_command_);
}

bool Container::SaveRecord() {
  if (record_path_[0] == 0) return true;
  JsonWriter json;
  WriteRecord(&json);
  if (!json.ok()) return false;
  const bool saved = WriteFileAtomic(AT_FDCWD, record_path_, json.data(), json.size(), 0644);
  // The directory is gone: the container was removed by force, and nobody asks any more.
  const bool done = saved || errno == ENOENT;
  if (done) owes_record_ = false;
  return done;
}

void Container::WriteRecord(JsonWriter* json) const {
  json->BeginObject();
  json->Text("id", id_);
  json->Number("code", code_);
  json->Number("signal", signal_);
  json->Flag("oomKilled", oom_killed_);
  json->QuotedNumber("createdNs", created_ns_);
  json->QuotedNumber("startedNs", started_ns_);
  json->QuotedNumber("finishedNs", finished_ns_);
  json->Text("error", error_ == nullptr ? "" : error_);
  json->Number("restarts", restarts_);
  json->EndObject();
}

void Container::WriteStatus(JsonWriter* json) const {
  static const char* const kNames[] = {"creating", "created", "running", "running", "running", "stopped", "stopped"};
  json->Key(id_);
  json->BeginObject();
  json->Number("pid", process_.IsAlive() && state_ != State::kRestarting ? process_.pid() : 0);
  json->Text("state", kNames[static_cast<int>(state_)]);
  json->QuotedNumber("createdNs", created_ns_);
  json->QuotedNumber("startedNs", started_ns_);
  json->Number("restarts", restarts_);
  json->Flag("restarting", state_ == State::kRestarting);
  json->QuotedNumber("logDropped", log_.dropped());
  json->EndObject();
}

}  // namespace berth
