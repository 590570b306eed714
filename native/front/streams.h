// The caller's stdin, stdout and stderr.
#ifndef BERTH_FRONT_STREAMS_H_
#define BERTH_FRONT_STREAMS_H_

#include <cstddef>

namespace berth {

inline constexpr size_t kInputBytesMax = 64 * 1024;

// What is called while a reader that is slow is waited for, and `fd`, whose readability tells of it (-1: nothing does).
struct Meanwhile {
  int fd;
  void (*act)(void* context);
  void* context;
};

// Writes all of it. 0, or the errno of what was not taken.
int WriteAll(int fd, const char* bytes, size_t size, const Meanwhile& meanwhile = {-1, nullptr, nullptr});

// Some bytes of stdin, which is readable; 0 at its end, and where it cannot be read; -1: there are none yet.
long ReadInput(char (&bytes)[kInputBytesMax]);

}  // namespace berth

#endif  // BERTH_FRONT_STREAMS_H_
