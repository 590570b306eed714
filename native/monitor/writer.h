// The one thread that writes to logs, so that a disk which does not answer holds up no loop. It knows nothing but its job: no memory is taken or
// given back there, since a child may be cloned at any moment (malloc's locks are the main thread's alone).
#ifndef BERTH_MONITOR_WRITER_H_
#define BERTH_MONITOR_WRITER_H_

#include <cstddef>
#include <cstdint>

namespace berth {

// Whole lines for the end of a file.
struct WriteJob {
  int fd = -1;
  const char* bytes = nullptr;
  size_t size = 0;
  // The file ends in the middle of a line that could not be taken back; before and after.
  bool torn = false;
  // Lines that could not be written.
  uint64_t dropped = 0;
};

// Whether it has a job.
bool WriterBusy();
// Gives it a job and waits for at most that long. True: done, `job` says how. False: what the job names has to stay as it is until the function
// of WriterInit is called, from the loop.
bool WriterRun(WriteJob* job, uint64_t wait_ms);
// Does so now, if the job is done, and not when the loop comes to it.
void WriterLook();
// Bytes that it has written, ever: whether a disk is slow, or does not answer.
uint64_t WriterProgress();
// Once, before the first job. False with errno.
bool WriterInit(void (*done)(const WriteJob& job));

}  // namespace berth

#endif  // BERTH_MONITOR_WRITER_H_
