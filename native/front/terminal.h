// The caller's terminal: its size, and raw for as long as a program with a terminal of its own is at the other end.
#ifndef BERTH_FRONT_TERMINAL_H_
#define BERTH_FRONT_TERMINAL_H_

namespace berth {

struct TerminalSize {
  unsigned rows = 0;
  unsigned columns = 0;
};

// A bit for each of the descriptors 0 to 2 that is a terminal.
long Terminals();

// Of stdout's; zeros where it is none.
TerminalSize StdoutSize();

// stdin's; it is as it was again after LeaveRaw, and before SIGINT, SIGTERM, SIGHUP or SIGQUIT ends this process.
void EnterRaw();
void LeaveRaw();

}  // namespace berth

#endif  // BERTH_FRONT_TERMINAL_H_
