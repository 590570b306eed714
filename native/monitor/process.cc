#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "../init/pidfd.h"

namespace berth {
namespace {

Process* g_first = nullptr;
int g_oom_original = 0;
bool g_oom_changed = false;

void Copy(char* to, size_t capacity, const char* from, size_t size) {
  if (size >= capacity) size = capacity - 1;
  memcpy(to, from, size);
  to[size] = 0;
}

}  // namespace

void KeepOomScoreAdj(int original, bool changed) {
  g_oom_original = original;
  g_oom_changed = changed;
}

void RestoreOomScoreAdj(pid_t pid) {
  if (!g_oom_changed || pid <= 0) return;
  char path[64];
  char text[16];
  snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", pid);
  const int length = snprintf(text, sizeof(text), "%d", g_oom_original);
  const Fd file(open(path, O_WRONLY | O_CLOEXEC));
  if (file && write(file.get(), text, static_cast<size_t>(length)) < 0) return;
}

void Failure::Set(const char* at, int number, const char* message) {
  error = number;
  Copy(stage, sizeof(stage), at, strlen(at));
  if (message == nullptr) {
    snprintf(text, sizeof(text), "%s: %s", at, strerror(number));
  } else {
    Copy(text, sizeof(text), message, strlen(message));
  }
}

int Failure::ExitCode() const { return error == ENOENT || error == ENOTDIR ? 127 : 126; }

Process::~Process() {
  if (IsAlive()) End();
  free(failure_);
}

void Process::Begin(Launched launched, bool restore_oom_score_adj) {
  pid_ = launched.pid;
  pidfd_ = static_cast<Fd&&>(launched.pidfd);
  sync_ = static_cast<Fd&&>(launched.sync);
  restore_oom_ = restore_oom_score_adj;
  passed_on_ = false;
  state_ = State::kPreparing;
  free(failure_);
  failure_ = nullptr;
  next_ = g_first;
  g_first = this;
  if (restore_oom_) RestoreOomScoreAdj(pid_);
  sync_watch_ = {sync_.get(), this, OnSync, 0};
  WatchSet(&sync_watch_, EPOLLIN);
}

void Process::Start() {
  state_ = State::kStarting;
  // A child that has died meanwhile is told of by SIGCHLD.
  send(sync_.get(), "S", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

bool Process::Signal(int signal) {
  return SignalPidfd(pidfd_.get(), signal);
}

void Process::Kill() { Signal(SIGKILL); }

void Process::OnSync(void* self, uint32_t) { static_cast<Process*>(self)->ReadSync(); }

void Process::ReadSync() {
  while (sync_ && state_ != State::kFailing) {
    char bytes[4096];
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 4)];
    iovec vector{bytes, sizeof(bytes)};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t size = recvmsg(sync_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) return;
    Fd passed;
    cmsghdr* part = size > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
    for (; part != nullptr; part = CMSG_NXTHDR(&message, part)) {
      if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
      const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(fd));
        passed = Fd(fd);
      }
    }
    if (size > 0) {
      TakeMessage(bytes, static_cast<size_t>(size), static_cast<Fd&&>(passed));
      continue;
    }
    // End of file: the exec has happened, or the child is gone.
    WatchDrop(&sync_watch_);
    sync_.Reset();
    if (state_ == State::kStarting) {
      state_ = State::kRunning;
      events_->started(owner_);
    } else if (state_ == State::kPreparing) {
      Failure failure;
      failure.Set("create", ECHILD, "the process was killed while it was being made");
      Fail(failure);
    }
    return;
  }
}

void Process::TakeMessage(const char* bytes, size_t size, Fd passed) {
  switch (bytes[0]) {
    case 'P': {
      // Once: who takes the second process over by ptrace(2) must not have us watch, and kill, another one.
      if (passed_on_) break;
      const pid_t pid = PidOf(passed.get());
      if (pid <= 0 && passed) {
        // Dead and reaped before it was told of: a process of a PID namespace that it has joined may do that.
        Failure killed;
        killed.Set("create", ECHILD, "the process was killed while it was being made");
        return Fail(killed);
      }
      if (pid <= 0) break;
      passed_on_ = true;
      pid_ = pid;
      pidfd_ = static_cast<Fd&&>(passed);
      // After the start it has the score from the first one, and may have changed it.
      if (restore_oom_ && state_ == State::kPreparing) RestoreOomScoreAdj(pid_);
      return;
    }
    case 'T':
      if (!passed || state_ != State::kPreparing) break;
      events_->terminal(owner_, static_cast<Fd&&>(passed));
      return;
    case 'R':
      if (state_ != State::kPreparing) break;
      state_ = State::kReady;
      events_->ready(owner_);
      return;
    case 'E': {
      // i32 errno, stage, NUL, text, NUL
      Failure failure;
      int number = 0;
      if (size >= 5) memcpy(&number, bytes + 1, sizeof(number));
      const char* at = bytes + (size < 5 ? size : 5);
      const size_t stage = strnlen(at, static_cast<size_t>(bytes + size - at));
      failure.error = number;
      Copy(failure.stage, sizeof(failure.stage), at, stage);
      at += stage < static_cast<size_t>(bytes + size - at) ? stage + 1 : stage;
      Copy(failure.text, sizeof(failure.text), at, strnlen(at, static_cast<size_t>(bytes + size - at)));
      if (failure.text[0] == 0) snprintf(failure.text, sizeof(failure.text), "%s: %s", failure.stage, strerror(number));
      Fail(failure);
      return;
    }
  }
  Failure failure;
  failure.Set("create", EPROTO, "the process that was being made said something unknown");
  Fail(failure);
}

void Process::Fail(const Failure& failure) {
  state_ = State::kFailing;
  WatchDrop(&sync_watch_);
  sync_.Reset();
  free(failure_);
  failure_ = static_cast<Failure*>(malloc(sizeof(Failure)));
  if (failure_ != nullptr) *failure_ = failure;
  Kill();
  int status;
  const pid_t pid = waitpid(pid_, &status, WNOHANG);
  if (pid == pid_ || (pid < 0 && errno == ECHILD)) Reaped(pid_, 0);
}

void Process::End() {
  Process** at = &g_first;
  while (*at != nullptr && *at != this) at = &(*at)->next_;
  if (*at == this) *at = next_;
  next_ = nullptr;
  if (sync_) WatchDrop(&sync_watch_);
  sync_.Reset();
  pidfd_.Reset();
  state_ = State::kNone;
}

void Process::Ending(pid_t pid) {
  for (const Process* process = g_first; process != nullptr; process = process->next_) {
    if (process->pid_ == pid) return;
  }
  for (Process* process = g_first; process != nullptr;) {
    // Reading may end this one.
    Process* next = process->next_;
    if (process->state_ == State::kPreparing || process->state_ == State::kStarting) process->ReadSync();
    process = next;
  }
}

void Process::Reaped(pid_t pid, int status) {
  Process* process = g_first;
  while (process != nullptr && process->pid_ != pid) process = process->next_;
  if (process == nullptr) return;  // An orphan of a container that came to us, or the first of two clones.
  // What it said last is still in the socket. It may have been the first of two clones: then the pid changes here.
  if (process->state_ == State::kPreparing || process->state_ == State::kStarting) {
    process->ReadSync();
    // ReadSync may itself have found and told the end.
    if (process->state_ == State::kNone || process->pid_ != pid) return;
  }
  const State state = process->state_;
  Failure failure;
  if (process->failure_ != nullptr) {
    failure = *process->failure_;
    free(process->failure_);
    process->failure_ = nullptr;
  } else if (state == State::kPreparing || state == State::kFailing) {
    failure.Set("create", ECHILD, "the process was killed while it was being made");
  }
  process->End();
  if (state == State::kPreparing || state == State::kFailing) {
    process->events_->failed(process->owner_, failure);
  } else {
    process->events_->exited(process->owner_, status);
  }
}

}  // namespace berth
