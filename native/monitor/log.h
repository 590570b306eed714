// A container's log in the kubelet's CRI format.
#ifndef BERTH_MONITOR_LOG_H_
#define BERTH_MONITOR_LOG_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "../common/fd.h"

namespace berth {

// Each line of output becomes `RFC3339Nano stream F line`; a line longer than kLogLineMax is split into `P` pieces
// that end with an `F`, and what a stream leaves unterminated at its end is a `P`.
//
// Nothing in here waits for space on a disk: what cannot be written is dropped, line by line, and counted.
class Log {
 public:
  enum Stream { kStdout = 0, kStderr = 1 };

  ~Log();

  // Opens (or, for a rotated log, opens anew) the file. An open log stays as it was when this fails (errno).
  bool Open(const char* path);
  bool IsOpen() const { return static_cast<bool>(file_); }

  void Write(Stream stream, const char* bytes, size_t length);
  // The stream has ended: writes what it left unterminated.
  void End(Stream stream);

  // Lines, or pieces of lines, that could not be written.
  uint64_t dropped() const { return dropped_; }

  // Gives memory back that only output needs.
  void Trim();

 private:
  // The start of a line that has not ended yet.
  struct Pending {
    char* bytes = nullptr;
    uint32_t length = 0;
    uint32_t capacity = 0;
  };

  void Keep(Pending* pending, const char* bytes, size_t length);
  void Entry(const char* head, size_t head_length, char tag, const Pending& start, const char* rest, size_t length);
  void Flush();

  Fd file_;
  Pending pending_[2];
  uint64_t dropped_ = 0;
  // The file ends in the middle of a line that could not be taken back.
  bool torn_ = false;
};

// Frees the pages of the buffer that all logs format into.
void TrimLogBuffer();

}  // namespace berth

#endif  // BERTH_MONITOR_LOG_H_
