// Stdio that is the host's /dev/null becomes the container's own: a file of a mount that is not there could be named by nobody inside, nor by CRIU.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdio>

#include "call.h"
#include "child.h"
#include "path.h"

namespace berth {
namespace {

bool IsNull(int fd) {
  struct stat st = {};
  return ::fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

// -1 where the container has none. Looked at before it is opened: anything may be at that name.
int OpenNull(const Child& child, int root) {
  const int found = OpenIn(root, "/dev/null", O_PATH);
  if (found < 0) return -1;
  char path[32];
  std::snprintf(path, sizeof(path), "self/fd/%d", found);
  const int null = IsNull(found) ? static_cast<int>(Call(SYS_openat, child.proc, path, O_RDWR | O_CLOEXEC)) : -1;
  ::close(found);
  return null;
}

}  // namespace

void TakeOwnNull(const Child& child, int root) {
  int null = -1;
  for (int fd = 0; fd < 3; fd++) {
    if (!IsNull(fd)) continue;
    if (null < 0) null = OpenNull(child, root);
    if (null < 0) return;
    (void)Call(SYS_dup3, null, fd, 0);
  }
  if (null >= 0) ::close(null);
}

}  // namespace berth
