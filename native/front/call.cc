#include "call.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/texts.h"
#include "child.h"
#include "connection.h"
#include "protocol.h"
#include "streams.h"
#include "terminal.h"

extern char** environ;

namespace berth {
namespace {

// A daemon that has not said within this time that it does the call hangs, or is busier than a Node of our own would be.
constexpr int kAnswerMs = 300;
// `systemd-run` comes again while systemd is busy.
constexpr int kChildrenMax = 1024;
// Above all exit codes.
constexpr int kSignalEnded = 256;
// For the daemon, a signal, stdin.
constexpr int kWaits = 3;
constexpr int kLost = 1;
constexpr int kLostExec = 255;
// Of `berth`, as of all its own failures.
constexpr int kLostBerth = 125;
// The last that have names.
constexpr int kLastNamed = 31;

class Conversation {
 public:
  explicit Conversation(Call* call) : call_(*call) {}

  int Run();

 private:
  bool Ask();
  bool PrepareAhead();
  bool Listen(uint32_t signals);
  bool Output(const FrontFrame& frame);
  bool SendInput();
  bool TakeInstead(const FrontFrame& frame);
  bool Take(const FrontFrame& frame, int* code);
  bool Wait();
  void HandOn();
  bool TellSignal(uint32_t signal);
  bool Spawn(const FrontFrame& frame);
  bool Reap(int child);
  bool TellEnd(int child, int code, int error);
  bool Kill(const FrontFrame& frame);
  int Lost();

  Call& call_;
  bool wants_input_ = false;
  // What Lost goes on with.
  char* instead_ = nullptr;
  char** instead_words_ = nullptr;
  int instead_count_ = 0;
  DaemonConnection daemon_;
  Fd signals_;
  struct Child {
    pid_t pid;
    Fd fd;
  };
  Child children_[kChildrenMax];
  int count_ = 0;
  WaitingChild waiting_;
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
  const TerminalSize size = StdoutSize();
  texts.Add(Terminals());
  texts.Add(static_cast<long>(size.rows));
  texts.Add(static_cast<long>(size.columns));
  texts.Add(static_cast<long>(call_.argc - 1));
  for (int i = 1; i < call_.argc; i++) texts.Add(call_.argv[i]);
  for (char** variable = environ; *variable; variable++) texts.Add(*variable);
  FrontFrame answer = {};
  return texts.good() && daemon_.Send(kFrameCall, texts.bytes(), texts.size(), kAnswerMs) && daemon_.Receive(&answer, kAnswerMs) &&
         answer.type == kFrameReady && PrepareAhead() && daemon_.Send(kFrameGo, nullptr, 0);
}

// What the daemon will need a child of, if it has said so.
bool Conversation::PrepareAhead() {
  int passed[kPassedMax];
  const int count = daemon_.TakePassed(passed);
  for (int i = 1; i < count; i++) ::close(passed[i]);
  if (count > 0) waiting_.Prepare(Fd(passed[0]));
  return true;
}

bool Conversation::Listen(uint32_t signals) {
  sigset_t heard;
  ::sigemptyset(&heard);
  for (int signal = 1; signal <= kLastNamed; signal++) {
    if (signals >> (signal - 1) & 1) ::sigaddset(&heard, signal);
  }
  if (::sigprocmask(SIG_SETMASK, &heard, nullptr) != 0) return false;
  signals_ = signals != 0 ? Fd(::signalfd(-1, &heard, SFD_CLOEXEC | SFD_NONBLOCK)) : Fd();
  return signals == 0 || static_cast<bool>(signals_);
}

void Conversation::HandOn() {
  signalfd_siginfo info;
  if (::read(signals_.get(), &info, sizeof(info)) != sizeof(info)) return;
  if (info.ssi_signo == SIGWINCH) {
    const TerminalSize size = StdoutSize();
    const uint32_t frame[2] = {size.rows, size.columns};
    daemon_.Send(kFrameSize, frame, sizeof(frame));
    return;
  }
  TellSignal(info.ssi_signo);
}

bool Conversation::TellSignal(uint32_t signal) { return daemon_.Send(kFrameSignal, &signal, sizeof(signal)); }

// A reader that has gone is the daemon's to judge.
bool Conversation::Output(const FrontFrame& frame) {
  const char fd = frame.size > 0 ? frame.bytes[0] : '\0';
  if (fd != 1 && fd != 2) return false;
  const auto hand_on = [](void* self) { static_cast<Conversation*>(self)->HandOn(); };
  const auto error = static_cast<uint32_t>(WriteAll(fd, frame.bytes + 1, frame.size - 1, {signals_.get(), hand_on, this}));
  return frame.type == kFrameWrite || daemon_.Send(kFrameWritten, &error, sizeof(error));
}

bool Conversation::SendInput() {
  static char bytes[kInputBytesMax];
  const long size = ReadInput(bytes);
  if (size < 0) return true;
  wants_input_ = false;
  return daemon_.Send(kFrameInput, bytes, static_cast<size_t>(size));
}

bool Conversation::TakeInstead(const FrontFrame& frame) {
  ::free(instead_);
  ::free(instead_words_);
  instead_ = nullptr;
  instead_words_ = nullptr;
  if (frame.size == 0) return true;
  instead_ = static_cast<char*>(::malloc(frame.size));
  instead_words_ = static_cast<char**>(::calloc(frame.size + 2, sizeof(char*)));
  if (!instead_ || !instead_words_) return false;
  ::memcpy(instead_, frame.bytes, frame.size);
  TextReader reader(instead_, frame.size);
  instead_words_[0] = call_.argv[0];
  instead_count_ = 1;
  while (!reader.done() && reader.good()) instead_words_[instead_count_++] = const_cast<char*>(reader.Next());
  return reader.good();
}

bool Conversation::Spawn(const FrontFrame& frame) {
  int passed[kPassedMax];
  const int passed_count = daemon_.TakePassed(passed);
  if (count_ == kChildrenMax) return false;
  Child& child = children_[count_++];
  child.pid = SpawnChild(frame.bytes, frame.size, passed, passed_count, &waiting_);
  if (child.pid > 0) child.fd = Fd(static_cast<int>(::syscall(SYS_pidfd_open, child.pid, 0)));
  if (child.fd) return true;
  return TellEnd(count_ - 1, kLost, errno);
}

bool Conversation::Reap(int number) {
  Child& child = children_[number];
  int status = 0;
  if (::waitpid(child.pid, &status, 0) != child.pid) return false;
  child.fd.Reset();
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : kSignalEnded + WTERMSIG(status);
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
  pollfd wait[kWaits + kChildrenMax];
  wait[0] = {daemon_.fd(), POLLIN, 0};
  wait[1] = {signals_.get(), POLLIN, 0};
  wait[2] = {wants_input_ ? 0 : -1, POLLIN, 0};
  for (int i = 0; i < count_; i++) wait[kWaits + i] = {children_[i].fd.get(), POLLIN, 0};
  if (::poll(wait, static_cast<nfds_t>(kWaits + count_), -1) < 0) return errno == EINTR;
  if (wait[1].revents) HandOn();
  // For a daemon that is gone it is left where it is: who goes on reads it.
  if (wait[2].revents && !(wait[0].revents & (POLLHUP | POLLERR)) && !SendInput()) return false;
  for (int i = 0; i < count_; i++) {
    if (wait[kWaits + i].revents && !Reap(i)) return false;
  }
  return true;
}

// False: something that the daemon should not have said.
bool Conversation::Take(const FrontFrame& frame, int* code) {
  const char first = frame.size > 0 ? frame.bytes[0] : '\0';
  switch (frame.type) {
    case kFrameWrite:
    case kFrameOutput:
      return Output(frame);
    case kFrameWant:
      wants_input_ = first == 1;
      return frame.size == 1;
    case kFrameRaw:
      first == 1 ? EnterRaw() : LeaveRaw();
      return frame.size == 1;
    case kFrameInstead:
      return TakeInstead(frame);
    case kFrameSpawn:
      return Spawn(frame);
    case kFrameListen: {
      uint32_t signals = 0;
      if (frame.size != sizeof(signals)) return false;
      ::memcpy(&signals, frame.bytes, sizeof(signals));
      return Listen(signals) && (signals == 0 || TellSignal(0));
    }
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

int Conversation::Lost() {
  if (instead_) {
    Listen(0);
    call_.argc = instead_count_;
    call_.argv = instead_words_;
    return -1;
  }
  ::dprintf(2, "%s: the daemon at %s has ended while it did this; look at the container before you try again\n", call_.program, call_.socket);
  if (::strcmp(call_.program, "berth") == 0) return kLostBerth;
  for (int i = 1; i < call_.argc; i++) {
    if (::strcmp(call_.argv[i], "exec") == 0) return kLostExec;
  }
  return kLost;
}

int Conversation::Run() {
  if (!Ask()) return -1;
  // Whatever the caller has left blocked or ignored, as in Node: ends of children that are ignored could not be waited for.
  Listen(0);
  ::signal(SIGCHLD, SIG_DFL);
  // A reader that has gone is no reason to end before what was begun.
  ::signal(SIGPIPE, SIG_IGN);
  waiting_.Start();
  constexpr int kUndecided = -2;
  int code = kUndecided;
  bool is_begun = false;
  while (code == kUndecided) {
    if (!daemon_.has_frame()) {
      pollfd there = {daemon_.fd(), POLLIN, 0};
      if (Wait() && ::poll(&there, 1, 0) == 0) continue;
    }
    FrontFrame frame = {};
    const bool is_there = daemon_.Receive(&frame, -1);
    // It has given up waiting just before it was told to begin.
    const bool is_unheard = !is_begun && daemon_.was_reset();
    if (!is_there || !Take(frame, &code)) code = is_unheard ? -1 : Lost();
    is_begun = true;
  }
  LeaveRaw();
  if (code == -1) ::signal(SIGPIPE, SIG_DFL);
  return code;
}

}  // namespace

int CallDaemon(Call* call) {
  Conversation conversation(call);
  return conversation.Run();
}

}  // namespace berth
