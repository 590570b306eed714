#include "criu.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common/arena.h"
#include "../init/clone.h"
#include "../init/launch.h"
#include "../init/path.h"
#include "../init/pidfd.h"
#include "../init/sync.h"
#include "caller.h"
#include "relay.h"

namespace berth {
namespace {

// Where `criu swrk 3` has its socket; from the next on it inherits what is handed on.
constexpr int kCriuSocket = 3;
// A request names each mount, and there are at most 1000 of those with paths of 4 KiB each way.
constexpr size_t kRequestBytesMax = 16 * 1024 * 1024;
constexpr size_t kAnswerBytesMax = 64 * 1024;

// CRIU's rpc.proto: criu_req_type, and the fields of criu_resp and criu_notify that are read.
enum : uint64_t { kNotify = 6 };
enum : uint64_t { kType = 1, kSuccess = 2, kRestore = 4, kScript = 5, kErrno = 7 };
// criu_req: type NOTIFY, notify_success true.
constexpr char kNotified[] = {0x08, 0x06, 0x18, 0x01};

struct Options {
  const char* program = nullptr;
  const char* console = nullptr;
  const char* root = nullptr;
  const char* cgroup = nullptr;
  bool foreground = false;
  int inherited = 0;
};

struct Text {
  const uint8_t* data = nullptr;
  size_t size = 0;
  bool Is(const char* other) const { return size == ::strlen(other) && ::memcmp(data, other, size) == 0; }
};

// The fields of a message in Protocol Buffers, of the two kinds that CRIU's answers have.
class Fields {
 public:
  explicit Fields(Text message) : at_(message.data), end_(message.data + message.size) {}

  // The next; false at the end, and where the bytes are none.
  bool Next() {
    uint64_t key;
    if (!Varint(&key)) return false;
    tag = key >> 3;
    text = {};
    if ((key & 7) == 0) return Varint(&number);
    if ((key & 7) != 2 || !Varint(&number) || number > static_cast<uint64_t>(end_ - at_)) return false;
    text = {at_, static_cast<size_t>(number)};
    at_ += number;
    return true;
  }

  uint64_t tag = 0;
  uint64_t number = 0;
  Text text;

 private:
  bool Varint(uint64_t* value) {
    *value = 0;
    for (unsigned shift = 0; shift < 64 && at_ < end_; shift += 7) {
      const uint8_t byte = *at_++;
      *value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (!(byte & 0x80)) return true;
    }
    return false;
  }

  const uint8_t* at_;
  const uint8_t* end_;
};

struct Answer {
  uint64_t type = 0;
  bool success = false;
  uint64_t error = 0;
  Text script;
  // Of the script's process, or the restored one.
  pid_t pid = 0;
};

Answer Parse(Text bytes) {
  Answer answer;
  for (Fields fields(bytes); fields.Next();) {
    if (fields.tag == kType) answer.type = fields.number;
    if (fields.tag == kSuccess) answer.success = fields.number != 0;
    if (fields.tag == kErrno) answer.error = fields.number;
    if (fields.tag == kRestore) {
      for (Fields restored(fields.text); restored.Next();) {
        if (restored.tag == 1) answer.pid = static_cast<pid_t>(restored.number);
      }
    }
    if (fields.tag == kScript) {
      for (Fields notify(fields.text); notify.Next();) {
        if (notify.tag == 1) answer.script = notify.text;
        if (notify.tag == 2) answer.pid = static_cast<pid_t>(notify.number);
      }
    }
  }
  return answer;
}

bool Starts(const char* text, const char* with, const char** rest) {
  const size_t size = ::strlen(with);
  if (::strncmp(text, with, size) != 0) return false;
  *rest = text + size;
  return true;
}

// The same directory as this mount namespace has it: CRIU mounts things in those that it works in.
bool OpenHere(int fd) {
  char link[32];
  char path[PATH_MAX];
  ::snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  const ssize_t size = ::readlink(link, path, sizeof(path) - 1);
  if (size < 0) return false;
  path[size] = '\0';
  const Fd here(::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return here && ::dup3(here.get(), fd, O_CLOEXEC) == fd;
}

bool Bind(const char* from, const char* to) { return ::mount(from, to, nullptr, MS_BIND | MS_REC, nullptr) == 0; }

// CRIU wants a root that is a mount point: one in a mount namespace of ours, so that nothing of it outlives us, into which the host's mounts still come.
bool MountRoot(const char* root) {
  return ::unshare(CLONE_NEWNS) == 0 && ::mount(nullptr, "/", nullptr, MS_SLAVE | MS_REC, nullptr) == 0 && Bind(root, root) &&
         OpenHere(kPlace);
}

// What the container is mounted on, which a root that comes from somewhere else may lack; and what is mounted there, for the next may be in it.
bool MakeTarget(const char* root, const char* path, bool directory, const char* source) {
  const Fd at(::open(root, O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!at) return false;
  const Fd target(MakeIn(at.get(), path, directory));
  char link[32];
  ::snprintf(link, sizeof(link), "/proc/self/fd/%d", target.get());
  return target && (!source || Bind(source, link));
}

// The root without what was mounted in it on the way.
bool MountAgain(const char* root) { return ::umount2(root, MNT_DETACH) == 0 && Bind(root, root); }

bool Prepare(int argc, char** argv, Options* options) {
  const char* source = nullptr;
  for (int i = 2; i < argc; i++) {
    const char* value = nullptr;
    if (Starts(argv[i], "--console=", &options->console) || Starts(argv[i], "--cgroup=", &options->cgroup)) continue;
    if (::strcmp(argv[i], "--foreground") == 0) {
      options->foreground = true;
    } else if (::strcmp(argv[i], "--scoped") == 0) {
      if (!AwaitScope()) return false;
    } else if (Starts(argv[i], "--preserve=", &value)) {
      options->inherited = ::atoi(value);
    } else if (::strcmp(argv[i], "--work") == 0) {
      // Behind those that CRIU inherits.
      if (!OpenHere(kFirstPreserved + options->inherited)) return Failed("cannot open the directory of --work-path"), false;
    } else if (Starts(argv[i], "--root=", &options->root)) {
      if (!MountRoot(options->root)) return Failed("cannot mount the root for CRIU"), false;
    } else if (Starts(argv[i], "--directory=", &value) || Starts(argv[i], "--file=", &value)) {
      if (!options->root || !MakeTarget(options->root, value, argv[i][2] == 'd', source)) return Failed(value), false;
      source = nullptr;
    } else if (!Starts(argv[i], "--bind=", &source)) {
      options->program = argv[i];
    }
  }
  if (options->root && !MountAgain(options->root)) return Failed("cannot mount the root for CRIU"), false;
  const bool good = options->program && options->inherited >= 0 && options->inherited <= kPreservedMax;
  return good || (ReportError("criu", EINVAL, "wrong options"), false);
}

[[noreturn]] void ExecuteCriu(const Options& options, int socket) {
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  // What a terminal sends to all of a command, to end it, must not end this in the middle of a dump.
  if (!options.root) ::setpgid(0, 0);
  const int high = ::fcntl(socket, F_DUPFD, kFirstPreserved + kPreservedMax);
  for (int i = 0; i < 3; i++) ::dup2(kProgramStdio + i, i);
  // Upwards: a lower one never takes the place of one that is still to be moved.
  for (int i = 0; i < options.inherited; i++) ::dup2(kFirstPreserved + i, kCriuSocket + 1 + i);
  ::dup2(high, kCriuSocket);
  ::syscall(SYS_close_range, kCriuSocket + 1 + options.inherited, ~0U, 0);
  char number[8];
  ::snprintf(number, sizeof(number), "%d", kCriuSocket);
  ::execl(options.program, options.program, "swrk", number, nullptr);
  ::_exit(127);
}

// The request, from the plan file.
bool Ask(int socket, Arena* arena) {
  struct stat st = {};
  if (::fstat(kPlan, &st) != 0) return false;
  const size_t size = static_cast<size_t>(st.st_size);
  if (size > kRequestBytesMax) return errno = E2BIG, false;
  void* bytes = arena->Take(size);
  if (!bytes || ::pread(kPlan, bytes, size, 0) != st.st_size) return false;
  // One message, however large.
  const int buffer = static_cast<int>(size);
  ::setsockopt(socket, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer));
  return ::send(socket, bytes, size, MSG_NOSIGNAL) == st.st_size;
}

// Hooks are the caller's to run; the answer is `C` and a text for those inside, which a restored container has not.
bool LetHooksRun(pid_t pid) {
  ReportNumber("hooks", pid);
  char word = 0;
  int text = -1;
  const bool whole = ReadAll(kCommands, &word, 1) && word == kSyncContinue && TakeText(kCommands, &text);
  const Fd state(text);
  return whole;
}

// What CRIU tells on its way.
bool Notified(const Options& options, const Answer& answer, Fd passed, Fd* terminal) {
  if (answer.script.Is("setup-namespaces")) return LetHooksRun(answer.pid);
  if (!answer.script.Is("orphan-pts-master") || !passed) return true;
  *terminal = static_cast<Fd&&>(passed);
  if (!options.console || SendTerminalTo(options.console, terminal->get())) return true;
  Failed("console socket");
  return false;
}

// Until CRIU has done, or not done, what was asked; the restored process's pid, 0 for none, -1 for a failure that is told.
pid_t Converse(const Options& options, int socket, Fd* terminal) {
  static uint8_t bytes[kAnswerBytesMax];
  for (;;) {
    pollfd wait[2] = {{socket, POLLIN, 0}, {kCommands, 0, 0}};
    if (::poll(wait, 2, -1) < 0) continue;
    // The caller's end is ours: what it began must not go on without it.
    if (wait[1].revents & (POLLHUP | POLLERR)) return -1;
    int passed;
    const ssize_t size = ReceiveMessage(socket, bytes, sizeof(bytes), &passed);
    if (size <= 0) return ReportError("criu", 0, "CRIU has ended without an answer"), -1;
    const Answer answer = Parse({bytes, static_cast<size_t>(size)});
    if (answer.type == kNotify) {
      if (!Notified(options, answer, Fd(passed), terminal)) return -1;
      if (::send(socket, kNotified, sizeof(kNotified), MSG_NOSIGNAL) < 0) return Failed("criu"), -1;
      continue;
    }
    const Fd unasked(passed);
    return answer.success ? answer.pid : (ReportError("criu", static_cast<int>(answer.error), "CRIU has failed"), -1);
  }
}

// What is half restored: CRIU's end is not that of the processes that it has made.
void EndRestored(const Fd& cgroup) {
  const Fd kill(::openat(cgroup.get(), "cgroup.kill", O_WRONLY | O_CLOEXEC));
  if (kill) (void)!::write(kill.get(), "1", 1);
}

}  // namespace

int RunCriu(int argc, char** argv) {
  Options options;
  if (!Prepare(argc, argv, &options)) return 1;
  Fd cgroup;
  if (options.cgroup && !(cgroup = Fd(OpenCgroup(options.cgroup)))) return Failed("cgroup");
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) return Failed("criu");
  const Fd ours(fds[0]);
  Fd theirs(fds[1]);
  int pidfd = -1;
  const pid_t pid = CloneInto(0, &pidfd, cgroup.get());
  if (pid < 0) return Failed("cannot start CRIU");
  if (pid == 0) ExecuteCriu(options, theirs.get());
  theirs.Reset();
  const Fd criu(pidfd);
  Arena arena;
  Fd terminal;
  const bool asked = Ask(ours.get(), &arena);
  if (!asked) Failed("criu");
  arena.Reset();
  const pid_t restored = asked ? Converse(options, ours.get(), &terminal) : -1;
  // In the middle of a dump it has the container stopped and its network locked, and undoes that itself: where nobody answers before the last step, it takes
  // the dump back.
  if (restored < 0 && options.root) SignalPidfd(criu.get(), SIGKILL);
  // Its answer comes before its last works; its end tells that they are done. After a pre-dump it waits for more.
  ::shutdown(ours.get(), restored < 0 ? SHUT_RDWR : SHUT_WR);
  Reap(criu);
  if (restored < 0 && cgroup) EndRestored(cgroup);
  if (restored < 0) return 1;
  if (restored == 0) return ReportNumber("dumped", 1), 0;
  const Fd process(static_cast<int>(::syscall(SYS_pidfd_open, restored, 0)));
  ReportNumber("pid", restored);
  if (!options.foreground || !process) return 0;
  if (terminal && !options.console) RelayTerminal(terminal.get(), kProgramStdio, process.get());
  ReportNumber("exit", Reap(process));
  return 0;
}

}  // namespace berth
