// A container's log in the kubelet's CRI format.
#ifndef BERTH_MONITOR_LOG_H_
#define BERTH_MONITOR_LOG_H_

#include <cstddef>
#include <cstdint>

#include "../common/fd.h"
#include "loop.h"
#include "writer.h"

namespace berth {

// Each line of output becomes `RFC3339Nano stream F line`; a line longer than kLogLineMax is split into `P` pieces
// that end with an `F`, and what a stream leaves unterminated at its end is a `P`.
//
// Nothing in here waits for space on a disk: what cannot be written is dropped, line by line, and counted. Nor does it wait for a disk that answers
// slowly or not at all: lines then queue here. Their container is held back as long as the disk gets on; when it has not for a second the
// container runs on, and what the queue cannot hold is dropped and counted.
class Log {
 public:
  enum Stream { kStdout = 0, kStderr = 1 };

  // `free` is called from the loop when HoldsBack or Owes has become false.
  Log(void* owner, void (*free)(void* owner));
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;
  ~Log();

  // Once, before the first log. False with errno.
  static bool Init();

  // Opens (or, for a rotated log, opens anew) the file, for all lines that are not yet on their way to the old one. An open log stays as it was when
  // this fails (errno): EAGAIN where the disk does not answer.
  bool Open(const char* path);
  bool IsOpen() const { return static_cast<bool>(file_); }

  void Write(Stream stream, const char* bytes, size_t length);
  // The stream has ended: writes what it left unterminated.
  void End(Stream stream);

  // Whether nothing more should be written to it now.
  bool HoldsBack() const { return Owes() && queued_ >= kQueueMax; }
  // Whether lines are on their way to a disk that gets on.
  bool Owes() const { return stalled_ && !hung_; }

  // Lines, or pieces of lines, that could not be written.
  uint64_t dropped() const { return dropped_; }

  // Gives memory back that only output needs.
  void Trim();

 private:
  // What may wait for the disk.
  static constexpr size_t kQueueMax = 256 * 1024;

  // Formatted lines.
  struct Block;

  // The start of a line that has not ended yet.
  struct Pending {
    char* bytes = nullptr;
    uint32_t length = 0;
    uint32_t capacity = 0;
  };

  void Keep(Pending* pending, const char* bytes, size_t length);
  void Entry(const char* head, size_t head_length, char tag, const Pending& start, const char* rest, size_t length);
  bool Reserve(size_t size);
  void Flush();
  bool Submit(uint64_t wait_ms);
  void Stall();
  void Advance();
  void Take(const WriteJob& job);
  static void OnPatience(void* self);
  static void OnWritten(const WriteJob& job);
  static Log* Waiting(Log* last);
  static void Next(Log* last);

  static Log* first_;
  static Log* writing_;    // Whose block the writer has; null also where that log is gone.
  static Block* written_;  // That block.
  static Block* spare_;    // Those that nobody needs.
  static Block* New();
  static void Free(Block* block);
  friend void TrimLogBuffer();

  Log* next_ = nullptr;
  void* owner_;
  void (*free_)(void* owner);
  Fd file_;
  Fd new_file_;  // Takes its place when the write that is under way is over.
  Block* head_ = nullptr;
  Block* tail_ = nullptr;
  size_t queued_ = 0;  // Bytes in them.
  Timer patience_;
  uint64_t progress_ = 0;
  bool stalled_ = false;  // The writer has a block of it that nobody waits for, or blocks wait for the writer.
  bool hung_ = false;
  Pending pending_[2];
  uint64_t dropped_ = 0;
  // The file ends in the middle of a line that could not be taken back.
  bool torn_ = false;
};

// Frees what no log needs now.
void TrimLogBuffer();

}  // namespace berth

#endif  // BERTH_MONITOR_LOG_H_
