// One static program with many verbs: what the built-in image and the tests' images run. It is no part of
// berth itself; it looks at, uses and attacks the container it is in, and says so in lines that a test can read.
#ifndef BERTH_ROOTFS_PROBE_H_
#define BERTH_ROOTFS_PROBE_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace probe {

// argv[0] is the verb's name. The result is the exit code.
struct Verb {
  const char* name;
  const char* arguments;
  int (*run)(int argc, char** argv);
};

struct Verbs {
  const Verb* first;
  size_t count;
};

Verbs FileVerbs();
Verbs ProcessVerbs();
Verbs SignalVerbs();
Verbs KernelVerbs();
Verbs NetworkVerbs();
Verbs ReportVerbs();

// Prints `probe: WHAT SUBJECT: ENAME (text)` of errno to stderr; returns 1.
int Fail(const char* what, const char* subject = "");
// Prints `probe: usage: …` of the running verb; returns 2.
int Usage();
// The verb's arguments of the table, for Usage.
void SetRunning(const Verb* verb);

// Reads at most size - 1 bytes of a file and ends them with a NUL. Returns false with errno set.
bool ReadText(const char* path, char* text, size_t size);
// `SIGTERM`, `TERM` or `15`; 0 where there is no such signal.
int SignalNumber(const char* name);
// Seconds of CLOCK_MONOTONIC, or of the given clock.
double Now(int clock);
void SleepSeconds(double seconds);
// Name of a capability, or nullptr.
const char* CapabilityName(unsigned number);

}  // namespace probe

#endif  // BERTH_ROOTFS_PROBE_H_
