#include "streams.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

namespace berth {

int WriteAll(int fd, const char* bytes, size_t size, const Meanwhile& meanwhile) {
  while (size > 0) {
    pollfd ready[2] = {{fd, POLLOUT, 0}, {meanwhile.fd, POLLIN, 0}};
    if (::poll(ready, 2, -1) < 0) continue;
    if (ready[1].revents) meanwhile.act(meanwhile.context);
    if (!ready[0].revents) continue;
    // Of a pipe that is ready so much is taken without waiting.
    const ssize_t written = ::write(fd, bytes, size < PIPE_BUF ? size : PIPE_BUF);
    if (written < 0) {
      if (errno == EAGAIN || errno == EINTR) continue;
      return errno;
    }
    bytes += written;
    size -= static_cast<size_t>(written);
  }
  return 0;
}

long ReadInput(char (&bytes)[kInputBytesMax]) {
  const ssize_t size = ::read(0, bytes, sizeof(bytes));
  if (size < 0) return errno == EAGAIN || errno == EINTR ? -1 : 0;
  return size;
}

}  // namespace berth
