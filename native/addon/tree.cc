// Acts on whole files and whole trees, for layers: one call where Node would need ten for each of 100 000 files, and walks that no
// depth of a hostile tree can stop.
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "../common/fd.h"
#include "calls.h"
#include "error.h"
#include "value.h"
#include "work.h"

namespace berth {
namespace {

// What failed, kept until a JavaScript error can be made of it.
struct Failure {
  int number = 0;
  const char* syscall = "";
  std::string path;

  explicit operator bool() const { return number != 0; }
};

Failure Failed(const char* syscall, std::string path) { return {errno, syscall, std::move(path)}; }

void Check(Napi::Env env, const Failure& failure) {
  if (failure) throw SystemError(env, failure.number, failure.syscall, failure.path.c_str());
}

struct Attributes {
  // -1: kept.
  int64_t mode;
  uint32_t uid;
  uint32_t gid;
  bool has_times;
  timespec times[2];
  // Rows of: u16 size of the name with its NUL, name, u32 size of the value, value.
  Bytes xattrs;
};

timespec Time(int64_t nanoseconds) {
  constexpr int64_t kSecond = 1'000'000'000;
  const int64_t rest = nanoseconds % kSecond;
  // Before 1970: tv_nsec counts forward from the second.
  if (rest < 0) return {static_cast<time_t>(nanoseconds / kSecond - 1), static_cast<long>(rest + kSecond)};
  return {static_cast<time_t>(nanoseconds / kSecond), static_cast<long>(rest)};
}

// From five arguments: mode, uid, gid, mtime (bigint or undefined), xattrs (bytes or undefined).
Attributes AttributesOf(const Napi::CallbackInfo& info, size_t first) {
  Attributes attributes{};
  attributes.mode = Integer<int64_t>(info[first], "mode");
  attributes.uid = IdOrKeep(info[first + 1], "uid");
  attributes.gid = IdOrKeep(info[first + 2], "gid");
  if (!info[first + 3].IsUndefined()) {
    attributes.has_times = true;
    attributes.times[0] = attributes.times[1] = Time(BigInt64(info[first + 3], "mtimeNs"));
  }
  if (!info[first + 4].IsUndefined()) attributes.xattrs = BytesOf(info[first + 4], "xattrs");
  return attributes;
}

template <typename Set>
Failure ForEachXattr(const Bytes& rows, Set set) {
  const uint8_t* at = rows.data;
  const uint8_t* end = rows.data + rows.size;
  while (at < end) {
    uint16_t name_size = 0;
    uint32_t value_size = 0;
    if (end - at < 2) return {EINVAL, "setxattr", ""};
    std::memcpy(&name_size, at, 2);
    at += 2;
    if (name_size == 0 || end - at < name_size + 4 || at[name_size - 1] != 0) return {EINVAL, "setxattr", ""};
    const char* name = reinterpret_cast<const char*>(at);
    at += name_size;
    std::memcpy(&value_size, at, 4);
    at += 4;
    if (static_cast<size_t>(end - at) < value_size) return {EINVAL, "setxattr", ""};
    if (set(name, at, value_size)) return Failed("setxattr", name);
    at += value_size;
  }
  return {};
}

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

// Of a file that is open by O_PATH. Through /proc, which takes three times as long, where the kernel (before 6.6) or a filter does not know the call.
int ChmodPath(int fd, const std::string& self, mode_t mode) {
  if (syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH) == 0) return 0;
  return chmod(self.c_str(), mode);
}

// In this order: chown clears setuid bits and security.capability, and everything changes the times.
Failure Apply(int fd, bool is_path, const Attributes& attributes) {
  const std::string self = "/proc/self/fd/" + std::to_string(fd);
  if ((attributes.uid != UINT32_MAX || attributes.gid != UINT32_MAX) &&
      fchownat(fd, "", attributes.uid, attributes.gid, AT_EMPTY_PATH)) {
    return Failed("fchownat", "");
  }
  if (attributes.mode >= 0) {
    const mode_t mode = static_cast<mode_t>(attributes.mode);
    if (is_path ? ChmodPath(fd, self, mode) : fchmod(fd, mode)) return Failed("fchmod", "");
  }
  if (attributes.xattrs.size > 0) {
    Failure failure = ForEachXattr(attributes.xattrs, [&](const char* name, const void* value, size_t size) {
      return is_path ? setxattr(self.c_str(), name, value, size, 0) : fsetxattr(fd, name, value, size, 0);
    });
    if (failure) return failure;
  }
  if (attributes.has_times &&
      (is_path ? utimensat(fd, "", attributes.times, AT_EMPTY_PATH) : futimens(fd, attributes.times))) {
    return Failed("utimensat", "");
  }
  return {};
}

Failure Create(int dirfd, const char* name, const Attributes& attributes, const Bytes* data, Fd* file) {
  // For the owner alone until owner and mode are right.
  *file = Fd(openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!*file) return Failed("openat", name);
  if (!data) return {};
  for (size_t done = 0; done < data->size;) {
    const ssize_t n = write(file->get(), data->data + done, data->size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Failed("write", name);
    done += static_cast<size_t>(n);
  }
  return Apply(file->get(), false, attributes);
}

bool IsDots(const char* name) { return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0)); }

struct CloseDir {
  void operator()(DIR* dir) const { closedir(dir); }
};
using Dir = std::unique_ptr<DIR, CloseDir>;

// Never through a link: a component that is one is an error.
Dir OpenDir(int dirfd, const char* name) {
  Fd fd(openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return nullptr;
  Dir dir(fdopendir(fd.get()));
  if (dir) fd.Release();
  return dir;
}

// Empties the directory `trash`, whose entries are directories named by numbers. A directory inside one of them that is not
// empty is moved up to the trash: a tree of any depth needs two open files, no recursion and no path.
Failure EmptyTrash(int trash, uint64_t count) {
  for (uint64_t next = 0; next < count; next++) {
    const std::string top = std::to_string(next);
    Dir dir = OpenDir(trash, top.c_str());
    if (!dir) return Failed("openat", top);
    const int fd = dirfd(dir.get());
    // A name may come twice or not at all while the directory changes under readdir, so until it is empty.
    for (bool again = true; again;) {
      again = false;
      rewinddir(dir.get());
      for (errno = 0; dirent* entry = readdir(dir.get()); errno = 0) {
        if (IsDots(entry->d_name)) continue;
        again = true;
        if (unlinkat(fd, entry->d_name, 0) == 0 || errno == ENOENT) continue;
        if (errno != EISDIR) return Failed("unlinkat", entry->d_name);
        if (unlinkat(fd, entry->d_name, AT_REMOVEDIR) == 0) continue;
        if (errno != ENOTEMPTY && errno != EEXIST) return Failed("unlinkat", entry->d_name);
        if (renameat(fd, entry->d_name, trash, std::to_string(count).c_str())) {
          return Failed("renameat", entry->d_name);
        }
        count++;
      }
      if (errno) return Failed("readdir", top);
    }
    dir.reset();
    if (unlinkat(trash, top.c_str(), AT_REMOVEDIR)) return Failed("unlinkat", top);
  }
  return {};
}

// `trash_name` is made below `place`, on the same file system, and is gone again afterwards.
Failure Remove(int parent, const std::string& name, int place, const std::string& trash_name) {
  if (unlinkat(parent, name.c_str(), 0) == 0 || errno == ENOENT) return {};
  if (errno != EISDIR) return Failed("unlinkat", name);
  if (unlinkat(parent, name.c_str(), AT_REMOVEDIR) == 0) return {};
  if (errno != ENOTEMPTY && errno != EEXIST) return Failed("unlinkat", name);
  if (mkdirat(place, trash_name.c_str(), 0700)) return Failed("mkdirat", trash_name);
  Fd trash(openat(place, trash_name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!trash) return Failed("openat", trash_name);
  if (renameat(parent, name.c_str(), trash.get(), "0")) return Failed("renameat", name);
  if (Failure failure = EmptyTrash(trash.get(), 1)) return failure;
  if (unlinkat(place, trash_name.c_str(), AT_REMOVEDIR)) return Failed("unlinkat", trash_name);
  return {};
}

struct Usage {
  uint64_t bytes = 0;
  uint64_t inodes = 0;
};

// Deeper than this no directory is opened: what lies there is counted as its directory alone.
constexpr size_t kUsageDepth = 768;

Failure Measure(int root, Usage* usage) {
  std::set<std::pair<uint64_t, uint64_t>> linked;
  std::vector<Dir> stack;
  auto count = [&](const struct stat& status) {
    if (status.st_nlink > 1 && !S_ISDIR(status.st_mode) &&
        !linked.emplace(status.st_dev, status.st_ino).second) {
      return;
    }
    usage->bytes += static_cast<uint64_t>(status.st_blocks) * 512;
    usage->inodes++;
  };
  struct stat status {};
  if (fstat(root, &status)) return Failed("fstat", "");
  count(status);
  const dev_t device = status.st_dev;
  Dir top = OpenDir(root, ".");
  if (!top) return Failed("openat", ".");
  stack.push_back(std::move(top));
  while (!stack.empty()) {
    errno = 0;
    const dirent* entry = readdir(stack.back().get());
    if (!entry) {
      if (errno) return Failed("readdir", "");
      stack.pop_back();
      continue;
    }
    if (IsDots(entry->d_name)) continue;
    const int fd = dirfd(stack.back().get());
    if (fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW)) {
      // Gone meanwhile: a container writes while its upper directory is measured.
      if (errno == ENOENT) continue;
      return Failed("fstatat", entry->d_name);
    }
    count(status);
    if (!S_ISDIR(status.st_mode) || status.st_dev != device || stack.size() >= kUsageDepth) continue;
    Dir below = OpenDir(fd, entry->d_name);
    if (below) {
      stack.push_back(std::move(below));
    } else if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP) {
      return Failed("openat", entry->d_name);
    }
  }
  return {};
}

}  // namespace

Napi::Value CreateFile(const Napi::CallbackInfo& info) {
  const int dirfd = Int(info[0], "dirfd");
  const Path name(info[1], "name");
  const Attributes attributes = AttributesOf(info, 2);
  const bool has_data = !info[7].IsUndefined();
  Bytes data{};
  if (has_data) data = BytesOf(info[7], "data");
  Fd file;
  Check(info.Env(), Create(dirfd, name.c_str(), attributes, has_data ? &data : nullptr, &file));
  return Napi::Number::New(info.Env(), has_data ? -1 : file.Release());
}

void SetAttributes(const Napi::CallbackInfo& info) {
  const int dirfd = Int(info[0], "dirfd");
  const Path name(info[1], "name");
  const Attributes attributes = AttributesOf(info, 2);
  if (name.c_str()[0] == 0) {
    Check(info.Env(), Apply(dirfd, true, attributes));
    return;
  }
  Fd file(openat(dirfd, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!file) throw SystemError(info.Env(), errno, "openat", name.c_str());
  Failure failure = Apply(file.get(), true, attributes);
  if (failure && failure.path.empty()) failure.path = name.c_str();
  Check(info.Env(), failure);
}

Napi::Value RemoveTree(const Napi::CallbackInfo& info) {
  struct Call {
    Fd parent, place;
    std::string name, trash;
    Failure failure;
  };
  const Path name(info[1], "name");
  const Path trash(info[3], "trash");
  auto call = std::make_shared<Call>();
  // Its own: the caller's may be closed before the thread is done.
  call->parent = Fd(fcntl(Int(info[0], "dirfd"), F_DUPFD_CLOEXEC, 3));
  call->place = Fd(fcntl(Int(info[2], "trashDirfd"), F_DUPFD_CLOEXEC, 3));
  if (!call->parent || !call->place) throw SystemError(info.Env(), errno, "fcntl", name.c_str());
  call->name = name.str();
  call->trash = trash.str();
  return Work(
      info.Env(),
      [call] { call->failure = Remove(call->parent.get(), call->name, call->place.get(), call->trash); },
      [call](Napi::Env env) {
        Check(env, call->failure);
        return env.Undefined();
      });
}

void RemoveTreeNow(const Napi::CallbackInfo& info) {
  const int dirfd = Int(info[0], "dirfd");
  const Path name(info[1], "name");
  const int place = Int(info[2], "trashDirfd");
  const Path trash(info[3], "trash");
  Check(info.Env(), Remove(dirfd, name.str(), place, trash.str()));
}

Napi::Value TreeUsage(const Napi::CallbackInfo& info) {
  struct Call {
    Fd root;
    Usage usage;
    Failure failure;
  };
  auto call = std::make_shared<Call>();
  call->root = Fd(fcntl(Int(info[0], "fd"), F_DUPFD_CLOEXEC, 3));
  if (!call->root) throw SystemError(info.Env(), errno, "fcntl");
  return Work(
      info.Env(), [call] { call->failure = Measure(call->root.get(), &call->usage); },
      [call](Napi::Env env) -> Napi::Value {
        Check(env, call->failure);
        Napi::Object usage = Napi::Object::New(env);
        usage.Set("bytes", Napi::Number::New(env, static_cast<double>(call->usage.bytes)));
        usage.Set("inodes", Napi::Number::New(env, static_cast<double>(call->usage.inodes)));
        return usage;
      });
}

}  // namespace berth
