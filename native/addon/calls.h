// All calls of the addon; src/kernel/binding.ts says what each does.
#ifndef BERTH_ADDON_CALLS_H_
#define BERTH_ADDON_CALLS_H_

#include <napi.h>

namespace berth {

// file.cc
Napi::Function FileStatusMaker(Napi::Env env);
Napi::Value Openat2(const Napi::CallbackInfo& info);
void Mkdirat(const Napi::CallbackInfo& info);
void Mknodat(const Napi::CallbackInfo& info);
void Symlinkat(const Napi::CallbackInfo& info);
void Linkat(const Napi::CallbackInfo& info);
void Unlinkat(const Napi::CallbackInfo& info);
Napi::Value Readlinkat(const Napi::CallbackInfo& info);
Napi::Value Statx(const Napi::CallbackInfo& info);
Napi::Value Readdir(const Napi::CallbackInfo& info);
Napi::Value Lseek(const Napi::CallbackInfo& info);
Napi::Value MakeNodes(const Napi::CallbackInfo& info);
Napi::Value Syncfs(const Napi::CallbackInfo& info);
Napi::Value RealPath(const Napi::CallbackInfo& info);
Napi::Value ReadFiles(const Napi::CallbackInfo& info);

// groups.cc
Napi::Value ReadGroups(const Napi::CallbackInfo& info);
void ForgetGroup(const Napi::CallbackInfo& info);

// xattr.cc
Napi::Value Fgetxattr(const Napi::CallbackInfo& info);
void Fsetxattr(const Napi::CallbackInfo& info);
Napi::Value Flistxattr(const Napi::CallbackInfo& info);

// lock.cc
void Flock(const Napi::CallbackInfo& info);
Napi::Value FlockWait(const Napi::CallbackInfo& info);

// mount.cc
Napi::Value OverlayMount(const Napi::CallbackInfo& info);
Napi::Value OpenTree(const Napi::CallbackInfo& info);
void MountSetattr(const Napi::CallbackInfo& info);
void MoveMount(const Napi::CallbackInfo& info);
void Unmount(const Napi::CallbackInfo& info);
Napi::Value MountNamespaces(const Napi::CallbackInfo& info);

// process.cc
Napi::Value Spawn(const Napi::CallbackInfo& info);
Napi::Value Pipe(const Napi::CallbackInfo& info);
Napi::Value Unread(const Napi::CallbackInfo& info);
Napi::Value Memfd(const Napi::CallbackInfo& info);
[[noreturn]] void ExitNow(const Napi::CallbackInfo& info);
Napi::Value PidfdOpen(const Napi::CallbackInfo& info);
void PidfdSendSignal(const Napi::CallbackInfo& info);

// bpf.cc
Napi::Value BpfLoadDevice(const Napi::CallbackInfo& info);
void BpfAttachDevice(const Napi::CallbackInfo& info);
void BpfDetachDevice(const Napi::CallbackInfo& info);
Napi::Value BpfQueryDevice(const Napi::CallbackInfo& info);

// network.cc
Napi::Value NetnsStats(const Napi::CallbackInfo& info);
Napi::Value NetnsStatsOfAll(const Napi::CallbackInfo& info);
Napi::Value ConnectIn(const Napi::CallbackInfo& info);
void NotifySocket(const Napi::CallbackInfo& info);
Napi::Value BindDatagram(const Napi::CallbackInfo& info);
Napi::Value ReceiveDatagram(const Napi::CallbackInfo& info);

// netlink.cc
Napi::Value NetworkActs(const Napi::CallbackInfo& info);

// socket.cc
Napi::Value ListenUnix(const Napi::CallbackInfo& info);
Napi::Value AcceptUnix(const Napi::CallbackInfo& info);
void ShutdownSocket(const Napi::CallbackInfo& info);
Napi::Value SendDescriptors(const Napi::CallbackInfo& info);

// system.cc
Napi::Value PollPriority(const Napi::CallbackInfo& info);
void RawOutput(const Napi::CallbackInfo& info);

// decoder.cc
Napi::Value GzipDecoder(const Napi::CallbackInfo& info);
Napi::Value ZstdDecoder(const Napi::CallbackInfo& info);
Napi::Value Decode(const Napi::CallbackInfo& info);
Napi::Value DecoderState(const Napi::CallbackInfo& info);

// ahead.cc
Napi::Value OpenAhead(const Napi::CallbackInfo& info);
Napi::Value DecodeAhead(const Napi::CallbackInfo& info);
Napi::Value EndAhead(const Napi::CallbackInfo& info);

// tree.cc
Napi::Value CreateFile(const Napi::CallbackInfo& info);
void SetAttributes(const Napi::CallbackInfo& info);
Napi::Value RemoveTree(const Napi::CallbackInfo& info);
void RemoveTreeNow(const Napi::CallbackInfo& info);
Napi::Value TreeUsage(const Napi::CallbackInfo& info);

}  // namespace berth

#endif  // BERTH_ADDON_CALLS_H_
