// The new root takes the place of the host's.
#include <fcntl.h>
#include <linux/mount.h>
#include <unistd.h>

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

}  // namespace

bool ShowsRoot(const ContainerPlan& plan) { return plan.awaits_hooks && plan.root.directory; }

void AttachRoot(Child* child) {
  const ContainerPlan& plan = *child->plan;
  // Where hooks look for it: one that enters this mount namespace (`nsenter -m`, as the hook that brings GPUs) knows the
  // root by its host's path alone. A user namespace may not be able to walk there.
  if (ShowsRoot(plan) &&
      Call(SYS_move_mount, child->root, "", AT_FDCWD, plan.root.directory, MOVE_MOUNT_F_EMPTY_PATH) >= 0) {
    return;
  }
  // On top of `/`, so that no directory of the host is needed; the host's files stay reachable until EnterRoot.
  Must(Call(SYS_move_mount, child->root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH), "root", "cannot attach the root");
}

void EnterRoot(Child* child) {
  Must(Call(SYS_fchdir, child->root), "root", "cannot enter the root");
  // Both names the same: the old root lands on top of the new one, where we unmount it (pivot_root(2)).
  Must(Call(SYS_pivot_root, ".", "."), "root", "pivot_root");
  // Lazily: a host process may stand in the old root, and we must not wait for it.
  Must(Call(SYS_umount2, ".", kDetach), "root", "cannot leave the host's root");
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
