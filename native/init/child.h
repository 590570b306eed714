// What the stages between clone and exec share. Descriptors are plain numbers here: all of them are close-on-exec and
// end with the child.
#ifndef BERTH_INIT_CHILD_H_
#define BERTH_INIT_CHILD_H_

#include "../common/plan.h"
#include "launch.h"

namespace berth {

// AT_RECURSIVE of linux/fcntl.h, which cannot be included beside fcntl.h.
inline constexpr unsigned kRecursive = 0x8000;
// MNT_DETACH of sys/mount.h, which cannot be included beside linux/mount.h.
inline constexpr int kDetach = 2;
// UMOUNT_NOFOLLOW.
inline constexpr int kNoFollow = 8;

// What a mount shows.
struct Source {
  int fd = -1;
  bool is_attached = false;  // Still where the host has it, and to be cloned when its turn comes; else a detached mount.
};

struct Child {
  const ContainerPlan* plan = nullptr;  // Null in an exec.
  const ProcessPlan* process = nullptr;
  Arena arena;

  // The host's /proc, verified to be procfs. All that is written in /proc is written through it: what a container
  // shows at its own /proc is never trusted (CVE-2025-52881).
  int proc = -1;
  int null_device = -1;       // The host's /dev/null, verified to be 1:3.
  int null_mount = -1;        // The same, detached, where ours is another mount namespace than the one it was opened in.
  int* namespaces = nullptr;  // One for each NamespacePlan: its fd when it is joined, else -1.
  int user_namespace = -1;    // The container's, new or joined; -1 without.
  bool in_user_namespace = false;

  // Made while still privileged on the host, each a detached mount.
  int root = -1;
  bool root_at_path = false;  // Mounted where the host has its directory, not on top of `/`.
  Source* sources = nullptr;  // One for each MountPlan of kind bind; -1 for a missing optional one.
  int* devices = nullptr;  // One for each DevicePlan, where mknod will not be allowed inside.
  int host_sys = -1;       // Stands in where a sysfs cannot be mounted.
  int closed_dev = -1;     // The mount of a new /dev that becomes read-only when all is made in it.
  int scratch = -1;        // A tmpfs in a private mount namespace.
  int scratch_used = 0;    // Directories in it.

  // The listener for the start, -1 for none; behind it the numbers of nothing that stays.
  int listener = -1;
  int first_free = 0;

  // For the last stage.
  int apparmor = -1;
  int selinux = -1;
  int notify = -1;  // Connected to who answers for the filter.
  // The process that executes the program is cloned into the container's PID namespace at the very end: see Finish.
  bool clones_last = false;
};

// Whether the plan makes, or joins, that namespace.
bool MakesNamespace(const ContainerPlan& plan, int flag);
bool JoinsNamespace(const ContainerPlan& plan, int flag);
// Whether its root is mounted in a mount namespace that others have as well: nothing of theirs may be changed. Who holds a pod's namespaces (hold.cc) has its root in
// one of its own, of which the plan says nothing.
bool SharesMounts(const ContainerPlan& plan);

// launch.cc: clones the real process as a sibling of this one, in a session of its own with fd 0 as its terminal where
// there is one. Returns in that; this one sends 'P' and ends.
void CloneSibling(uint64_t flags, bool terminal);

// start.cc: the first lines of every child. Afterwards 0, 1, 2 are its stdio, `sync` is remembered, and it has no
// other descriptor but `keep` (when that is not -1, it is replaced by its new number).
void EnterChild(Child* child, const ChildStdio& stdio, int sync, int* keep);
// Opens the host's /proc and /dev/null.
void OpenHost(Child* child);
// The host's /dev/null as this mount namespace has it.
void OpenNullDevice(Child* child);
// What needs the host's privileges: oom_score_adj, room for the rlimits.
void PrepareProcess(Child* child);
// Gives pipes at 0, 1, 2 to the process's user, so that it can open /dev/stdout again.
void GiveStdio(uint32_t host_uid);

// namespaces.cc
void OpenNamespaces(Child* child);
void MakeUserNamespace(Child* child);
int UserNamespaceOf(Child* child, const IdMappings& ids);
void JoinNamespaces(Child* child);
void EnterUserNamespace(Child* child);
void SetTimeOffsets(Child* child, int offsets);
bool MapOut(const Array<IdMap>& maps, uint32_t inside, uint32_t* outside);

// sources.cc
void OpenSources(Child* child);
void MakeMountsPrivate();
void MakeScratch(Child* child);
// A new directory in the scratch.
int ScratchDirectory(Child* child);
void DropScratch(Child* child);
// The root of the plan where it is to get the host's mounts: while that has those that it gets them from. MakeRoot makes any other.
void CloneSlaveRoot(Child* child);
void MakeRoot(Child* child);
// A detached mount of a source that is still attached, as its plan wants it.
int CloneSource(Child* child, const MountPlan& mount, int place);
// The sources that are views of layers.
void MakeViews(Child* child);
void MakeDevices(Child* child);
// mount_setattr(2); -1 with errno set.
long SetAttributes(int fd, uint64_t set, uint64_t clear, uint64_t propagation, int idmap, bool recursive);
// open_tree(2) with OPEN_TREE_CLONE of what the fd is; -1 with errno set.
int CloneTree(int fd, const char* path, bool recursive);

// overlay.cc: a detached overlay.
int MountOverlay(Child* child, const RootPlan& root);
// shift.cc: gives every inode below to the mapped owner.
void ShiftTree(int tree, const IdMappings& ids);

// mounts.cc
void MountAll(Child* child);
void MakeDeviceNodes(Child* child);
void MakeLinks(Child* child);
void HidePaths(Child* child);
// filesystem.cc: a detached mount of a new file system; -1 with errno set and what it said in `complaint`.
int NewFileSystem(const char* type, const char* source, const Array<const char*>& options, char* complaint,
                  size_t complaint_size);
// copyup.cc: with `keeps_mode` the new root's mode is not the old one's.
void CopyTree(int from, int to, const char* name, bool keeps_mode);

// root.cc
// Whether the root is attached at its path on the host.
bool ShowsRoot(const ContainerPlan& plan);
void AttachRoot(Child* child);
void EnterRoot(Child* child);

// identity.cc
void SetIdentity(Child* child);
void OpenLabels(Child* child);

// terminal.cc: opens a pty below `root`, makes it stdio, sends its master.
void OpenTerminal(Child* child, int root, bool console);

// null.cc: for a process without a terminal.
void TakeOwnNull(const Child& child, int root);

// hooks.cc: runs each with the file `state` as its stdin, in that directory. The first that fails ends this process.
void RunHooks(const Array<HookPlan>& hooks, const char* kind, int state, const char* directory);

// notify.cc
void ConnectNotify(Child* child);
// Hands the filter's descriptor on, with the text.
void SendNotify(int socket, int text, int filter);

// finish.cc: from ready to exec.
void MakeCwd(Child* child, int root);
[[noreturn]] void Finish(Child* child);

// reaper.cc: returns in the child that becomes the program; the caller stays behind as PID 1.
void ForkFromReaper(bool terminal);

}  // namespace berth

#endif  // BERTH_INIT_CHILD_H_
