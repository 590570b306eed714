#include "call.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "connection.h"
#include "output.h"
#include "protocol.h"
#include "texts.h"

extern char** environ;

namespace berth {
namespace {

// A daemon that has not said within this time that it does the call hangs, or is busier than a Node of our own would be.
constexpr int kAnswerMs = 300;
// `systemd-run` comes again while systemd is busy.
constexpr int kChildrenMax = 1024;
constexpr int kSignalBase = 128;
constexpr int kLost = 1;
constexpr int kLostExec = 255;

// About this process, or said by the kernel to who has failed; and those that Node cannot listen to. As in src/kernel/caller.ts.
constexpr int kKept[] = {SIGCHLD, SIGPIPE, SIGURG, SIGWINCH, SIGKILL, SIGSTOP, SIGPROF, SIGSEGV,
                         SIGBUS,  SIGFPE,  SIGILL, SIGTRAP,  SIGSYS,  SIGABRT, SIGPOLL, SIGSTKFLT};
// The last that have names; Node hears no others.
constexpr int kLastNamed = 31;

class Conversation {
 public:
  explicit Conversation(const Call& call) : call_(call) {}

  int Run();

 private:
  bool Ask();
  bool Listen(bool on);
  bool Take(const FrontFrame& frame, int* code);
  bool Wait();
  void HandOn();
  bool TellSignal(uint32_t signal);
  bool Spawn(const FrontFrame& frame);
  bool Reap(int child);
  bool TellEnd(int child, int code, int error);
  bool Kill(const FrontFrame& frame);
  int Lost() const;

  const Call& call_;
  DaemonConnection daemon_;
  Fd signals_;
  struct Child {
    pid_t pid;
    Fd fd;
  };
  Child children_[kChildrenMax];
  int count_ = 0;
};

bool Conversation::Ask() {
  char directory[4096];
  if (!daemon_.Connect(call_.socket) || !::getcwd(directory, sizeof(directory))) return false;
  TextWriter<kCallBytesMax> texts;
  const mode_t mask = ::umask(0);
  ::umask(mask);
  texts.Add(kProtocol);
  texts.Add(call_.build);
  texts.Add(call_.program);
  texts.Add(directory);
  texts.Add(static_cast<long>(mask));
  texts.Add(static_cast<long>(call_.argc - 1));
  for (int i = 1; i < call_.argc; i++) texts.Add(call_.argv[i]);
  for (char** variable = environ; *variable; variable++) texts.Add(*variable);
  FrontFrame answer = {};
  return texts.good() && daemon_.Send(kFrameCall, texts.bytes(), texts.size()) && daemon_.Receive(&answer, kAnswerMs) &&
         answer.type == kFrameReady && daemon_.Send(kFrameGo, nullptr, 0);
}

bool Conversation::Listen(bool on) {
  sigset_t heard;
  ::sigemptyset(&heard);
  for (int signal = 1; on && signal <= kLastNamed; signal++) ::sigaddset(&heard, signal);
  for (const int signal : kKept) ::sigdelset(&heard, signal);
  if (::sigprocmask(SIG_SETMASK, &heard, nullptr) != 0) return false;
  signals_ = on ? Fd(::signalfd(-1, &heard, SFD_CLOEXEC | SFD_NONBLOCK)) : Fd();
  return !on || static_cast<bool>(signals_);
}

void Conversation::HandOn() {
  signalfd_siginfo info;
  if (::read(signals_.get(), &info, sizeof(info)) != sizeof(info)) return;
  TellSignal(info.ssi_signo);
}

bool Conversation::TellSignal(uint32_t signal) { return daemon_.Send(kFrameSignal, &signal, sizeof(signal)); }

bool Conversation::Spawn(const FrontFrame& frame) {
  int passed[kPassedMax];
  const int passed_count = daemon_.TakePassed(passed);
  if (count_ == kChildrenMax) return false;
  Child& child = children_[count_++];
  child.pid = SpawnChild(frame.bytes, frame.size, passed, passed_count);
  if (child.pid > 0) child.fd = Fd(static_cast<int>(::syscall(SYS_pidfd_open, child.pid, 0)));
  if (child.fd) return true;
  return TellEnd(count_ - 1, kLost, errno);
}

bool Conversation::Reap(int number) {
  Child& child = children_[number];
  int status = 0;
  if (::waitpid(child.pid, &status, 0) != child.pid) return false;
  child.fd.Reset();
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : kSignalBase + WTERMSIG(status);
  // A daemon that is gone is met at the next reading.
  TellEnd(number, code, 0);
  return true;
}

bool Conversation::TellEnd(int number, int code, int error) {
  const uint32_t ended[3] = {static_cast<uint32_t>(number), static_cast<uint32_t>(code), static_cast<uint32_t>(error)};
  return daemon_.Send(kFrameEnded, ended, sizeof(ended));
}

bool Conversation::Kill(const FrontFrame& frame) {
  uint32_t number = 0;
  if (frame.size != sizeof(number)) return false;
  ::memcpy(&number, frame.bytes, sizeof(number));
  // Not waited for yet: its number is its own.
  if (number < static_cast<uint32_t>(count_) && children_[number].fd) ::kill(-children_[number].pid, SIGKILL);
  return true;
}

// False: the daemon is no longer there.
bool Conversation::Wait() {
  pollfd wait[2 + kChildrenMax];
  wait[0] = {daemon_.fd(), POLLIN, 0};
  wait[1] = {signals_.get(), POLLIN, 0};
  for (int i = 0; i < count_; i++) wait[2 + i] = {children_[i].fd.get(), POLLIN, 0};
  if (::poll(wait, static_cast<nfds_t>(2 + count_), -1) < 0) return errno == EINTR;
  if (wait[1].revents) HandOn();
  for (int i = 0; i < count_; i++) {
    if (wait[2 + i].revents && !Reap(i)) return false;
  }
  return true;
}

// False: something that the daemon should not have said.
bool Conversation::Take(const FrontFrame& frame, int* code) {
  const char first = frame.size > 0 ? frame.bytes[0] : '\0';
  switch (frame.type) {
    case kFrameWrite:
      if (first != 1 && first != 2) return false;
      WriteAll(first, frame.bytes + 1, frame.size - 1);
      return true;
    case kFrameSpawn:
      return Spawn(frame);
    case kFrameListen:
      return frame.size == 1 && Listen(first == 1) && (first != 1 || TellSignal(0));
    case kFrameKill:
      return Kill(frame);
    case kFrameNotHere:
      *code = -1;
      return true;
    case kFrameExit: {
      uint32_t value = 0;
      if (frame.size != sizeof(value)) return false;
      ::memcpy(&value, frame.bytes, sizeof(value));
      *code = static_cast<int>(value & 0xff);
      return true;
    }
  }
  return false;
}

int Conversation::Lost() const {
  ::dprintf(2, "%s: the daemon at %s has ended while it did this; look at the container before you try again\n", call_.program, call_.socket);
  for (int i = 1; i < call_.argc; i++) {
    if (::strcmp(call_.argv[i], "exec") == 0) return kLostExec;
  }
  return kLost;
}

int Conversation::Run() {
  if (!Ask()) return -1;
  // A reader that has gone is no reason to end before what was begun.
  ::signal(SIGPIPE, SIG_IGN);
  constexpr int kUndecided = -2;
  int code = kUndecided;
  while (code == kUndecided) {
    if (!daemon_.has_frame()) {
      if (!Wait()) return Lost();
      pollfd there = {daemon_.fd(), POLLIN, 0};
      if (::poll(&there, 1, 0) != 1) continue;
    }
    FrontFrame frame = {};
    if (!daemon_.Receive(&frame, -1) || !Take(frame, &code)) return Lost();
  }
  if (code == -1) ::signal(SIGPIPE, SIG_DFL);
  return code;
}

}  // namespace

int CallDaemon(const Call& call) {
  Conversation conversation(call);
  return conversation.Run();
}

}  // namespace berth
