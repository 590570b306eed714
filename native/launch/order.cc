#include "order.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common/order.h"
#include "../common/texts.h"

namespace berth {
namespace {

struct Order {
  char bytes[kOrderBytesMax];
  size_t size = 0;
  int fds[kOrderFdsMax];
  int count = 0;
};

bool Receive(int socket, Order* order) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(order->fds))];
  iovec part = {order->bytes, sizeof(order->bytes)};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t size;
  do size = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (size < 0 && errno == EINTR);
  if (size <= 0 || message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) return false;
  order->size = static_cast<size_t>(size);
  const cmsghdr* head = CMSG_FIRSTHDR(&message);
  if (!head || head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) return false;
  order->count = static_cast<int>((head->cmsg_len - CMSG_LEN(0)) / sizeof(int));
  ::memcpy(order->fds, CMSG_DATA(head), static_cast<size_t>(order->count) * sizeof(int));
  return true;
}

// From 0 on, and nothing else.
bool Place(Order* order) {
  // First all out of the way, above the numbers that are given out.
  for (int i = 0; i < order->count; i++) {
    order->fds[i] = ::fcntl(order->fds[i], F_DUPFD_CLOEXEC, order->count);
    if (order->fds[i] < 0) return false;
  }
  for (int i = 0; i < order->count; i++) {
    if (::dup2(order->fds[i], i) < 0) return false;
  }
  return ::syscall(SYS_close_range, order->count, ~0U, 0) == 0;
}

}  // namespace

bool TakeOrder(int* argc, char*** argv) {
  // As long as this program runs: the words are in it.
  static Order order;
  static char* words[kOrderWordsMax + 1];
  if (!Receive(0, &order) || !Place(&order)) return false;
  TextReader reader(order.bytes, order.size);
  size_t count = 0;
  while (!reader.done() && reader.good() && count < kOrderWordsMax) words[count++] = const_cast<char*>(reader.Next());
  *argc = static_cast<int>(count);
  *argv = words;
  return reader.good() && reader.done();
}

}  // namespace berth
