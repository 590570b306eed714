// Files below a directory fd: what Node can do only by whole paths, or not at all.
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <memory>

#include "../common/fd.h"
#include "calls.h"
#include "environment.h"
#include "error.h"
#include "value.h"
#include "work.h"

namespace berth {
namespace {

// Room for one getdents64: some 800 short names.
constexpr size_t kDirectoryBytes = 32 * 1024;

Napi::BigInt Nanoseconds(Napi::Env env, const statx_timestamp& time) {
  return Napi::BigInt::New(env, static_cast<int64_t>(time.tv_sec * 1'000'000'000 + time.tv_nsec));
}

// Of one file that is read with others: those of leases are far smaller.
constexpr size_t kReadBytesMax = 1024 * 1024;

// 0 or an errno. The room is kept from file to file.
int ReadWhole(const char* path, std::vector<char>& room, std::string& text) {
  const Fd fd(open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd) return errno;
  for (;;) {
    const ssize_t size = read(fd.get(), room.data(), room.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return errno;
    if (size == 0) return 0;
    if (text.size() + static_cast<size_t>(size) > kReadBytesMax) return EFBIG;
    text.append(room.data(), static_cast<size_t>(size));
  }
}

struct DirectoryEntry {
  uint64_t ino;
  int64_t offset;
  uint16_t size;
  uint8_t type;
  char name[];
};

}  // namespace

Napi::Function FileStatusMaker(Napi::Env env) {
  return env
      .RunScript(
          "((mode, nlink, uid, gid, size, blocks, ino, devMajor, devMinor, rdevMajor, rdevMinor, atimeNs, mtimeNs, ctimeNs, "
          "mountId) => ({ mode, nlink, uid, gid, size, blocks, ino, devMajor, devMinor, rdevMajor, rdevMinor, atimeNs, "
          "mtimeNs, ctimeNs, mountId }))")
      .As<Napi::Function>();
}

Napi::Value Openat2(const Napi::CallbackInfo& info) {
  const int dirfd = Int(info[0], "dirfd");
  const Path path(info[1], "path");
  open_how how{};
  how.flags = Integer<uint64_t>(info[2], "flags") | O_CLOEXEC;
  how.mode = Integer<uint64_t>(info[3], "mode");
  how.resolve = Integer<uint64_t>(info[4], "resolve");
  const bool or_missing = !info[5].IsUndefined() && Bool(info[5], "orMissing");
  const long fd = syscall(SYS_openat2, dirfd, path.c_str(), &how, sizeof(how));
  if (fd < 0 && errno == ENOENT && or_missing) return Napi::Number::New(info.Env(), -1);
  if (fd < 0) throw SystemError(info.Env(), errno, "openat2", path.c_str());
  return Napi::Number::New(info.Env(), static_cast<double>(fd));
}

void Mkdirat(const Napi::CallbackInfo& info) {
  const int dirfd = Int(info[0], "dirfd");
  const Path path(info[1], "path");
  if (mkdirat(dirfd, path.c_str(), Unsigned(info[2], "mode"))) {
    throw SystemError(info.Env(), errno, "mkdirat", path.c_str());
  }
}

void Mknodat(const Napi::CallbackInfo& info) {
  const int dirfd = Int(info[0], "dirfd");
  const Path path(info[1], "path");
  const mode_t mode = Unsigned(info[2], "mode");
  const dev_t device = makedev(Unsigned(info[3], "major"), Unsigned(info[4], "minor"));
  if (mknodat(dirfd, path.c_str(), mode, device)) {
    throw SystemError(info.Env(), errno, "mknodat", path.c_str());
  }
}

void Symlinkat(const Napi::CallbackInfo& info) {
  const Path target(info[0], "target");
  const int dirfd = Int(info[1], "dirfd");
  const Path path(info[2], "path");
  if (symlinkat(target.c_str(), dirfd, path.c_str())) {
    throw SystemError(info.Env(), errno, "symlinkat", path.c_str());
  }
}

void Linkat(const Napi::CallbackInfo& info) {
  const int from_dirfd = Int(info[0], "fromDirfd");
  const Path from(info[1], "from");
  const int to_dirfd = Int(info[2], "toDirfd");
  const Path to(info[3], "to");
  if (linkat(from_dirfd, from.c_str(), to_dirfd, to.c_str(), Int(info[4], "flags"))) {
    throw SystemError(info.Env(), errno, "linkat", to.c_str());
  }
}

void Unlinkat(const Napi::CallbackInfo& info) {
  const int dirfd = Int(info[0], "dirfd");
  const Path path(info[1], "path");
  if (unlinkat(dirfd, path.c_str(), Int(info[2], "flags"))) {
    throw SystemError(info.Env(), errno, "unlinkat", path.c_str());
  }
}

Napi::Value Readlinkat(const Napi::CallbackInfo& info) {
  const int dirfd = Int(info[0], "dirfd");
  const Path path(info[1], "path");
  char target[PATH_MAX];
  const ssize_t size = readlinkat(dirfd, path.c_str(), target, sizeof(target));
  if (size < 0) throw SystemError(info.Env(), errno, "readlinkat", path.c_str());
  return Napi::Buffer<char>::Copy(info.Env(), target, static_cast<size_t>(size));
}

Napi::Value Statx(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int dirfd = Int(info[0], "dirfd");
  const Path path(info[1], "path");
  struct statx st;
  if (statx(dirfd, path.c_str(), Int(info[2], "flags"), STATX_BASIC_STATS | STATX_MNT_ID, &st)) {
    throw SystemError(env, errno, "statx", path.c_str());
  }
  const auto small = [env](uint32_t value) { return Napi::Number::New(env, value); };
  const auto large = [env](uint64_t value) { return Napi::BigInt::New(env, value); };
  // In the order of FileStatusMaker.
  const std::initializer_list<napi_value> values = {
      small(st.stx_mode),
      small(st.stx_nlink),
      small(st.stx_uid),
      small(st.stx_gid),
      large(st.stx_size),
      large(st.stx_blocks),
      large(st.stx_ino),
      small(st.stx_dev_major),
      small(st.stx_dev_minor),
      small(st.stx_rdev_major),
      small(st.stx_rdev_minor),
      Nanoseconds(env, st.stx_atime),
      Nanoseconds(env, st.stx_mtime),
      Nanoseconds(env, st.stx_ctime),
      large(st.stx_mnt_id),
  };
  return Environment::Of(env).file_status.Call(values);
}

Napi::Value Readdir(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = Int(info[0], "dirfd");
  // The offset belongs to the open file: a second reading starts at the beginning, too.
  if (lseek(fd, 0, SEEK_SET) < 0) throw SystemError(env, errno, "lseek");
  Napi::Array entries = Napi::Array::New(env);
  uint32_t count = 0;
  alignas(DirectoryEntry) char room[kDirectoryBytes];
  for (;;) {
    const long size = syscall(SYS_getdents64, fd, room, sizeof(room));
    if (size < 0) throw SystemError(env, errno, "getdents64");
    if (size == 0) return entries;
    for (long at = 0; at < size;) {
      const auto* entry = reinterpret_cast<const DirectoryEntry*>(room + at);
      at += entry->size;
      const std::string_view name(entry->name);
      if (name == "." || name == "..") continue;
      const Napi::HandleScope scope(env);
      Napi::Object item = Napi::Object::New(env);
      item.Set("name", Napi::Buffer<char>::Copy(env, name.data(), name.size()));
      item.Set("type", Napi::Number::New(env, entry->type));
      entries.Set(count++, item);
    }
  }
}

Napi::Value Lseek(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = Int(info[0], "fd");
  const off_t at = lseek(fd, Integer<off_t>(info[1], "offset"), Int(info[2], "whence"));
  if (at < 0) throw SystemError(env, errno, "lseek");
  return Napi::Number::New(env, static_cast<double>(at));
}

Napi::Value Syncfs(const Napi::CallbackInfo& info) {
  const int fd = Int(info[0], "fd");
  auto error = std::make_shared<int>(0);
  return Work(
      info.Env(), [fd, error] { *error = syncfs(fd) ? errno : 0; },
      [error](Napi::Env env) -> Napi::Value {
        if (*error) throw SystemError(env, *error, "syncfs");
        return env.Undefined();
      });
}

Napi::Value MakeNodes(const Napi::CallbackInfo& info) {
  struct Call {
    std::vector<std::string> paths;
    std::vector<int> modes;
    int error = 0;
    const char* syscall = "";
    const char* path = "";
  };
  auto call = std::make_shared<Call>();
  call->paths = Texts(info[0], "paths");
  call->modes = Ints(info[1], "modes");
  if (call->paths.size() != call->modes.size()) Refuse(info.Env(), "modes", "one of each path");
  return Work(
      info.Env(),
      [call] {
        for (size_t i = 0; i < call->paths.size() && call->error == 0; i++) {
          const char* path = call->path = call->paths[i].c_str();
          const mode_t mode = call->modes[i] & 07777;
          if (S_ISDIR(call->modes[i])) {
            call->syscall = "mkdir";
            if (mkdir(path, mode) && errno != EEXIST) call->error = errno;
          } else {
            call->syscall = "open";
            if (!Fd(open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode))) call->error = errno;
          }
        }
      },
      [call](Napi::Env env) -> Napi::Value {
        if (call->error) throw SystemError(env, call->error, call->syscall, call->path);
        return env.Undefined();
      });
}

Napi::Value RealPath(const Napi::CallbackInfo& info) {
  struct Call {
    std::string path, real;
    int error = 0;
  };
  auto call = std::make_shared<Call>();
  call->path = Path(info[0], "path").str();
  return Work(
      info.Env(),
      [call] {
        const std::unique_ptr<char, decltype(&free)> real(realpath(call->path.c_str(), nullptr), free);
        if (real) call->real = real.get();
        else call->error = errno;
      },
      [call](Napi::Env env) -> Napi::Value {
        if (call->error) throw SystemError(env, call->error, "realpath", call->path.c_str());
        return Napi::String::New(env, call->real);
      });
}

Napi::Value ReadFiles(const Napi::CallbackInfo& info) {
  struct Call {
    std::vector<std::string> paths;
    std::vector<std::pair<std::string, int>> results;
  };
  auto call = std::make_shared<Call>();
  call->paths = Texts(info[0], "paths");
  return Work(
      info.Env(),
      [call] {
        std::vector<char> room(16 * 1024);
        call->results.resize(call->paths.size());
        for (size_t i = 0; i < call->paths.size(); i++) {
          auto& [text, error] = call->results[i];
          error = ReadWhole(call->paths[i].c_str(), room, text);
        }
      },
      [call](Napi::Env env) -> Napi::Value {
        Napi::Array all = Napi::Array::New(env, call->results.size());
        for (uint32_t i = 0; i < call->results.size(); i++) {
          const Napi::HandleScope scope(env);
          const auto& [text, error] = call->results[i];
          if (error) {
            all.Set(i, Napi::Number::New(env, error));
            continue;
          }
          napi_value string;
          if (napi_create_string_latin1(env, text.data(), text.size(), &string) != napi_ok) throw Napi::Error::New(env);
          all.Set(i, string);
        }
        return all;
      });
}

}  // namespace berth
