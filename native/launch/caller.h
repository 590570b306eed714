// What berth-launch and whoever called it have to do with each other.
#ifndef BERTH_LAUNCH_CALLER_H_
#define BERTH_LAUNCH_CALLER_H_

#include <sys/types.h>

#include "../common/fd.h"

namespace berth {

// The descriptors that the caller gives, after stdio.
enum : int { kReport = 3, kCommands = 4, kPlan = 5, kPlace = 6, kProgramStdio = 7, kFirstPreserved = 10 };

// One line of JSON each. Those of errors give 1, the exit code.
void ReportNumber(const char* what, int64_t number);
int ReportError(const char* stage, int error, const char* text);
// With errno.
int Failed(const char* stage);

// Whoever has put us into a scope moves us into a group of our own there, and makes that of the container. False where that has failed.
bool AwaitScope();

// To who listens at a socket of the engine's; none with errno set.
Fd ConnectTo(const char* path);
// Hands a pty's master to who listens there; false with errno set.
bool SendTerminalTo(const char* path, int master);

// Waits for its end; the exit code, 128+n for signal n.
int Reap(const Fd& pidfd);

}  // namespace berth

#endif  // BERTH_LAUNCH_CALLER_H_
