#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/fd.h"
#include "../common/order.h"
#include "../common/signals.h"
#include "../common/texts.h"

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

// What a child that waits can be told: it has our directory and group, and no environment.
pid_t GiveTo(WaitingChild* waiting, const Request& request) {
  if (request.program < 0 || request.group || *request.directory || request.env[0] || !waiting->IsOf(request.program)) return -1;
  size_t words = 1;
  while (request.args[words]) words++;
  if (words > kOrderWordsMax) return -1;
  // In the payload they are in a row.
  const char* end = request.args[words - 1] + ::strlen(request.args[words - 1]) + 1;
  return waiting->Give(request.args[0], static_cast<size_t>(end - request.args[0]), request.fds, request.count);
}

// As native/addon/process.cc has it, and what Node does to itself at its start: the soft limit of descriptors is the hard one.
[[noreturn]] void Fail(int report) {
  const int error = errno;
  (void)!::write(report, &error, sizeof(error));
  ::_exit(127);
}

[[noreturn]] void Execute(Request* request, int report) {
  DefaultSignals();
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

// Both above what a caller may have, of whose descriptors the daemon looks which are open.
bool MoveUp(const int (&ends)[2], Fd* first, Fd* second) {
  const Fd low[2] = {Fd(ends[0]), Fd(ends[1])};
  *first = Fd(::fcntl(low[0].get(), F_DUPFD_CLOEXEC, kDescriptorsMax));
  *second = Fd(::fcntl(low[1].get(), F_DUPFD_CLOEXEC, kDescriptorsMax));
  return *first && *second;
}

bool OpenReport(Fd* read_end, Fd* report) {
  int ends[2];
  return ::pipe2(ends, O_CLOEXEC) == 0 && MoveUp(ends, read_end, report);
}

pid_t Start(Request* request, const Fd& read_end, Fd report) {
  // The memory stays ours until it is executed: nothing is copied.
  const pid_t pid = ::vfork();
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

pid_t Start(Request* request) {
  Fd read_end;
  Fd report;
  return OpenReport(&read_end, &report) ? Start(request, read_end, static_cast<Fd&&>(report)) : -1;
}

}  // namespace

void WaitingChild::Prepare(Fd program) {
  int ends[2];
  const bool is_ready = ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0 && MoveUp(ends, &theirs_, &socket_) &&
                        OpenReport(&read_end_, &report_);
  if (is_ready) program_ = static_cast<Fd&&>(program);
}

void WaitingChild::Start() {
  if (!program_) return;
  Request request;
  request.directory = "";
  request.program = program_.get();
  request.fds[request.count++] = theirs_.get();
  request.args[0] = const_cast<char*>("berth-launch");
  request.args[1] = const_cast<char*>(kWaitForOrder);
  request.args[2] = nullptr;
  request.env[0] = nullptr;
  pid_ = berth::Start(&request, read_end_, static_cast<Fd&&>(report_));
  theirs_.Reset();
  read_end_.Reset();
}

bool WaitingChild::IsOf(int program) const {
  struct stat mine = {};
  struct stat other = {};
  return pid_ > 0 && ::fstat(program_.get(), &mine) == 0 && ::fstat(program, &other) == 0 && mine.st_ino == other.st_ino &&
         mine.st_dev == other.st_dev;
}

pid_t WaitingChild::Give(const char* texts, size_t size, const int* fds, int count) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kOrderFdsMax)] = {};
  bool is_given = false;
  if (size <= kOrderBytesMax && count > 0 && count <= kOrderFdsMax) {
    const size_t bytes = sizeof(int) * static_cast<size_t>(count);
    iovec part = {const_cast<char*>(texts), size};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(bytes);
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(bytes);
    ::memcpy(CMSG_DATA(head), fds, bytes);
    is_given = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL) == static_cast<ssize_t>(size);
  }
  if (!is_given) {
    End();
    return -1;
  }
  socket_.Reset();
  return std::exchange(pid_, -1);
}

void WaitingChild::End() {
  socket_.Reset();
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) continue;
  pid_ = -1;
}

pid_t SpawnChild(const char* payload, size_t size, const int* passed, int passed_count, WaitingChild* waiting) {
  Request request;
  TextReader reader(payload, size);
  pid_t pid = -1;
  errno = EPROTO;
  if (Parse(&reader, passed, passed_count, &request)) {
    pid = GiveTo(waiting, request);
    if (pid < 0) pid = Start(&request);
  }
  const int error = errno;
  for (int i = 0; i < passed_count; i++) ::close(passed[i]);
  errno = error;
  return pid;
}

}  // namespace berth
