// The daemon's socket as the front sees it: frames in and out, descriptors in.
#ifndef BERTH_FRONT_CONNECTION_H_
#define BERTH_FRONT_CONNECTION_H_

#include <cstddef>
#include <cstdint>

#include "../common/fd.h"

namespace berth {

inline constexpr int kPassedMax = 253;

// A payload, good until the next Receive.
struct FrontFrame {
  char type;
  const char* bytes;
  size_t size;
};

class DaemonConnection {
 public:
  DaemonConnection() = default;
  DaemonConnection(const DaemonConnection&) = delete;
  DaemonConnection& operator=(const DaemonConnection&) = delete;
  ~DaemonConnection();

  // False where nobody listens there, he is not root, or his queue is full. Never waits.
  bool Connect(const char* path);
  int fd() const { return socket_.get(); }
  // False where the other side has gone, or reads nothing for `timeout_ms` (-1: for ever).
  bool Send(char type, const void* bytes, size_t size, int timeout_ms = -1);
  // Waits for a frame, `timeout_ms` at most (-1: for ever). False at the end, an error, or when the time is up.
  bool Receive(FrontFrame* frame, int timeout_ms);
  // A whole frame is there already: Receive would not wait.
  bool has_frame() const;
  // The end came before the other side had read all that it was sent.
  bool was_reset() const { return was_reset_; }
  // The descriptors that came with what was received; the caller closes them.
  int TakePassed(int (&passed)[kPassedMax]);

 private:
  bool Read();
  uint32_t length() const;

  Fd socket_;
  char* buffer_ = nullptr;
  size_t capacity_ = 0;
  size_t begin_ = 0;
  size_t end_ = 0;
  bool was_reset_ = false;
  int passed_[kPassedMax];
  int passed_count_ = 0;
};

}  // namespace berth

#endif  // BERTH_FRONT_CONNECTION_H_
