// Verbs about signals, children and dying.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "probe.h"

namespace probe {

namespace {

// Prints `ready`, then each signal it receives as a line, until SECONDS have passed or SIGUSR2 came (exit code 3).
int Trap(int argc, char** argv) {
  if (argc > 2) return Usage();
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, nullptr);
  std::printf("ready\n");
  std::fflush(stdout);
  const double end = Now(CLOCK_MONOTONIC) + (argc == 2 ? std::atof(argv[1]) : 3600);
  for (;;) {
    const double left = end - Now(CLOCK_MONOTONIC);
    if (left <= 0) return 0;
    timespec wait{};
    wait.tv_sec = static_cast<time_t>(left);
    wait.tv_nsec = static_cast<long>((left - static_cast<double>(wait.tv_sec)) * 1e9);
    const int signal = sigtimedwait(&all, nullptr, &wait);
    if (signal < 0) continue;
    const char* name = sigabbrev_np(signal);
    if (name) {
      std::printf("SIG%s\n", name);
    } else {
      std::printf("signal %d\n", signal);
    }
    std::fflush(stdout);
    if (signal == SIGUSR2) return 3;
  }
}

int KillSelf(int argc, char** argv) {
  const int signal = argc == 2 ? SignalNumber(argv[1]) : 0;
  if (signal == 0) return Usage();
  // No core file in someone's current directory.
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  // A child does it, since PID 1 of a namespace cannot kill itself; its wait status becomes ours.
  if (getpid() != 1) {
    ::signal(signal, SIG_DFL);
    raise(signal);
    return Fail("raise", argv[1]);
  }
  const pid_t child = fork();
  if (child < 0) return Fail("fork");
  if (child == 0) {
    ::signal(signal, SIG_DFL);
    raise(signal);
    _exit(1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int Kill(int argc, char** argv) {
  const int signal = argc == 3 ? SignalNumber(argv[2]) : SIGTERM;
  if (argc < 2 || argc > 3 || signal == 0) return Usage();
  return kill(std::atoi(argv[1]), signal) == 0 ? 0 : Fail("kill", argv[1]);
}

// Leaves a dead child unreaped for SECONDS, and prints its pid.
int Zombie(int argc, char** argv) {
  if (argc != 2) return Usage();
  const pid_t child = fork();
  if (child < 0) return Fail("fork");
  if (child == 0) _exit(0);
  siginfo_t info{};
  waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);
  std::printf("zombie %d\n", child);
  std::fflush(stdout);
  SleepSeconds(std::atof(argv[1]));
  return 0;
}

// Leaves a grandchild behind that lives SECONDS more; prints its pid, and from it `orphan of PARENT`.
int Orphan(int argc, char** argv) {
  if (argc != 2) return Usage();
  int gate[2];
  if (pipe(gate) != 0) return Fail("pipe");
  const pid_t middle = fork();
  if (middle < 0) return Fail("fork");
  if (middle == 0) {
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child != 0) _exit(child < 0 ? 1 : 0);
    close(gate[0]);
    while (getppid() == parent) SleepSeconds(0.001);
    std::printf("orphan %d of %d\n", getpid(), getppid());
    std::fflush(stdout);
    close(gate[1]);
    SleepSeconds(std::atof(argv[1]));
    std::printf("orphan ends\n");
    std::fflush(stdout);
    _exit(0);
  }
  close(gate[1]);
  waitpid(middle, nullptr, 0);
  char byte;
  // Waits until the orphan has spoken.
  if (read(gate[0], &byte, 1) != 0) return Fail("read");
  return 0;
}

// Leaves a child running for SECONDS, which keeps stdio open, and ends at once.
int Background(int argc, char** argv) {
  if (argc != 2) return Usage();
  const pid_t child = fork();
  if (child < 0) return Fail("fork");
  if (child == 0) {
    SleepSeconds(std::atof(argv[1]));
    _exit(0);
  }
  std::printf("child %d\n", child);
  return 0;
}

// Executes another program with the rest of the arguments.
int Exec(int argc, char** argv) {
  if (argc < 2) return Usage();
  execv(argv[1], argv + 1);
  return Fail("exec", argv[1]);
}

constexpr Verb kVerbs[] = {
    {"trap", "[SECONDS]", Trap},
    {"kill-self", "SIGNAL", KillSelf},
    {"kill", "PID [SIGNAL]", Kill},
    {"zombie", "SECONDS", Zombie},
    {"orphan", "SECONDS", Orphan},
    {"background", "SECONDS", Background},
    {"exec", "PROGRAM [ARGUMENT…]", Exec},
};

}  // namespace

Verbs SignalVerbs() { return {kVerbs, sizeof kVerbs / sizeof *kVerbs}; }

}  // namespace probe
