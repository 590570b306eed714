// What belongs to the monitor as a whole: its directory, its status file, its end.
#ifndef BERTH_MONITOR_MONITOR_H_
#define BERTH_MONITOR_MONITOR_H_

#include "../common/fd.h"
#include "../common/json.h"
#include "process.h"

namespace berth {

// Takes over the directory, the listening socket and the locked file `alive`.
void RunMonitor(Fd directory, Fd listener, Fd alive);

// Says that status.json is out of date; it is written before the loop waits again.
void StatusChanged();
// Writes it now, if it is.
void SaveStatus();
void WriteStatus(JsonWriter* json);

// The end was asked for: the monitor goes when nothing of it lives.
void MonitorQuit();

// Writes `name` in a directory (AT_FDCWD for a path) under a temporary name first. False with errno.
bool WriteFileAtomic(int directory, const char* name, const char* bytes, size_t size, mode_t mode);

// Starts a program of the host's that nobody waits for.
void RunCommand(char* const* arguments);

}  // namespace berth

#endif  // BERTH_MONITOR_MONITOR_H_
