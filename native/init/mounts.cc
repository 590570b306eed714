// Mounts, devices, links and hidden paths below the new root: resolved by fd, attached by fd.
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>
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

// Single files that stand for what a container may see of its machine (lxcfs and the like); all else in /proc is ours.
constexpr const char* kProcFiles[] = {
    "/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat",
    "/proc/swaps",   "/proc/uptime",    "/proc/loadavg", "/proc/slabinfo",
};

bool IsProcFile(const char* path) {
  for (const char* file : kProcFiles) {
    if (std::strcmp(path, file) == 0) return true;
  }
  return false;
}

// CVE-2019-16884, CVE-2023-27561: a mount over /proc, or /proc as a link, would let an image fake what we and LSMs
// write to or hide there.
void CheckProcTarget(const MountPlan& mount, const Path& target, int source) {
  if (!IsBelow(target.text, "/proc") || mount.kind == MountKind::kRemount) return;
  const bool whole = std::strcmp(target.text, "/proc") == 0;
  if (mount.kind == MountKind::kNew && whole && std::strcmp(mount.type, "proc") == 0) return;
  if (mount.kind == MountKind::kBind && whole && FileSystemOf(source) == PROC_SUPER_MAGIC) return;
  struct stat st = {};
  if (mount.kind == MountKind::kBind && IsProcFile(target.text) && ::fstat(source, &st) == 0 && S_ISREG(st.st_mode)) {
    return;
  }
  Die(EPERM, "mount", "refused to mount at %s: nothing but a procfs may cover /proc", target.text);
}

// The fd of the target, made when missing.
int OpenTarget(Child* child, const MountPlan& mount, const Path& target, bool directory) {
  int fd;
  if (mount.kind == MountKind::kRemount) {
    fd = OpenIn(child->root, target.text, O_PATH);
  } else {
    fd = MakeIn(child->root, target.text, directory);
  }
  Must(fd, "mount", "target %s", target.text);
  const bool in_proc = IsBelow(target.text, "/proc");
  if (in_proc) {
    ::close(fd);
    fd = OpenIn(child->root, target.text, O_PATH, RESOLVE_NO_SYMLINKS);
    Must(fd, "mount", "target %s", target.text);
  } else if (FileSystemOf(fd) == PROC_SUPER_MAGIC && mount.kind != MountKind::kRemount) {
    Die(EPERM, "mount", "refused to mount at %s: it leads into /proc", target.text);
  }
  return fd;
}

void Attach(int mount, int target, const char* name) {
  Must(Call(SYS_move_mount, mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH), "mount",
       "cannot mount at %s", name);
}

void SetPlanned(const MountPlan& mount, int fd) {
  if (mount.set_attributes || mount.clear_attributes) {
    Must(SetAttributes(fd, mount.set_attributes, mount.clear_attributes, 0, -1, false), "mount",
         "attributes of the mount at %s", mount.target);
  }
  if (mount.set_attributes_recursive || mount.clear_attributes_recursive) {
    Must(SetAttributes(fd, mount.set_attributes_recursive, mount.clear_attributes_recursive, 0, -1, true), "mount",
         "recursive attributes of the mount at %s", mount.target);
  }
  if (mount.propagation) {
    Must(SetAttributes(fd, 0, 0, mount.propagation & ~static_cast<uint64_t>(MS_REC), -1, mount.propagation & MS_REC),
         "mount", "propagation of the mount at %s", mount.target);
  }
}

bool HasMode(const MountPlan& mount) {
  for (const char* option : mount.options) {
    if (std::strncmp(option, "mode=", 5) == 0) return true;
  }
  return false;
}

// As of a directory that is covered by it: 1777, the kernel's own, would open to all what the root's owner has closed.
void TakeMode(int from, int filesystem, const char* name) {
  struct stat st = {};
  Must(::fstat(from, &st), "mount", "%s", name);
  const int root = static_cast<int>(
      Must(Call(SYS_openat, filesystem, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "mount", "new file system for %s", name));
  Must(Call(SYS_fchmod, root, st.st_mode & 07777), "mount", "copying the mode of %s", name);
  ::close(root);
}

void MountNew(Child* child, const MountPlan& mount, const Path& target) {
  char complaint[256];
  int fd = NewFileSystem(mount.type, mount.source, mount.options, complaint, sizeof(complaint));
  if (fd < 0 && mount.optional && (errno == ENODEV || errno == ENOENT)) return;
  if (fd < 0 && errno == EPERM && child->host_sys >= 0 && std::strcmp(mount.type, "sysfs") == 0) {
    fd = child->host_sys;
    child->host_sys = -1;
  }
  Must(fd, "mount", "cannot make a %s for %s%s", mount.type, target.text, complaint);
  // Before the target is made where it is missing: then there is nothing to copy, and the new file system's own mode counts.
  const bool takes_mode = std::strcmp(mount.type, "tmpfs") == 0 && !HasMode(mount);
  const int look = O_DIRECTORY | (mount.copy_up ? O_RDONLY : O_PATH);
  const int old = mount.copy_up || takes_mode ? OpenIn(child->root, target.text, look) : -1;
  if (mount.copy_up && old < 0 && errno != ENOENT) Must(old, "mount", "cannot read %s", target.text);
  const int place = OpenTarget(child, mount, target, true);
  if (old >= 0 && mount.copy_up) CopyTree(old, fd, target.text, !takes_mode);
  if (old >= 0 && !mount.copy_up) TakeMode(old, fd, target.text);
  if (old >= 0) ::close(old);
  MountPlan open = mount;
  // Mount points and nodes are made in it yet.
  const bool closes = (mount.set_attributes & MOUNT_ATTR_RDONLY) && std::strcmp(target.text, "/dev") == 0;
  if (closes) open.set_attributes &= ~static_cast<uint64_t>(MOUNT_ATTR_RDONLY);
  SetPlanned(open, fd);
  Attach(fd, place, target.text);
  ::close(place);
  if (!closes) {
    ::close(fd);
    return;
  }
  if (child->closed_dev >= 0) ::close(child->closed_dev);
  child->closed_dev = fd;
}

// The table of mounts of newer kernels is sorted by when a mount was made: a source that was cloned before all others is cloned once more, which puts it where the
// configuration has it. Kernels before 6.15 cannot, and show mounts as they were attached.
int InOrder(Child* child, const MountPlan& mount, const Source& opened) {
  int source = opened.is_attached ? CloneSource(child, mount, opened.fd) : opened.fd;
  if (opened.is_attached) {
    ::close(opened.fd);
    return source;
  }
  const int again = child->in_user_namespace ? -1 : CloneTree(source, "", mount.recursive);
  if (again >= 0) {
    ::close(source);
    source = again;
  }
  if (mount.propagation & MS_UNBINDABLE) {
    Must(SetAttributes(source, 0, 0, MS_UNBINDABLE, -1, mount.propagation & MS_REC), "mount",
         "propagation of the mount at %s", mount.target);
  }
  return source;
}

void MountOne(Child* child, const MountPlan& mount, const Source& opened) {
  int source = opened.fd;
  Path target;
  if (!CleanPath(mount.target, &target)) Die(errno, "mount", "target %s", mount.target);
  if (target.text[1] == '\0' && mount.kind != MountKind::kRemount) Die(EINVAL, "mount", "a mount at / hides the root");
  CheckProcTarget(mount, target, source);
  if (mount.kind == MountKind::kNew) {
    MountNew(child, mount, target);
  } else if (mount.kind == MountKind::kRemount) {
    const int place = OpenTarget(child, mount, target, true);
    SetPlanned(mount, place);
    ::close(place);
  } else {
    if (source < 0) return;
    struct stat st = {};
    Must(::fstat(source, &st), "mount", "source %s", mount.source);
    const int place = OpenTarget(child, mount, target, S_ISDIR(st.st_mode));
    // The kernel's EINVAL would say nothing.
    struct stat there = {};
    Must(::fstat(place, &there), "mount", "target %s", target.text);
    if (S_ISDIR(st.st_mode) != S_ISDIR(there.st_mode)) {
      const bool is_directory = S_ISDIR(st.st_mode);
      Die(ENOTDIR, "mount", "cannot mount %s, a %s, at %s, a %s", mount.source, is_directory ? "directory" : "file",
          target.text, is_directory ? "file" : "directory");
    }
    source = InOrder(child, mount, opened);
    Attach(source, place, target.text);
    ::close(place);
    ::close(source);
  }
}

// CVE-2023-27561, CVE-2026-41579: the image's own links at these names would lead our mounts and nodes elsewhere.
void RefuseLinks(int root) {
  for (const char* name : {"proc", "sys", "dev"}) {
    struct stat st = {};
    if (::fstatat(root, name, &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (!S_ISDIR(st.st_mode)) Die(ENOTDIR, "root", "refused: /%s in the image is no directory", name);
  }
}

bool SameNode(int parent, const char* name, const DevicePlan& device) {
  struct stat st = {};
  if (::fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) != 0) return false;
  if (device.type == 'p') return S_ISFIFO(st.st_mode);
  const bool kind = device.type == 'b' ? S_ISBLK(st.st_mode) : S_ISCHR(st.st_mode);
  return kind && st.st_rdev == makedev(device.major, device.minor);
}

void MakeNode(int parent, const char* name, const DevicePlan& device) {
  const mode_t kind = device.type == 'b' ? S_IFBLK : device.type == 'c' ? S_IFCHR : S_IFIFO;
  const long made =
      Call(SYS_mknodat, parent, name, kind | (device.mode & 07777), makedev(device.major, device.minor));
  if (made < 0 && errno == EEXIST) {
    if (SameNode(parent, name, device)) return;
    Die(EEXIST, "device", "%s is there already as something else", device.target);
  }
  Must(made, "device", "%s", device.target);
  if (device.uid || device.gid) {
    Must(Call(SYS_fchownat, parent, name, device.uid, device.gid, AT_SYMLINK_NOFOLLOW), "device", "owner of %s",
         device.target);
  }
}

// A read-only clone of what is there, put over it.
void MakeReadonly(int root, const char* path) {
  const int place = OpenIn(root, path, O_PATH);
  if (place < 0 && (errno == ENOENT || errno == ENOTDIR)) return;
  Must(place, "mount", "read-only path %s", path);
  const int clone = static_cast<int>(Must(CloneTree(place, "", true), "mount", "read-only path %s", path));
  Must(SetAttributes(clone, MOUNT_ATTR_RDONLY, 0, 0, -1, true), "mount", "read-only path %s", path);
  Attach(clone, place, path);
  ::close(clone);
  ::close(place);
}

// All masked directories show this one empty file system.
int EmptyDirectory() {
  char complaint[256];
  const int fd = static_cast<int>(
      Must(NewFileSystem("tmpfs", "berth", {}, complaint, sizeof(complaint)), "mount", "tmpfs%s", complaint));
  Must(SetAttributes(fd, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, 0, 0, -1, false),
       "mount", "tmpfs for masked paths");
  return fd;
}

void Mask(Child* child, const char* path, int* empty) {
  const int place = OpenIn(child->root, path, O_PATH);
  if (place < 0 && (errno == ENOENT || errno == ENOTDIR)) return;
  Must(place, "mount", "masked path %s", path);
  struct stat st = {};
  Must(::fstat(place, &st), "mount", "masked path %s", path);
  int cover;
  if (!S_ISDIR(st.st_mode) && child->null_mount >= 0) {
    // A mount of another namespace cannot be cloned: this one is put up first, and the further ones are clones of it.
    Attach(child->null_mount, place, path);
    ::close(place);
    child->null_mount = -1;
    child->null_device = static_cast<int>(Must(OpenIn(child->root, path, O_PATH), "mount", "masked path %s", path));
    return;
  }
  if (!S_ISDIR(st.st_mode)) {
    cover = CloneTree(child->null_device, "", false);
  } else if (*empty < 0) {
    cover = *empty = EmptyDirectory();
  } else {
    cover = CloneTree(*empty, "", false);
  }
  Must(cover, "mount", "masked path %s", path);
  Attach(cover, place, path);
  if (cover != *empty) ::close(cover);
  ::close(place);
}

}  // namespace

void MountAll(Child* child) {
  RefuseLinks(child->root);
  for (size_t i = 0; i < child->plan->mounts.size; i++) MountOne(child, child->plan->mounts[i], child->sources[i]);
}

void MakeDeviceNodes(Child* child) {
  const Array<DevicePlan>& devices = child->plan->devices;
  for (size_t i = 0; i < devices.size; i++) {
    const DevicePlan& device = devices[i];
    char name[NAME_MAX + 1];
    const int parent =
        static_cast<int>(Must(ParentIn(child->root, device.target, &name), "device", "directory of %s", device.target));
    if (FileSystemOf(parent) == PROC_SUPER_MAGIC) Die(EPERM, "device", "refused: %s leads into /proc", device.target);
    if (!child->devices || child->devices[i] < 0) {
      MakeNode(parent, name, device);
    } else if (!SameNode(parent, name, device)) {
      const long made = Call(SYS_openat, parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0644);
      if (made < 0 && errno != EEXIST) Must(made, "device", "%s", device.target);
      if (made >= 0) ::close(static_cast<int>(made));
      const int place = static_cast<int>(
          Must(Call(SYS_openat, parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC), "device", "%s", device.target));
      struct stat st = {};
      if (::fstat(place, &st) != 0 || S_ISLNK(st.st_mode)) Die(ELOOP, "device", "%s is a link", device.target);
      Attach(child->devices[i], place, device.target);
      ::close(place);
    }
    ::close(parent);
  }
}

void MakeLinks(Child* child) {
  for (const LinkPlan& link : child->plan->links) {
    char name[NAME_MAX + 1];
    const int parent =
        static_cast<int>(Must(ParentIn(child->root, link.target, &name), "root", "directory of link %s", link.target));
    const long made = Call(SYS_symlinkat, link.to, parent, name);
    if (made < 0 && errno != EEXIST) Must(made, "root", "link %s", link.target);
    ::close(parent);
  }
}

void HidePaths(Child* child) {
  for (const char* path : child->plan->readonly_paths) MakeReadonly(child->root, path);
  int empty = -1;
  for (const char* path : child->plan->masked_paths) Mask(child, path, &empty);
  if (empty >= 0) ::close(empty);
}

}  // namespace berth
