// What the front says.
#ifndef BERTH_FRONT_OUTPUT_H_
#define BERTH_FRONT_OUTPUT_H_

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include <cstddef>

namespace berth {

inline void WriteAll(int fd, const char* bytes, size_t size) {
  while (size > 0) {
    const ssize_t written = ::write(fd, bytes, size);
    if (written > 0) {
      bytes += written;
      size -= static_cast<size_t>(written);
      continue;
    }
    pollfd room = {fd, POLLOUT, 0};
    if (errno == EAGAIN) ::poll(&room, 1, -1);
    // The reader has gone.
    if (errno != EAGAIN && errno != EINTR) return;
  }
}

}  // namespace berth

#endif  // BERTH_FRONT_OUTPUT_H_
