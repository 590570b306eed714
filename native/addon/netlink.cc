// Requests to netlink and writes of sysctls inside a network namespace, in one go on one thread. What they say is composed in TypeScript
// (src/network/netlink.ts); this here knows only where an answer ends.
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "../common/fd.h"
#include "calls.h"
#include "error.h"
#include "netns.h"
#include "value.h"
#include "work.h"

namespace berth {
namespace {

// Of all answers to one request: the rules of some ten thousand containers.
constexpr size_t kAnswerBytesMax = 64 * 1024 * 1024;
// The kernel makes no larger message (NLMSG_GOODSIZE and what a dump asks for).
constexpr size_t kReceiveBytes = 64 * 1024;

struct Act {
  std::vector<uint8_t> request;  // Empty: a file.
  std::string file;
  std::string text;
};

struct Done {
  int error = 0;
  std::string answer;
};

struct Acts {
  std::string path;
  int protocol = 0;
  std::vector<Act> acts;
  std::vector<Done> done;
  const char* call = nullptr;  // Which has failed before the first act, with `error`.
  int error = 0;
};

// 0 or an errno.
int Write(const Act& act) {
  const Fd file(open(act.file.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) return errno;
  const ssize_t size = write(file.get(), act.text.data(), act.text.size());
  if (size < 0) return errno;
  return static_cast<size_t>(size) == act.text.size() ? 0 : EIO;
}

// Reads until the kernel has said that it is done with the request of this number. 0 or an errno.
int Receive(int fd, uint32_t sequence, std::vector<uint8_t>* buffer, std::string* answer) {
  for (;;) {
    sockaddr_nl from{};
    iovec part{buffer->data(), buffer->size()};
    msghdr message{};
    message.msg_name = &from;
    message.msg_namelen = sizeof(from);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    const ssize_t size = recvmsg(fd, &message, 0);
    if (size < 0) return errno;
    if (message.msg_flags & MSG_TRUNC) return EMSGSIZE;
    // Only the kernel answers.
    if (from.nl_pid != 0) continue;
    auto left = static_cast<size_t>(size);
    for (const uint8_t* at = buffer->data(); left >= sizeof(nlmsghdr);) {
      nlmsghdr header;
      std::memcpy(&header, at, sizeof(header));
      if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > left) return EBADMSG;
      if (header.nlmsg_seq == sequence) {
        // What was listed has changed meanwhile: the list may lack something.
        if (header.nlmsg_flags & NLM_F_DUMP_INTR) return EAGAIN;
        if (header.nlmsg_type == NLMSG_ERROR || header.nlmsg_type == NLMSG_DONE) {
          int32_t error = 0;
          if (header.nlmsg_len >= sizeof(header) + sizeof(error)) std::memcpy(&error, at + sizeof(header), sizeof(error));
          return error < 0 ? -error : 0;
        }
        if (answer->size() + header.nlmsg_len > kAnswerBytesMax) return EFBIG;
        answer->append(reinterpret_cast<const char*>(at), header.nlmsg_len);
        answer->append(NLMSG_ALIGN(header.nlmsg_len) - header.nlmsg_len, '\0');
      }
      const size_t step = NLMSG_ALIGN(header.nlmsg_len);
      if (step >= left) break;
      at += step;
      left -= step;
    }
  }
}

int Ask(int fd, uint32_t sequence, Act* act, std::vector<uint8_t>* buffer, std::string* answer) {
  std::memcpy(act->request.data() + offsetof(nlmsghdr, nlmsg_seq), &sequence, sizeof(sequence));
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  if (sendto(fd, act->request.data(), act->request.size(), 0, reinterpret_cast<const sockaddr*>(&kernel), sizeof(kernel)) < 0) {
    return errno;
  }
  return Receive(fd, sequence, buffer, answer);
}

void Run(Acts* acts) {
  if (!acts->path.empty()) {
    acts->call = EnterNetwork(acts->path);
    if (acts->call) acts->error = errno;
  }
  if (acts->call) return;
  Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, acts->protocol));
  if (!fd) {
    acts->call = "socket";
    acts->error = errno;
    return;
  }
  std::vector<uint8_t> buffer(kReceiveBytes);
  for (Act& act : acts->acts) {
    Done& done = acts->done.emplace_back();
    if (act.request.empty()) {
      done.error = Write(act);
      continue;
    }
    done.error = Ask(fd.get(), static_cast<uint32_t>(acts->done.size()), &act, &buffer, &done.answer);
    if (done.error) return;
  }
}

Act ActOf(const Napi::Value& value) {
  if (value.IsArray()) {
    const std::vector<std::string> pair = Texts(value, "act");
    if (pair.size() != 2) Refuse(value.Env(), "act", "a request or a pair of file and text");
    return {{}, pair[0], pair[1]};
  }
  const Bytes bytes = BytesOf(value, "act");
  nlmsghdr header{};
  if (bytes.size >= sizeof(header)) std::memcpy(&header, bytes.data, sizeof(header));
  // Without one of the flags no answer would ever end.
  if (bytes.size < sizeof(header) || header.nlmsg_len != bytes.size || !(header.nlmsg_flags & (NLM_F_ACK | NLM_F_DUMP))) {
    Refuse(value.Env(), "act", "one netlink request that is answered");
  }
  return {{bytes.data, bytes.data + bytes.size}, "", ""};
}

}  // namespace

Napi::Value NetworkActs(const Napi::CallbackInfo& info) {
  auto acts = std::make_shared<Acts>();
  acts->path = Text(info[0], "path").str();
  acts->protocol = Int(info[1], "protocol");
  const Napi::Array array = ArrayOf(info[2], "acts");
  for (uint32_t i = 0; i < array.Length(); i++) acts->acts.push_back(ActOf(array.Get(i)));
  return Work(
      info.Env(), [acts] { Run(acts.get()); },
      [acts](Napi::Env env) -> Napi::Value {
        if (acts->call) throw SystemError(env, acts->error, acts->call, acts->path.c_str());
        const Napi::Array results = Napi::Array::New(env, acts->done.size());
        for (uint32_t i = 0; i < acts->done.size(); i++) {
          const Done& done = acts->done[i];
          if (done.error || acts->acts[i].request.empty()) {
            results.Set(i, Napi::Number::New(env, -done.error));
          } else {
            results.Set(i, Napi::Buffer<char>::Copy(env, done.answer.data(), done.answer.size()));
          }
        }
        return results;
      });
}

}  // namespace berth
