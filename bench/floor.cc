// What the kernel alone needs for a container, or for a pod with one.
//
//   floor run LOWER UPPER WORK TARGET PROGRAM          runs `PROGRAM 1000` to its end, in new namespaces on an overlay
//   floor pod LOWER UPPER WORK TARGET PROGRAM CGROUP   prints the microseconds until it runs, in a pod on the host's network with the mounts of the CRI
//
// No check of anything, no record, no device program, no limit: nobody can be faster, and nobody should be.
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

int Fail(const char* what) {
  std::perror(what);
  return 1;
}

struct Paths {
  const char* lower;
  const char* upper;
  const char* work;
  const char* target;
  char* program;
};

// The root is the working directory then.
int MountRoot(const Paths& paths) {
  const std::string options = std::string("lowerdir=") + paths.lower + ",upperdir=" + paths.upper + ",workdir=" + paths.work;
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return Fail("mount /");
  if (mount("overlay", paths.target, "overlay", 0, options.c_str()) != 0) return Fail("mount overlay");
  if (chdir(paths.target) != 0) return Fail("chdir");
  if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) return Fail("mount proc");
  return 0;
}

int EnterAndExecute(const Paths& paths) {
  if (syscall(SYS_pivot_root, ".", ".") != 0) return Fail("pivot_root");
  if (umount2(".", MNT_DETACH) != 0) return Fail("umount");
  char seconds[] = "1000";
  char* const arguments[] = {paths.program, seconds, nullptr};
  char* const environment[] = {nullptr};
  execve(paths.program, arguments, environment);
  return Fail("execve");
}

int ChildOfRun(const Paths& paths) {
  if (const int status = MountRoot(paths); status != 0) return status;
  return EnterAndExecute(paths);
}

int Run(const Paths& paths) {
  clone_args arguments{};
  arguments.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
  arguments.exit_signal = SIGCHLD;
  const long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) return Fail("clone3");
  if (pid == 0) _exit(ChildOfRun(paths));
  int status = 0;
  if (waitpid(static_cast<pid_t>(pid), &status, 0) < 0) return Fail("waitpid");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

// As the CRI has them; what a host does not have is not masked there either.
int MountOthers() {
  constexpr unsigned long kPlain = MS_NOSUID | MS_NOEXEC;
  if (mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k") != 0) return Fail("mount dev");
  if (mkdir("dev/pts", 0755) != 0 || mkdir("dev/mqueue", 0755) != 0 || mkdir("dev/shm", 0755) != 0) return Fail("mkdir");
  constexpr int kDevices[][2] = {{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}};
  constexpr const char* kNames[] = {"dev/null", "dev/zero", "dev/full", "dev/random", "dev/urandom", "dev/tty"};
  for (size_t i = 0; i < 6; ++i) {
    const dev_t device = makedev(static_cast<unsigned>(kDevices[i][0]), static_cast<unsigned>(kDevices[i][1]));
    if (mknod(kNames[i], S_IFCHR | 0666, device) != 0) return Fail(kNames[i]);
  }
  if (mount("devpts", "dev/pts", "devpts", kPlain, "newinstance,ptmxmode=0666,mode=0620") != 0) return Fail("mount devpts");
  if (mount("mqueue", "dev/mqueue", "mqueue", kPlain | MS_NODEV, nullptr) != 0) return Fail("mount mqueue");
  if (mount("shm", "dev/shm", "tmpfs", kPlain | MS_NODEV, "size=65536k") != 0) return Fail("mount shm");
  if (mount("/sys", "sys", nullptr, MS_BIND, nullptr) != 0) return Fail("mount sys");
  if (mount(nullptr, "sys", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | kPlain | MS_NODEV, nullptr) != 0) return Fail("remount sys");
  if (mount("cgroup2", "sys/fs/cgroup", "cgroup2", kPlain | MS_NODEV | MS_RDONLY, nullptr) != 0) return Fail("mount cgroup");
  for (const char* path : {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"}) {
    if (mount(path, path, nullptr, MS_BIND | MS_REC, nullptr) != 0) continue;
    if (mount(nullptr, path, nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | kPlain | MS_NODEV, nullptr) != 0) return Fail(path);
  }
  for (const char* path : {"proc/interrupts", "proc/kcore", "proc/keys", "proc/latency_stats", "proc/timer_list", "proc/sched_debug"})
    mount("dev/null", path, nullptr, MS_BIND, nullptr);
  for (const char* path : {"proc/asound", "proc/acpi", "proc/scsi", "sys/firmware"})
    mount("tmpfs", path, "tmpfs", MS_RDONLY, "size=0");
  return 0;
}

// One that lets all through: what the default profile's costs each call is not part of a start.
int Filter() {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return Fail("no_new_privs");
  sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const sock_fprog program = {1, allow};
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) return Fail("seccomp");
  return 0;
}

int ChildOfPod(const Paths& paths, int holder) {
  if (setns(holder, CLONE_NEWIPC | CLONE_NEWUTS) != 0) return Fail("setns");
  if (const int status = MountRoot(paths); status != 0) return status;
  if (const int status = MountOthers(); status != 0) return status;
  if (const int status = Filter(); status != 0) return status;
  return EnterAndExecute(paths);
}

double Microseconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

int Pod(const Paths& paths, const std::string& group) {
  const double begin = Microseconds();
  const std::string own = group + "/container";
  if (mkdir(group.c_str(), 0755) != 0 || mkdir(own.c_str(), 0755) != 0) return Fail(own.c_str());
  // Holds the pod's namespaces.
  int holder = -1;
  clone_args first{};
  first.flags = CLONE_NEWIPC | CLONE_NEWUTS | CLONE_PIDFD;
  first.pidfd = reinterpret_cast<__u64>(&holder);
  first.exit_signal = SIGCHLD;
  const long pod = syscall(SYS_clone3, &first, sizeof first);
  if (pod < 0) return Fail("clone3");
  if (pod == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    pause();
    _exit(0);
  }
  const int directory = open(own.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int executed[2];
  if (directory < 0 || pipe2(executed, O_CLOEXEC) != 0) return Fail("open");
  clone_args second{};
  second.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWCGROUP | CLONE_INTO_CGROUP;
  second.cgroup = static_cast<__u64>(directory);
  second.exit_signal = SIGCHLD;
  const long pid = syscall(SYS_clone3, &second, sizeof second);
  if (pid < 0) return Fail("clone3 into the cgroup");
  if (pid == 0) {
    // A child that fails says so; in one that executes its program the pipe's end closes.
    ChildOfPod(paths, holder);
    _exit(write(executed[1], "", 1) == 1 ? 1 : 2);
  }
  close(executed[1]);
  char failed = 0;
  if (read(executed[0], &failed, 1) != 0) return Fail("the container");
  const double end = Microseconds();
  for (const long each : {pid, pod}) {
    kill(static_cast<pid_t>(each), SIGKILL);
    if (waitpid(static_cast<pid_t>(each), nullptr, 0) < 0) return Fail("waitpid");
  }
  if (rmdir(own.c_str()) != 0 || rmdir(group.c_str()) != 0) return Fail(group.c_str());
  std::printf("%.0f\n", end - begin);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const bool is_pod = argc == 8 && std::strcmp(argv[1], "pod") == 0;
  if (!is_pod && (argc != 7 || std::strcmp(argv[1], "run") != 0)) {
    std::fprintf(stderr, "usage: floor run|pod LOWER UPPER WORK TARGET PROGRAM [CGROUP]\n");
    return 2;
  }
  const Paths paths = {argv[2], argv[3], argv[4], argv[5], argv[6]};
  return is_pod ? Pod(paths, argv[7]) : Run(paths);
}
