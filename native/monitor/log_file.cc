#include "log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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
    *own_end = 0;
    directory = Fd(open(own_end == text ? "/" : text, kDirectory));
    name = own_end + strlen(kOwnEnd);
    while (char* slash = directory ? strchr(name, '/') : nullptr) {
      *slash = 0;
      directory = Enter(directory, name);
      name = slash + 1;
    }
    if (!directory) return Fd();
  }
  Fd file(openat(directory ? directory.get() : AT_FDCWD, name,
                 O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0640));
  struct stat info;
  if (!file || fstat(file.get(), &info) != 0) return Fd();
  // A fifo or a terminal at that path would make the monitor wait for its reader.
  if (!S_ISREG(info.st_mode)) {
    errno = EINVAL;
    return Fd();
  }
  return file;
}

}  // namespace berth
