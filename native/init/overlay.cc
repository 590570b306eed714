// The root as a detached overlay of the layers.
#include <fcntl.h>
#include <linux/mount.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "../common/overlay.h"
#include "call.h"
#include "child.h"
#include "path.h"
#include "sync.h"

namespace berth {
namespace {

constexpr unsigned kSetFd = 5;  // FSCONFIG_SET_FD
// Ours, not overlayfs's: no idmap but a chown of everything, at the cost of a copy.
constexpr char kChownOption[] = "berth.chown";

bool HasOption(const RootPlan& root, const char* name) {
  for (const char* option : root.options) {
    if (std::strcmp(option, name) == 0) return true;
  }
  return false;
}

// A detached mount of each layer, mapped to the user namespace.
int* CloneLayers(Child* child, const Array<const char*>& lower, bool idmap) {
  int* layers = static_cast<int*>(child->arena.Take(lower.size * sizeof(int)));
  if (!layers) Die(ENOMEM, "root", "cannot hold %zu layers", lower.size);
  for (size_t i = 0; i < lower.size; i++) {
    layers[i] = static_cast<int>(Must(CloneTree(AT_FDCWD, lower[i], false), "root", "layer %s", lower[i]));
    if (!idmap) continue;
    Must(SetAttributes(layers[i], MOUNT_ATTR_IDMAP, 0, 0, child->user_namespace, false), "idmap",
         "the file system of layer %s cannot be mapped to a user namespace", lower[i]);
  }
  return layers;
}

// Overlayfs of older kernels wants layers that are attached somewhere: each gets a short name in a directory of our
// scratch, which also keeps a long list within one page. Gives that directory.
int AttachLayers(Child* child, const int* layers, size_t count) {
  const int place = ScratchDirectory(child);
  char name[24];
  for (size_t i = 0; i < count; i++) {
    std::snprintf(name, sizeof(name), "%zu", i);
    Must(Call(SYS_mkdirat, place, name, 0700), "root", "scratch directory");
    Must(Call(SYS_move_mount, layers[i], "", place, name, MOVE_MOUNT_F_EMPTY_PATH), "root", "layer %zu", i);
  }
  return place;
}

long SetString(int context, const char* key, const char* value) {
  return Call(SYS_fsconfig, context, FSCONFIG_SET_STRING, key, value, 0);
}

// Sets upper, work and the options, and makes the mount.
int Complete(const RootPlan& root, int context) {
  if (root.upper && SetString(context, "upperdir", root.upper) < 0) return -1;
  if (root.work && SetString(context, "workdir", root.work) < 0) return -1;
  for (const char* option : root.options) {
    if (std::strcmp(option, kChownOption) == 0) continue;
    const char* equals = std::strchr(option, '=');
    char key[kFsconfigValueMax + 1];
    std::snprintf(key, sizeof(key), "%.*s", static_cast<int>(equals ? equals - option : kFsconfigValueMax), option);
    const long set = equals ? SetString(context, key, equals + 1)
                            : Call(SYS_fsconfig, context, FSCONFIG_SET_FLAG, key, nullptr, 0);
    if (set < 0) return -1;
  }
  if (Call(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) < 0) return -1;
  return static_cast<int>(Call(SYS_fsmount, context, FSMOUNT_CLOEXEC, root.upper ? 0 : MOUNT_ATTR_RDONLY));
}

enum class By { kPath, kFd, kName };

// The layers one by one: `lowerdir+` is there since Linux 6.7, by fd since 6.13, of detached mounts since 6.15.
int MountOneByOne(const RootPlan& root, By by, const int* layers) {
  const int context = static_cast<int>(Call(SYS_fsopen, "overlay", FSOPEN_CLOEXEC));
  if (context < 0) return -1;
  long result = 0;
  for (size_t i = 0; i < root.lower.size && result >= 0; i++) {
    char name[24];
    std::snprintf(name, sizeof(name), "%zu", i);
    switch (by) {
      case By::kPath: result = SetString(context, "lowerdir+", root.lower[i]); break;
      case By::kName: result = SetString(context, "lowerdir+", name); break;
      case By::kFd: result = Call(SYS_fsconfig, context, kSetFd, "lowerdir+", nullptr, layers[i]); break;
    }
  }
  if (result >= 0) result = Complete(root, context);
  const int error = errno;
  ::close(context);
  errno = error;
  return static_cast<int>(result);
}

// Before Linux 6.7, and for paths that fsconfig does not take: mount(2) with everything in one page, in the directory
// of the layers, which is the working directory, and a detached clone of the result.
int MountAtOnce(const RootPlan& root, int place) {
  OverlayData data;
  data.AddLayers(root.lower.size);
  if (root.upper) data.AddPath("upperdir=", root.upper);
  if (root.work) data.AddPath("workdir=", root.work);
  for (const char* option : root.options) {
    if (std::strcmp(option, kChownOption) != 0) data.AddOption(option);
  }
  if (!data.fits()) Die(E2BIG, "root", "overlay options are longer than a page");
  Must(Call(SYS_mkdirat, place, "m", 0700), "root", "scratch directory");
  Must(Call(SYS_mount, "overlay", "m", "overlay", root.upper ? 0 : MS_RDONLY, data.text()), "root",
       "overlay of %zu layers", root.lower.size);
  return static_cast<int>(Must(CloneTree(place, "m", false), "root", "overlay"));
}

bool FitsFsconfig(const RootPlan& root, bool lower) {
  if (root.upper && std::strlen(root.upper) > kFsconfigValueMax) return false;
  if (root.work && std::strlen(root.work) > kFsconfigValueMax) return false;
  for (const char* layer : root.lower) {
    if (lower && std::strlen(layer) > kFsconfigValueMax) return false;
  }
  return true;
}

}  // namespace

int MountOverlay(Child* child, const RootPlan& root) {
  const bool chown = HasOption(root, kChownOption);
  const bool idmap = child->user_namespace >= 0 && !chown;
  if (chown && !root.upper) Die(-EINVAL, "chown", "a read-only view of the layers cannot be given to other owners");
  if (root.lower.size == 1 && !root.upper) {
    // Overlayfs wants two: a single layer is its own read-only view.
    const int layer = CloneLayers(child, root.lower, idmap)[0];
    Must(SetAttributes(layer, MOUNT_ATTR_RDONLY, 0, MS_PRIVATE, -1, false), "root", "layer %s", root.lower[0]);
    return layer;
  }
  int mount = -1;
  errno = 0;
  const bool one_by_one = HasOverlayLayersOneByOne();
  if (one_by_one && !idmap && FitsFsconfig(root, true)) mount = MountOneByOne(root, By::kPath, nullptr);
  if (mount < 0) {
    if (!idmap && errno == ENOENT) {
      for (const char* layer : root.lower) Must(Call(SYS_faccessat, AT_FDCWD, layer, F_OK), "root", "layer %s", layer);
      Die(ENOENT, "root", "overlay with upper %s", root.upper ? root.upper : "(none)");
    }
    const int* layers = CloneLayers(child, root.lower, idmap);
    const bool fits = one_by_one && FitsFsconfig(root, false);
    if (fits) mount = MountOneByOne(root, By::kFd, layers);
    if (mount < 0) {
      const int place = AttachLayers(child, layers, root.lower.size);
      Must(Call(SYS_fchdir, place), "root", "scratch directory");
      if (fits) mount = MountOneByOne(root, By::kName, nullptr);
      if (mount < 0) mount = MountAtOnce(root, place);
      Must(Call(SYS_chdir, "/"), "root", "chdir");
      ::close(place);
    }
    for (size_t i = 0; i < root.lower.size; i++) ::close(layers[i]);
  }
  if (chown && child->plan->id_mappings) ShiftTree(mount, *child->plan->id_mappings);
  return mount;
}

}  // namespace berth
