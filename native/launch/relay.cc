#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "../common/fd.h"

namespace berth {
namespace {

class RawTerminal {
 public:
  explicit RawTerminal(int fd) : fd_(fd) {
    if (::tcgetattr(fd_, &before_) != 0) return;
    termios raw = before_;
    ::cfmakeraw(&raw);
    raw_ = ::tcsetattr(fd_, TCSANOW, &raw) == 0;
  }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;
  ~RawTerminal() {
    if (raw_) ::tcsetattr(fd_, TCSANOW, &before_);
  }

 private:
  int fd_;
  termios before_ = {};
  bool raw_ = false;
};

void CopySize(int stdio, int master) {
  winsize size = {};
  for (int fd = stdio; fd < stdio + 3; fd++) {
    if (::ioctl(fd, TIOCGWINSZ, &size) != 0) continue;
    ::ioctl(master, TIOCSWINSZ, &size);
    return;
  }
}

// What is on its way in one direction.
struct Flow {
  int from;
  int to;
  char bytes[4096];
  ssize_t size = 0;
  ssize_t done = 0;
  bool open = true;

  Flow(int source, int sink) : from(source), to(sink) {}

  bool pending() const { return done < size; }

  void Fill() {
    done = 0;
    size = ::read(from, bytes, sizeof(bytes));
    if (size > 0) return;
    // EIO: the last slave is closed.
    if (size == 0 || (errno != EAGAIN && errno != EINTR)) open = false;
    size = 0;
  }

  void Flush() {
    const ssize_t written = ::write(to, bytes + done, static_cast<size_t>(size - done));
    if (written > 0) {
      done += written;
    } else if (errno != EAGAIN && errno != EINTR) {
      // Nobody reads any more: what comes is dropped, so that the program goes on.
      size = done = 0;
    }
  }
};

pollfd Wish(const Flow& flow) {
  if (flow.pending()) return {flow.to, POLLOUT, 0};
  return {flow.open ? flow.from : -1, POLLIN, 0};
}

void Move(Flow* flow, const pollfd& answer) {
  if (!answer.revents) return;
  if (flow->pending()) {
    flow->Flush();
  } else {
    flow->Fill();
  }
}

}  // namespace

void RelayTerminal(int master, int stdio, int pidfd) {
  sigset_t resized;
  ::sigemptyset(&resized);
  ::sigaddset(&resized, SIGWINCH);
  const Fd signals(::signalfd(-1, &resized, SFD_CLOEXEC | SFD_NONBLOCK));
  ::fcntl(master, F_SETFL, O_RDWR | O_NONBLOCK);
  CopySize(stdio, master);
  const RawTerminal raw(stdio);
  Flow in(stdio, master);
  Flow out(master, stdio + 1);
  bool ended = false;
  // What the program has written before its end is shown; a child of its that holds the terminal is not waited for.
  while (!ended || out.pending()) {
    pollfd wait[4] = {Wish(in), Wish(out), {signals.get(), POLLIN, 0}, {ended ? -1 : pidfd, POLLIN, 0}};
    if (::poll(wait, 4, -1) < 0) continue;
    Move(&in, wait[0]);
    Move(&out, wait[1]);
    if (wait[2].revents) {
      signalfd_siginfo info;
      (void)!::read(signals.get(), &info, sizeof(info));
      CopySize(stdio, master);
    }
    if (wait[3].revents) ended = true;
    if (ended && !out.pending() && out.open) out.Fill();
  }
}

}  // namespace berth
