// The table of exports of berth.node, in the order of `Binding` in src/kernel/binding.ts.
#include <napi.h>

#include "calls.h"
#include "environment.h"
#include "groups.h"
#include "work.h"

namespace berth {
namespace {

template <auto Call>
void Export(Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New<Call>(exports.Env(), name));
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  auto environment = std::make_unique<Environment>();
  environment->gate = OpenGate(env);
  environment->file_status = Napi::Persistent(FileStatusMaker(env));
  environment->groups = MakeGroups();
  env.SetInstanceData(environment.release());

  Export<Openat2>(exports, "openat2");
  Export<Mkdirat>(exports, "mkdirat");
  Export<Mknodat>(exports, "mknodat");
  Export<Symlinkat>(exports, "symlinkat");
  Export<Linkat>(exports, "linkat");
  Export<Unlinkat>(exports, "unlinkat");
  Export<Readlinkat>(exports, "readlinkat");
  Export<Statx>(exports, "statx");
  Export<Readdir>(exports, "readdir");
  Export<Lseek>(exports, "lseek");
  Export<Fgetxattr>(exports, "fgetxattr");
  Export<Fsetxattr>(exports, "fsetxattr");
  Export<Flistxattr>(exports, "flistxattr");
  Export<Flock>(exports, "flock");
  Export<FlockWait>(exports, "flockWait");
  Export<MakeNodes>(exports, "makeNodes");
  Export<Syncfs>(exports, "syncfs");
  Export<RealPath>(exports, "realPath");
  Export<ReadFiles>(exports, "readFiles");
  Export<ReadGroups>(exports, "readGroups");
  Export<ForgetGroup>(exports, "forgetGroup");

  Export<OverlayMount>(exports, "overlayMount");
  Export<OpenTree>(exports, "openTree");
  Export<MountSetattr>(exports, "mountSetattr");
  Export<MoveMount>(exports, "moveMount");
  Export<Unmount>(exports, "unmount");
  Export<MountNamespaces>(exports, "mountNamespaces");

  Export<Spawn>(exports, "spawn");
  Export<Pipe>(exports, "pipe");
  Export<Unread>(exports, "unread");
  Export<Memfd>(exports, "memfd");
  Export<ExitNow>(exports, "exitNow");
  Export<PidfdOpen>(exports, "pidfdOpen");
  Export<PidfdSendSignal>(exports, "pidfdSendSignal");

  Export<BpfLoadDevice>(exports, "bpfLoadDevice");
  Export<BpfAttachDevice>(exports, "bpfAttachDevice");
  Export<BpfDetachDevice>(exports, "bpfDetachDevice");
  Export<BpfQueryDevice>(exports, "bpfQueryDevice");

  Export<NetnsStats>(exports, "netnsStats");
  Export<NetnsStatsOfAll>(exports, "netnsStatsOfAll");
  Export<ConnectIn>(exports, "connectIn");
  Export<NotifySocket>(exports, "notifySocket");
  Export<BindDatagram>(exports, "bindDatagram");
  Export<ReceiveDatagram>(exports, "receiveDatagram");

  Export<NetworkActs>(exports, "networkActs");

  Export<ListenUnix>(exports, "listenUnix");
  Export<AcceptUnix>(exports, "acceptUnix");
  Export<ShutdownSocket>(exports, "shutdownSocket");
  Export<SendDescriptors>(exports, "sendDescriptors");

  Export<PollPriority>(exports, "pollPriority");
  Export<RawOutput>(exports, "rawOutput");

  Export<CreateFile>(exports, "createFile");
  Export<SetAttributes>(exports, "setAttributes");
  Export<RemoveTree>(exports, "removeTree");
  Export<RemoveTreeNow>(exports, "removeTreeNow");
  Export<TreeUsage>(exports, "treeUsage");

  Export<GzipDecoder>(exports, "gzipDecoder");
  Export<ZstdDecoder>(exports, "zstdDecoder");
  Export<Decode>(exports, "decode");
  Export<DecoderState>(exports, "decoderState");
  Export<OpenAhead>(exports, "openAhead");
  Export<DecodeAhead>(exports, "decodeAhead");
  Export<EndAhead>(exports, "endAhead");
  return exports;
}

}  // namespace
}  // namespace berth

static Napi::Object InitModule(Napi::Env env, Napi::Object exports) { return berth::Init(env, exports); }
NODE_API_MODULE(berth, InitModule)
