// What a client sends over the monitor's socket: frames, and the requests in them. It is the monitor's own code, but for its main loop.
#include <sys/socket.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "../../../native/common/fd.h"
#include "../../../native/common/tags.h"
#include "../../../native/monitor/connection.h"
#include "../../../native/monitor/container.h"
#include "../../../native/monitor/exec.h"
#include "../../../native/monitor/log.h"
#include "../../../native/monitor/loop.h"

namespace berth {
namespace {

constexpr size_t kHead = 5;

// A container is not made, nor a pod: the paths and programs of an input are not to be opened and run on this machine. Their plans are read by
// the target `plan`.
std::string Harmless(const uint8_t* data, size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  for (size_t at = 0; at + kHead <= bytes.size();) {
    uint32_t length = 0;
    memcpy(&length, bytes.data() + at, sizeof(length));
    auto& type = reinterpret_cast<uint8_t&>(bytes[at + 4]);
    if (type == static_cast<uint8_t>(Frame::kCreate) || type == static_cast<uint8_t>(Frame::kNamespaces)) {
      type = static_cast<uint8_t>(Frame::kStatus);
    }
    if (length > bytes.size() - at - kHead) break;
    at += kHead + length;
  }
  return bytes;
}

// Every answer must be frames of the monitor's own kinds.
void CheckAnswer(const std::string& answer) {
  for (size_t at = 0; at < answer.size();) {
    uint32_t length = 0;
    if (answer.size() - at < kHead) return;
    memcpy(&length, answer.data() + at, sizeof(length));
    const auto type = static_cast<uint8_t>(answer[at + 4]);
    if (type < static_cast<uint8_t>(Frame::kReply) || type > static_cast<uint8_t>(Frame::kExit)) abort();
    at += kHead + length;
  }
}

void Idle() {}

}  // namespace
}  // namespace berth

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  return berth::LoopInit() && berth::Log::Init() ? 0 : 1;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace berth;
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) abort();
  Fd ours(ends[0]);
  Connection::Accept(Fd(ends[1]));
  const std::string bytes = Harmless(data, size);
  std::string answer;
  size_t sent = 0;
  while (Connection::Any()) {
    if (sent < bytes.size()) {
      const ssize_t count = send(ours.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (count > 0) sent += static_cast<size_t>(count);
      if (count < 0 && errno != EAGAIN) sent = bytes.size();
    }
    if (sent == bytes.size()) shutdown(ours.get(), SHUT_WR);
    char piece[16 * 1024];
    for (ssize_t count; (count = recv(ours.get(), piece, sizeof(piece), 0)) > 0;) {
      answer.append(piece, static_cast<size_t>(count));
    }
    if (Connection::Any()) LoopStep(Idle);
    Connection::Sweep();
    Exec::Sweep();
    Container::Sweep();
  }
  CheckAnswer(answer);
  return 0;
}
