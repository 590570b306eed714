// Detached mounts by the mount API: they are in no mount table, and go away with their fd.
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../common/fd.h"
#include "calls.h"
#include "error.h"
#include "value.h"

namespace berth {
namespace {

// AT_RECURSIVE of linux/fcntl.h, which cannot be included beside fcntl.h.
constexpr unsigned kRecursive = 0x8000;

// fsconfig(2) takes values of less than 256 bytes on kernels without `lowerdir+`.
constexpr size_t kValueBytesMax = 255;

// What the file system says about the last failure; each read gives one line, such as "e overlay: …".
std::string Complaints(int context) {
  std::string all;
  char line[512];
  for (int i = 0; i < 8; i++) {
    const ssize_t size = read(context, line, sizeof(line));
    if (size <= 0) break;
    if (!all.empty()) all += "; ";
    all.append(line, static_cast<size_t>(size));
    while (!all.empty() && all.back() == '\n') all.pop_back();
  }
  return all;
}

class Context {
 public:
  Context(Napi::Env env, Fd fd) : env_(env), fd_(std::move(fd)) {}

  bool TrySet(const char* key, const char* value) {
    return syscall(SYS_fsconfig, fd_.get(), FSCONFIG_SET_STRING, key, value, 0) == 0;
  }
  void Set(const char* key, const std::string& value) {
    if (!TrySet(key, value.c_str())) Fail(key);
  }
  void SetFlag(const char* key) {
    if (syscall(SYS_fsconfig, fd_.get(), FSCONFIG_SET_FLAG, key, nullptr, 0)) Fail(key);
  }
  int Mount(unsigned attributes) {
    if (syscall(SYS_fsconfig, fd_.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0)) Fail("overlay");
    const long mount = syscall(SYS_fsmount, fd_.get(), FSMOUNT_CLOEXEC, attributes);
    if (mount < 0) Fail("overlay");
    return static_cast<int>(mount);
  }
  [[noreturn]] void Fail(const char* what) const {
    const int number = errno;
    throw SystemError(env_, number, "fsconfig", what, Complaints(fd_.get()));
  }

 private:
  Napi::Env env_;
  Fd fd_;
};

// Before Linux 6.7 all layers are one option, in which ':' and '\' need a backslash.
std::string JoinedLayers(const std::vector<std::string>& layers) {
  std::string joined;
  for (const std::string& layer : layers) {
    if (!joined.empty()) joined += ':';
    for (const char c : layer) {
      if (c == ':' || c == '\\') joined += '\\';
      joined += c;
    }
  }
  return joined;
}

void SetLayers(Context& context, const std::vector<std::string>& layers) {
  for (size_t i = 0; i < layers.size(); i++) {
    if (context.TrySet("lowerdir+", layers[i].c_str())) continue;
    const std::string joined = JoinedLayers(layers);
    if (i > 0 || errno != EINVAL || joined.size() > kValueBytesMax || !context.TrySet("lowerdir", joined.c_str())) {
      context.Fail(layers[i].c_str());
    }
    return;
  }
}

}  // namespace

Napi::Value OverlayMount(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Object options = ObjectOf(info[0], "options");
  const std::vector<std::string> lower = Texts(options.Get("lower"), "lower");
  const Napi::Value upper = options.Get("upper");
  const std::vector<std::string> further = Texts(options.Get("options"), "options");

  Fd fd(static_cast<int>(syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC)));
  if (!fd) throw SystemError(env, errno, "fsopen", "overlay");
  Context context(env, std::move(fd));
  SetLayers(context, lower);
  if (!upper.IsUndefined()) {
    context.Set("upperdir", Text(upper, "upper").str());
    context.Set("workdir", Text(options.Get("work"), "work").str());
  }
  for (const std::string& option : further) {
    const size_t equals = option.find('=');
    if (equals == std::string::npos) {
      context.SetFlag(option.c_str());
    } else {
      context.Set(option.substr(0, equals).c_str(), option.substr(equals + 1));
    }
  }
  return Napi::Number::New(env, context.Mount(upper.IsUndefined() ? MOUNT_ATTR_RDONLY : 0));
}

Napi::Value OpenTree(const Napi::CallbackInfo& info) {
  const Text path(info[0], "path");
  const unsigned recursive = Bool(info[1], "recursive") ? kRecursive : 0;
  const long fd = syscall(SYS_open_tree, AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | recursive);
  if (fd < 0) throw SystemError(info.Env(), errno, "open_tree", path.c_str());
  return Napi::Number::New(info.Env(), static_cast<double>(fd));
}

void MountSetattr(const Napi::CallbackInfo& info) {
  const int fd = Int(info[0], "fd");
  mount_attr attributes{};
  attributes.attr_set = Integer<uint64_t>(info[1], "set");
  attributes.attr_clr = Integer<uint64_t>(info[2], "clear");
  const unsigned flags = AT_EMPTY_PATH | (Bool(info[3], "recursive") ? kRecursive : 0);
  if (syscall(SYS_mount_setattr, fd, "", flags, &attributes, sizeof(attributes))) {
    throw SystemError(info.Env(), errno, "mount_setattr");
  }
}

}  // namespace berth
