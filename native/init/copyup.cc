// tmpcopyup: what the root holds at a mount's target, copied into the new tmpfs.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>

#include "call.h"
#include "child.h"
#include "sync.h"

namespace berth {
namespace {

constexpr int kDepthMax = 256;
constexpr size_t kXattrBytesMax = 65536;

void CopyAttributes(int from, int to, const struct stat& st, const char* name) {
  Must(Call(SYS_fchown, to, st.st_uid, st.st_gid), "mount", "copying the owner of %s", name);
  Must(Call(SYS_fchmod, to, st.st_mode & 07777), "mount", "copying the mode of %s", name);
  static char names[kXattrBytesMax];
  static char value[kXattrBytesMax];
  const ssize_t size = ::flistxattr(from, names, sizeof(names));
  for (ssize_t at = 0; at < size; at += static_cast<ssize_t>(std::strlen(names + at)) + 1) {
    const ssize_t length = ::fgetxattr(from, names + at, value, sizeof(value));
    // A tmpfs keeps only some of them; that is no failure.
    if (length >= 0) (void)!::fsetxattr(to, names + at, value, static_cast<size_t>(length), 0);
  }
  const timespec times[2] = {st.st_atim, st.st_mtim};
  ::futimens(to, times);
}

void CopyFile(int from, int to, const char* name) {
  static char buffer[65536];
  for (;;) {
    const long size = Must(Call(SYS_read, from, buffer, sizeof(buffer)), "mount", "reading %s", name);
    if (size == 0) return;
    for (long done = 0; done < size;) {
      done += Must(Call(SYS_write, to, buffer + done, size - done), "mount", "copying %s", name);
    }
  }
}

void CopyBelow(int from, int to, int depth);

void CopyEntry(int from_directory, int to_directory, const char* name, int depth) {
  struct stat st = {};
  Must(::fstatat(from_directory, name, &st, AT_SYMLINK_NOFOLLOW), "mount", "copying %s", name);
  if (S_ISLNK(st.st_mode)) {
    char link[4096];
    const long size = Must(Call(SYS_readlinkat, from_directory, name, link, sizeof(link) - 1), "mount", "link %s", name);
    link[size] = '\0';
    Must(Call(SYS_symlinkat, link, to_directory, name), "mount", "copying link %s", name);
    Must(Call(SYS_fchownat, to_directory, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW), "mount", "link %s", name);
    return;
  }
  if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)) {
    Must(Call(SYS_mknodat, to_directory, name, st.st_mode, st.st_rdev), "mount", "copying node %s", name);
    Must(Call(SYS_fchownat, to_directory, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW), "mount", "node %s", name);
    return;
  }
  const bool directory = S_ISDIR(st.st_mode);
  if (directory) Must(Call(SYS_mkdirat, to_directory, name, 0700), "mount", "copying %s", name);
  const int kind = directory ? O_DIRECTORY : 0;
  const int from = static_cast<int>(Must(
      Call(SYS_openat, from_directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | kind), "mount", "%s", name));
  const int flags = directory ? O_RDONLY | O_DIRECTORY : O_WRONLY | O_CREAT | O_EXCL;
  const int to = static_cast<int>(
      Must(Call(SYS_openat, to_directory, name, flags | O_NOFOLLOW | O_CLOEXEC, 0600), "mount", "copying %s", name));
  if (directory) {
    CopyBelow(from, to, depth + 1);
  } else {
    CopyFile(from, to, name);
  }
  CopyAttributes(from, to, st, name);
  ::close(from);
  ::close(to);
}

void CopyBelow(int from, int to, int depth) {
  if (depth > kDepthMax) Die(ELOOP, "mount", "directories to copy are deeper than %d", kDepthMax);
  alignas(dirent64) char buffer[4096];
  for (;;) {
    const long size = Must(Call(SYS_getdents64, from, buffer, sizeof(buffer)), "mount", "reading a directory to copy");
    if (size == 0) return;
    for (long at = 0; at < size;) {
      const dirent64* entry = reinterpret_cast<const dirent64*>(buffer + at);
      at += entry->d_reclen;
      if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) continue;
      CopyEntry(from, to, entry->d_name, depth);
    }
  }
}

}  // namespace

void CopyTree(int from, int to, const char* name, bool keeps_mode) {
  const int target = static_cast<int>(
      Must(Call(SYS_openat, to, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "mount", "new file system for %s", name));
  struct stat st = {};
  Must(::fstat(from, &st), "mount", "%s", name);
  CopyBelow(from, target, 0);
  struct stat made = {};
  if (keeps_mode && ::fstat(target, &made) == 0) st.st_mode = made.st_mode;
  CopyAttributes(from, target, st, name);
  ::close(target);
}

}  // namespace berth
