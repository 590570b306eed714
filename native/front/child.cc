#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/fd.h"
#include "texts.h"

namespace berth {
namespace {

constexpr unsigned kCloseRangeCloexec = 4;
constexpr int kDescriptorsMax = 512;
// Of each, as src/plan/hooks.ts takes them.
constexpr size_t kTextsMax = 4096;

struct Request {
  const char* file;
  // Where `file` names none: that of a passed descriptor.
  int program = -1;
  const char* directory;
  bool group;
  int fds[kDescriptorsMax];
  int count = 0;
  char* args[kTextsMax + 1];
  char* env[kTextsMax + 1];
};

// `p3,c0`: the fourth of those that came along, and our own 0.
bool ParseDescriptors(const char* text, const int* passed, int passed_count, Request* request) {
  while (*text) {
    const char kind = *text++;
    char* end;
    const long number = ::strtol(text, &end, 10);
    if (end == text || number < 0 || request->count == kDescriptorsMax) return false;
    if (kind == 'p' && number < passed_count) {
      request->fds[request->count++] = passed[number];
    } else if (kind == 'c' && number < kDescriptorsMax) {
      request->fds[request->count++] = static_cast<int>(number);
    } else {
      return false;
    }
    text = *end == ',' ? end + 1 : end;
  }
  return true;
}

bool Parse(TextReader* reader, const int* passed, int passed_count, Request* request) {
  request->file = reader->Next();
  const char* descriptors = reader->Next();
  request->directory = reader->Next();
  request->group = reader->NextNumber() == 1;
  const long count = reader->NextNumber();
  if (!descriptors || count < 1 || count > static_cast<long>(kTextsMax)) return false;
  for (long i = 0; i < count; i++) request->args[i] = const_cast<char*>(reader->Next());
  request->args[count] = nullptr;
  size_t variables = 0;
  while (!reader->done() && variables < kTextsMax) request->env[variables++] = const_cast<char*>(reader->Next());
  request->env[variables] = nullptr;
  if (request->file && request->file[0] == 'p') {
    char* end;
    const long number = ::strtol(request->file + 1, &end, 10);
    if (end == request->file + 1 || *end || number < 0 || number >= passed_count) return false;
    request->program = passed[number];
  }
  return reader->good() && reader->done() && ParseDescriptors(descriptors, passed, passed_count, request);
}

// As native/addon/process.cc has it, and what Node does to itself at its start: the soft limit of descriptors is the hard one.
[[noreturn]] void Fail(int report) {
  const int error = errno;
  (void)!::write(report, &error, sizeof(error));
  ::_exit(127);
}

[[noreturn]] void Execute(Request* request, int report) {
  struct sigaction standard = {};
  standard.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; signal++) ::sigaction(signal, &standard, nullptr);
  rlimit files = {};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
  }
  if (request->group) ::setpgid(0, 0);
  if (*request->directory && ::chdir(request->directory) != 0) Fail(report);
  // First all out of the way, above the numbers that are given out.
  const int program = request->program < 0 ? -1 : ::fcntl(request->program, F_DUPFD_CLOEXEC, request->count);
  if (request->program >= 0 && program < 0) Fail(report);
  for (int i = 0; i < request->count; i++) {
    request->fds[i] = ::fcntl(request->fds[i], F_DUPFD_CLOEXEC, request->count);
    if (request->fds[i] < 0) Fail(report);
  }
  for (int i = 0; i < request->count; i++) {
    if (::dup2(request->fds[i], i) < 0) Fail(report);
  }
  if (::syscall(SYS_close_range, request->count, ~0U, kCloseRangeCloexec) != 0) Fail(report);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (program < 0) {
    ::execve(request->file, request->args, request->env);
    Fail(report);
  }
  ::syscall(SYS_execveat, program, "", request->args, request->env, AT_EMPTY_PATH);
  Fail(report);
}

pid_t Start(Request* request) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return -1;
  const Fd read_end(ends[0]);
  Fd low_end(ends[1]);
  // Above what the child gives out.
  Fd report(::fcntl(ends[1], F_DUPFD_CLOEXEC, kDescriptorsMax));
  low_end.Reset();
  // The memory stays ours until it is executed: nothing is copied.
  const pid_t pid = report ? ::vfork() : -1;
  if (pid < 0) return -1;
  if (pid == 0) Execute(request, report.get());
  report.Reset();
  int error = 0;
  // End of file: it has been executed.
  if (::read(read_end.get(), &error, sizeof(error)) != sizeof(error)) return pid;
  ::waitpid(pid, nullptr, 0);
  errno = error;
  return -1;
}

}  // namespace

pid_t SpawnChild(const char* payload, size_t size, const int* passed, int passed_count) {
  Request request;
  TextReader reader(payload, size);
  pid_t pid = -1;
  errno = EPROTO;
  if (Parse(&reader, passed, passed_count, &request)) pid = Start(&request);
  const int error = errno;
  for (int i = 0; i < passed_count; i++) ::close(passed[i]);
  errno = error;
  return pid;
}

}  // namespace berth
