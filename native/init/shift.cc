// The fallback for kernels and file systems without idmapped mounts: every inode is chowned through the overlay, which
// copies it up. It costs the layers' size once; a second run finds everything done. Names of one file become files of
// their own, and ids within POSIX ACLs stay as they were: an idmapped mount does both right.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "call.h"
#include "child.h"
#include "sync.h"

namespace berth {
namespace {

constexpr int kDepthMax = 512;
constexpr char kCapability[] = "security.capability";

bool MapIn(const Array<IdMap>& maps, uint32_t outside) {
  for (const IdMap& map : maps) {
    if (outside >= map.outside && outside - map.outside < map.size) return true;
  }
  return false;
}

// Whether an id may be one before or one after the shift.
bool Overlap(const Array<IdMap>& maps) {
  for (const IdMap& a : maps) {
    for (const IdMap& b : maps) {
      const uint64_t inside_end = uint64_t{a.inside} + a.size;
      const uint64_t outside_end = uint64_t{b.outside} + b.size;
      if (a.inside < outside_end && b.outside < inside_end) return true;
    }
  }
  return false;
}

uint32_t Shifted(const Array<IdMap>& maps, uint32_t id, const char* name) {
  uint32_t outside = 0;
  if (MapIn(maps, id)) return id;
  if (!MapOut(maps, id, &outside)) Die(EOVERFLOW, "chown", "owner %u of %s is not mapped", id, name);
  return outside;
}

// struct vfs_ns_cap_data of linux/capability.h: the same capabilities, for a user namespace whose root is `root`.
void RestoreCapability(const char* path, const unsigned char* value, ssize_t size, uint32_t root) {
  unsigned char data[24];
  if (size < 20) return;
  std::memcpy(data, value, 20);
  data[3] = 3;  // VFS_CAP_REVISION_3 in the top byte of the little-endian first word.
  std::memcpy(data + 20, &root, sizeof(root));
  Must(::setxattr(path, kCapability, data, sizeof(data), 0), "chown", "file capabilities");
}

void ShiftOne(int directory, const char* name, const struct stat& st, const IdMappings& ids) {
  const uint32_t uid = Shifted(ids.uids, st.st_uid, name);
  const uint32_t gid = Shifted(ids.gids, st.st_gid, name);
  if (uid == st.st_uid && gid == st.st_gid) return;
  const bool regular = S_ISREG(st.st_mode);
  unsigned char value[24];
  ssize_t size = -1;
  char path[64];
  int fd = -1;
  if (regular) {
    fd = static_cast<int>(
        Must(Call(SYS_openat, directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC), "chown", "open %s", name));
    std::snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    size = ::getxattr(path, kCapability, value, sizeof(value));
  }
  Must(Call(SYS_fchownat, directory, name, uid, gid, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH), "chown", "chown %s", name);
  // A change of the owner takes the set-id bits and the capabilities away (chown(2)).
  if (regular && (st.st_mode & 06000)) {
    Must(Call(SYS_fchmodat, AT_FDCWD, path, st.st_mode & 07777), "chown", "mode of %s", name);
  }
  uint32_t root = 0;
  if (size > 0 && MapOut(ids.uids, 0, &root)) RestoreCapability(path, value, size, root);
  if (fd >= 0) ::close(fd);
}

void ShiftBelow(int directory, const IdMappings& ids, int depth) {
  if (depth > kDepthMax) Die(ELOOP, "chown", "directories are deeper than %d", kDepthMax);
  alignas(dirent64) char buffer[8192];
  for (;;) {
    const long size = Must(Call(SYS_getdents64, directory, buffer, sizeof(buffer)), "chown", "getdents");
    if (size == 0) return;
    for (long at = 0; at < size;) {
      const dirent64* entry = reinterpret_cast<const dirent64*>(buffer + at);
      at += entry->d_reclen;
      if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) continue;
      struct stat st = {};
      Must(::fstatat(directory, entry->d_name, &st, AT_SYMLINK_NOFOLLOW), "chown", "stat %s", entry->d_name);
      ShiftOne(directory, entry->d_name, st, ids);
      if (!S_ISDIR(st.st_mode)) continue;
      const int below = static_cast<int>(
          Must(Call(SYS_openat, directory, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), "chown",
               "open %s", entry->d_name));
      ShiftBelow(below, ids, depth + 1);
      ::close(below);
    }
  }
}

}  // namespace

void ShiftTree(int tree, const IdMappings& ids) {
  if (Overlap(ids.uids) || Overlap(ids.gids)) {
    Die(EINVAL, "chown", "ids inside and outside of the user namespace overlap, so owners cannot be told apart");
  }
  const int directory =
      static_cast<int>(Must(Call(SYS_openat, tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "chown", "open the root"));
  struct stat st = {};
  Must(::fstat(directory, &st), "chown", "stat the root");
  ShiftOne(directory, "", st, ids);
  ShiftBelow(directory, ids, 0);
  ::close(directory);
}

}  // namespace berth
