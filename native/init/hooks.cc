// Programs that the configuration has run at points of a container's life.
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "../common/end.h"
#include "../common/errors.h"
#include "call.h"
#include "child.h"
#include "sync.h"

namespace berth {
namespace {

constexpr int kNotFound = 127;
constexpr int kSignalBase = 128;

// The beginning of what a hook says, for the error; the rest is read and dropped, so that it never waits for us.
struct Complaint {
  char text[513] = "";
  size_t size = 0;

  void Take(int pipe) {
    char bytes[4096];
    const ssize_t got = ::read(pipe, bytes, sizeof(bytes));
    for (ssize_t i = 0; i < got && size < sizeof(text) - 1; i++) text[size++] = bytes[i];
    text[size] = '\0';
  }
};

[[noreturn]] void Execute(const HookPlan& hook, int state, int output, const char* directory) {
  ::setsid();
  if (::dup3(state, 0, 0) < 0 || ::dup3(output, 1, 0) < 0 || ::dup3(output, 2, 0) < 0) End(kNotFound);
  if (::chdir(directory) == 0) ::execve(hook.path, const_cast<char**>(hook.args.data), const_cast<char**>(hook.env.data));
  ::dprintf(2, "%s", ErrorText(errno));
  End(kNotFound);
}

// Until it ends; false when its time is over.
bool Await(int pidfd, int output, int timeout_ms, Complaint* complaint) {
  timespec begin = {};
  ::clock_gettime(CLOCK_MONOTONIC, &begin);
  for (;;) {
    int left = -1;
    if (timeout_ms > 0) {
      timespec now = {};
      ::clock_gettime(CLOCK_MONOTONIC, &now);
      const long passed = (now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000;
      if (passed >= timeout_ms) return false;
      left = static_cast<int>(timeout_ms - passed);
    }
    pollfd watched[2] = {{pidfd, POLLIN, 0}, {output, POLLIN, 0}};
    if (::poll(watched, 2, left) < 0) continue;
    if (watched[1].revents & POLLIN) complaint->Take(output);
    else if (watched[0].revents) return true;
    else if (watched[1].revents) output = -1;
  }
}

void RunHook(const HookPlan& hook, const char* kind, int state, const char* directory) {
  int output[2];
  Must(Call(SYS_pipe2, output, O_CLOEXEC), "hook", "pipe");
  ::lseek(state, 0, SEEK_SET);
  int pidfd = -1;
  // Not clone3: the container's filter may be in force, and filters refuse that, for they cannot see its flags.
  const pid_t pid = static_cast<pid_t>(
      Must(Call(SYS_clone, CLONE_PIDFD | SIGCHLD, nullptr, &pidfd, nullptr, nullptr), "hook", "clone"));
  if (pid == 0) Execute(hook, state, output[1], directory);
  ::close(output[1]);
  Complaint complaint;
  const bool ended = Await(pidfd, output[0], static_cast<int>(hook.timeout_ms), &complaint);
  if (!ended) ::kill(-pid, SIGKILL);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  ::close(output[0]);
  ::close(pidfd);
  if (!ended) Die(-ETIMEDOUT, "hook", "%s hook %s did not end within %u ms", kind, hook.path, hook.timeout_ms);
  if (status == 0) return;
  const int code = WIFSIGNALED(status) ? kSignalBase + WTERMSIG(status) : WEXITSTATUS(status);
  Die(-EIO, "hook", "%s hook %s ended with %d%s%s", kind, hook.path, code, complaint.size > 0 ? ": " : "",
      complaint.text);
}

}  // namespace

void RunHooks(const Array<HookPlan>& hooks, const char* kind, int state, const char* directory) {
  for (const HookPlan& hook : hooks) RunHook(hook, kind, state, directory);
}

}  // namespace berth
