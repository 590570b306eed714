#include "path.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "call.h"

namespace berth {
namespace {

// As many as the kernel follows in one walk (path_resolution(7)).
constexpr int kLinksMax = 40;
// openat2 gives EAGAIN when a rename anywhere could have led `..` out; each try is a new walk.
constexpr int kTriesMax = 128;

int Openat2(int directory, const char* path, int flags, unsigned long long resolve) {
  open_how how = {};
  how.flags = static_cast<unsigned>(flags | O_CLOEXEC);
  how.resolve = resolve;
  long fd = -1;
  for (int i = 0; i < kTriesMax; i++) {
    fd = Call(SYS_openat2, directory, path, &how, sizeof(how));
    if (fd >= 0 || errno != EAGAIN) break;
  }
  return static_cast<int>(fd);
}

// Replaces the link at text[0, end) (whose own name begins at `start`) by what it says.
bool FollowLink(Path* path, size_t start, size_t end, const char* link, size_t size) {
  Path followed;
  const int length =
      std::snprintf(followed.text, sizeof(followed.text), "%.*s%.*s%s", link[0] == '/' ? 0 : static_cast<int>(start),
                    path->text, static_cast<int>(size), link, path->text + end);
  if (length < 0 || static_cast<size_t>(length) >= sizeof(followed.text)) {
    errno = ENAMETOOLONG;
    return false;
  }
  *path = followed;
  return true;
}

enum class Step { kMade, kLink, kFailed };

// Makes the name text[start, end), which was missing. A link there, which leads to nothing yet, is followed.
Step MakeName(int root, Path* path, size_t start, size_t end, bool directory) {
  char parent_text[PATH_MAX];
  std::memcpy(parent_text, path->text, start);
  parent_text[start] = '\0';
  const int parent = OpenIn(root, start ? parent_text : "/", O_PATH | O_DIRECTORY);
  if (parent < 0) return Step::kFailed;
  char name[NAME_MAX + 1];
  Step step = Step::kFailed;
  if (end - start > NAME_MAX) {
    errno = ENAMETOOLONG;
  } else {
    std::memcpy(name, path->text + start, end - start);
    name[end - start] = '\0';
    long made;
    if (directory) {
      made = Call(SYS_mkdirat, parent, name, 0755);
    } else {
      made = Call(SYS_openat, parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0644);
      if (made >= 0) ::close(static_cast<int>(made));
    }
    step = made >= 0 ? Step::kMade : Step::kFailed;
    if (made < 0 && errno == EEXIST) {
      char link[PATH_MAX];
      const long size = Call(SYS_readlinkat, parent, name, link, sizeof(link) - 1);
      if (size > 0) {
        step = FollowLink(path, start, end, link, static_cast<size_t>(size)) ? Step::kLink : Step::kFailed;
      } else if (size < 0 && errno == EINVAL) {
        step = Step::kMade;  // Somebody else was faster.
      }
    }
  }
  const int error = errno;
  ::close(parent);
  errno = error;
  return step;
}

}  // namespace

bool CleanPath(const char* path, Path* clean) {
  size_t used = 0;
  while (*path) {
    while (*path == '/') path++;
    const size_t length = std::strcspn(path, "/");
    if (length == 2 && path[0] == '.' && path[1] == '.') {
      while (used > 0 && clean->text[--used] != '/') continue;
    } else if (length > 0 && !(length == 1 && path[0] == '.')) {
      if (used + 1 + length + 1 > sizeof(clean->text)) {
        errno = ENAMETOOLONG;
        return false;
      }
      clean->text[used++] = '/';
      std::memcpy(clean->text + used, path, length);
      used += length;
    }
    path += length;
  }
  if (used == 0) clean->text[used++] = '/';
  clean->text[used] = '\0';
  return true;
}

bool IsBelow(const char* path, const char* directory) {
  const size_t length = std::strlen(directory);
  return std::strncmp(path, directory, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

int OpenIn(int root, const char* path, int flags, unsigned long long resolve) {
  return Openat2(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve);
}

int OpenPlain(int directory, const char* path, int flags) {
  return Openat2(directory, path, flags, RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS);
}

int MakeIn(int root, const char* target, bool directory) {
  Path path;
  if (!CleanPath(target, &path)) return -1;
  for (int links = 0; links < kLinksMax;) {
    const int found = OpenIn(root, path.text, O_PATH);
    if (found >= 0 || errno != ENOENT) return found;
    // The first prefix that is missing is made; then the next, until all are there or a link changes the path.
    bool changed = false;
    for (size_t start = 1; path.text[start] && !changed;) {
      const size_t end = start + std::strcspn(path.text + start, "/");
      const bool last = path.text[end + (path.text[end] == '/')] == '\0';
      char prefix[PATH_MAX];
      std::memcpy(prefix, path.text, end);
      prefix[end] = '\0';
      const int fd = OpenIn(root, prefix, O_PATH);
      if (fd >= 0) {
        ::close(fd);
      } else if (errno != ENOENT) {
        return -1;
      } else {
        const Step step = MakeName(root, &path, start, end, directory || !last);
        if (step == Step::kFailed) return -1;
        changed = step == Step::kLink;
      }
      if (!changed) start = end + (path.text[end] == '/');
    }
    links++;
  }
  errno = ELOOP;
  return -1;
}

int ParentIn(int root, const char* target, char (*name)[NAME_MAX + 1]) {
  Path path;
  if (!CleanPath(target, &path)) return -1;
  char* slash = std::strrchr(path.text, '/');
  const size_t length = std::strlen(slash + 1);
  if (length == 0 || length > NAME_MAX) {
    errno = length ? ENAMETOOLONG : EISDIR;
    return -1;
  }
  std::memcpy(*name, slash + 1, length + 1);
  *slash = '\0';
  return MakeIn(root, path.text[0] ? path.text : "/", true);
}

unsigned long FileSystemOf(int fd) {
  struct statfs fs = {};
  return ::fstatfs(fd, &fs) == 0 ? static_cast<unsigned long>(fs.f_type) : 0;
}

}  // namespace berth
