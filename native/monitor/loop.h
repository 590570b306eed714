// The monitor's one loop: file descriptors and timers that call back.
#ifndef BERTH_MONITOR_LOOP_H_
#define BERTH_MONITOR_LOOP_H_

#include <cstdint>

namespace berth {

// A file descriptor in the epoll set. `fd` belongs to somebody else, who calls WatchDrop before closing it.
struct Watch {
  int fd = -1;
  void* owner = nullptr;
  void (*fire)(void* owner, uint32_t events) = nullptr;
  uint32_t events = 0;  // 0: not in the set, so that a hang-up does not spin the loop.
};

void WatchSet(Watch* watch, uint32_t events);
inline void WatchDrop(Watch* watch) { WatchSet(watch, 0); }

struct Timer {
  void* owner = nullptr;
  void (*fire)(void* owner) = nullptr;
  uint64_t due_ms = 0;
  bool armed = false;
  Timer* next = nullptr;
};

void TimerArm(Timer* timer, uint64_t delay_ms);
void TimerDisarm(Timer* timer);

// CLOCK_MONOTONIC in milliseconds and CLOCK_REALTIME in nanoseconds.
uint64_t NowMs();
uint64_t NowNs();

bool LoopInit();
// Waits for one event (so that nothing in it can be about an object which an earlier event of the same batch has
// freed) and handles it. After a
// second without any, `idle` is called, once.
void LoopStep(void (*idle)());

}  // namespace berth

#endif  // BERTH_MONITOR_LOOP_H_
