// From ready to exec.
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "call.h"
#include "child.h"
#include "drop.h"
#include "path.h"
#include "sync.h"

namespace berth {
namespace {

// Above the numbers that CloseAllElse gives out.
constexpr int kHigh = 64;
constexpr char kDefaultPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

constexpr int kKept = 3;

// Leaves stdio, what the caller wants kept, the sockets and the label files: a cwd of /proc/self/fd/N finds nothing else to
// stand in (CVE-2024-21626).
void CloseAllElse(Child* child) {
  int* const kept[kKept] = {&child->apparmor, &child->selinux, &child->notify};
  int high[kKept] = {-1, -1, -1};
  const int first = child->first_free;
  for (int i = 0; i < kKept; i++) {
    if (*kept[i] < 0) continue;
    high[i] = static_cast<int>(Must(::fcntl(*kept[i], F_DUPFD_CLOEXEC, first + kHigh), "start", "label"));
  }
  for (int i = 0; i < kKept; i++) {
    ::close(first + i);
    if (high[i] < 0) continue;
    Must(Call(SYS_dup3, high[i], first + i, O_CLOEXEC), "start", "label");
    *kept[i] = first + i;
  }
  Must(Call(SYS_close_range, static_cast<unsigned>(first + kKept), ~0U, 0), "start", "close_range");
}

void SetRlimits(const ProcessPlan& process) {
  for (const RlimitPlan& limit : process.rlimits) {
    const rlimit64 value = {limit.soft, limit.hard};
    Must(Call(SYS_prlimit64, 0, limit.resource, &value, nullptr), "process", "cannot set limit %d (RLIMIT_*, getrlimit(2))",
         limit.resource);
  }
}

// What the kernel lets only the privileged ask for, before that is dropped.
void SetScheduling(const ProcessPlan& process) {
  constexpr int kIoPriorityProcess = 1;  // IOPRIO_WHO_PROCESS
  if (!process.scheduler.empty()) {
    Must(Call(SYS_sched_setattr, 0, process.scheduler.data, 0), "process", "cannot set process.scheduler");
  }
  if (process.io_priority >= 0) {
    Must(Call(SYS_ioprio_set, kIoPriorityProcess, 0, process.io_priority), "process", "cannot set process.ioPriority");
  }
  if (process.memory_policy >= 0) {
    // The kernel reads one bit less than it is told.
    const size_t bits = process.memory_nodes.size * 8;
    const void* const nodes = bits ? process.memory_nodes.data : nullptr;
    Must(Call(SYS_set_mempolicy, process.memory_policy, nodes, bits ? bits + 1 : 0), "process",
         "cannot set linux.memoryPolicy");
  }
  if (process.personality >= 0) {
    Must(Call(SYS_personality, process.personality), "process", "cannot set linux.personality");
  }
  if (!process.final_cpus.empty()) {
    Must(Call(SYS_sched_setaffinity, 0, process.final_cpus.size, process.final_cpus.data), "process",
         "cannot set process.execCPUAffinity.final");
  }
}

void WriteLabels(Child* child) {
  const ProcessPlan& process = *child->process;
  if (process.apparmor) {
    char text[512];
    const int size = std::snprintf(text, sizeof(text), "exec %s", process.apparmor);
    if (size < 0 || static_cast<size_t>(size) >= sizeof(text)) Die(ENAMETOOLONG, "apparmor", "%s", process.apparmor);
    Must(Call(SYS_write, child->apparmor, text, size), "apparmor", "profile %s", process.apparmor);
  }
  if (process.selinux) {
    Must(Call(SYS_write, child->selinux, process.selinux, std::strlen(process.selinux)), "selinux", "label %s",
         process.selinux);
  }
  for (int* label : {&child->apparmor, &child->selinux}) {
    if (*label >= 0) ::close(*label);
    *label = -1;
  }
}

void CheckCwd(const char* wanted) {
  char path[PATH_MAX];
  const long size = Call(SYS_getcwd, path, sizeof(path));
  Must(size, "cwd", "working directory %s", wanted);
  // "(unreachable)/…": outside of our root (getcwd(3), CVE-2024-21626).
  if (path[0] != '/') Die(-EPERM, "cwd", "refused: working directory %s is outside of the container's root", wanted);
}

const char* Variable(const Array<const char*>& env, const char* name) {
  const size_t length = std::strlen(name);
  const char* value = nullptr;
  for (const char* entry : env) {
    if (std::strncmp(entry, name, length) == 0 && entry[length] == '=') value = entry + length + 1;
  }
  return value;
}

[[noreturn]] void Execute(const ProcessPlan& process) {
  const char* const name = process.args[0];
  if (std::strchr(name, '/')) {
    Call(SYS_execve, name, process.args.data, process.env.data);
    const int error = errno;
    if (error == ENOENT && ::faccessat(AT_FDCWD, name, F_OK, 0) == 0) {
      Die(error, "exec", "exec \"%s\": its interpreter is missing", name);
    }
    Die(error, "exec", "exec \"%s\"", name);
  }
  const char* path = Variable(process.env, "PATH");
  if (!path) path = kDefaultPath;
  int worst = ENOENT;
  for (bool more = name[0] != '\0'; more;) {
    const size_t length = std::strcspn(path, ":");
    char file[PATH_MAX];
    // An empty entry would mean the working directory, which an image could fill: refused, as docker does.
    const int size = std::snprintf(file, sizeof(file), "%.*s/%s", static_cast<int>(length), path, name);
    if (length > 0 && size > 0 && static_cast<size_t>(size) < sizeof(file)) {
      Call(SYS_execve, file, process.args.data, process.env.data);
      const int error = errno;
      if (error == EACCES) {
        worst = error;
      } else if (error == ENOENT && ::faccessat(AT_FDCWD, file, F_OK, 0) == 0) {
        Die(error, "exec", "exec \"%s\": its interpreter is missing", file);
      } else if (error != ENOENT && error != ENOTDIR) {
        Die(error, "exec", "exec \"%s\"", file);
      }
    }
    more = path[length] == ':';
    path += length + more;
  }
  if (worst == EACCES) Die(EACCES, "exec", "exec \"%s\"", name);
  Die(-ENOENT, "exec", "exec \"%s\": executable file not found in $PATH", name);
}

void LoadFilter(const Child& child, int text) {
  const int filter = LoadSeccomp(*child.process);
  if (filter >= 0) SendNotify(child.notify, text, filter);
}

// An engine is told at create already, where it can be told, that there is no such program.
void RequireProgram(const ProcessPlan& process) {
  const char* const name = process.args[0];
  if (name[0] == '/') Must(::faccessat(AT_FDCWD, name, X_OK, 0), "exec", "exec \"%s\"", name);
  if (std::strchr(name, '/')) return;
  const char* path = Variable(process.env, "PATH");
  if (!path) path = kDefaultPath;
  for (bool more = true; more;) {
    const size_t length = std::strcspn(path, ":");
    char file[PATH_MAX];
    const int size = std::snprintf(file, sizeof(file), "%.*s/%s", static_cast<int>(length), path, name);
    if (length > 0 && size > 0 && static_cast<size_t>(size) < sizeof(file) && ::faccessat(AT_FDCWD, file, X_OK, 0) == 0) {
      return;
    }
    more = path[length] == ':';
    path += length + more;
  }
  Die(-ENOENT, "exec", "exec \"%s\": executable file not found in $PATH", name);
}

}  // namespace

void MakeCwd(Child* child, int root) {
  const ProcessPlan& process = *child->process;
  if (!process.create_cwd) return;
  const int there = OpenIn(root, process.cwd, O_PATH);
  if (there >= 0) {
    ::close(there);
    return;
  }
  if (errno != ENOENT) return;  // What is wrong with it shows at chdir.
  const int made = static_cast<int>(Must(MakeIn(root, process.cwd, true), "cwd", "cannot make %s", process.cwd));
  Must(Call(SYS_fchownat, made, "", process.uid, process.gid, AT_EMPTY_PATH), "cwd", "owner of %s", process.cwd);
  ::close(made);
}

void Finish(Child* child) {
  const ProcessPlan& process = *child->process;
  // Else keys of the host's session could be read in the container. A kernel without keyrings has none to read.
  const long keyring = process.keep_keyring ? 0 : Call(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr);
  if (keyring < 0 && errno != ENOSYS) Must(keyring, "process", "cannot make a session keyring");
  CloseAllElse(child);
  // In a joined mount namespace whoever made it may still be filling it.
  const bool joined = child->plan && JoinsNamespace(*child->plan, CLONE_NEWNS);
  if (child->listener >= 0 && !joined) RequireProgram(process);
  SendReady();
  const StartTexts texts = AwaitStart(child->listener);

  WriteLabels(child);
  SetRlimits(process);
  SetScheduling(process);
  // As root, as docker does: an image may want a directory that its user cannot enter. Once more as the user, where
  // root is the one who may not (NFS).
  long entered = Call(SYS_chdir, process.cwd);
  if (entered < 0 && errno != EACCES && errno != EPERM) Must(entered, "cwd", "cannot enter %s", process.cwd);
  // Before the filter, which may forbid getcwd.
  if (entered >= 0) CheckCwd(process.cwd);
  // Without no_new_privs loading a filter needs CAP_SYS_ADMIN, so it happens before that is dropped (seccomp(2)).
  if (!process.no_new_privileges) LoadFilter(*child, texts.notify);
  DropPrivileges(process);
  if (entered < 0) {
    Must(Call(SYS_chdir, process.cwd), "cwd", "cannot enter %s", process.cwd);
    CheckCwd(process.cwd);
  }
  ::umask(process.umask);
  if (process.no_new_privileges) Must(Call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "process", "no_new_privs");
  // Not dumpable is no protection against a process with CAP_SYS_PTRACE in our user namespace (ptrace(2)). So what a
  // container can see of an exec has none of our privileges and descriptors left.
  if (child->clones_last) CloneSibling(0, process.terminal);
  // The last but exec: nothing of ours needs a call that the filter might forbid.
  if (process.no_new_privileges) LoadFilter(*child, texts.notify);
  // By the program's rights: they are programs of the container.
  if (child->plan && texts.state >= 0) RunHooks(child->plan->start_hooks, "startContainer", texts.state, "/");
  if (child->plan && child->plan->reaper) ForkFromReaper(process.terminal);
  Execute(process);
}

}  // namespace berth
