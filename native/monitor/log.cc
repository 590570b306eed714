#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

namespace berth {
namespace {

// The kubelet's own limit of a line's length, without what we put before it.
constexpr size_t kLogLineMax = 16384;
// `2006-01-02T15:04:05.000000000Z stdout F `
constexpr size_t kHeadMax = 48;
// One write(2) of the log: what a full pipe of 100-byte lines becomes, and the largest entry several times over.
constexpr size_t kBufferBytes = 128 * 1024;

// All logs format into one buffer: the monitor has one thread, and each call of Write ends with a write.
alignas(4096) char g_buffer[kBufferBytes];
size_t g_used = 0;

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

Log::~Log() {
  free(pending_[0].bytes);
  free(pending_[1].bytes);
}

bool Log::Open(const char* path) {
  // Without following a link: the directory may belong to a kubelet that lets others write there.
  Fd file(open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0640));
  if (!file) return false;
  struct stat info;
  if (fstat(file.get(), &info) != 0) return false;
  // A fifo or a terminal at that path would make the monitor wait for its reader.
  if (!S_ISREG(info.st_mode)) {
    errno = EINVAL;
    return false;
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
  if (g_used + head_length + 3 + start.length + length > kBufferBytes) Flush();
  char* at = g_buffer + g_used;
  memcpy(at, head, head_length);
  at += head_length;
  *at++ = tag;
  *at++ = ' ';
  if (start.length > 0) memcpy(at, start.bytes, start.length);
  at += start.length;
  if (length > 0) memcpy(at, rest, length);
  at += length;
  *at++ = '\n';
  g_used = static_cast<size_t>(at - g_buffer);
}

void Log::Flush() {
  const char* from = g_buffer;
  size_t left = g_used;
  g_used = 0;
  if (torn_ && left > 0) {
    // Ends the line of which a part is in the file, so that it damages no further one.
    if (write(file_.get(), "\n", 1) == 1) torn_ = false;
  }
  while (left > 0 && !torn_) {
    const ssize_t done = write(file_.get(), from, left);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) break;
    from += done;
    left -= static_cast<size_t>(done);
  }
  if (left == 0) return;
  // The disk is full or broken. What is whole stays; the part of a line is taken back.
  size_t part = 0;
  if (!torn_) {
    while (from - part > g_buffer && from[-1 - static_cast<ptrdiff_t>(part)] != '\n') part++;
  }
  if (part > 0) {
    const off_t size = lseek(file_.get(), 0, SEEK_END);
    if (size < static_cast<off_t>(part) || ftruncate(file_.get(), size - static_cast<off_t>(part)) != 0) torn_ = true;
  }
  for (size_t i = 0; i < left; i++) {
    if (from[i] == '\n') dropped_++;
  }
}

void TrimLogBuffer() { madvise(g_buffer, sizeof(g_buffer), MADV_DONTNEED); }

}  // namespace berth
