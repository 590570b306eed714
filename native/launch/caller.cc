#include "caller.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/errors.h"
#include "../common/json.h"
#include "../init/sync.h"

namespace berth {
namespace {

constexpr char kGoOn = 'G';
constexpr char kTerminalName[] = "/dev/ptmx";

void Report(const JsonWriter& json) {
  if (!json.ok()) return;
  // Nobody else can be told when this fails.
  if (::write(kReport, json.data(), json.size()) < 0 || ::write(kReport, "\n", 1) < 0) return;
}

}  // namespace

void ReportNumber(const char* what, int64_t number) {
  JsonWriter json;
  json.BeginObject();
  json.Number(what, number);
  json.EndObject();
  Report(json);
}

int ReportError(const char* stage, int error, const char* text) {
  JsonWriter json;
  json.BeginObject();
  json.Text("stage", stage);
  json.Number("errno", error);
  json.Text("text", text);
  json.EndObject();
  Report(json);
  return 1;
}

int Failed(const char* stage) { return ReportError(stage, errno, ErrorText(errno)); }

bool AwaitScope() {
  ReportNumber("scope", ::getpid());
  char word = 0;
  return ReadAll(kCommands, &word, 1) && word == kGoOn;
}

// The engine's socket, by a descriptor of it: its path may be too long.
Fd ConnectTo(const char* path) {
  const Fd file(::open(path, O_PATH | O_CLOEXEC));
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  ::snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d", file.get());
  const bool is_there =
      file && socket && ::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  return is_there ? static_cast<Fd&&>(socket) : Fd();
}

bool SendTerminalTo(const char* path, int master) {
  const Fd socket = ConnectTo(path);
  return socket && SendMessage(socket.get(), kTerminalName, sizeof(kTerminalName) - 1, master);
}

int Reap(const Fd& pidfd) {
  siginfo_t info = {};
  while (::waitid(P_PIDFD, static_cast<id_t>(pidfd.get()), &info, WEXITED) < 0 && errno == EINTR) continue;
  constexpr int kSignalBase = 128;
  return info.si_code == CLD_EXITED ? info.si_status : kSignalBase + info.si_status;
}

}  // namespace berth
