#include "loop.h"

#include <sys/epoll.h>
#include <time.h>

namespace berth {
namespace {

constexpr int kIdleMs = 1000;
constexpr int kWaitMaxMs = 3600 * 1000;

int g_epoll = -1;
Timer* g_timers = nullptr;  // The next one first.
bool g_trimmed = false;

uint64_t Clock(clockid_t clock, uint64_t per_second) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * per_second +
         static_cast<uint64_t>(now.tv_nsec) / (1000000000 / per_second);
}

}  // namespace

uint64_t NowMs() { return Clock(CLOCK_MONOTONIC, 1000); }
uint64_t NowNs() { return Clock(CLOCK_REALTIME, 1000000000); }

bool LoopInit() {
  g_epoll = epoll_create1(EPOLL_CLOEXEC);
  return g_epoll >= 0;
}

void WatchSet(Watch* watch, uint32_t events) {
  if (events == watch->events) return;
  epoll_event event{};
  event.events = events;
  event.data.ptr = watch;
  const int act = events == 0 ? EPOLL_CTL_DEL : watch->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
  if (epoll_ctl(g_epoll, act, watch->fd, &event) == 0 || events == 0) watch->events = events;
}

void TimerArm(Timer* timer, uint64_t delay_ms) {
  TimerDisarm(timer);
  timer->due_ms = NowMs() + delay_ms;
  timer->armed = true;
  Timer** at = &g_timers;
  while (*at != nullptr && (*at)->due_ms <= timer->due_ms) at = &(*at)->next;
  timer->next = *at;
  *at = timer;
}

void TimerDisarm(Timer* timer) {
  if (!timer->armed) return;
  Timer** at = &g_timers;
  while (*at != timer) at = &(*at)->next;
  *at = timer->next;
  timer->armed = false;
}

void LoopStep(void (*idle)()) {
  int timeout = g_trimmed ? -1 : kIdleMs;
  if (g_timers != nullptr) {
    const uint64_t now = NowMs();
    if (g_timers->due_ms <= now) {
      Timer* timer = g_timers;
      TimerDisarm(timer);
      timer->fire(timer->owner);
      return;
    }
    const uint64_t left = g_timers->due_ms - now;
    const int reach = left < kWaitMaxMs ? static_cast<int>(left) : kWaitMaxMs;
    if (timeout < 0 || reach < timeout) timeout = reach;
  }
  epoll_event event;
  const int count = epoll_wait(g_epoll, &event, 1, timeout);
  if (count == 1) {
    g_trimmed = false;
    auto* watch = static_cast<Watch*>(event.data.ptr);
    watch->fire(watch->owner, event.events);
  } else if (count == 0 && timeout == kIdleMs) {
    g_trimmed = true;
    idle();
  }
}

}  // namespace berth
