// One process on its way from clone to its end: the monitor's side of the conversation with native/init.
#ifndef BERTH_MONITOR_PROCESS_H_
#define BERTH_MONITOR_PROCESS_H_

#include <sys/types.h>

#include <cstdint>

#include "../common/fd.h"
#include "../init/launch.h"
#include "loop.h"

namespace berth {

struct Failure {
  int error = 0;
  char stage[32] = "";
  char text[984] = "";

  void Set(const char* stage, int error, const char* text = nullptr);
  // 127 where there is no such program, 126 where it cannot be executed; as a shell has it.
  int ExitCode() const;
};

class Process {
 public:
  enum class State : uint8_t { kNone, kPreparing, kReady, kStarting, kRunning, kFailing };

  // What becomes of it; called from the loop only.
  struct Events {
    void (*terminal)(void* owner, Fd master);
    void (*ready)(void* owner);
    void (*started)(void* owner);
    void (*failed)(void* owner, const Failure& failure);  // Nothing of it is left.
    void (*exited)(void* owner, int status);              // `status` as of waitpid(2).
  };

  Process(void* owner, const Events* events) : owner_(owner), events_(events) {}
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process();

  void Begin(Launched launched, bool restore_oom_score_adj);
  void Start();
  void Kill();
  bool Signal(int signal);

  State state() const { return state_; }
  bool IsAlive() const { return state_ != State::kNone; }
  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }

  // Tells the process with this pid, if it is one of ours, that it has been reaped.
  // A child has ended and is not yet reaped: where it is nobody's, a message may be waiting that says whose.
  static void Ending(pid_t pid);
  static void Reaped(pid_t pid, int status);

 private:
  static void OnSync(void* self, uint32_t events);
  void ReadSync();
  void TakeMessage(const char* bytes, size_t size, Fd passed);
  void Fail(const Failure& failure);
  void End();

  void* owner_;
  const Events* events_;
  Process* next_ = nullptr;
  Watch sync_watch_;
  Fd sync_;
  Fd pidfd_;
  pid_t pid_ = -1;
  State state_ = State::kNone;
  bool restore_oom_ = false;
  bool passed_on_ = false;
  Failure* failure_ = nullptr;
};

// Remembers what the monitor's children would otherwise inherit.
void KeepOomScoreAdj(int original, bool changed);
// Puts a child back to the score the monitor was started with.
void RestoreOomScoreAdj(pid_t pid);

}  // namespace berth

#endif  // BERTH_MONITOR_PROCESS_H_
