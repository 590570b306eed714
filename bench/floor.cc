// What the kernel alone needs for a container: clone3 with new namespaces, overlay mount, pivot_root, proc, exec, wait.
//
//   floor LOWER UPPER WORK TARGET PROGRAM
//
// No check of anything, no cgroup, no seccomp, no record: nobody can be faster, and nobody should be.
#include <cstdio>
#include <cstring>

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

int Fail(const char* what) {
  std::perror(what);
  return 1;
}

int Child(char** argv) {
  char options[16384];
  std::snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s", argv[1], argv[2], argv[3]);
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return Fail("mount /");
  if (mount("overlay", argv[4], "overlay", 0, options) != 0) return Fail("mount overlay");
  if (chdir(argv[4]) != 0) return Fail("chdir");
  if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) return Fail("mount proc");
  if (syscall(SYS_pivot_root, ".", ".") != 0) return Fail("pivot_root");
  if (umount2(".", MNT_DETACH) != 0) return Fail("umount");
  char* const arguments[] = {argv[5], nullptr};
  char* const environment[] = {nullptr};
  execve(argv[5], arguments, environment);
  return Fail("execve");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: floor LOWER UPPER WORK TARGET PROGRAM\n");
    return 2;
  }
  clone_args arguments{};
  arguments.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
  arguments.exit_signal = SIGCHLD;
  const long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) return Fail("clone3");
  if (pid == 0) _exit(Child(argv));
  int status = 0;
  if (waitpid(static_cast<pid_t>(pid), &status, 0) < 0) return Fail("waitpid");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
