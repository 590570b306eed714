// Verbs about this process, its environment, and what it uses up.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <dirent.h>
#include <grp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "probe.h"

extern char** environ;

namespace probe {

namespace {

int True(int, char**) { return 0; }

int False(int, char**) { return 1; }

int Exit(int argc, char** argv) { return argc != 2 ? Usage() : std::atoi(argv[1]); }

int Echo(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) std::printf("%s%s", i > 1 ? " " : "", argv[i]);
  std::printf("\n");
  return 0;
}

int EchoError(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) std::fprintf(stderr, "%s%s", i > 1 ? " " : "", argv[i]);
  std::fprintf(stderr, "\n");
  return 0;
}

int Env(int, char**) {
  for (char** e = environ; *e; ++e) std::printf("%s\n", *e);
  return 0;
}

// uid=0 gid=0 groups=0,10 umask=0022
int Id(int, char**) {
  gid_t groups[1024];
  const int count = getgroups(1024, groups);
  const mode_t mask = umask(0);
  umask(mask);
  std::printf("uid=%u gid=%u groups=", getuid(), getgid());
  for (int i = 0; i < count; ++i) std::printf("%s%u", i ? "," : "", groups[i]);
  std::printf(" umask=%04o\n", mask);
  return 0;
}

int Pwd(int, char**) {
  char path[4096];
  if (!getcwd(path, sizeof path)) return Fail("getcwd");
  std::printf("%s\n", path);
  return 0;
}

int Hostname(int argc, char** argv) {
  if (argc == 2) return sethostname(argv[1], std::strlen(argv[1])) == 0 ? 0 : Fail("sethostname", argv[1]);
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  std::printf("%s\n", name);
  return 0;
}

int Sleep(int argc, char** argv) {
  if (argc > 2) return Usage();
  if (argc == 2) {
    SleepSeconds(std::atof(argv[1]));
    return 0;
  }
  for (;;) pause();
}

// Prints `cpu SECONDS wall SECONDS` after that much wall time.
int Spin(int argc, char** argv) {
  if (argc != 2) return Usage();
  const double begin = Now(CLOCK_MONOTONIC), end = begin + std::atof(argv[1]);
  while (Now(CLOCK_MONOTONIC) < end) {
    // Most of the time outside the kernel, so that CPU time is this process's own.
    for (int i = 0; i < 100000; ++i) asm volatile("");
  }
  std::printf("cpu %.3f wall %.3f\n", Now(CLOCK_PROCESS_CPUTIME_ID), Now(CLOCK_MONOTONIC) - begin);
  return 0;
}

// Touches that much memory, says so, and holds it for the seconds.
int Memory(int argc, char** argv) {
  if (argc != 2 && argc != 3) return Usage();
  const size_t bytes = std::strtoull(argv[1], nullptr, 10);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Fail("mmap");
  for (size_t i = 0; i < bytes; i += 4096) static_cast<volatile char*>(memory)[i] = 1;
  std::printf("touched %zu\n", bytes);
  std::fflush(stdout);
  if (argc == 3) SleepSeconds(std::atof(argv[2]));
  return 0;
}

// Forks up to N children that wait; prints how many there were, and the errno that ended it.
int ForkBomb(int argc, char** argv) {
  if (argc != 2) return Usage();
  const int wanted = std::atoi(argv[1]);
  int gate[2];
  if (pipe(gate) != 0) return Fail("pipe");
  int made = 0, error = 0;
  for (; made < wanted; ++made) {
    const pid_t pid = fork();
    if (pid < 0) {
      error = errno;
      break;
    }
    if (pid == 0) {
      close(gate[1]);
      char byte;
      // Ends when the parent closes its end, or dies.
      _exit(read(gate[0], &byte, 1) == 0 ? 0 : 1);
    }
  }
  close(gate[1]);
  while (wait(nullptr) > 0) {
  }
  std::printf("forked %d %s\n", made, error ? strerrorname_np(error) : "all");
  return 0;
}

// lines COUNT RATE [both]: numbered lines, RATE a second (0: as fast as it goes), with `both` on stderr too.
int Lines(int argc, char** argv) {
  if (argc != 3 && argc != 4) return Usage();
  const long count = std::atol(argv[1]);
  const double rate = std::atof(argv[2]), begin = Now(CLOCK_MONOTONIC);
  for (long i = 1; i <= count; ++i) {
    // Whole lines in one write each: a reader sees a torn line only if someone on the way tore it.
    char line[64];
    const int length = std::snprintf(line, sizeof line, "line %ld\n", i);
    if (write(STDOUT_FILENO, line, static_cast<size_t>(length)) != length) return Fail("write", "stdout");
    if (argc == 4 && write(STDERR_FILENO, line, static_cast<size_t>(length)) != length) return Fail("write", "stderr");
    if (rate > 0) {
      const double due = begin + static_cast<double>(i) / rate, now = Now(CLOCK_MONOTONIC);
      if (due > now) SleepSeconds(due - now);
    }
  }
  return 0;
}

int IsTty(int, char**) {
  std::printf("stdin=%s stdout=%s stderr=%s\n", isatty(0) ? "yes" : "no", isatty(1) ? "yes" : "no",
              isatty(2) ? "yes" : "no");
  return isatty(0) && isatty(1) && isatty(2) ? 0 : 1;
}

// ROWS COLUMNS
int TtySize(int, char**) {
  winsize size{};
  if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) != 0) return Fail("TIOCGWINSZ");
  std::printf("%u %u\n", size.ws_row, size.ws_col);
  return 0;
}

int ByNumber(const dirent** a, const dirent** b) { return std::atoi((*a)->d_name) - std::atoi((*b)->d_name); }

int IsNumber(const dirent* entry) { return entry->d_name[0] >= '0' && entry->d_name[0] <= '9'; }

// One line a process: PID PARENT STATE NAME
int Ps(int, char**) {
  dirent** names = nullptr;
  const int count = scandir("/proc", &names, IsNumber, ByNumber);
  if (count < 0) return Fail("opendir", "/proc");
  for (int i = 0; i < count; ++i) {
    char path[300], text[1024];
    std::snprintf(path, sizeof path, "/proc/%s/stat", names[i]->d_name);
    if (!ReadText(path, text, sizeof text)) continue;
    // The name is in parentheses and may itself hold any character: it ends at the last one.
    char* open = std::strchr(text, '(');
    char* close = std::strrchr(text, ')');
    char state = '?';
    int parent = 0;
    if (!open || !close || std::sscanf(close + 1, " %c %d", &state, &parent) != 2) continue;
    std::printf("%s %d %c %.*s\n", names[i]->d_name, parent, state, static_cast<int>(close - open - 1), open + 1);
  }
  return 0;
}

// One line an open fd: NUMBER TARGET, without the one that reads the list.
int Fds(int, char**) {
  DIR* directory = opendir("/proc/self/fd");
  if (!directory) return Fail("opendir", "/proc/self/fd");
  while (const dirent* entry = readdir(directory)) {
    if (!IsNumber(entry) || std::atoi(entry->d_name) == dirfd(directory)) continue;
    char path[300], to[4096];
    std::snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
    const ssize_t length = readlink(path, to, sizeof to);
    std::printf("%s %.*s\n", entry->d_name, static_cast<int>(length < 0 ? 0 : length), to);
  }
  closedir(directory);
  return 0;
}

int Rlimits(int, char**) {
  constexpr const char* kNames[] = {"cpu",    "fsize", "data",    "stack", "core",       "rss",      "nproc", "nofile",
                                    "memlock", "as",   "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"};
  for (int i = 0; i < 16; ++i) {
    rlimit64 limit{};
    if (getrlimit64(static_cast<__rlimit_resource>(i), &limit) != 0) continue;
    std::printf("%s %lld %lld\n", kNames[i], static_cast<long long>(limit.rlim_cur),
                static_cast<long long>(limit.rlim_max));
  }
  return 0;
}

// Seconds of the clocks that a time namespace shifts.
int Clock(int, char**) {
  std::printf("monotonic %.3f boottime %.3f\n", Now(CLOCK_MONOTONIC), Now(CLOCK_BOOTTIME));
  return 0;
}

constexpr Verb kVerbs[] = {
    {"true", "", True},
    {"false", "", False},
    {"exit", "CODE", Exit},
    {"echo", "[TEXT…]", Echo},
    {"echo-error", "[TEXT…]", EchoError},
    {"env", "", Env},
    {"id", "", Id},
    {"pwd", "", Pwd},
    {"hostname", "[NAME]", Hostname},
    {"sleep", "[SECONDS]", Sleep},
    {"spin", "SECONDS", Spin},
    {"memory", "BYTES [SECONDS]", Memory},
    {"fork-bomb", "COUNT", ForkBomb},
    {"lines", "COUNT RATE [both]", Lines},
    {"is-tty", "", IsTty},
    {"tty-size", "", TtySize},
    {"ps", "", Ps},
    {"fds", "", Fds},
    {"rlimits", "", Rlimits},
    {"clock", "", Clock},
};

}  // namespace

Verbs ProcessVerbs() { return {kVerbs, sizeof kVerbs / sizeof *kVerbs}; }

}  // namespace probe
