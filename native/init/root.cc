// The new root takes the place of the host's.
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <unistd.h>

#include <climits>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "call.h"
#include "child.h"
#include "path.h"
#include "sync.h"

namespace berth {
namespace {

constexpr uint64_t kRecursivePropagation = MS_REC;

// The root's propagation, and again each mount's own where that of the root was set for the whole tree.
void SetRootPropagation(Child* child) {
  const uint64_t wanted = child->plan->root_propagation;
  const uint64_t kind = wanted & ~kRecursivePropagation;
  // All is private already.
  if (kind == 0 || kind == MS_PRIVATE) return;
  Must(SetAttributes(child->root, 0, 0, kind, -1, wanted & MS_REC), "root", "propagation of the root");
  if (!(wanted & MS_REC)) return;
  for (const MountPlan& mount : child->plan->mounts) {
    const uint64_t own = mount.propagation & ~kRecursivePropagation;
    if (own == 0) continue;
    const int place = OpenIn(child->root, mount.target, O_PATH);
    if (place < 0) continue;  // An optional one.
    Must(SetAttributes(place, 0, 0, own, -1, mount.propagation & MS_REC), "root", "propagation of %s", mount.target);
    ::close(place);
  }
}

// Of a line of mountinfo, `36 35 98:0 /root /point options …`, what is looked at: of both paths each byte may be written as four.
constexpr size_t kLineBytes = 2 * 4 * PATH_MAX + 256;

// A path of mountinfo, where a blank and the like are octal numbers (proc(5)).
void Unescape(char* text) {
  char* out = text;
  for (const char* at = text; *at; out++) {
    const bool is_escape = at[0] == '\\' && at[1] && at[2] && at[3];
    *out = is_escape ? static_cast<char>((at[1] - '0') * 64 + (at[2] - '0') * 8 + (at[3] - '0')) : *at;
    at += is_escape ? 4 : 1;
  }
  *out = '\0';
}

// Calls `act` with a line for each mount below our root.
template <typename Act>
void EachMount(int proc, Act act) {
  static char line[kLineBytes];
  char bytes[4096];
  size_t length = 0;
  const int file = static_cast<int>(Must(Call(SYS_openat, proc, "self/mountinfo", O_RDONLY | O_CLOEXEC), "root", "the host's mounts"));
  for (long size; (size = Must(Call(SYS_read, file, bytes, sizeof(bytes)), "root", "the host's mounts")) > 0;) {
    for (long i = 0; i < size; i++) {
      if (bytes[i] != '\n') {
        if (length < sizeof(line) - 1) line[length++] = bytes[i];
        continue;
      }
      line[length] = '\0';
      length = 0;
      act(line);
    }
  }
  ::close(file);
}

// Takes off what is mounted right on the host's root, with all below. False when nothing was there.
bool TakeOffMounts(int proc, uint64_t host, uint64_t own) {
  bool is_there = false;
  bool is_less = false;
  EachMount(proc, [&](char* line) {
    char* at = line;
    const uint64_t id = std::strtoull(at, &at, 10);
    const uint64_t parent = std::strtoull(at, &at, 10);
    if (parent != host || id == host || id == own) return;
    is_there = true;
    for (int i = 0; i < 2 && at; i++) at = std::strchr(at + 1, ' ');
    if (!at) return;
    char* const point = at + 1;
    point[std::strcspn(point, " ")] = '\0';
    Unescape(point);
    // Ours is at `/`, too, and above: what is there cannot be named.
    if (std::strcmp(point, "/") != 0 && Call(SYS_umount2, point, kDetach | kNoFollow) >= 0) is_less = true;
  });
  // One that another covers has its turn when that is gone. A user namespace's are locked (mount_namespaces(7)).
  if (is_there && !is_less) Die(-EINVAL, "root", "--no-pivot: the host's mounts cannot be taken off");
  return is_there;
}

// struct statx of linux/stat.h, which cannot be included beside a sys/stat.h that has one of its own.
struct MountStatus {
  uint8_t before[0x90];
  uint64_t mount;
  uint8_t behind[0x68];
};
constexpr unsigned kOfMount = 0x1000;

uint64_t MountOf(int directory, const char* path) {
  MountStatus status = {};
  Must(Call(SYS_statx, directory, path, AT_EMPTY_PATH, kOfMount, &status), "root", "cannot look at the root");
  return status.mount;
}

// As switch_root(8), for pivot_root(2) cannot leave an initramfs: what is on top of the namespace's root is the root of all who enter the namespace.
// Of the host its root is left below, as with every runtime that does this (docs/oci.md).
void CoverRoot(Child* child) {
  if (child->root_at_path) {
    Must(Call(SYS_move_mount, child->root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH), "root", "cannot move the root");
  }
  const uint64_t own = MountOf(child->root, "");
  // Our root still is the host's: so are all paths, and what is on top of it is not seen.
  const uint64_t host = MountOf(AT_FDCWD, "/");
  while (TakeOffMounts(child->proc, host, own)) continue;
  const int ns = static_cast<int>(Must(Call(SYS_openat, child->proc, "self/ns/mnt", O_RDONLY | O_CLOEXEC), "root", "mount namespace"));
  Must(Call(SYS_setns, ns, CLONE_NEWNS), "root", "cannot enter the root");
  ::close(ns);
  // In a chroot(2) of the host something else would be, and an exec would stand in it.
  if (MountOf(AT_FDCWD, "/") != own) Die(-EINVAL, "root", "--no-pivot needs the root of the mount namespace");
}

// On a tmpfs, for what is mounted below it then goes on to no peer of the host's mount in which the place is; and a recursive bind mount of what holds the
// place, the container's own among them, does not take it along.
void AttachApart(Child* child) {
  const char* const path = child->plan->root_place;
  const int place = static_cast<int>(
      Must(Call(SYS_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), "root", "%s", path));
  char complaint[256];
  const int apart =
      static_cast<int>(Must(NewFileSystem("tmpfs", "berth", {}, complaint, sizeof(complaint)), "root", "tmpfs%s", complaint));
  constexpr unsigned kByFd = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
  Must(Call(SYS_move_mount, apart, "", place, "", kByFd), "root", "cannot mount at %s", path);
  // Not before: in a shared mount all becomes shared.
  Must(SetAttributes(apart, MOUNT_ATTR_RDONLY, 0, MS_UNBINDABLE, -1, false), "root", "propagation of %s", path);
  Must(Call(SYS_move_mount, child->root, "", apart, "", kByFd), "root", "cannot attach the root at %s", path);
  ::close(apart);
  ::close(place);
}

}  // namespace

bool ShowsRoot(const ContainerPlan& plan) {
  return plan.awaits_hooks && plan.root.directory && !SharesMounts(plan);
}

void AttachRoot(Child* child) {
  const ContainerPlan& plan = *child->plan;
  if (SharesMounts(plan)) {
    AttachApart(child);
    return;
  }
  // Where hooks look for it: one that enters this mount namespace (`nsenter -m`, as the hook that brings GPUs) knows the
  // root by its host's path alone. A user namespace may not be able to walk there.
  if (ShowsRoot(plan) &&
      Call(SYS_move_mount, child->root, "", AT_FDCWD, plan.root.directory, MOVE_MOUNT_F_EMPTY_PATH) >= 0) {
    child->root_at_path = true;
    return;
  }
  // On top of `/`, so that no directory of the host is needed; the host's files stay reachable until EnterRoot.
  Must(Call(SYS_move_mount, child->root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH), "root", "cannot attach the root");
}

void EnterRoot(Child* child) {
  Must(Call(SYS_fchdir, child->root), "root", "cannot enter the root");
  if (SharesMounts(*child->plan)) {
    Must(Call(SYS_chroot, "."), "root", "chroot");
  } else if (child->plan->no_pivot) {
    CoverRoot(child);
  } else {
    // Both names the same: the old root lands on top of the new one, where we unmount it (pivot_root(2)).
    Must(Call(SYS_pivot_root, ".", "."), "root", "pivot_root");
    // Lazily: a host process may stand in the old root, and we must not wait for it.
    Must(Call(SYS_umount2, ".", kDetach), "root", "cannot leave the host's root");
  }
  Must(Call(SYS_chdir, "/"), "root", "chdir");
  SetRootPropagation(child);
  if (child->closed_dev >= 0) {
    Must(SetAttributes(child->closed_dev, MOUNT_ATTR_RDONLY, 0, 0, -1, false), "mount", "read-only /dev");
    ::close(child->closed_dev);
  }
  if (child->plan->root_readonly) {
    Must(SetAttributes(child->root, MOUNT_ATTR_RDONLY, 0, 0, -1, false), "root", "read-only root");
  }
}

}  // namespace berth
