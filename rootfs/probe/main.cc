// Finds the verb: by the name the program was called with (/bin/hello), or by its first argument (/bin/probe hello).
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "probe.h"

namespace probe {

namespace {

const Verb* running = nullptr;

const Verb* Find(const char* name) {
  for (const Verbs& group : {FileVerbs(), ProcessVerbs(), SignalVerbs(), KernelVerbs(), NetworkVerbs(), ReportVerbs()}) {
    for (size_t i = 0; i < group.count; ++i) {
      if (std::strcmp(group.first[i].name, name) == 0) return &group.first[i];
    }
  }
  return nullptr;
}

int List() {
  std::printf("usage: probe VERB [ARGUMENTS]\n");
  for (const Verbs& group : {ReportVerbs(), FileVerbs(), ProcessVerbs(), SignalVerbs(), KernelVerbs(), NetworkVerbs()}) {
    for (size_t i = 0; i < group.count; ++i) {
      std::printf("  %s %s\n", group.first[i].name, group.first[i].arguments);
    }
  }
  return 2;
}

}  // namespace

void SetRunning(const Verb* verb) { running = verb; }

int Fail(const char* what, const char* subject) {
  const int error = errno;
  const char* name = strerrorname_np(error);
  std::fflush(stdout);
  std::fprintf(stderr, "probe: %s%s%s: %s (%s)\n", what, *subject ? " " : "", subject, name ? name : "?",
               std::strerror(error));
  return 1;
}

int Usage() {
  std::fprintf(stderr, "probe: usage: %s %s\n", running->name, running->arguments);
  return 2;
}

bool ReadText(const char* path, char* text, size_t size) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  size_t done = 0;
  while (done < size - 1) {
    const ssize_t count = read(fd, text + done, size - 1 - done);
    if (count < 0) {
      const int error = errno;
      close(fd);
      errno = error;
      return false;
    }
    if (count == 0) break;
    done += static_cast<size_t>(count);
  }
  close(fd);
  text[done] = '\0';
  return true;
}

int SignalNumber(const char* name) {
  if (*name >= '0' && *name <= '9') return std::atoi(name);
  if (std::strncmp(name, "SIG", 3) == 0) name += 3;
  for (int i = 1; i < 32; ++i) {
    const char* known = sigabbrev_np(i);
    if (known && std::strcmp(known, name) == 0) return i;
  }
  return 0;
}

double Now(int clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

void SleepSeconds(double seconds) {
  timespec left{};
  left.tv_sec = static_cast<time_t>(seconds);
  left.tv_nsec = static_cast<long>((seconds - static_cast<double>(left.tv_sec)) * 1e9);
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

}  // namespace probe

int main(int argc, char** argv) {
  const char* slash = argc > 0 ? std::strrchr(argv[0], '/') : nullptr;
  const char* name = argc > 0 ? (slash ? slash + 1 : argv[0]) : "probe";
  const probe::Verb* verb = probe::Find(name);
  if (!verb) {
    if (argc < 2) return probe::List();
    --argc;
    ++argv;
    verb = probe::Find(argv[0]);
    if (!verb) {
      std::fprintf(stderr, "probe: no verb %s\n", argv[0]);
      return 2;
    }
  }
  probe::SetRunning(verb);
  const int code = verb->run(argc, argv);
  if (std::fflush(stdout) != 0 && code == 0) return probe::Fail("write", "stdout");
  return code;
}
