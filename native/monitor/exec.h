// A further process in a running container.
#ifndef BERTH_MONITOR_EXEC_H_
#define BERTH_MONITOR_EXEC_H_

#include <cstdint>

#include "../common/plan.h"
#include "connection.h"
#include "container.h"
#include "process.h"
#include "stdio.h"

namespace berth {

class Exec {
 public:
  struct Options {
    const char* id = "";
    bool keep_stdin = false;
    bool detach = false;
    // Killed, with all that it has forked, when its caller's connection ends before it.
    bool owned = false;
    uint32_t timeout_ms = 0;
  };

  static void Begin(Container* container, const ProcessPlan& plan, const Options& options, Connection* caller);
  static void Sweep();
  static void ForgetConnection(const Connection* connection);
  // Kills those whose owner has gone.
  static void CutOwned(const Connection* owner);
  static bool AnyIn(const Container* container);
  static bool Any() { return first_ != nullptr; }

 private:
  Exec();
  ~Exec();

  static const Process::Events kEvents;
  static void OnTerminal(void* self, Fd master);
  static void OnReady(void* self);
  static void OnStarted(void* self);
  static void OnFailed(void* self, const Failure& failure);
  static void OnExited(void* self, int status);
  static void OnTimeout(void* self);

  bool Launch(const ProcessPlan& plan, const Options& options, Failure* failure);
  void Cut();
  void KillTree();
  bool RemoveCgroup();

  static Exec* first_;

  Exec* next_ = nullptr;
  Container* container_ = nullptr;
  Process process_;
  Stdio stdio_;
  Connection* caller_ = nullptr;       // Whom to tell of the start; null when told.
  const Connection* owner_ = nullptr;  // Whose end is its own; null for nobody's.
  char* id_ = nullptr;
  char* cgroup_ = nullptr;  // Of its own, where it may have to be killed.
  Timer timeout_;
  uint64_t started_ns_ = 0;
  uint32_t timeout_ms_ = 0;
  uint16_t rows_ = 0;
  uint16_t columns_ = 0;
  int removals_ = 0;
  bool detach_ = false;
  bool timed_out_ = false;
  bool ended_ = false;
};

}  // namespace berth

#endif  // BERTH_MONITOR_EXEC_H_
