#include "connection.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>

#include "protocol.h"

namespace berth {
namespace {

constexpr size_t kReadBytes = 64 * 1024;
// Our own socket is above whatever --preserve-fds can name, for the caller's descriptors keep their numbers.
constexpr int kLowestFd = 512;

int64_t NowMs() {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

}  // namespace

DaemonConnection::~DaemonConnection() {
  for (int i = 0; i < passed_count_; i++) ::close(passed_[i]);
  ::free(buffer_);
}

bool DaemonConnection::Connect(const char* path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (::strlen(path) >= sizeof(address.sun_path)) return false;
  ::strcpy(address.sun_path, path);
  const Fd low(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!low) return false;
  socket_ = Fd(::fcntl(low.get(), F_DUPFD_CLOEXEC, kLowestFd));
  if (!socket_) return false;
  if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return false;
  ucred peer = {};
  socklen_t size = sizeof(peer);
  return ::getsockopt(socket_.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == 0;
}

bool DaemonConnection::Send(char type, const void* bytes, size_t size, int timeout_ms) {
  char head[kHeadBytes];
  const auto length = static_cast<uint32_t>(size);
  ::memcpy(head, &length, sizeof(length));
  head[4] = type;
  iovec parts[2] = {{head, sizeof(head)}, {const_cast<void*>(bytes), size}};
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  while (parts[0].iov_len + parts[1].iov_len > 0) {
    ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    if (sent < 0) {
      pollfd room = {socket_.get(), POLLOUT, 0};
      if (errno == EINTR || (errno == EAGAIN && ::poll(&room, 1, timeout_ms) > 0)) continue;
      return false;
    }
    for (iovec& part : parts) {
      const size_t taken = static_cast<size_t>(sent) < part.iov_len ? static_cast<size_t>(sent) : part.iov_len;
      part.iov_base = static_cast<char*>(part.iov_base) + taken;
      part.iov_len -= taken;
      sent -= static_cast<ssize_t>(taken);
    }
  }
  return true;
}

uint32_t DaemonConnection::length() const {
  uint32_t length;
  ::memcpy(&length, buffer_ + begin_, sizeof(length));
  return length;
}

bool DaemonConnection::has_frame() const { return end_ - begin_ >= kHeadBytes && end_ - begin_ - kHeadBytes >= length(); }

bool DaemonConnection::Receive(FrontFrame* frame, int timeout_ms) {
  const int64_t deadline = NowMs() + timeout_ms;
  while (!has_frame()) {
    int64_t left = timeout_ms < 0 ? -1 : deadline - NowMs();
    if (timeout_ms >= 0 && left < 0) left = 0;
    pollfd ready = {socket_.get(), POLLIN, 0};
    const int count = ::poll(&ready, 1, static_cast<int>(left));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0 || !Read()) return false;
  }
  *frame = {buffer_[begin_ + 4], buffer_ + begin_ + kHeadBytes, length()};
  begin_ += kHeadBytes + length();
  return true;
}

bool DaemonConnection::Read() {
  if (end_ - begin_ >= kHeadBytes && length() > kFrameBytesMax) return false;
  if (begin_ > 0) ::memmove(buffer_, buffer_ + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  if (capacity_ - end_ < kReadBytes) {
    void* grown = ::realloc(buffer_, capacity_ * 2 + kReadBytes);
    if (!grown) return false;
    buffer_ = static_cast<char*>(grown);
    capacity_ = capacity_ * 2 + kReadBytes;
  }
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(passed_))];
  iovec part = {buffer_ + end_, capacity_ - end_};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t size = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
  was_reset_ = size < 0 && errno == ECONNRESET;
  if (size < 0) return errno == EAGAIN || errno == EINTR;
  end_ += static_cast<size_t>(size);
  for (cmsghdr* head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd;
      ::memcpy(&fd, CMSG_DATA(head) + i * sizeof(int), sizeof(int));
      if (passed_count_ == kPassedMax) {
        ::close(fd);
        continue;
      }
      // They too leave the caller's numbers alone.
      passed_[passed_count_] = ::fcntl(fd, F_DUPFD_CLOEXEC, kLowestFd);
      ::close(fd);
      if (passed_[passed_count_] < 0) return false;
      passed_count_++;
    }
  }
  return size > 0;
}

int DaemonConnection::TakePassed(int (&passed)[kPassedMax]) {
  ::memcpy(passed, passed_, sizeof(passed_));
  const int count = passed_count_;
  passed_count_ = 0;
  return count;
}

}  // namespace berth
