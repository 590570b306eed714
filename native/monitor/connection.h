// A client's connection: frames in, frames out, bounded both ways.
#ifndef BERTH_MONITOR_CONNECTION_H_
#define BERTH_MONITOR_CONNECTION_H_

#include <cstddef>
#include <cstdint>

#include "../common/arena.h"
#include "../common/fd.h"
#include "../common/json.h"
#include "../common/tags.h"
#include "log.h"
#include "loop.h"
#include "queue.h"

namespace berth {

class Container;
class Stdio;
struct Failure;

// The process whose stdio a connection has: one for its life.
struct Target {
  Stdio* stdio = nullptr;
  bool in = false;
  bool out = false;
  bool err = false;
  // Attached before the process ran.
  bool starter = false;
};

class Connection {
 public:
  static void Accept(Fd socket);
  // Frees those that have ended. Called between two steps of the loop only.
  static void Sweep();
  static bool Any() { return first_ != nullptr; }
  // Whether a client still has to be told something, and reads.
  static bool AnyOwed(bool leaving);

  // What a process wrote, for all its clients.
  static void Output(Stdio* from, Log::Stream stream, const char* bytes, size_t size);
  // Whether a client of this process has more waiting for it than the process may write ahead.
  static bool IsFull(const Stdio* from);
  // The process takes input again.
  static void StdinReady(Stdio* to);
  // The process is gone for good: its clients, and with `id` those who wait for that container, are told.
  static void Ended(Stdio* of, const Container* container, const JsonWriter& record);
  static void Forget(const Container* container);

  // Replies to the request in progress; the next one is then looked at.
  void Reply(const JsonWriter& json);
  void ReplyOk();
  void ReplyFailure(const Failure& failure);
  void Send(Frame type, const char* bytes, size_t size);

  void Attach(const Target& target) {
    target_ = target;
    starter_ = target.starter;
  }
  bool HasTarget() const { return target_.stdio != nullptr; }
  // One exit frame when that container has ended.
  bool WaitFor(const Container* container);

 private:
  static constexpr int kWaitsMax = 1024;

  explicit Connection(Fd socket);
  ~Connection();

  static void OnEvent(void* self, uint32_t events);
  void ArmStall();
  static void OnStall(void* self);
  void Receive();
  void Parse();
  // False: the frame has to wait.
  bool TakeFrame(Frame type, Bytes payload);
  bool TakeStdin(Bytes payload);
  void Flush();
  void Settle();
  void Die();
  void Detach();

  static Connection* first_;
  static bool any_dead_;

  Connection* next_ = nullptr;
  Fd socket_;
  Watch watch_;
  Queue in_;
  Queue out_;
  Target target_;
  Timer stall_;
  const Container** waits_ = nullptr;  // kWaitsMax of them, or null.
  uint32_t stdin_taken_ = 0;           // Of the stdin frame at the front of `in_`.
  bool pending_ = false;               // A request is being worked on.
  bool blocked_ = false;               // The process does not take its input.
  bool parsing_ = false;
  bool hung_up_ = false;
  bool starter_ = false;               // Outlasts its target: what the process has written is still to be read.
  bool lingers_ = false;               // Told of its process's end, and not yet closed.
  bool dead_ = false;
};

}  // namespace berth

#endif  // BERTH_MONITOR_CONNECTION_H_
