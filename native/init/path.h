// Names inside a container's tree: no link, `..` or race leads out of it.
#ifndef BERTH_INIT_PATH_H_
#define BERTH_INIT_PATH_H_

#include <climits>
#include <cstddef>

namespace berth {

struct Path {
  char text[PATH_MAX];
};

// The path made absolute and lexically clean: `a//./b/../c` gives `/a/c`. False when it is too long.
bool CleanPath(const char* path, Path* clean);

// Whether the clean path is `directory` or below it.
bool IsBelow(const char* path, const char* directory);

// openat2(2) below the directory `root`, which is its root. Magic links are never followed. -1 with errno set.
int OpenIn(int root, const char* path, int flags, unsigned long long resolve = 0);

// An O_PATH fd of that path; what is missing is made: directories, and at its end a directory or an empty file.
int MakeIn(int root, const char* path, bool directory);

// An O_PATH fd of the directory that holds (or shall hold) the path's last name, and that name. The directory is
// made when it is missing.
int ParentIn(int root, const char* path, char (*name)[NAME_MAX + 1]);

// openat2 that stays on one file system and follows nothing: for names below a procfs of the host.
int OpenPlain(int directory, const char* path, int flags);

// The file system's magic number (statfs(2)); 0 when it cannot be told.
unsigned long FileSystemOf(int fd);

}  // namespace berth

#endif  // BERTH_INIT_PATH_H_
