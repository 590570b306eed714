#include "sealed.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fd.h"

namespace berth {

bool RunSealed(char** argv, char** envp) {
  const Fd self(::open("/proc/self/exe", O_PATH | O_CLOEXEC));
  struct statvfs fs = {};
  if (!self || ::fstatvfs(self.get(), &fs) != 0) return false;
  if (fs.f_flag & ST_RDONLY) return true;
  const Fd sealed(static_cast<int>(
      ::syscall(SYS_open_tree, self.get(), "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH)));
  if (!sealed) return false;
  mount_attr attributes = {};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  attributes.propagation = MS_PRIVATE;
  if (::syscall(SYS_mount_setattr, sealed.get(), "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) != 0) return false;
  ::syscall(SYS_execveat, sealed.get(), "", argv, envp, AT_EMPTY_PATH);
  return false;
}

}  // namespace berth
