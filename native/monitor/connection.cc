#include "connection.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "exec.h"
#include "monitor.h"
#include "process.h"
#include "request.h"
#include "stdio.h"

namespace berth {
namespace {

constexpr size_t kHead = 5;
constexpr size_t kRequestMax = 1024 * 1024;
constexpr size_t kDataMax = 64 * 1024;
// What may wait for a client: then its process is held back, and its further requests are not read.
constexpr size_t kOutMax = 1024 * 1024;
constexpr uint64_t kStallMs = 60000;
// For a client to close the connection after the end of its process.
constexpr uint64_t kLingerMs = 2000;
constexpr int kConnectionsMax = 512;

int g_count = 0;

bool IsData(Frame type) {
  return type == Frame::kStdin || type == Frame::kStdinClose || type == Frame::kResize || type == Frame::kDiscard;
}

}  // namespace

Connection* Connection::first_ = nullptr;
bool Connection::any_dead_ = false;

Connection::Connection(Fd socket) : socket_(static_cast<Fd&&>(socket)) {
  watch_ = {socket_.get(), this, OnEvent, 0};
  stall_.owner = this;
  stall_.fire = OnStall;
  g_count++;
}

Connection::~Connection() {
  WatchDrop(&watch_);
  TimerDisarm(&stall_);
  free(waits_);
  g_count--;
}

void Connection::Accept(Fd socket) {
  if (g_count >= kConnectionsMax) return;
  auto* connection = new (std::nothrow) Connection(static_cast<Fd&&>(socket));
  if (connection == nullptr) return;
  connection->next_ = first_;
  first_ = connection;
  connection->Settle();
}

void Connection::Sweep() {
  if (!any_dead_) return;
  any_dead_ = false;
  for (Connection** at = &first_; *at != nullptr;) {
    Connection* connection = *at;
    if (connection->dead_) {
      *at = connection->next_;
      delete connection;
    } else {
      at = &connection->next_;
    }
  }
}

bool Connection::AnyOwed(bool leaving) {
  for (Connection* c = first_; c != nullptr; c = c->next_) {
    if (c->dead_ || c->hung_up_) continue;
    if (c->out_.size() > 0 || (c->lingers_ && !leaving)) return true;
  }
  return false;
}

void Connection::Output(Stdio* from, Log::Stream stream, const char* bytes, size_t size) {
  for (Connection* c = first_; c != nullptr; c = c->next_) {
    if (c->target_.stdio != from || !(stream == Log::kStdout ? c->target_.out : c->target_.err)) continue;
    c->Send(stream == Log::kStdout ? Frame::kStdout : Frame::kStderr, bytes, size);
  }
}

bool Connection::IsFull(const Stdio* from) {
  for (Connection* c = first_; c != nullptr; c = c->next_) {
    if (c->target_.stdio == from && !c->dead_ && c->out_.size() > kOutMax) return true;
  }
  return false;
}

void Connection::StdinReady(Stdio* to) {
  for (Connection* c = first_; c != nullptr; c = c->next_) {
    if (c->target_.stdio != to || !c->blocked_) continue;
    c->blocked_ = false;
    c->Parse();
    c->Settle();
  }
}

void Connection::Ended(Stdio* of, const Container* container, const JsonWriter& record) {
  for (Connection* c = first_; c != nullptr; c = c->next_) {
    bool told = c->target_.stdio == of;
    if (told) {
      // It may still be writing to stdin: closed now, the error of its write would come before the frame that waits for it.
      c->lingers_ = true;
      c->target_ = Target();
    }
    for (int i = 0; c->waits_ != nullptr && container != nullptr && i < kWaitsMax; i++) {
      if (c->waits_[i] != container) continue;
      c->waits_[i] = nullptr;
      told = true;
    }
    if (!told) continue;
    c->Send(Frame::kExit, record.data(), record.size());
    if (c->lingers_ && c->out_.size() == 0) TimerArm(&c->stall_, kLingerMs);
    if (c->blocked_) {
      c->blocked_ = false;
      c->Parse();
    }
    c->Settle();
  }
}

void Connection::Forget(const Container* container) {
  for (Connection* c = first_; c != nullptr; c = c->next_) {
    for (int i = 0; c->waits_ != nullptr && i < kWaitsMax; i++) {
      if (c->waits_[i] == container) c->waits_[i] = nullptr;
    }
  }
}

bool Connection::WaitFor(const Container* container) {
  if (waits_ == nullptr) waits_ = static_cast<const Container**>(calloc(kWaitsMax, sizeof(*waits_)));
  for (int i = 0; waits_ != nullptr && i < kWaitsMax; i++) {
    if (waits_[i] != nullptr && waits_[i] != container) continue;
    waits_[i] = container;
    return true;
  }
  return false;
}

void Connection::Reply(const JsonWriter& json) {
  // Who is told that it runs and then looks at the file must not find it merely created: it would be taken for abandoned.
  SaveStatus();
  pending_ = false;
  if (json.ok()) {
    Send(Frame::kReply, json.data(), json.size());
  } else {
    Die();
  }
  if (!parsing_) {
    Parse();
    Settle();
  }
}

void Connection::ReplyOk() {
  JsonWriter json;
  json.BeginObject();
  json.Flag("ok", true);
  json.EndObject();
  Reply(json);
}

void Connection::ReplyFailure(const Failure& failure) {
  JsonWriter json;
  json.BeginObject();
  json.Flag("ok", false);
  json.Text("stage", failure.stage);
  json.Number("errno", failure.error);
  json.Text("text", failure.text);
  json.EndObject();
  Reply(json);
}

void Connection::Send(Frame type, const char* bytes, size_t size) {
  if (dead_ || hung_up_) return;
  char head[kHead];
  const auto length = static_cast<uint32_t>(size);
  memcpy(head, &length, sizeof(length));
  head[4] = static_cast<char>(type);
  size_t done = 0;
  if (out_.size() == 0) {
    iovec parts[2] = {{head, kHead}, {const_cast<char*>(bytes), size}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    const ssize_t sent = sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS) return Die();
    if (sent > 0) done = static_cast<size_t>(sent);
    if (done == kHead + size) return;
    ArmStall();
  }
  if (done < kHead && !out_.Add(head + done, kHead - done)) return Die();
  const size_t skip = done > kHead ? done - kHead : 0;
  if (!out_.Add(bytes + skip, size - skip)) return Die();
  Settle();
}

void Connection::Flush() {
  if (out_.size() == 0 || dead_) return;
  const ssize_t sent = send(socket_.get(), out_.data(), out_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0) {
    if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS) Die();
    return;
  }
  const bool was_full = out_.size() > kOutMax;
  out_.Drop(static_cast<size_t>(sent));
  if (out_.size() > 0) {
    if (sent > 0) ArmStall();
  } else if (lingers_) {
    TimerArm(&stall_, kLingerMs);
  } else {
    TimerDisarm(&stall_);
  }
  if (was_full && out_.size() <= kOutMax) {
    if (target_.stdio != nullptr) target_.stdio->Resume();
    Parse();
  }
}

void Connection::ArmStall() {
  // Who started the process waits with it for the reader, as in any pipeline (`berth run … | less`). A later guest must not.
  if (!starter_) TimerArm(&stall_, kStallMs);
}

void Connection::OnStall(void* self) { static_cast<Connection*>(self)->Die(); }

void Connection::OnEvent(void* self, uint32_t events) {
  auto* connection = static_cast<Connection*>(self);
  if (events & EPOLLOUT) connection->Flush();
  if (connection->dead_) return;
  const bool reads = (connection->watch_.events & EPOLLIN) != 0;
  if (reads && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
    connection->Receive();
  } else if (events & (EPOLLHUP | EPOLLERR)) {
    // The client is gone, but what it sent is not all taken: the rest is read when there is room for it.
    connection->hung_up_ = true;
    connection->out_.Clear();
    TimerDisarm(&connection->stall_);
    connection->target_.out = connection->target_.err = false;
    if (connection->target_.stdio != nullptr) connection->target_.stdio->Resume();
    // At once: the request may be for one that never gets to its program.
    Exec::CutOwned(connection);
  }
  connection->Settle();
}

void Connection::Receive() {
  // Small pieces: a request is small, and what a client sends to stdin comes as fast as the process takes it.
  char bytes[16 * 1024];
  const ssize_t size = recv(socket_.get(), bytes, sizeof(bytes), MSG_DONTWAIT);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (size <= 0 || !in_.Add(bytes, static_cast<size_t>(size))) return Die();
  Parse();
}

void Connection::Parse() {
  if (parsing_) return;
  parsing_ = true;
  while (!dead_ && !pending_ && !blocked_ && out_.size() <= kOutMax && in_.size() >= kHead) {
    uint32_t length;
    memcpy(&length, in_.data(), sizeof(length));
    const auto type = static_cast<Frame>(in_.data()[4]);
    if (length > (IsData(type) ? kDataMax : kRequestMax)) {
      Die();
      break;
    }
    if (in_.size() < kHead + length) break;
    if (!TakeFrame(type, Bytes{reinterpret_cast<const uint8_t*>(in_.data()) + kHead, length})) break;
    in_.Drop(kHead + length);
  }
  parsing_ = false;
}

bool Connection::TakeFrame(Frame type, Bytes payload) {
  switch (type) {
    case Frame::kStdin:
      return TakeStdin(payload);
    case Frame::kStdinClose:
      if (target_.in) target_.stdio->CloseStdin(false);
      return true;
    case Frame::kResize:
      if (payload.size == 4 && target_.stdio != nullptr) {
        uint16_t size[2];
        memcpy(size, payload.data, sizeof(size));
        target_.stdio->Resize(size[0], size[1]);
      }
      return true;
    case Frame::kDiscard:
      target_.out = target_.err = false;
      if (target_.stdio != nullptr) target_.stdio->Resume();
      return true;
    default:
      pending_ = true;
      TakeRequest(this, type, payload);
      return true;
  }
}

bool Connection::TakeStdin(Bytes payload) {
  while (target_.in && stdin_taken_ < payload.size) {
    const auto* bytes = reinterpret_cast<const char*>(payload.data) + stdin_taken_;
    const ssize_t taken = target_.stdio->WriteStdin(bytes, payload.size - stdin_taken_);
    if (taken < 0) break;
    stdin_taken_ += static_cast<uint32_t>(taken);
    if (stdin_taken_ < payload.size) {
      blocked_ = true;
      return false;
    }
  }
  stdin_taken_ = 0;
  return true;
}

void Connection::Settle() {
  if (dead_) return;
  const bool reads = !pending_ && !blocked_ && out_.size() <= kOutMax;
  uint32_t events = reads ? static_cast<uint32_t>(EPOLLIN) : 0;
  if (out_.size() > 0) events |= EPOLLOUT;
  // Without EPOLLIN a hang-up is still told, once: hung_up_ then takes it out of the set until there is room again.
  if (events == 0 && !hung_up_) events = EPOLLERR;
  WatchSet(&watch_, events);
}

void Connection::Detach() {
  const Target target = target_;
  target_ = Target();
  if (target.stdio == nullptr) return;
  if (target.in) target.stdio->CloseStdin(false);
  target.stdio->Resume();
}

void Connection::Die() {
  if (dead_) return;
  dead_ = true;
  any_dead_ = true;
  WatchDrop(&watch_);
  Detach();
  ForgetConnection(this);
}

}  // namespace berth
