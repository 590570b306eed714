#include "stdio.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "connection.h"

namespace berth {
namespace {

constexpr size_t kReadBytes = 64 * 1024;
// What is read of a stream after its process has ended, should somebody outside go on writing to it: more than a
// pipe holds.
constexpr size_t kDrainMax = 1024 * 1024;
constexpr uint64_t kReopenMs = 100;

alignas(4096) char g_buffer[kReadBytes];

bool Nonblocking(int fd) { return fcntl(fd, F_SETFL, O_NONBLOCK) == 0; }

}  // namespace

void TrimReadBuffer() { madvise(g_buffer, sizeof(g_buffer), MADV_DONTNEED); }

bool Stdio::Open(const Options& options, Log* log, ChildStdio* child) {
  Close();
  options_ = options;
  log_ = log;
  if (options.terminal) return true;
  // An end that is not there is /dev/null for the child.
  if (options.discard) return true;
  for (int i = options.keep_stdin ? 0 : 1; i < 3; i++) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return false;
    const int ours = i == 0 ? 1 : 0;
    Fd own(ends[ours]);
    child_[i] = Fd(ends[1 - ours]);
    if (!Nonblocking(own.get())) return false;
    (i == 0 ? in_ : i == 1 ? out_ : err_) = static_cast<Fd&&>(own);
  }
  child->stdin_fd = child_[0].get();
  child->stdout_fd = child_[1].get();
  child->stderr_fd = child_[2].get();
  in_watch_ = {in_.get(), this, OnIn, 0};
  out_watch_ = {out_.get(), this, OnOut, 0};
  err_watch_ = {err_.get(), this, OnErr, 0};
  Resume();
  return true;
}

void Stdio::CloseChild() {
  for (Fd& fd : child_) fd.Reset();
}

void Stdio::SetMaster(Fd master) {
  if (!Nonblocking(master.get())) return;
  out_ = static_cast<Fd&&>(master);
  out_watch_ = {out_.get(), this, OnOut, 0};
  retry_.owner = this;
  retry_.fire = OnRetry;
  OpenPeer();
  Resume();
}

void Stdio::OpenPeer() { peer_ = Fd(ioctl(out_.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)); }

ssize_t Stdio::WriteStdin(const char* bytes, size_t size) {
  const int fd = options_.terminal ? out_.get() : in_.get();
  if (fd < 0) return -1;
  const ssize_t done = write(fd, bytes, size);
  if (done == static_cast<ssize_t>(size)) return done;
  if (done < 0 && errno != EAGAIN && errno != EINTR) {
    if (!options_.terminal) CloseStdin(true);
    return -1;
  }
  if (options_.terminal) {
    WatchSet(&out_watch_, out_watch_.events | EPOLLOUT);
  } else {
    WatchSet(&in_watch_, EPOLLOUT);
  }
  return done < 0 ? 0 : done;
}

void Stdio::CloseStdin(bool force) {
  if (!in_ || !(force || options_.stdin_once)) return;
  WatchDrop(&in_watch_);
  in_.Reset();
}

void Stdio::Resize(uint16_t rows, uint16_t columns) {
  if (!options_.terminal || !out_) return;
  const winsize size{rows, columns, 0, 0};
  ioctl(out_.get(), TIOCSWINSZ, &size);
}

void Stdio::OnIn(void* self, uint32_t) {
  auto* stdio = static_cast<Stdio*>(self);
  WatchDrop(&stdio->in_watch_);
  Connection::StdinReady(stdio);
}

void Stdio::OnOut(void* self, uint32_t events) {
  auto* stdio = static_cast<Stdio*>(self);
  if (stdio->options_.terminal && (events & EPOLLOUT)) {
    WatchSet(&stdio->out_watch_, stdio->out_watch_.events & ~static_cast<uint32_t>(EPOLLOUT));
    Connection::StdinReady(stdio);
  }
  if (events & ~static_cast<uint32_t>(EPOLLOUT)) stdio->Pump(Log::kStdout);
}

void Stdio::OnErr(void* self, uint32_t) { static_cast<Stdio*>(self)->Pump(Log::kStderr); }

void Stdio::OnRetry(void* self) {
  auto* stdio = static_cast<Stdio*>(self);
  if (!stdio->out_) return;
  stdio->OpenPeer();
  stdio->Resume();
}

int Stdio::Pump(Log::Stream stream) {
  Fd& from = stream == Log::kStdout ? out_ : err_;
  const ssize_t size = read(from.get(), g_buffer, sizeof(g_buffer));
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return -1;
  if (size <= 0) {
    if (options_.terminal) {
      // All ends of the terminal are closed or hung up (vhangup(2)), but the process lives: it may open it again.
      WatchDrop(&out_watch_);
      TimerArm(&retry_, kReopenMs);
    } else {
      CloseStream(stream);
    }
    return 0;
  }
  if (log_ != nullptr) log_->Write(stream, g_buffer, static_cast<size_t>(size));
  Connection::Output(this, stream, g_buffer, static_cast<size_t>(size));
  // A client that reads more slowly than the container writes holds back this stream, and no other container's; so does its log.
  if (IsHeldBack()) {
    WatchSet(&out_watch_, out_watch_.events & EPOLLOUT);
    WatchDrop(&err_watch_);
  }
  return 1;
}

void Stdio::CloseStream(Log::Stream stream) {
  if (stream == Log::kStdout) {
    WatchDrop(&out_watch_);
    out_.Reset();
  } else {
    WatchDrop(&err_watch_);
    err_.Reset();
  }
}

bool Stdio::IsHeldBack() const { return Connection::IsFull(this) || (log_ != nullptr && log_->HoldsBack()); }

void Stdio::Resume() {
  if (IsHeldBack()) return;
  if (out_ && !retry_.armed) WatchSet(&out_watch_, out_watch_.events | EPOLLIN);
  if (err_) WatchSet(&err_watch_, EPOLLIN);
}

void Stdio::Drain() {
  for (const Log::Stream stream : {Log::kStdout, Log::kStderr}) {
    peer_.Reset();
    for (size_t rounds = 0; rounds < kDrainMax / kReadBytes * 16; rounds++) {
      if (!(stream == Log::kStdout ? out_ : err_) || Pump(stream) <= 0) break;
    }
    if (log_ != nullptr) log_->End(stream);
  }
  Close();
}

void Stdio::Close() {
  CloseChild();
  TimerDisarm(&retry_);
  CloseStdin(true);
  if (out_) CloseStream(Log::kStdout);
  if (err_) CloseStream(Log::kStderr);
  peer_.Reset();
}

}  // namespace berth
