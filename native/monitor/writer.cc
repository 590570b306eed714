#include "writer.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

#include "../common/fd.h"
#include "loop.h"

namespace berth {
namespace {

// Small enough to see progress on a slow disk, and cut at the end of a line: who is killed between two leaves no half of one.
constexpr size_t kSliceBytes = 64 * 1024;
// It calls write(2) and nothing deep.
constexpr size_t kStackBytes = 32 * 1024;

enum State : uint32_t { kIdle, kPosted, kLeft, kDone };

// kLeft: posted, and nobody waits any more.
std::atomic<uint32_t> g_state{kIdle};
std::atomic<uint64_t> g_progress{0};
WriteJob g_job;
bool g_running = false;
Fd g_event;
Watch g_watch;
void (*g_done)(const WriteJob&) = nullptr;

void Wait(uint32_t value, const timespec* limit) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&g_state), FUTEX_WAIT_PRIVATE, value, limit, nullptr, 0);
}

void Wake() { syscall(SYS_futex, reinterpret_cast<uint32_t*>(&g_state), FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0); }

size_t Slice(const char* bytes, size_t size) {
  if (size <= kSliceBytes) return size;
  size_t end = kSliceBytes;
  while (end > 0 && bytes[end - 1] != '\n') end--;
  return end > 0 ? end : size;
}

void Execute(WriteJob* job) {
  const char* const begin = job->bytes;
  const char* from = begin;
  size_t left = job->size;
  // Ends the line of which a part is in the file, so that it damages no further one.
  if (job->torn && write(job->fd, "\n", 1) == 1) job->torn = false;
  while (left > 0 && !job->torn) {
    const ssize_t done = write(job->fd, from, Slice(from, left));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) break;
    from += done;
    left -= static_cast<size_t>(done);
    g_progress.fetch_add(static_cast<uint64_t>(done), std::memory_order_relaxed);
  }
  if (left == 0) return;
  // The disk is full or broken. What is whole stays; the part of a line is taken back.
  size_t part = 0;
  if (!job->torn) {
    while (from - part > begin && from[-1 - static_cast<ptrdiff_t>(part)] != '\n') part++;
  }
  if (part > 0) {
    const off_t size = lseek(job->fd, 0, SEEK_END);
    if (size < static_cast<off_t>(part) || ftruncate(job->fd, size - static_cast<off_t>(part)) != 0) job->torn = true;
  }
  for (size_t i = 0; i < left; i++) {
    if (from[i] == '\n') job->dropped++;
  }
}

void* Thread(void*) {
  for (;;) {
    uint32_t state = g_state.load();
    while (state != kPosted && state != kLeft) {
      Wait(state, nullptr);
      state = g_state.load();
    }
    Execute(&g_job);
    const uint64_t one = 1;
    if (g_state.exchange(kDone) == kLeft) {
      // Its counter cannot be full.
      if (write(g_event.get(), &one, sizeof(one)) < 0) continue;
    } else {
      Wake();
    }
  }
}

bool StartThread() {
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return false;
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  // Signals are the main thread's.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const int error = pthread_create(&thread, &attributes, Thread, nullptr);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  return error == 0;
}

void OnEvent(void*, uint32_t) {
  uint64_t count;
  if (read(g_event.get(), &count, sizeof(count)) > 0) WriterLook();
}

}  // namespace

bool WriterInit(void (*done)(const WriteJob& job)) {
  g_done = done;
  g_event = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!g_event) return false;
  g_watch = {g_event.get(), nullptr, OnEvent, 0};
  WatchSet(&g_watch, EPOLLIN);
  return true;
}

bool WriterBusy() { return g_state.load() != kIdle; }

void WriterLook() {
  if (g_state.load() != kDone) return;
  const WriteJob job = g_job;
  g_state.store(kIdle);
  g_done(job);
}

uint64_t WriterProgress() { return g_progress.load(std::memory_order_relaxed); }

bool WriterRun(WriteJob* job, uint64_t wait_ms) {
  // With the first line, so that a monitor without logs has no thread. Where there can be none the loop writes itself.
  if (!g_running) g_running = StartThread();
  if (!g_running) {
    Execute(job);
    return true;
  }
  g_job = *job;
  g_state.store(kPosted);
  Wake();
  const uint64_t end = NowMs() + wait_ms;
  for (uint64_t now = end - wait_ms; now < end && g_state.load() == kPosted; now = NowMs()) {
    const uint64_t rest = end - now;
    const timespec limit = {static_cast<time_t>(rest / 1000), static_cast<long>(rest % 1000 * 1000000)};
    Wait(kPosted, &limit);
  }
  uint32_t posted = kPosted;
  if (g_state.compare_exchange_strong(posted, kLeft)) return false;
  *job = g_job;
  g_state.store(kIdle);
  return true;
}

}  // namespace berth
