#include "cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace berth {
namespace {

// A container that may write to its cgroup can make any number below it; more steps than this are left to the
// engine's own cleaning.
constexpr int kStepsMax = 100000;
constexpr int kDepthMax = 32;

struct Entry {
  uint64_t inode;
  int64_t offset;
  unsigned short length;
  unsigned char type;
  char name[1];
};

// Calls `visit(name)` for each directory in `directory`, until it returns false.
template <typename Visit>
void EachDirectory(int directory, Visit visit) {
  alignas(8) char buffer[4096];
  lseek(directory, 0, SEEK_SET);
  for (;;) {
    const long size = syscall(SYS_getdents64, directory, buffer, sizeof(buffer));
    if (size <= 0) return;
    for (long at = 0; at < size;) {
      auto* entry = reinterpret_cast<Entry*>(buffer + at);
      at += entry->length;
      if (entry->type != DT_DIR || strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0) continue;
      if (!visit(entry->name)) return;
    }
  }
}

ssize_t ReadAt(int directory, const char* name, char* buffer, size_t size) {
  const Fd file(openat(directory, name, O_RDONLY | O_CLOEXEC));
  if (!file) return -1;
  const ssize_t length = read(file.get(), buffer, size - 1);
  buffer[length > 0 ? length : 0] = 0;
  return length;
}

void SignalMembers(int cgroup, int signal, int depth) {
  const Fd file(openat(cgroup, "cgroup.procs", O_RDONLY | O_CLOEXEC));
  char buffer[2048];
  pid_t pid = 0;
  for (ssize_t size; file && (size = read(file.get(), buffer, sizeof(buffer))) > 0;) {
    for (ssize_t i = 0; i < size; i++) {
      if (buffer[i] >= '0' && buffer[i] <= '9') {
        pid = pid * 10 + (buffer[i] - '0');
      } else {
        if (pid > 1) kill(pid, signal);
        pid = 0;
      }
    }
  }
  if (depth >= kDepthMax) return;
  EachDirectory(cgroup, [&](const char* name) {
    const Fd child(openat(cgroup, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (child) SignalMembers(child.get(), signal, depth + 1);
    return true;
  });
}

}  // namespace

Fd CgroupOpen(const char* path) { return Fd(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)); }

bool CgroupSignal(int cgroup, int signal) {
  if (signal == SIGKILL) {
    const Fd file(openat(cgroup, "cgroup.kill", O_WRONLY | O_CLOEXEC));
    if (file && write(file.get(), "1", 1) == 1) return true;
  }
  SignalMembers(cgroup, signal, 0);
  return true;
}

bool CgroupPopulated(int events) {
  char text[256];
  const ssize_t size = pread(events, text, sizeof(text) - 1, 0);
  if (size <= 0) return false;
  text[size] = 0;
  return strstr(text, "populated 1") != nullptr;
}

uint64_t CgroupOomKills(int cgroup) {
  char text[1024];
  if (ReadAt(cgroup, "memory.events", text, sizeof(text)) <= 0) return 0;
  uint64_t sum = 0;
  for (const char* key : {"oom_kill ", "oom_group_kill "}) {
    const char* at = strstr(text, key);
    if (at != nullptr) sum += strtoull(at + strlen(key), nullptr, 10);
  }
  return sum;
}

bool CgroupRemoveChildren(int cgroup) {
  Fd current(openat(cgroup, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int depth = 0, steps = 0; current && steps < kStepsMax; steps++) {
    char busy[256] = "";
    bool any = false;
    EachDirectory(current.get(), [&](const char* name) {
      any = true;
      if (unlinkat(current.get(), name, AT_REMOVEDIR) == 0 || errno == ENOENT) return true;
      strncpy(busy, name, sizeof(busy) - 1);
      return false;
    });
    if (busy[0] != 0) {
      current = Fd(openat(current.get(), busy, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      depth++;
      continue;
    }
    // A leaf whose removal has just failed holds a process: nothing more can be done.
    if (!any && depth > 0) return false;
    if (depth == 0) return true;
    current = Fd(openat(current.get(), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    depth--;
  }
  return false;
}

void CgroupRemoveUnused(int cgroup, const char* prefix) {
  EachDirectory(cgroup, [&](const char* name) {
    if (strncmp(name, prefix, strlen(prefix)) == 0) unlinkat(cgroup, name, AT_REMOVEDIR);
    return true;
  });
}

}  // namespace berth
