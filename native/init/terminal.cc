// A pseudoterminal of the container's own devpts.
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdio>

#include "call.h"
#include "child.h"
#include "path.h"
#include "sync.h"

namespace berth {
namespace {

// Looked at before it is opened: a container may have put anything at that name.
int OpenMaster(Child* child, int root) {
  const int found = static_cast<int>(
      Must(OpenIn(root, "/dev/pts/ptmx", O_PATH, RESOLVE_NO_SYMLINKS), "terminal", "/dev/pts/ptmx"));
  struct stat st = {};
  Must(::fstat(found, &st), "terminal", "/dev/pts/ptmx");
  if (FileSystemOf(found) != DEVPTS_SUPER_MAGIC || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(5, 2)) {
    Die(ENODEV, "terminal", "/dev/pts in the container is no devpts");
  }
  char path[32];
  std::snprintf(path, sizeof(path), "self/fd/%d", found);
  const int master = static_cast<int>(
      Must(Call(SYS_openat, child->proc, path, O_RDWR | O_NOCTTY | O_CLOEXEC), "terminal", "cannot open a terminal"));
  ::close(found);
  return master;
}

void BindConsole(int root, int slave) {
  const int made = static_cast<int>(Must(MakeIn(root, "/dev/console", false), "terminal", "/dev/console"));
  ::close(made);
  const int place = static_cast<int>(
      Must(OpenIn(root, "/dev/console", O_PATH, RESOLVE_NO_SYMLINKS), "terminal", "/dev/console"));
  // CVE-2025-52565: the terminal by its fd, never by a name below /dev/pts.
  const int console = static_cast<int>(Must(CloneTree(slave, "", false), "terminal", "/dev/console"));
  Must(Call(SYS_move_mount, console, "", place, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH), "terminal",
       "cannot mount at /dev/console");
  ::close(console);
  ::close(place);
}

}  // namespace

void OpenTerminal(Child* child, int root, bool console) {
  const ProcessPlan& process = *child->process;
  const int master = OpenMaster(child, root);
  const int unlocked = 0;
  Must(Call(SYS_ioctl, master, TIOCSPTLCK, &unlocked), "terminal", "TIOCSPTLCK");
  const int slave = static_cast<int>(
      Must(Call(SYS_ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC), "terminal", "TIOCGPTPEER"));
  if (process.rows || process.columns) {
    winsize size = {};
    size.ws_row = process.rows;
    size.ws_col = process.columns;
    Must(Call(SYS_ioctl, master, TIOCSWINSZ, &size), "terminal", "TIOCSWINSZ");
  }
  Must(Call(SYS_fchown, slave, process.uid, -1), "terminal", "cannot give the terminal to user %u", process.uid);
  if (console) BindConsole(root, slave);
  for (int fd = 0; fd < 3; fd++) Must(Call(SYS_dup3, slave, fd, 0), "terminal", "stdio");
  // A session's leader takes it; where that is cloned later, CloneSibling has it done.
  if (!child->clones_last) Must(Call(SYS_ioctl, 0, TIOCSCTTY, 0), "terminal", "TIOCSCTTY");
  SendTerminal(master);
  ::close(master);
  ::close(slave);
}

}  // namespace berth
