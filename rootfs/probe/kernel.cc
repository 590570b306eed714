// Verbs that ask the kernel for what a container should or should not be given.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "probe.h"

namespace probe {

namespace {

constexpr const char* kCapabilities[] = {
    "CHOWN",         "DAC_OVERRIDE",  "DAC_READ_SEARCH",  "FOWNER",         "FSETID",           "KILL",        "SETGID",
    "SETUID",        "SETPCAP",       "LINUX_IMMUTABLE",  "NET_BIND_SERVICE", "NET_BROADCAST",  "NET_ADMIN",   "NET_RAW",
    "IPC_LOCK",      "IPC_OWNER",     "SYS_MODULE",       "SYS_RAWIO",      "SYS_CHROOT",       "SYS_PTRACE",  "SYS_PACCT",
    "SYS_ADMIN",     "SYS_BOOT",      "SYS_NICE",         "SYS_RESOURCE",   "SYS_TIME",         "SYS_TTY_CONFIG", "MKNOD",
    "LEASE",         "AUDIT_WRITE",   "AUDIT_CONTROL",    "SETFCAP",        "MAC_OVERRIDE",     "MAC_ADMIN",   "SYSLOG",
    "WAKE_ALARM",    "BLOCK_SUSPEND", "AUDIT_READ",       "PERFMON",        "BPF",              "CHECKPOINT_RESTORE"};

int Mknod(int argc, char** argv) {
  if (argc != 5) return Usage();
  const mode_t type = argv[2][0] == 'c' ? S_IFCHR : argv[2][0] == 'b' ? S_IFBLK : S_IFIFO;
  const unsigned number_major = static_cast<unsigned>(std::atoi(argv[3]));
  const unsigned number_minor = static_cast<unsigned>(std::atoi(argv[4]));
  return mknod(argv[1], type | 0666, makedev(number_major, number_minor)) == 0 ? 0 : Fail("mknod", argv[1]);
}

unsigned long MountFlag(const char* name) {
  if (std::strcmp(name, "ro") == 0) return MS_RDONLY;
  if (std::strcmp(name, "bind") == 0) return MS_BIND;
  if (std::strcmp(name, "rbind") == 0) return MS_BIND | MS_REC;
  if (std::strcmp(name, "remount") == 0) return MS_REMOUNT;
  if (std::strcmp(name, "move") == 0) return MS_MOVE;
  return 0;
}

// mount SOURCE TARGET TYPE [ro|bind|rbind|remount|move…]
int Mount(int argc, char** argv) {
  if (argc < 4) return Usage();
  unsigned long flags = 0;
  for (int i = 4; i < argc; ++i) flags |= MountFlag(argv[i]);
  return mount(argv[1], argv[2], argv[3], flags, nullptr) == 0 ? 0 : Fail("mount", argv[2]);
}

int Unmount(int argc, char** argv) {
  if (argc != 2) return Usage();
  return umount2(argv[1], MNT_DETACH) == 0 ? 0 : Fail("umount", argv[1]);
}

int Unshare(int argc, char** argv) {
  constexpr struct {
    const char* name;
    int flag;
  } kFlags[] = {{"mnt", CLONE_NEWNS}, {"pid", CLONE_NEWPID},   {"net", CLONE_NEWNET},       {"ipc", CLONE_NEWIPC},
                {"uts", CLONE_NEWUTS}, {"user", CLONE_NEWUSER}, {"cgroup", CLONE_NEWCGROUP}, {"time", 0x80}};
  if (argc < 2) return Usage();
  int flags = 0;
  for (int i = 1; i < argc; ++i) {
    bool known = false;
    for (const auto& flag : kFlags) {
      if (std::strcmp(argv[i], flag.name) != 0) continue;
      flags |= flag.flag;
      known = true;
    }
    if (!known) return Usage();
  }
  if (unshare(flags) != 0) return Fail("unshare", argv[1]);
  std::printf("unshared\n");
  return 0;
}

int Chroot(int argc, char** argv) {
  if (argc != 2) return Usage();
  return chroot(argv[1]) == 0 ? 0 : Fail("chroot", argv[1]);
}

int SetUid(int argc, char** argv) {
  if (argc != 2) return Usage();
  return setuid(static_cast<uid_t>(std::atoi(argv[1]))) == 0 ? 0 : Fail("setuid", argv[1]);
}

// Any system call by number with up to six numeric arguments; prints its result. For seccomp profiles.
int Syscall(int argc, char** argv) {
  if (argc < 2 || argc > 8) return Usage();
  long values[7] = {};
  for (int i = 1; i < argc; ++i) values[i - 1] = std::strtol(argv[i], nullptr, 0);
  const long result = syscall(values[0], values[1], values[2], values[3], values[4], values[5], values[6]);
  if (result < 0) return Fail("syscall", argv[1]);
  std::printf("%ld\n", result);
  return 0;
}

// One line a set: `effective CHOWN KILL …`, in the kernel's order of numbers.
int Caps(int, char**) {
  char status[16384];
  if (!ReadText("/proc/self/status", status, sizeof status)) return Fail("open", "/proc/self/status");
  constexpr struct {
    const char* key;
    const char* name;
  } kSets[] = {{"CapBnd:", "bounding"},
               {"CapEff:", "effective"},
               {"CapPrm:", "permitted"},
               {"CapInh:", "inheritable"},
               {"CapAmb:", "ambient"}};
  for (const auto& set : kSets) {
    const char* at = std::strstr(status, set.key);
    const uint64_t bits = at ? std::strtoull(at + std::strlen(set.key), nullptr, 16) : 0;
    std::printf("%s", set.name);
    for (unsigned i = 0; i < 64; ++i) {
      if ((bits >> i & 1) == 0) continue;
      const char* name = CapabilityName(i);
      if (name) {
        std::printf(" %s", name);
      } else {
        std::printf(" %u", i);
      }
    }
    std::printf("\n");
  }
  return 0;
}

// The attack of CVE-2019-5736: for SECONDS, tries to write to the program behind every process that is not this very
// program (a runtime's process on its way into the container). Prints `refused PID ENAME` once a kind or `WRITABLE PID`.
int ExecSelfWrite(int argc, char** argv) {
  if (argc != 2) return Usage();
  struct stat own {};
  if (stat("/proc/self/exe", &own) != 0) return Fail("stat", "/proc/self/exe");
  const double end = Now(CLOCK_MONOTONIC) + std::atof(argv[1]);
  std::printf("ready\n");
  std::fflush(stdout);
  int seen[8] = {}, kinds = 0;
  while (Now(CLOCK_MONOTONIC) < end) {
    DIR* proc = opendir("/proc");
    if (!proc) return Fail("opendir", "/proc");
    while (const dirent* entry = readdir(proc)) {
      const int pid = std::atoi(entry->d_name);
      if (pid <= 0 || pid == getpid()) continue;
      char path[64];
      std::snprintf(path, sizeof path, "/proc/%d/exe", pid);
      int error = 0;
      struct stat other {};
      const int handle = open(path, O_RDONLY | O_CLOEXEC);
      if (handle < 0) {
        // Gone already, or a kernel thread: nothing to learn.
        if (errno == ENOENT || errno == ESRCH) continue;
        error = errno;
      } else {
        if (fstat(handle, &other) == 0 && other.st_dev == own.st_dev && other.st_ino == own.st_ino) {
          close(handle);
          continue;
        }
        // A running program is ETXTBSY; the attack holds the handle and tries again when it is not running.
        std::snprintf(path, sizeof path, "/proc/self/fd/%d", handle);
        for (int attempt = 0; attempt < 200; ++attempt) {
          const int writable = open(path, O_WRONLY | O_CLOEXEC);
          if (writable >= 0) {
            std::printf("WRITABLE %d\n", pid);
            return 9;
          }
          error = errno;
          if (error != ETXTBSY) break;
          SleepSeconds(0.005);
        }
        close(handle);
      }
      bool known = false;
      for (int i = 0; i < kinds; ++i) known = known || seen[i] == error;
      if (known || kinds == 8) continue;
      seen[kinds++] = error;
      std::printf("refused %d %s\n", pid, strerrorname_np(error));
      std::fflush(stdout);
    }
    closedir(proc);
  }
  std::printf("done\n");
  return 0;
}

// For SECONDS, looks at every other process for one with more than no capability, as somebody with CAP_SYS_PTRACE would who
// waits for a runtime's process on its way into the container. Prints `ready`, `PRIVILEGED PID CAPABILITIES` for each that is
// caught, and how many processes were looked at.
int WatchPrivileges(int argc, char** argv) {
  if (argc != 2) return Usage();
  const double end = Now(CLOCK_MONOTONIC) + std::atof(argv[1]);
  std::printf("ready\n");
  std::fflush(stdout);
  int newest = getpid(), seen = 0;
  while (Now(CLOCK_MONOTONIC) < end) {
    // Numbers are given out in order: what comes next is a few further at most.
    for (int pid = newest + 1; pid < newest + 8; ++pid) {
      char path[64], status[8192];
      std::snprintf(path, sizeof path, "/proc/%d/status", pid);
      if (!ReadText(path, status, sizeof status)) continue;
      const char* at = std::strstr(status, "CapPrm:");
      const uint64_t bits = at ? std::strtoull(at + std::strlen("CapPrm:"), nullptr, 16) : 0;
      if (bits) {
        std::printf("PRIVILEGED %d %llx\n", pid, static_cast<unsigned long long>(bits));
        std::fflush(stdout);
      }
      newest = pid;
      ++seen;
      break;
    }
  }
  std::printf("done %d\n", seen);
  return 0;
}

constexpr Verb kVerbs[] = {
    {"mknod", "PATH c|b|p MAJOR MINOR", Mknod},
    {"mount", "SOURCE TARGET TYPE [FLAG…]", Mount},
    {"umount", "TARGET", Unmount},
    {"unshare", "mnt|pid|net|ipc|uts|user|cgroup|time…", Unshare},
    {"chroot", "PATH", Chroot},
    {"setuid", "UID", SetUid},
    {"syscall", "NUMBER [ARGUMENT…]", Syscall},
    {"caps", "", Caps},
    {"exec-self-write", "SECONDS", ExecSelfWrite},
    {"watch-privileges", "SECONDS", WatchPrivileges},
};

}  // namespace

const char* CapabilityName(unsigned number) {
  return number < sizeof kCapabilities / sizeof *kCapabilities ? kCapabilities[number] : nullptr;
}

Verbs KernelVerbs() { return {kVerbs, sizeof kVerbs / sizeof *kVerbs}; }

}  // namespace probe
