// The life of one container: created, running, ended, started again, stopped.
#ifndef BERTH_MONITOR_CONTAINER_H_
#define BERTH_MONITOR_CONTAINER_H_

#include <cstdint>

#include "../common/arena.h"
#include "../common/json.h"
#include "../common/plan.h"
#include "connection.h"
#include "log.h"
#include "process.h"
#include "stdio.h"

namespace berth {

class Container {
 public:
  enum class State : uint8_t { kCreating, kCreated, kRunning, kEnding, kRestarting, kStopped, kGone };

  // Makes the first process; `caller` gets the reply now or when it is ready.
  static void Create(const char* plan_path, Connection* caller);
  static Container* Find(const char* id);
  static Container* first() { return first_; }
  Container* next() const { return next_; }
  // Frees those that are gone. Called between two steps of the loop only.
  static void Sweep();
  static void ForgetConnection(const Connection* connection);
  // Whether any is alive, or its record not yet on disk.
  static bool AnyLive();

  void Start(Connection* caller);
  // False with `failure` when there is nothing to signal. `stop`: it shall not be started again.
  bool Signal(int signal, bool all, bool stop, Failure* failure);
  bool ReopenLog();
  void Update(RestartPolicy policy, uint32_t maximum);
  void Remove() { state_ = State::kGone; }

  State state() const { return state_; }
  bool IsRunning() const { return state_ == State::kRunning; }
  const char* id() const { return id_; }
  const char* cgroup() const { return cgroup_; }
  const Process& process() const { return process_; }
  Stdio* stdio() { return &stdio_; }
  void WriteStatus(JsonWriter* json) const;
  // The exit record; only of a stopped one.
  void WriteRecord(JsonWriter* json) const;

 private:
  Container();
  ~Container();

  static const Process::Events kEvents;
  static void OnTerminal(void* self, Fd master);
  static void OnReady(void* self);
  static void OnStarted(void* self);
  static void OnFailed(void* self, const Failure& failure);
  static void OnExited(void* self, int status);
  static void OnCgroupEvent(void* self, uint32_t events);
  static void OnTimer(void* self);
  static void OnLogFree(void* self);

  bool Adopt(const ContainerPlan& plan, const char* plan_path, Failure* failure);
  bool Launch(const ContainerPlan& plan, Failure* failure);
  // The first process is gone: kills the rest, and goes on when all of the cgroup is gone.
  void End();
  void AfterEnd();
  // All of its lines are in the log, or its disk hangs.
  void AfterLog();
  bool WantsRestart() const;
  void Restart();
  void Finish();
  bool SaveRecord();

  static Container* first_;

  Container* next_ = nullptr;
  Process process_;
  Stdio stdio_;
  Log log_;
  Connection* caller_ = nullptr;  // Of create or start, whichever is in progress.
  // The texts below are one allocation.
  char* texts_ = nullptr;
  const char* id_ = "";
  const char* plan_path_ = "";
  const char* cgroup_ = "";
  const char* log_path_ = "";
  const char* record_path_ = "";
  char** exit_command_ = nullptr;  // Null-terminated, in `texts_`'s allocation.
  Fd cgroup_fd_;
  Fd cgroup_events_;
  Watch cgroup_watch_;
  Timer timer_;  // Of an end that is under way, a restart, or a record that could not be written.
  uint64_t created_ns_ = 0;
  uint64_t started_ns_ = 0;
  uint64_t finished_ns_ = 0;
  uint64_t started_ms_ = 0;
  uint64_t oom_before_ = 0;
  uint64_t end_by_ms_ = 0;
  uint32_t restarts_ = 0;
  uint32_t restart_maximum_ = 0;
  uint32_t backoff_ms_ = 0;
  char* error_ = nullptr;
  uint16_t rows_ = 0;
  uint16_t columns_ = 0;
  uint8_t code_ = 0;
  uint8_t signal_ = 0;
  RestartPolicy policy_ = RestartPolicy::kNo;
  State state_ = State::kCreating;
  bool oom_killed_ = false;
  bool stop_asked_ = false;
  bool owes_record_ = false;
  bool awaits_log_ = false;
  bool first_start_ = true;
};

}  // namespace berth

#endif  // BERTH_MONITOR_CONTAINER_H_
