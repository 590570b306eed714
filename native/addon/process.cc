// Processes: one way to start a program of ours, and what can be done by pidfd.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/fd.h"
#include "calls.h"
#include "error.h"
#include "value.h"
#include "work.h"

namespace berth {
namespace {

constexpr size_t kChildStackBytes = 64 * 1024;

// CLOSE_RANGE_CLOEXEC of linux/close_range.h.
constexpr unsigned kCloseRangeCloexec = 1u << 2;

// Shared with the child, which runs in this memory until its exec.
struct Launch {
  // Executed by its name where there is one (a script can only be), else by `file`.
  const char* path;
  int file;
  char* const* args;
  char* const* env;
  // Room for the child to work in, as long as the number of fds.
  int* fds;
  int count;
  bool group;
  // nullptr: where we are.
  const char* directory;
  const char* failed_call = nullptr;
  int failed_errno = 0;
};

// The child: in the parent's memory, so nothing here allocates, locks, or calls what is not async-signal-safe.
int Child(void* argument) {
  auto* launch = static_cast<Launch*>(argument);
  const auto fail = [launch](const char* call) {
    launch->failed_call = call;
    launch->failed_errno = errno;
    _exit(127);
  };

  // Signals are still blocked. Node's handlers must not run here, and an ignored signal (Node ignores SIGPIPE) would
  // stay ignored after exec. The C library's own two signals (32, 33) refuse this and do no harm.
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; signal++) sigaction(signal, &standard, nullptr);

  if (launch->group) setpgid(0, 0);
  if (launch->directory != nullptr && chdir(launch->directory) != 0) fail("chdir");

  // First all out of the way, above the numbers that are given out.
  const int file = launch->path != nullptr ? -1 : fcntl(launch->file, F_DUPFD_CLOEXEC, launch->count);
  if (launch->path == nullptr && file < 0) fail("fcntl");
  for (int i = 0; i < launch->count; i++) {
    launch->fds[i] = fcntl(launch->fds[i], F_DUPFD_CLOEXEC, launch->count);
    if (launch->fds[i] < 0) fail("fcntl");
  }
  for (int i = 0; i < launch->count; i++) {
    if (dup2(launch->fds[i], i) < 0) fail("dup2");
  }
  if (syscall(SYS_close_range, launch->count, ~0u, kCloseRangeCloexec)) fail("close_range");

  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  if (launch->path != nullptr) {
    execve(launch->path, launch->args, launch->env);
    fail("execve");
  }
  syscall(SYS_execveat, file, "", launch->args, launch->env, AT_EMPTY_PATH);
  fail("execveat");
  return 127;
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

class Stack {
 public:
  Stack() : base_(mmap(nullptr, kChildStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0)) {}
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;
  ~Stack() {
    if (*this) munmap(base_, kChildStackBytes);
  }
  explicit operator bool() const { return base_ != MAP_FAILED; }
  void* top() const { return static_cast<char*>(base_) + kChildStackBytes; }

 private:
  void* base_;
};

struct Ended {
  siginfo_t info{};
  int error = 0;
};

Ended WaitForExit(int pidfd) {
  Ended ended;
  while (waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd), &ended.info, WEXITED)) {
    if (errno == EINTR) continue;
    ended.error = errno;
    break;
  }
  return ended;
}

}  // namespace

Napi::Value Spawn(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Object options = ObjectOf(info[0], "options");
  std::vector<std::string> args = Texts(options.Get("args"), "args");
  std::vector<std::string> environment = Texts(options.Get("env"), "env");
  std::vector<int> fds = Ints(options.Get("fds"), "fds");
  const std::vector<char*> arg_pointers = Pointers(args);
  const std::vector<char*> env_pointers = Pointers(environment);
  const Napi::Value file = options.Get("file");
  const std::string directory = options.Has("directory") ? Text(options.Get("directory"), "directory").str() : "";
  const std::string path = file.IsString() ? Text(file, "file").str() : "";
  Launch launch{file.IsString() ? path.c_str() : nullptr,
                file.IsString() ? -1 : Int(file, "file"),
                arg_pointers.data(),
                env_pointers.data(),
                fds.data(),
                static_cast<int>(fds.size()),
                options.Has("group") && Bool(options.Get("group"), "group"),
                options.Has("directory") ? directory.c_str() : nullptr};
  const Stack stack;
  if (!stack) throw SystemError(env, errno, "mmap");

  // The C library's clone(), because clone3(2) has no wrapper and a child in the same memory must leave the system call
  // on another stack. CLONE_VFORK holds this thread until the exec; CLONE_VM spares copying Node's page tables.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int pidfd = -1;
  const int pid = clone(Child, stack.top(), CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &launch, &pidfd);
  const int clone_errno = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) throw SystemError(env, clone_errno, "clone");

  auto owned = std::make_shared<Fd>(pidfd);
  if (launch.failed_call) {
    WaitForExit(pidfd);
    throw SystemError(env, launch.failed_errno, launch.failed_call, args.empty() ? nullptr : args[0].c_str());
  }
  auto ended = std::make_shared<Ended>();
  Napi::Object result = Napi::Object::New(env);
  result.Set("pid", Napi::Number::New(env, pid));
  result.Set("status", Work(
                           env, [owned, ended] { *ended = WaitForExit(owned->get()); },
                           [ended](Napi::Env env) -> Napi::Value {
                             if (ended->error) throw SystemError(env, ended->error, "waitid");
                             const bool exited = ended->info.si_code == CLD_EXITED;
                             const int status = ended->info.si_status;
                             Napi::Object value = Napi::Object::New(env);
                             value.Set("code", Napi::Number::New(env, exited ? status : 128 + status));
                             value.Set("signal", Napi::Number::New(env, exited ? 0 : status));
                             return value;
                           }));
  return result;
}

Napi::Value Pipe(const Napi::CallbackInfo& info) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw SystemError(info.Env(), errno, "pipe2");
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("read", Napi::Number::New(info.Env(), ends[0]));
  result.Set("write", Napi::Number::New(info.Env(), ends[1]));
  return result;
}

Napi::Value Unread(const Napi::CallbackInfo& info) {
  int bytes = 0;
  if (ioctl(Int(info[0], "fd"), FIONREAD, &bytes) != 0) throw SystemError(info.Env(), errno, "ioctl");
  return Napi::Number::New(info.Env(), bytes);
}

Napi::Value Memfd(const Napi::CallbackInfo& info) {
  const int fd = memfd_create(Text(info[0], "name").c_str(), MFD_CLOEXEC);
  if (fd < 0) throw SystemError(info.Env(), errno, "memfd_create");
  return Napi::Number::New(info.Env(), fd);
}

void ExitNow(const Napi::CallbackInfo& info) { _exit(Int(info[0], "code")); }

Napi::Value PidfdOpen(const Napi::CallbackInfo& info) {
  const long fd = syscall(SYS_pidfd_open, Int(info[0], "pid"), 0);
  if (fd < 0) throw SystemError(info.Env(), errno, "pidfd_open");
  return Napi::Number::New(info.Env(), static_cast<double>(fd));
}

void PidfdSendSignal(const Napi::CallbackInfo& info) {
  if (syscall(SYS_pidfd_send_signal, Int(info[0], "pidfd"), Int(info[1], "signal"), nullptr, 0)) {
    throw SystemError(info.Env(), errno, "pidfd_send_signal");
  }
}

}  // namespace berth
