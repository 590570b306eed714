#include "log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

namespace berth {
namespace {

constexpr char kOwnEnd[] = "/./";
constexpr int kDirectory = O_PATH | O_DIRECTORY | O_CLOEXEC;

// The directory `name` of `parent`, made where it is missing.
Fd Enter(const Fd& parent, const char* name) {
  if (strcmp(name, "..") == 0) {
    errno = EINVAL;
    return Fd();
  }
  if (mkdirat(parent.get(), name, 0755) != 0 && errno != EEXIST) return Fd();
  return Fd(openat(parent.get(), name, kDirectory | O_NOFOLLOW));
}

// The regular file `name`, made where it is missing. What is there already is judged before it is opened: the opening of a device may have an effect of its own
// (a watchdog starts, a tape is rewound), and a fifo would make the monitor wait for its reader.
Fd OpenRegular(int directory, const char* name) {
  // O_NONBLOCK: a lease that somebody has on it (fcntl(2)) must not make the monitor wait.
  constexpr int kAppend = O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK;
  Fd made(openat(directory, name, kAppend | O_CREAT | O_EXCL, 0640));
  if (made || errno != EEXIST) return made;
  const Fd there(openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat info;
  if (!there || fstat(there.get(), &info) != 0) return Fd();
  if (!S_ISREG(info.st_mode)) {
    errno = S_ISLNK(info.st_mode) ? ELOOP : EINVAL;
    return Fd();
  }
  char path[40];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", there.get());
  return Fd(open(path, kAppend));
}

}  // namespace

Fd OpenLogFile(const char* path) {
  char text[PATH_MAX];
  const size_t length = strlen(path);
  if (length >= sizeof(text)) {
    errno = ENAMETOOLONG;
    return Fd();
  }
  memcpy(text, path, length + 1);
  char* name = text;
  Fd directory;
  if (char* own_end = strstr(text, kOwnEnd)) {
    name = own_end + strlen(kOwnEnd);
    // With a slash behind it a link would be followed.
    while (own_end > text && own_end[-1] == '/') --own_end;
    *own_end = 0;
    directory = Fd(open(own_end == text ? "/" : text, kDirectory | O_NOFOLLOW));
    while (char* slash = directory ? strchr(name, '/') : nullptr) {
      *slash = 0;
      directory = Enter(directory, name);
      name = slash + 1;
    }
    if (!directory) return Fd();
  }
  return OpenRegular(directory ? directory.get() : AT_FDCWD, name);
}

}  // namespace berth
