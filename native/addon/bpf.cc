// Device access of a cgroup: a BPF program of type CGROUP_DEVICE, loaded, attached and found again.
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common/fd.h"
#include "calls.h"
#include "error.h"
#include "value.h"

namespace berth {
namespace {

constexpr size_t kInstructionBytes = 8;

// The kernel lets at most this many programs be attached to a cgroup (BPF_CGROUP_MAX_PROGS).
constexpr size_t kProgramsMax = 64;

long Bpf(int command, bpf_attr& attributes) { return syscall(SYS_bpf, command, &attributes, sizeof(attributes)); }

// The verifier gives up with EAGAIN where a signal has come meanwhile.
constexpr int kLoadTries = 10;

long Load(bpf_attr& attributes) {
  for (int i = 1;; i++) {
    const long fd = Bpf(BPF_PROG_LOAD, attributes);
    if (fd >= 0 || errno != EAGAIN || i == kLoadTries) return fd;
  }
}

uint64_t Pointer(const void* p) { return reinterpret_cast<uint64_t>(p); }

// The verifier's words, for an error; the load itself is tried without, which is faster.
std::string VerifierLog(bpf_attr attributes) {
  std::vector<char> log(64 * 1024);
  attributes.log_level = 1;
  attributes.log_buf = Pointer(log.data());
  attributes.log_size = static_cast<uint32_t>(log.size());
  const Fd fd(static_cast<int>(Load(attributes)));
  std::string text(log.data(), strnlen(log.data(), log.size()));
  // The reason stands at the end.
  constexpr size_t kKeep = 400;
  if (text.size() > kKeep) text.erase(0, text.size() - kKeep);
  return text;
}

}  // namespace

Napi::Value BpfLoadDevice(const Napi::CallbackInfo& info) {
  const Bytes instructions = BytesOf(info[0], "instructions");
  if (instructions.size == 0 || instructions.size % kInstructionBytes) {
    Refuse(info.Env(), "instructions", "a row of 8-byte instructions");
  }
  bpf_attr attributes{};
  attributes.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  attributes.insns = Pointer(instructions.data);
  attributes.insn_cnt = static_cast<uint32_t>(instructions.size / kInstructionBytes);
  attributes.license = Pointer("Apache-2.0");
  std::memcpy(attributes.prog_name, "berth_device", sizeof("berth_device"));
  const long fd = Load(attributes);
  if (fd < 0) {
    const int number = errno;
    throw SystemError(info.Env(), number, "bpf", "BPF_PROG_LOAD", VerifierLog(attributes));
  }
  return Napi::Number::New(info.Env(), static_cast<double>(fd));
}

void BpfAttachDevice(const Napi::CallbackInfo& info) {
  bpf_attr attributes{};
  attributes.target_fd = static_cast<uint32_t>(Int(info[0], "cgroupFd"));
  attributes.attach_bpf_fd = static_cast<uint32_t>(Int(info[1], "programFd"));
  attributes.attach_type = BPF_CGROUP_DEVICE;
  attributes.attach_flags = BPF_F_ALLOW_MULTI;
  const int replace = Int(info[2], "replace");
  if (replace >= 0) {
    attributes.attach_flags |= BPF_F_REPLACE;
    attributes.replace_bpf_fd = static_cast<uint32_t>(replace);
  }
  if (Bpf(BPF_PROG_ATTACH, attributes)) throw SystemError(info.Env(), errno, "bpf", "BPF_PROG_ATTACH");
}

void BpfDetachDevice(const Napi::CallbackInfo& info) {
  bpf_attr attributes{};
  attributes.target_fd = static_cast<uint32_t>(Int(info[0], "cgroupFd"));
  attributes.attach_bpf_fd = static_cast<uint32_t>(Int(info[1], "programFd"));
  attributes.attach_type = BPF_CGROUP_DEVICE;
  if (Bpf(BPF_PROG_DETACH, attributes)) throw SystemError(info.Env(), errno, "bpf", "BPF_PROG_DETACH");
}

Napi::Value BpfQueryDevice(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  uint32_t ids[kProgramsMax] = {};
  bpf_attr query{};
  query.query.target_fd = static_cast<uint32_t>(Int(info[0], "cgroupFd"));
  query.query.attach_type = BPF_CGROUP_DEVICE;
  query.query.prog_ids = Pointer(ids);
  query.query.prog_cnt = kProgramsMax;
  if (Bpf(BPF_PROG_QUERY, query)) throw SystemError(env, errno, "bpf", "BPF_PROG_QUERY");
  // Owned until all are open, so that a failure leaves none behind.
  std::vector<Fd> fds;
  for (uint32_t i = 0; i < query.query.prog_cnt; i++) {
    bpf_attr by_id{};
    by_id.prog_id = ids[i];
    Fd fd(static_cast<int>(Bpf(BPF_PROG_GET_FD_BY_ID, by_id)));
    if (!fd) throw SystemError(env, errno, "bpf", "BPF_PROG_GET_FD_BY_ID");
    fds.push_back(std::move(fd));
  }
  Napi::Array result = Napi::Array::New(env, fds.size());
  for (uint32_t i = 0; i < fds.size(); i++) result.Set(i, Napi::Number::New(env, fds[i].get()));
  for (Fd& fd : fds) fd.Release();
  return result;
}

}  // namespace berth
