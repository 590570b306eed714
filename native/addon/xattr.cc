// Extended attributes of a file by its fd. An O_PATH fd (a symbolic link, a device, a fifo) is good for none of the
// f… calls; there the magic link /proc/self/fd/N leads to that very file, and no link of it is followed.
#include <sys/xattr.h>

#include "calls.h"
#include "error.h"
#include "value.h"

namespace berth {
namespace {

class MagicLink {
 public:
  explicit MagicLink(int fd) { snprintf(path_, sizeof(path_), "/proc/self/fd/%d", fd); }
  const char* path() const { return path_; }

 private:
  char path_[32];
};

ssize_t Get(int fd, const char* name, void* value, size_t size) {
  const ssize_t got = fgetxattr(fd, name, value, size);
  return got < 0 && errno == EBADF ? getxattr(MagicLink(fd).path(), name, value, size) : got;
}

ssize_t List(int fd, char* names, size_t size) {
  const ssize_t got = flistxattr(fd, names, size);
  return got < 0 && errno == EBADF ? listxattr(MagicLink(fd).path(), names, size) : got;
}

}  // namespace

Napi::Value Fgetxattr(const Napi::CallbackInfo& info) {
  const int fd = Int(info[0], "fd");
  const Text name(info[1], "name");
  char small[256];
  ssize_t size = Get(fd, name.c_str(), small, sizeof(small));
  if (size >= 0) return Napi::Buffer<char>::Copy(info.Env(), small, static_cast<size_t>(size));
  if (errno != ERANGE) throw SystemError(info.Env(), errno, "fgetxattr", name.c_str());
  // The kernel's own bound of a value, XATTR_SIZE_MAX.
  std::vector<char> large(65536);
  size = Get(fd, name.c_str(), large.data(), large.size());
  if (size < 0) throw SystemError(info.Env(), errno, "fgetxattr", name.c_str());
  return Napi::Buffer<char>::Copy(info.Env(), large.data(), static_cast<size_t>(size));
}

void Fsetxattr(const Napi::CallbackInfo& info) {
  const int fd = Int(info[0], "fd");
  const Text name(info[1], "name");
  const Bytes value = BytesOf(info[2], "value");
  const int flags = Int(info[3], "flags");
  int failed = fsetxattr(fd, name.c_str(), value.data, value.size, flags);
  if (failed && errno == EBADF) {
    failed = setxattr(MagicLink(fd).path(), name.c_str(), value.data, value.size, flags);
  }
  if (failed) throw SystemError(info.Env(), errno, "fsetxattr", name.c_str());
}

Napi::Value Flistxattr(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = Int(info[0], "fd");
  char small[1024];
  std::vector<char> large;
  const char* names = small;
  ssize_t size = List(fd, small, sizeof(small));
  if (size < 0 && errno == ERANGE) {
    // XATTR_LIST_MAX.
    large.resize(65536);
    names = large.data();
    size = List(fd, large.data(), large.size());
  }
  if (size < 0) throw SystemError(env, errno, "flistxattr");
  Napi::Array result = Napi::Array::New(env);
  uint32_t count = 0;
  for (ssize_t at = 0; at < size;) {
    const std::string_view name(names + at);
    result.Set(count++, Napi::String::New(env, name.data(), name.size()));
    at += static_cast<ssize_t>(name.size()) + 1;
  }
  return result;
}

}  // namespace berth
