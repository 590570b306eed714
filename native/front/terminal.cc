#include "terminal.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

namespace berth {
namespace {

constexpr int kEnding[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

termios before;
volatile sig_atomic_t is_raw = 0;

void RestoreAndEnd(int signal) {
  ::tcsetattr(0, TCSANOW, &before);
  // By default, as sigaction has been told.
  ::raise(signal);
}

void OnEnding(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
  for (const int signal : kEnding) ::sigaction(signal, &action, nullptr);
}

}  // namespace

long Terminals() {
  long terminals = 0;
  for (int fd = 0; fd <= 2; fd++) terminals |= ::isatty(fd) ? 1L << fd : 0;
  return terminals;
}

TerminalSize StdoutSize() {
  winsize size = {};
  if (::ioctl(1, TIOCGWINSZ, &size) != 0) return {};
  return {size.ws_row, size.ws_col};
}

void EnterRaw() {
  if (is_raw || ::tcgetattr(0, &before) != 0) return;
  is_raw = 1;
  OnEnding(RestoreAndEnd);
  // As Node's raw mode, but nor is output translated: the program's own terminal has done that already.
  termios raw = before;
  raw.c_iflag &= ~static_cast<tcflag_t>(BRKINT | ICRNL | INPCK | ISTRIP | IXON);
  raw.c_oflag &= ~static_cast<tcflag_t>(OPOST);
  raw.c_cflag |= CS8;
  raw.c_lflag &= ~static_cast<tcflag_t>(ECHO | ICANON | IEXTEN | ISIG);
  raw.c_cc[VMIN] = 1;
  raw.c_cc[VTIME] = 0;
  ::tcsetattr(0, TCSADRAIN, &raw);
}

void LeaveRaw() {
  if (!is_raw) return;
  ::tcsetattr(0, TCSADRAIN, &before);
  is_raw = 0;
  OnEnding(SIG_DFL);
}

}  // namespace berth
