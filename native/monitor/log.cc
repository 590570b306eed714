#include "log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <new>
#include <utility>

#include "log_file.h"

namespace berth {
namespace {

// The kubelet's own limit of a line's length, without what we put before it.
constexpr size_t kLogLineMax = 16384;
// `2006-01-02T15:04:05.000000000Z stdout F `
constexpr size_t kHeadMax = 48;
// What a full pipe of 100-byte lines becomes, and the largest entry several times over.
constexpr size_t kBlockBytes = 128 * 1024;
// Spare ones that are kept while there is output.
constexpr int kSpareMax = 2;

// Of so little the loop sees the end: it is in the file before any client has it, as long as the disk is fast.
constexpr size_t kWaitBytes = 16 * 1024;
constexpr uint64_t kWaitMs = 20;
// After a write that took longer nobody waits for a while.
constexpr uint64_t kSlowMs = 1000;
// Without any progress for so long the disk hangs.
constexpr uint64_t kHungMs = 1000;
// More than what the monitor has read, and what a container's pipes hold at its end, can become: a disk that is merely slow costs no line.
constexpr size_t kSlowQueueMax = 8 * 1024 * 1024;

uint64_t g_slow_until_ms = 0;
Fd g_written_file;  // Of a log that is gone.
int g_spare = 0;

void Digits(char* at, unsigned value, int count) {
  for (int i = count - 1; i >= 0; i--) {
    at[i] = static_cast<char>('0' + value % 10);
    value /= 10;
  }
}

// Writes `2006-01-02T15:04:05` of a UTC second. gmtime_r would drag in the C library's time zone files.
void FormatSecond(int64_t second, char* at) {
  const int64_t days = second / 86400;
  const unsigned rest = static_cast<unsigned>(second % 86400);
  // Civil from days: years begin in March, eras have 400 years.
  const int64_t z = days + 719468;
  const int64_t era = z / 146097;
  const unsigned doe = static_cast<unsigned>(z - era * 146097);
  const unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
  const unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
  const unsigned mp = (5 * doy + 2) / 153;
  const unsigned day = doy - (153 * mp + 2) / 5 + 1;
  const unsigned month = mp < 10 ? mp + 3 : mp - 9;
  const unsigned year = static_cast<unsigned>(era * 400 + yoe) + (month <= 2 ? 1 : 0);
  memcpy(at, "0000-00-00T00:00:00", 19);
  Digits(at, year, 4);
  Digits(at + 5, month, 2);
  Digits(at + 8, day, 2);
  Digits(at + 11, rest / 3600, 2);
  Digits(at + 14, rest / 60 % 60, 2);
  Digits(at + 17, rest % 60, 2);
}

// The head of an entry up to and with the stream's name and a blank; the tag follows.
size_t FormatHead(Log::Stream stream, char* at) {
  static int64_t second = -1;
  static char text[20];
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (now.tv_sec != second) {
    second = now.tv_sec;
    FormatSecond(second, text);
  }
  memcpy(at, text, 19);
  at[19] = '.';
  Digits(at + 20, static_cast<unsigned>(now.tv_nsec), 9);
  memcpy(at + 29, stream == Log::kStdout ? "Z stdout " : "Z stderr ", 9);
  return 38;
}

}  // namespace

struct Log::Block {
  Block* next = nullptr;
  size_t used = 0;

  static constexpr size_t kRoom = kBlockBytes - sizeof(Block*) - sizeof(size_t);
  char* bytes() { return reinterpret_cast<char*>(this + 1); }
};

Log* Log::first_ = nullptr;
Log* Log::writing_ = nullptr;
Log::Block* Log::written_ = nullptr;
Log::Block* Log::spare_ = nullptr;

Log::Block* Log::New() {
  void* memory = spare_;
  if (memory != nullptr) {
    spare_ = spare_->next;
    g_spare--;
  } else {
    memory = mmap(nullptr, kBlockBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
  }
  return new (memory) Block();
}

void Log::Free(Block* block) {
  if (g_spare == kSpareMax) {
    munmap(block, kBlockBytes);
    return;
  }
  block->next = spare_;
  spare_ = block;
  g_spare++;
}

Log::Log(void* owner, void (*free)(void* owner)) : owner_(owner), free_(free) {
  patience_.owner = this;
  patience_.fire = OnPatience;
  next_ = first_;
  first_ = this;
}

Log::~Log() {
  Log** at = &first_;
  while (*at != this) at = &(*at)->next_;
  *at = next_;
  TimerDisarm(&patience_);
  if (writing_ == this) {
    // Its number must not become another file's meanwhile.
    g_written_file = static_cast<Fd&&>(file_);
    writing_ = nullptr;
  }
  while (head_ != nullptr) Free(std::exchange(head_, head_->next));
  free(pending_[0].bytes);
  free(pending_[1].bytes);
}

bool Log::Init() { return WriterInit(OnWritten); }

bool Log::Open(const char* path) {
  // Opening would hang as well.
  if (hung_) {
    errno = EAGAIN;
    return false;
  }
  Fd file = OpenLogFile(path);
  if (!file) return false;
  if (writing_ == this) {
    new_file_ = static_cast<Fd&&>(file);
    return true;
  }
  file_ = static_cast<Fd&&>(file);
  torn_ = false;
  return true;
}

void Log::Write(Stream stream, const char* bytes, size_t length) {
  if (!file_) return;
  char head[kHeadMax];
  const size_t head_length = FormatHead(stream, head);
  Pending& pending = pending_[stream];
  const char* at = bytes;
  const char* const end = bytes + length;
  while (at < end) {
    const size_t room = kLogLineMax - pending.length;
    const size_t rest = static_cast<size_t>(end - at);
    // One byte more than fits is looked at: a line of exactly the maximum is whole.
    const size_t reach = rest < room + 1 ? rest : room + 1;
    const char* newline = static_cast<const char*>(memchr(at, '\n', reach));
    if (newline != nullptr) {
      Entry(head, head_length, 'F', pending, at, static_cast<size_t>(newline - at));
      pending.length = 0;
      at = newline + 1;
    } else if (rest > room) {
      Entry(head, head_length, 'P', pending, at, room);
      pending.length = 0;
      at += room;
    } else {
      Keep(&pending, at, rest);
      at = end;
    }
  }
  Flush();
}

void Log::End(Stream stream) {
  Pending& pending = pending_[stream];
  if (pending.length > 0 && file_) {
    char head[kHeadMax];
    const size_t head_length = FormatHead(stream, head);
    Entry(head, head_length, 'P', pending, nullptr, 0);
    Flush();
  }
  pending.length = 0;
  Trim();
}

void Log::Trim() {
  for (Pending& pending : pending_) {
    if (pending.length > 0) continue;
    free(pending.bytes);
    pending = Pending();
  }
}

void Log::Keep(Pending* pending, const char* bytes, size_t length) {
  if (pending->length + length > pending->capacity) {
    size_t capacity = 256;
    while (capacity < pending->length + length) capacity *= 2;
    char* grown = static_cast<char*>(realloc(pending->bytes, capacity));
    if (grown == nullptr) {
      dropped_++;
      pending->length = 0;
      return;
    }
    pending->bytes = grown;
    pending->capacity = static_cast<uint32_t>(capacity);
  }
  memcpy(pending->bytes + pending->length, bytes, length);
  pending->length += static_cast<uint32_t>(length);
}

void Log::Entry(const char* head, size_t head_length, char tag, const Pending& start, const char* rest, size_t length) {
  const size_t size = head_length + 3 + start.length + length;
  if (!Reserve(size)) {
    dropped_++;
    return;
  }
  char* at = tail_->bytes() + tail_->used;
  memcpy(at, head, head_length);
  at += head_length;
  *at++ = tag;
  *at++ = ' ';
  if (start.length > 0) memcpy(at, start.bytes, start.length);
  at += start.length;
  if (length > 0) memcpy(at, rest, length);
  at += length;
  *at++ = '\n';
  tail_->used += size;
  queued_ += size;
}

// Room in the last block.
bool Log::Reserve(size_t size) {
  if (queued_ + size > (hung_ ? kQueueMax : kSlowQueueMax)) return false;
  if (tail_ != nullptr && Block::kRoom - tail_->used >= size) return true;
  if (head_ != nullptr && !WriterBusy()) Submit(0);
  Block* block = New();
  if (block == nullptr) return false;
  (head_ == nullptr ? head_ : tail_->next) = block;
  tail_ = block;
  return true;
}

void Log::Flush() {
  WriterLook();
  if (head_ == nullptr) return;
  // It has earlier lines, or those of another log.
  if (WriterBusy()) return Stall();
  const bool waits = queued_ <= kWaitBytes && NowMs() >= g_slow_until_ms;
  if (!Submit(waits ? kWaitMs : 0) && waits) g_slow_until_ms = NowMs() + kSlowMs;
}

// Gives the first block to the writer. False: it has it still.
bool Log::Submit(uint64_t wait_ms) {
  written_ = head_;
  head_ = head_->next;
  if (head_ == nullptr) tail_ = nullptr;
  queued_ -= written_->used;
  writing_ = this;
  WriteJob job{file_.get(), written_->bytes(), written_->used, torn_, 0};
  if (!WriterRun(&job, wait_ms)) {
    Stall();
    return false;
  }
  Free(std::exchange(written_, nullptr));
  writing_ = nullptr;
  Take(job);
  return true;
}

void Log::Stall() {
  if (stalled_) return;
  stalled_ = true;
  progress_ = WriterProgress();
  TimerArm(&patience_, kHungMs);
}

void Log::OnPatience(void* self) {
  auto* log = static_cast<Log*>(self);
  const uint64_t progress = WriterProgress();
  const bool hung = progress == log->progress_;
  log->progress_ = progress;
  // Also when it hangs: it may get on again.
  TimerArm(&log->patience_, kHungMs);
  if (hung == log->hung_) return;
  log->hung_ = hung;
  if (hung) log->free_(log->owner_);
}

void Log::Take(const WriteJob& job) {
  torn_ = job.torn;
  dropped_ += job.dropped;
  hung_ = false;
  if (!new_file_) return;
  file_ = static_cast<Fd&&>(new_file_);
  torn_ = false;
}

void Log::OnWritten(const WriteJob& job) {
  Free(std::exchange(written_, nullptr));
  g_written_file.Reset();
  Log* log = std::exchange(writing_, nullptr);
  if (log != nullptr) log->Take(job);
  Next(log);
}

// One that has something for the writer; that log last, for none shall wait for all the lines of another.
Log* Log::Waiting(Log* last) {
  for (Log* log = last != nullptr ? last->next_ : nullptr; log != nullptr; log = log->next_) {
    if (log->head_ != nullptr) return log;
  }
  for (Log* log = first_; log != nullptr; log = log->next_) {
    if (log->head_ != nullptr) return log;
    if (log == last) return nullptr;
  }
  return nullptr;
}

void Log::Next(Log* last) {
  while (!WriterBusy() && (last = Waiting(last)) != nullptr) {
    const bool held_back = last->HoldsBack();
    last->Submit(0);
    if (held_back && !last->HoldsBack()) last->free_(last->owner_);
  }
  for (Log* log = first_; log != nullptr; log = log->next_) {
    if (log->stalled_ && log->head_ == nullptr && log != writing_) log->Advance();
  }
}

// Nothing of it is on its way.
void Log::Advance() {
  stalled_ = false;
  hung_ = false;
  TimerDisarm(&patience_);
  free_(owner_);
}

void TrimLogBuffer() {
  while (Log::spare_ != nullptr) munmap(std::exchange(Log::spare_, Log::spare_->next), kBlockBytes);
  g_spare = 0;
}

}  // namespace berth
