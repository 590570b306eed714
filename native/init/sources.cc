// What is taken from the host, while we are still privileged there: clones of bind sources, the root, devices. All
// are detached mounts, so that the host's mount table never shows them.
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "call.h"
#include "child.h"
#include "path.h"
#include "sync.h"

namespace berth {
namespace {

constexpr uint64_t kAtimeMask = 0x70;  // MOUNT_ATTR__ATIME

void SetPlanned(const MountPlan& mount, int fd) {
  if (mount.set_attributes || mount.clear_attributes) {
    Must(SetAttributes(fd, mount.set_attributes, mount.clear_attributes, 0, -1, false), "mount",
         "attributes of the mount at %s", mount.target);
  }
  if (mount.set_attributes_recursive || mount.clear_attributes_recursive) {
    Must(SetAttributes(fd, mount.set_attributes_recursive, mount.clear_attributes_recursive, 0, -1, true), "mount",
         "recursive attributes of the mount at %s", mount.target);
  }
}

// A source in another container: a mount can be cloned only by who is in its namespace. There everything may be a trap, so
// nothing but these calls happens, and no link is followed.
int CloneElsewhere(Child* child, const MountPlan& mount) {
  const int own = static_cast<int>(
      Must(Call(SYS_openat, child->proc, "self/ns/mnt", O_RDONLY | O_CLOEXEC), "mount", "our mount namespace"));
  const int there = static_cast<int>(Must(Call(SYS_openat, AT_FDCWD, mount.source_namespace, O_RDONLY | O_CLOEXEC),
                                          "mount", "mount namespace %s", mount.source_namespace));
  Must(Call(SYS_setns, there, CLONE_NEWNS), "mount", "mount namespace %s", mount.source_namespace);
  open_how how = {};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const int place = static_cast<int>(Call(SYS_openat2, AT_FDCWD, mount.source, &how, sizeof(how)));
  const int fd = place < 0 ? -1 : CloneTree(place, "", mount.recursive);
  const int error = errno;
  Must(Call(SYS_setns, own, CLONE_NEWNS), "mount", "our mount namespace");
  Must(::chdir("/"), "mount", "our root");
  if (place >= 0) ::close(place);
  ::close(there);
  ::close(own);
  errno = error;
  return fd;
}

// Whether all that is to be cloned is there when the container's mounts are made as well: in the mount namespace that we have
// then, without the propagation that is ours no more, and without the container's root, which is put over `/` or at a path.
bool MayWait(const Child& child, const MountPlan& mount, int place) {
  if (child.user_namespace >= 0 || mount.idmap_container || mount.idmap) return false;
  if (mount.propagation & ~static_cast<uint64_t>(MS_PRIVATE | MS_REC)) return false;
  if (!mount.recursive) return true;
  if (ShowsRoot(*child.plan) || SharesMounts(*child.plan)) return false;
  struct stat st = {};
  struct stat root = {};
  if (::fstat(place, &st) != 0 || ::stat("/", &root) != 0) return false;
  return st.st_dev != root.st_dev || st.st_ino != root.st_ino;
}

void Plan(Child* child, const MountPlan& mount, int fd) {
  // Without a wish nothing flows between the host and the container.
  uint64_t propagation = mount.propagation ? mount.propagation : MS_PRIVATE | MS_REC;
  // That cannot be cloned once more: it is set last (mounts.cc).
  if (propagation & MS_UNBINDABLE) propagation = (propagation & MS_REC) | MS_PRIVATE;
  Must(SetAttributes(fd, 0, 0, propagation & ~static_cast<uint64_t>(MS_REC), -1, propagation & MS_REC), "mount",
       "propagation of the mount at %s", mount.target);
  if (mount.idmap_container || mount.idmap) {
    const int ids = mount.idmap ? UserNamespaceOf(child, *mount.idmap) : child->user_namespace;
    if (ids < 0) Die(EINVAL, "idmap", "mount at %s is mapped to a user namespace that does not exist", mount.target);
    Must(SetAttributes(fd, MOUNT_ATTR_IDMAP, 0, 0, ids, mount.recursive), "idmap",
         "the file system of %s cannot be mapped to other ids", mount.source);
    if (mount.idmap) ::close(ids);
  }
  SetPlanned(mount, fd);
}

Source OpenSource(Child* child, const MountPlan& mount) {
  Source source;
  if (mount.source_namespace[0]) {
    source.fd = CloneElsewhere(child, mount);
  } else {
    // The place itself, as its clone would find it. A clone that is not attached in the end would cost the kernel's wait for its dissolution.
    const int place = static_cast<int>(Call(SYS_open_tree, AT_FDCWD, mount.source, OPEN_TREE_CLOEXEC));
    source.is_attached = place >= 0 && MayWait(*child, mount, place);
    source.fd = place < 0 || source.is_attached ? place : CloneTree(place, "", mount.recursive);
    const int error = errno;
    if (place >= 0 && !source.is_attached) ::close(place);
    errno = error;
  }
  if (source.fd < 0 && errno == ENOENT && mount.optional) return {};
  Must(source.fd, "mount", "source %s of the mount at %s", mount.source, mount.target);
  if (!source.is_attached) Plan(child, mount, source.fd);
  return source;
}

}  // namespace

int CloneSource(Child* child, const MountPlan& mount, int place) {
  const int fd = CloneTree(place, "", mount.recursive);
  Must(fd, "mount", "source %s of the mount at %s", mount.source, mount.target);
  Plan(child, mount, fd);
  return fd;
}

long SetAttributes(int fd, uint64_t set, uint64_t clear, uint64_t propagation, int idmap, bool recursive) {
  mount_attr attributes = {};
  attributes.attr_set = set;
  attributes.attr_clr = clear;
  // The access time modes are one field: setting one must clear the field (mount_setattr(2)).
  if (set & kAtimeMask) attributes.attr_clr |= kAtimeMask;
  attributes.propagation = propagation;
  if (idmap >= 0) attributes.userns_fd = static_cast<uint64_t>(idmap);
  return Call(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | (recursive ? kRecursive : 0), &attributes, sizeof(attributes));
}

int CloneTree(int fd, const char* path, bool recursive) {
  return static_cast<int>(Call(SYS_open_tree, fd, path,
                               OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? kRecursive : 0) |
                                   (path[0] ? 0u : static_cast<unsigned>(AT_EMPTY_PATH))));
}

void OpenSources(Child* child) {
  const Array<MountPlan>& mounts = child->plan->mounts;
  child->sources = static_cast<Source*>(child->arena.Take((mounts.size + 1) * sizeof(Source)));
  if (!child->sources) Die(ENOMEM, "mount", "cannot hold %zu mounts", mounts.size);
  bool sysfs = false;
  for (size_t i = 0; i < mounts.size; i++) {
    const bool of_host = mounts[i].kind == MountKind::kBind && mounts[i].lower.empty();
    child->sources[i] = of_host ? OpenSource(child, mounts[i]) : Source{};
    sysfs |= mounts[i].kind == MountKind::kNew && std::strcmp(mounts[i].type, "sysfs") == 0;
  }
  if (child->user_namespace >= 0) {
    child->null_mount = static_cast<int>(Must(CloneTree(AT_FDCWD, "/dev/null", false), "mount", "/dev/null"));
    struct stat st = {};
    Must(::fstat(child->null_mount, &st), "mount", "/dev/null");
    if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3)) Die(EINVAL, "mount", "/dev/null is not the null device");
  }
  // A user namespace that does not own the network namespace may mount no sysfs.
  if (sysfs && child->user_namespace >= 0 && !MakesNamespace(*child->plan, CLONE_NEWNET)) {
    child->host_sys = static_cast<int>(Must(CloneTree(AT_FDCWD, "/sys", true), "mount", "/sys of the host"));
    Must(SetAttributes(child->host_sys, MOUNT_ATTR_RDONLY, 0, MS_PRIVATE, -1, true), "mount", "/sys of the host");
  }
}

void CloneSlaveRoot(Child* child) {
  const RootPlan& root = child->plan->root;
  if (root.overlay || !(child->plan->root_propagation & MS_SLAVE)) return;
  child->root = static_cast<int>(Must(CloneTree(AT_FDCWD, root.directory, true), "root", "%s", root.directory));
  // What is mounted below it in any case: a clone of a shared mount would hand mounts on to the host.
  Must(SetAttributes(child->root, 0, 0, MS_SLAVE, -1, true), "root", "propagation of %s", root.directory);
}

void MakeMountsPrivate() {
  // Else what we attach, and the old root's unmounting, would travel to the host.
  Must(Call(SYS_mount, nullptr, "/", nullptr, MS_PRIVATE | MS_REC, nullptr), "root", "cannot make the mounts private");
}

void MakeScratch(Child* child) {
  if (child->scratch >= 0) return;
  if (SharesMounts(*child->plan)) Die(-EINVAL, "root", "layers and a user namespace need a mount namespace");
  char complaint[256];
  child->scratch = static_cast<int>(
      Must(NewFileSystem("tmpfs", "berth", {}, complaint, sizeof(complaint)), "root", "tmpfs%s", complaint));
  // On top of `/`: our root directory stays the one below, so all paths go on meaning the same.
  Must(Call(SYS_move_mount, child->scratch, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH), "root", "scratch tmpfs");
}

int ScratchDirectory(Child* child) {
  MakeScratch(child);
  char name[24];
  std::snprintf(name, sizeof(name), "p%d", child->scratch_used++);
  Must(Call(SYS_mkdirat, child->scratch, name, 0700), "root", "scratch directory");
  return static_cast<int>(
      Must(Call(SYS_openat, child->scratch, name, O_PATH | O_DIRECTORY | O_CLOEXEC), "root", "scratch directory"));
}

void DropScratch(Child* child) {
  if (child->scratch < 0) return;
  Must(Call(SYS_fchdir, child->scratch), "root", "scratch tmpfs");
  Must(Call(SYS_umount2, ".", kDetach), "root", "scratch tmpfs");
  Must(Call(SYS_chdir, "/"), "root", "chdir");
  ::close(child->scratch);
  child->scratch = -1;
}

void MakeRoot(Child* child) {
  const RootPlan& root = child->plan->root;
  if (child->root >= 0) return;
  if (root.overlay) {
    child->root = MountOverlay(child, root);
    return;
  }
  child->root = static_cast<int>(Must(CloneTree(AT_FDCWD, root.directory, true), "root", "%s", root.directory));
  Must(SetAttributes(child->root, 0, 0, MS_PRIVATE, -1, true), "root", "%s", root.directory);
}

void MakeViews(Child* child) {
  const Array<MountPlan>& mounts = child->plan->mounts;
  for (size_t i = 0; i < mounts.size; i++) {
    const MountPlan& mount = mounts[i];
    if (mount.kind != MountKind::kBind || mount.lower.empty()) continue;
    RootPlan view;
    view.overlay = true;
    view.lower = mount.lower;
    int fd = MountOverlay(child, view);
    if (std::strcmp(mount.source, "/") != 0) {
      // A part of a mount can be cloned only where the mount is attached.
      const int place = ScratchDirectory(child);
      Must(Call(SYS_move_mount, fd, "", place, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH), "mount",
           "layers of the mount at %s", mount.target);
      const int part = OpenIn(fd, mount.source, O_PATH);
      Must(part, "mount", "%s in the layers of the mount at %s", mount.source, mount.target);
      ::close(fd);
      fd = static_cast<int>(Must(CloneTree(part, "", false), "mount", "%s of the mount at %s", mount.source, mount.target));
      ::close(part);
      ::close(place);
    }
    Must(SetAttributes(fd, 0, 0, MS_PRIVATE, -1, false), "mount", "propagation of the mount at %s", mount.target);
    SetPlanned(mount, fd);
    child->sources[i].fd = fd;
  }
}

void MakeDevices(Child* child) {
  const Array<DevicePlan>& devices = child->plan->devices;
  if (child->user_namespace < 0 || devices.empty()) return;
  child->devices = static_cast<int*>(child->arena.Take(devices.size * sizeof(int)));
  if (!child->devices) Die(ENOMEM, "device", "cannot hold %zu devices", devices.size);
  MakeScratch(child);
  const IdMappings* ids = child->plan->id_mappings;
  for (size_t i = 0; i < devices.size; i++) {
    const DevicePlan& device = devices[i];
    child->devices[i] = -1;
    if (device.type == 'p') continue;
    char name[24];
    std::snprintf(name, sizeof(name), "d%zu", i);
    const mode_t mode = (device.type == 'b' ? S_IFBLK : S_IFCHR) | (device.mode & 07777);
    Must(Call(SYS_mknodat, child->scratch, name, mode, makedev(device.major, device.minor)), "device", "%s",
         device.target);
    uint32_t uid = 0;
    uint32_t gid = 0;
    if (ids && MapOut(ids->uids, device.uid, &uid) && MapOut(ids->gids, device.gid, &gid)) {
      Must(Call(SYS_fchownat, child->scratch, name, uid, gid, AT_SYMLINK_NOFOLLOW), "device", "owner of %s",
           device.target);
    }
    child->devices[i] = static_cast<int>(Must(CloneTree(child->scratch, name, false), "device", "%s", device.target));
  }
}

}  // namespace berth
