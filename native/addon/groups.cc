// What cgroups use, as rows of numbers: read and parsed on a thread, from files that stay open from one look to the next.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <vector>

#include "../common/fd.h"
#include "calls.h"
#include "environment.h"
#include "error.h"
#include "groups.h"
#include "value.h"
#include "work.h"

namespace berth {
namespace {

constexpr const char* kFiles[] = {
    "cgroup.controllers", "cpu.stat",    "cpu.pressure",   "memory.pressure",     "io.pressure",
    "memory.current",     "memory.stat", "memory.max",     "memory.swap.current", "memory.swap.max",
    "pids.current",       "cgroup.procs",
};
enum File : size_t {
  kControllers,
  kCpuStat,
  kCpuPressure,
  kMemoryPressure,
  kIoPressure,
  kMemoryCurrent,
  kMemoryStat,
  kMemoryMax,
  kSwapCurrent,
  kSwapMax,
  kPidsCurrent,
  kProcesses,
  kFileCount,
};
static_assert(std::size(kFiles) == kFileCount);

// The order of COLUMNS in src/kernel/group-usage.ts.
enum Column : size_t {
  kCpuUs,
  kMemory,
  kInactiveFile,
  kAnon,
  kPageFaults,
  kMajorPageFaults,
  kMemoryLimit,
  kSwap,
  kSwapLimit,
  kPids,
  kResident,
  kNested,
  // Each: total in µs and averages of 10, 60 and 300 seconds, for some; then the same for full.
  kCpuPressureAt,
  kMemoryPressureAt = kCpuPressureAt + 8,
  kIoPressureAt = kMemoryPressureAt + 8,
  kColumnCount = kIoPressureAt + 8,
};

// Files that stay open: the kernel keeps some 5 KiB for each, so this is 20 MiB. Of more groups they are opened each time, which takes three times as long.
constexpr size_t kKeptMax = 4096;
// Of the limit of open files, so that all else finds room.
constexpr size_t kKeptPart = 4;
// The daemon is not to take a large machine's processors, and a thread for a few groups costs more than it gives.
constexpr size_t kThreadsMax = 4;
constexpr size_t kGroupsOfThread = 32;
// memory.stat has some 60 lines.
constexpr size_t kFileBytes = 8 * 1024;
// As in src/engine/processes.ts: a container must not keep the daemon busy with its processes.
constexpr int kProcessesMax = 32768;

struct Look {
  std::array<double, kColumnCount> values;
  int error = 0;

  Look() { values.fill(NAN); }
};

// The field's own number; what else is there (`max`) is none.
double NumberOf(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end != text.data() ? static_cast<double>(number) : NAN;
}

// Of `KEY VALUE` lines.
double FlatValue(std::string_view text, std::string_view key) {
  for (size_t at = 0; (at = text.find(key, at)) != text.npos; at += key.size()) {
    const bool begins = at == 0 || text[at - 1] == '\n';
    const size_t after = at + key.size();
    if (begins && after < text.size() && text[after] == ' ') return NumberOf(text.substr(after + 1));
  }
  return NAN;
}

// Of a line such as `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
void PressureLine(std::string_view text, std::string_view kind, double* to) {
  const size_t begin = text.find(kind);
  if (begin == text.npos) return;
  const std::string_view line = text.substr(begin, text.find('\n', begin) - begin);
  const auto value = [&](std::string_view name) {
    const size_t at = line.find(name);
    double number = NAN;
    if (at != line.npos) std::from_chars(line.data() + at + name.size(), line.data() + line.size(), number);
    return number;
  };
  to[0] = value(" total=");
  to[1] = value(" avg10=");
  to[2] = value(" avg60=");
  to[3] = value(" avg300=");
}

void Pressure(std::string_view text, double* to) {
  PressureLine(text, "some ", to);
  PressureLine(text, "full ", to + 4);
}

// Of a group or controller that is not there, or goes away; EOPNOTSUPP: pressure is switched off, or the group is threaded.
bool IsMissing(int error) {
  return error == ENOENT || error == ENOTDIR || error == ENODEV || error == EOPNOTSUPP || error == ESRCH;
}

struct Group {
  Fd directory;
  std::array<Fd, kFileCount> files;
  // What its files were opened for.
  std::string controllers;
  bool is_open = false;
};

class Reading {
 public:
  Reading(const std::string& path, bool processes) : path_(path), processes_(processes), text_(kFileBytes, '\0') {}

  Look Take(Group& group) {
    // Opened anew once: its group may have been removed and made again, or has got another controller; or files were taken away and given back, as by a
    // controller that was off for a moment: those that are open stay dead.
    if (!group.is_open || !IsCurrent(group)) Open(group);
    if (look_.error == 0 && group.is_open) Read(group);
    if (look_.error == 0 && has_gone_) {
      look_ = Look();
      Open(group);
      if (look_.error == 0 && group.is_open) Read(group);
    }
    if (look_.error != 0) group = Group();
    return look_;
  }

 private:
  bool IsCurrent(const Group& group) {
    const bool has_all = !processes_ || group.files[kProcesses];
    return has_all && Text(group.files[kControllers]) && view_ == group.controllers;
  }

  void Open(Group& group) {
    group = Group();
    has_gone_ = false;
    group.directory = Fd(open(path_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!group.directory) return Fail();
    for (size_t i = 0; i < kFileCount; i++) {
      if (i == kProcesses && !processes_) continue;
      group.files[i] = Fd(openat(group.directory.get(), kFiles[i], O_RDONLY | O_CLOEXEC));
      if (!group.files[i] && !IsMissing(errno)) return Fail();
    }
    if (!Text(group.files[kControllers])) return;
    group.controllers = view_;
    group.is_open = true;
  }

  void Read(const Group& group) {
    auto& to = look_.values;
    if (Text(group.files[kCpuStat])) to[kCpuUs] = FlatValue(view_, "usage_usec");
    if (Text(group.files[kCpuPressure])) Pressure(view_, &to[kCpuPressureAt]);
    if (Text(group.files[kMemoryPressure])) Pressure(view_, &to[kMemoryPressureAt]);
    if (Text(group.files[kIoPressure])) Pressure(view_, &to[kIoPressureAt]);
    if (Text(group.files[kMemoryCurrent])) to[kMemory] = NumberOf(view_);
    if (Text(group.files[kMemoryStat])) {
      to[kInactiveFile] = FlatValue(view_, "inactive_file");
      to[kAnon] = FlatValue(view_, "anon");
      to[kPageFaults] = FlatValue(view_, "pgfault");
      to[kMajorPageFaults] = FlatValue(view_, "pgmajfault");
    }
    if (Text(group.files[kMemoryMax])) to[kMemoryLimit] = NumberOf(view_);
    if (Text(group.files[kSwapCurrent])) to[kSwap] = NumberOf(view_);
    if (Text(group.files[kSwapMax])) to[kSwapLimit] = NumberOf(view_);
    if (Text(group.files[kPidsCurrent])) to[kPids] = NumberOf(view_);
    if (processes_ && (std::isnan(to[kMemory]) || std::isnan(to[kPids]))) AskProcesses(group);
  }

  // What the host's missing controllers would tell.
  void AskProcesses(const Group& group) {
    auto& to = look_.values;
    struct stat status;
    if (fstat(group.directory.get(), &status) != 0) return Fail();
    // A name of its own, its entry above, and one of each directory below.
    if (status.st_nlink > 2) {
      to[kNested] = 1;
      return;
    }
    const Fd& file = group.files[kProcesses];
    std::vector<int> pids;
    if (!file || !Pids(file, &pids)) return;
    if (std::isnan(to[kPids])) to[kPids] = static_cast<double>(pids.size());
    if (!std::isnan(to[kMemory])) return;
    double pages = 0;
    for (const int pid : pids) pages += ResidentPages(pid);
    to[kResident] = pages * static_cast<double>(sysconf(_SC_PAGESIZE));
  }

  bool Pids(const Fd& file, std::vector<int>* pids) {
    int pid = 0;
    for (off_t at = 0;;) {
      const ssize_t size = pread(file.get(), text_.data(), text_.size(), at);
      if (size < 0 && errno == EINTR) continue;
      if (size < 0) {
        if (errno == ENODEV) has_gone_ = true;
        return Fail(), false;
      }
      if (size == 0) return true;
      at += size;
      for (ssize_t i = 0; i < size; i++) {
        const char c = text_[static_cast<size_t>(i)];
        if (c >= '0' && c <= '9') {
          pid = pid * 10 + (c - '0');
        } else {
          // 0 is one of another PID namespace.
          if (pid > 0) pids->push_back(pid);
          pid = 0;
          if (pids->size() >= kProcessesMax) return true;
        }
      }
    }
  }

  // proc_pid_statm(5): size, then what of it is resident. 0 of one that has ended.
  double ResidentPages(int pid) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/statm", pid);
    const Fd file(open(path, O_RDONLY | O_CLOEXEC));
    if (!file) return Fail(), 0;
    if (!Text(file)) return 0;
    const size_t space = view_.find(' ');
    if (space == view_.npos) return 0;
    const double pages = NumberOf(view_.substr(space + 1));
    return std::isnan(pages) ? 0 : pages;
  }

  // Into view_; false where there is nothing to read.
  bool Text(const Fd& file) {
    if (!file) return false;
    ssize_t size;
    do {
      size = pread(file.get(), text_.data(), text_.size(), 0);
    } while (size < 0 && errno == EINTR);
    if (size < 0) {
      if (errno == ENODEV) has_gone_ = true;
      return Fail(), false;
    }
    view_ = std::string_view(text_.data(), static_cast<size_t>(size));
    return true;
  }

  void Fail() {
    if (!IsMissing(errno)) look_.error = errno;
  }

  const std::string& path_;
  const bool processes_;
  std::string text_;
  std::string_view view_;
  // Something that was open for it is there no more.
  bool has_gone_ = false;
  Look look_;
};

// The kernel makes the text of each file anew, some 40 µs for a group: several processors do it.
size_t ThreadsFor(size_t groups) {
  const size_t processors = std::max(1u, std::thread::hardware_concurrency());
  return std::min({kThreadsMax, processors, 1 + groups / kGroupsOfThread});
}

size_t OpenFiles(const Group& group) {
  size_t count = group.directory ? 1 : 0;
  for (const Fd& file : group.files) count += file ? 1 : 0;
  return count;
}

size_t KeptMax() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kKeptMax;
  return std::min(kKeptMax, static_cast<size_t>(limit.rlim_cur) / kKeptPart);
}

}  // namespace

class Groups {
 public:
  Look Take(const std::string& path, bool processes, size_t most) {
    uint64_t before = 0;
    Group group = Out(path, &before);
    const Look look = Reading(path, processes).Take(group);
    Keep(path, std::move(group), before, most);
    return look;
  }

  void Forget(const std::string& path) {
    uint64_t before = 0;
    Out(path, &before);
    const std::lock_guard lock(mutex_);
    forgotten_++;
  }

 private:
  // Nobody waits while a group is read.
  Group Out(const std::string& path, uint64_t* before) {
    const std::lock_guard lock(mutex_);
    *before = forgotten_;
    const auto found = kept_.find(path);
    if (found == kept_.end()) return Group();
    Group group = std::move(found->second);
    kept_.erase(found);
    open_ -= OpenFiles(group);
    return group;
  }

  void Keep(const std::string& path, Group group, uint64_t before, size_t most) {
    const size_t count = OpenFiles(group);
    const std::lock_guard lock(mutex_);
    // Forgotten meanwhile, it may have been this one.
    if (!group.is_open || before != forgotten_ || open_ + count > most) return;
    if (kept_.emplace(path, std::move(group)).second) open_ += count;
  }

  std::mutex mutex_;
  std::unordered_map<std::string, Group> kept_;
  size_t open_ = 0;
  uint64_t forgotten_ = 0;
};

std::shared_ptr<Groups> MakeGroups() { return std::make_shared<Groups>(); }

Napi::Value ReadGroups(const Napi::CallbackInfo& info) {
  struct Call {
    std::shared_ptr<Groups> groups;
    std::vector<std::string> paths;
    bool processes;
    std::vector<double> rows;
    std::mutex mutex;
    std::string failed;
    int error = 0;

    void Fail(size_t at, int number) {
      const std::lock_guard lock(mutex);
      error = number;
      failed = paths[at];
    }
  };
  auto call = std::make_shared<Call>();
  call->groups = Environment::Of(info.Env()).groups;
  call->paths = Texts(info[0], "paths");
  call->processes = Bool(info[1], "processes");
  return Work(
      info.Env(),
      [call] {
        call->rows.resize(call->paths.size() * kColumnCount);
        const size_t most = KeptMax();
        std::atomic<size_t> next = 0;
        const auto read = [&] {
          for (size_t i = next++; i < call->paths.size(); i = next++) {
            const Look look = call->groups->Take(call->paths[i], call->processes, most);
            if (look.error != 0) return call->Fail(i, look.error);
            std::copy(look.values.begin(), look.values.end(), &call->rows[i * kColumnCount]);
          }
        };
        std::vector<std::thread> others;
        try {
          while (others.size() + 1 < ThreadsFor(call->paths.size())) others.emplace_back(read);
        } catch (const std::system_error&) {
          // No thread is to be had: fewer do it.
        }
        read();
        for (std::thread& other : others) other.join();
      },
      [call](Napi::Env env) -> Napi::Value {
        if (call->error != 0) throw SystemError(env, call->error, "read", call->failed.c_str());
        Napi::Float64Array rows = Napi::Float64Array::New(env, call->rows.size());
        if (!call->rows.empty()) std::memcpy(rows.Data(), call->rows.data(), call->rows.size() * sizeof(double));
        return rows;
      });
}

void ForgetGroup(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Groups>& groups = Environment::Of(info.Env()).groups;
  const Path path(info[0], "path");
  groups->Forget(path.str());
}

}  // namespace berth
