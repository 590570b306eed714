// Detached mounts by the mount API: they are in no mount table, and go away with their fd.
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <thread>

#include "../common/fd.h"
#include "../common/overlay.h"
#include "calls.h"
#include "error.h"
#include "value.h"

namespace berth {
namespace {

// AT_RECURSIVE of linux/fcntl.h, which cannot be included beside fcntl.h.
constexpr unsigned kRecursive = 0x8000;

// NS_MNT_GET_INFO, NS_MNT_GET_NEXT and NS_MNT_GET_PREV of linux/nsfs.h, with its struct mnt_ns_info.
struct MountNamespaceInfo {
  uint32_t size;
  uint32_t mounts;
  uint64_t id;
};
constexpr unsigned long kMountNamespaceInfo = _IOR(0xb7, 10, MountNamespaceInfo);
constexpr unsigned long kNextMountNamespace = _IOR(0xb7, 11, MountNamespaceInfo);
constexpr unsigned long kPreviousMountNamespace = _IOR(0xb7, 12, MountNamespaceInfo);

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

  void Set(const char* key, const std::string& value, const char* what) {
    if (syscall(SYS_fsconfig, fd_.get(), FSCONFIG_SET_STRING, key, value.c_str(), 0)) Fail(what);
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

struct Overlay {
  std::vector<std::string> lower;
  // Both empty: a read-only view.
  std::string upper;
  std::string work;
  std::vector<std::string> options;
};

bool FitsFsconfig(const Overlay& overlay) {
  bool fits = overlay.upper.size() <= kFsconfigValueMax && overlay.work.size() <= kFsconfigValueMax;
  for (const std::string& layer : overlay.lower) fits = fits && layer.size() <= kFsconfigValueMax;
  return fits;
}

Fd MountOneByOne(Napi::Env env, const Overlay& overlay) {
  Fd fd(static_cast<int>(syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC)));
  if (!fd) throw SystemError(env, errno, "fsopen", "overlay");
  Context context(env, std::move(fd));
  for (const std::string& layer : overlay.lower) {
    context.Set("lowerdir+", layer, layer.c_str());
  }
  if (!overlay.upper.empty()) {
    context.Set("upperdir", overlay.upper, "upperdir");
    context.Set("workdir", overlay.work, "workdir");
  }
  for (const std::string& option : overlay.options) {
    const size_t equals = option.find('=');
    if (equals == std::string::npos) {
      context.SetFlag(option.c_str());
    } else {
      const std::string key = option.substr(0, equals);
      context.Set(key.c_str(), option.substr(equals + 1), key.c_str());
    }
  }
  return Fd(context.Mount(overlay.upper.empty() ? MOUNT_ATTR_RDONLY : 0));
}

// The same by mount(2), which needs layers with short names and a place in a mount table: in a mount namespace of the calling thread alone,
// which goes away with the thread. What fails is left in the members.
class OldMount {
 public:
  explicit OldMount(const Overlay& overlay) : overlay_(overlay) {}

  void Run() {
    if (Make()) return;
    error_ = errno;
    mount_.Reset();
  }
  Fd& mount() { return mount_; }
  int error() const { return error_; }
  const char* call() const { return call_; }
  const std::string& subject() const { return subject_; }

 private:
  bool Make() {
    OverlayData data;
    data.AddLayers(overlay_.lower.size());
    if (!overlay_.upper.empty()) {
      data.AddPath("upperdir=", overlay_.upper.c_str());
      data.AddPath("workdir=", overlay_.work.c_str());
    }
    for (const std::string& option : overlay_.options) data.AddOption(option.c_str());
    errno = E2BIG;
    if (!Did("mount", "options of more than a page", data.fits())) return false;

    if (!Did("unshare", "mount namespace", unshare(CLONE_NEWNS) == 0)) return false;
    // Else the host's peers of these mounts would get ours.
    const bool apart = syscall(SYS_mount, nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
    if (!Did("mount", "/", apart)) return false;
    const Fd scratch(NewTmpfs());
    if (!Did("fsmount", "tmpfs", static_cast<bool>(scratch))) return false;
    // On top of `/`: the root directory of this thread stays the one below, so all paths go on meaning the same.
    if (!Did("move_mount", "tmpfs", Move(scratch.get(), AT_FDCWD, "/"))) return false;
    for (size_t i = 0; i < overlay_.lower.size(); i++) {
      const std::string& layer = overlay_.lower[i];
      const std::string name = std::to_string(i);
      const Fd tree(Clone(AT_FDCWD, layer.c_str()));
      if (!Did("open_tree", layer, static_cast<bool>(tree))) return false;
      if (!Did("mkdir", layer, mkdirat(scratch.get(), name.c_str(), 0700) == 0)) return false;
      if (!Did("move_mount", layer, Move(tree.get(), scratch.get(), name.c_str()))) return false;
    }
    if (!Did("mkdir", "tmpfs", mkdirat(scratch.get(), "m", 0700) == 0)) return false;
    if (!Did("fchdir", "tmpfs", fchdir(scratch.get()) == 0)) return false;
    const unsigned long flags = overlay_.upper.empty() ? MS_RDONLY : 0;
    const bool mounted = syscall(SYS_mount, "overlay", "m", "overlay", flags, data.text()) == 0;
    if (!Did("mount", "overlay", mounted)) return false;
    mount_ = Fd(Clone(scratch.get(), "m"));
    return Did("open_tree", "overlay", static_cast<bool>(mount_));
  }

  static int NewTmpfs() {
    const Fd context(static_cast<int>(syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC)));
    if (!context || syscall(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0)) return -1;
    return static_cast<int>(syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
  }

  static bool Move(int mount, int directory, const char* path) {
    return syscall(SYS_move_mount, mount, "", directory, path, MOVE_MOUNT_F_EMPTY_PATH) == 0;
  }

  static int Clone(int directory, const char* path) {
    return static_cast<int>(syscall(SYS_open_tree, directory, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  }

  bool Did(const char* call, const std::string& subject, bool done) {
    if (done) return true;
    call_ = call;
    subject_ = subject;
    return false;
  }

  const Overlay& overlay_;
  Fd mount_;
  int error_ = 0;
  const char* call_ = "";
  std::string subject_;
};

Fd MountAtOnce(Napi::Env env, const Overlay& overlay) {
  OldMount old(overlay);
  std::thread(&OldMount::Run, &old).join();
  if (!old.mount()) throw SystemError(env, old.error(), old.call(), old.subject().c_str());
  return std::move(old.mount());
}

}  // namespace

Napi::Value OverlayMount(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Object options = ObjectOf(info[0], "options");
  Overlay overlay;
  overlay.lower = Texts(options.Get("lower"), "lower");
  overlay.options = Texts(options.Get("options"), "options");
  const Napi::Value upper = options.Get("upper");
  if (!upper.IsUndefined()) {
    overlay.upper = Text(upper, "upper").str();
    overlay.work = Text(options.Get("work"), "work").str();
  }
  Fd mount = HasOverlayLayersOneByOne() && FitsFsconfig(overlay) ? MountOneByOne(env, overlay) : MountAtOnce(env, overlay);
  return Napi::Number::New(env, mount.Release());
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

void MoveMount(const Napi::CallbackInfo& info) {
  const int fd = Int(info[0], "fd");
  const Text path(info[1], "path");
  if (syscall(SYS_move_mount, fd, "", AT_FDCWD, path.c_str(), MOVE_MOUNT_F_EMPTY_PATH)) {
    throw SystemError(info.Env(), errno, "move_mount", path.c_str());
  }
}

void Unmount(const Napi::CallbackInfo& info) {
  const Text path(info[0], "path");
  const bool lazy = Bool(info[1], "lazy");
  if (umount2(path.c_str(), UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0))) {
    throw SystemError(info.Env(), errno, "umount2", path.c_str());
  }
}

Napi::Value MountNamespaces(const Napi::CallbackInfo& info) {
  Napi::Array found = Napi::Array::New(info.Env());
  uint32_t count = 0;
  // The kernel has them in a list: from ours on to both its ends.
  for (const unsigned long step : {kNextMountNamespace, kPreviousMountNamespace}) {
    Fd at(open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC));
    if (!at) throw SystemError(info.Env(), errno, "open", "/proc/self/ns/mnt");
    for (;;) {
      MountNamespaceInfo own{sizeof(MountNamespaceInfo), 0, 0};
      if (ioctl(at.get(), kMountNamespaceInfo, &own) != 0) {
        if (errno == ENOTTY) return info.Env().Undefined();
        throw SystemError(info.Env(), errno, "ioctl", "/proc/self/ns/mnt");
      }
      found.Set(count++, Napi::BigInt::New(info.Env(), own.id));
      const int next = ioctl(at.get(), step, nullptr);
      if (next < 0 && errno == ENOENT) break;
      if (next < 0 && (errno == ENOTTY || errno == EPERM)) return info.Env().Undefined();
      if (next < 0) throw SystemError(info.Env(), errno, "ioctl", "/proc/self/ns/mnt");
      at = Fd(next);
    }
  }
  return found;
}

}  // namespace berth
