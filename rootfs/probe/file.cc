// Verbs about files.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "probe.h"

namespace probe {

namespace {

int Copy(int from, const char* name) {
  char bytes[65536];
  for (;;) {
    const ssize_t count = read(from, bytes, sizeof bytes);
    if (count == 0) return 0;
    if (count < 0) return Fail("read", name);
    for (ssize_t done = 0; done < count;) {
      const ssize_t wrote = write(STDOUT_FILENO, bytes + done, static_cast<size_t>(count - done));
      if (wrote < 0) return Fail("write", "stdout");
      done += wrote;
    }
  }
}

// cat without a file copies stdin.
int Cat(int argc, char** argv) {
  if (argc < 2) return Copy(STDIN_FILENO, "stdin");
  for (int i = 1; i < argc; ++i) {
    const int fd = open(argv[i], O_RDONLY | O_CLOEXEC);
    if (fd < 0) return Fail("open", argv[i]);
    const int code = Copy(fd, argv[i]);
    close(fd);
    if (code != 0) return code;
  }
  return 0;
}

int PrintFile(int argc, char** argv) { return argc < 2 ? Usage() : Cat(argc, argv); }

int Write(const char* path, const char* text, int flags) {
  const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
  if (fd < 0) return Fail("open", path);
  const size_t length = std::strlen(text);
  const ssize_t wrote = write(fd, text, length);
  if (wrote < 0 || static_cast<size_t>(wrote) != length) return Fail("write", path);
  // Some files of /proc and network file systems report an error only here.
  if (close(fd) != 0) return Fail("close", path);
  return 0;
}

int WriteFile(int argc, char** argv) { return argc != 3 ? Usage() : Write(argv[1], argv[2], O_TRUNC); }

int AppendFile(int argc, char** argv) { return argc != 3 ? Usage() : Write(argv[1], argv[2], O_APPEND); }

// fill PATH BYTES: a file of that size with real blocks.
int Fill(int argc, char** argv) {
  if (argc != 3) return Usage();
  const int fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return Fail("open", argv[1]);
  static char block[65536];
  std::memset(block, 'x', sizeof block);
  for (long long left = std::atoll(argv[2]); left > 0;) {
    const size_t part = left < static_cast<long long>(sizeof block) ? static_cast<size_t>(left) : sizeof block;
    const ssize_t wrote = write(fd, block, part);
    if (wrote < 0) return Fail("write", argv[1]);
    left -= wrote;
  }
  if (fsync(fd) != 0 && errno != EINVAL) return Fail("fsync", argv[1]);
  close(fd);
  return 0;
}

const char* TypeName(mode_t mode) {
  if (S_ISREG(mode)) return "file";
  if (S_ISDIR(mode)) return "directory";
  if (S_ISLNK(mode)) return "link";
  if (S_ISCHR(mode)) return "char";
  if (S_ISBLK(mode)) return "block";
  if (S_ISFIFO(mode)) return "fifo";
  return "socket";
}

// One line a path: PATH TYPE MODE UID:GID SIZE LINKS MAJOR:MINOR
int Stat(int argc, char** argv) {
  if (argc < 2) return Usage();
  for (int i = 1; i < argc; ++i) {
    struct stat s {};
    if (lstat(argv[i], &s) != 0) return Fail("stat", argv[i]);
    std::printf("%s %s %04o %u:%u %lld %lu %u:%u\n", argv[i], TypeName(s.st_mode), s.st_mode & 07777, s.st_uid, s.st_gid,
                static_cast<long long>(s.st_size), static_cast<unsigned long>(s.st_nlink), major(s.st_rdev),
                minor(s.st_rdev));
  }
  return 0;
}

int List(int argc, char** argv) {
  const char* path = argc > 1 ? argv[1] : ".";
  dirent** names = nullptr;
  const int count = scandir(path, &names, nullptr, alphasort);
  if (count < 0) return Fail("opendir", path);
  for (int i = 0; i < count; ++i) {
    if (std::strcmp(names[i]->d_name, ".") != 0 && std::strcmp(names[i]->d_name, "..") != 0) {
      std::printf("%s\n", names[i]->d_name);
    }
  }
  return 0;
}

int ReadLink(int argc, char** argv) {
  if (argc != 2) return Usage();
  char to[4096];
  const ssize_t length = readlink(argv[1], to, sizeof to);
  if (length < 0) return Fail("readlink", argv[1]);
  std::printf("%.*s\n", static_cast<int>(length), to);
  return 0;
}

int Link(int argc, char** argv) {
  if (argc != 3) return Usage();
  return symlink(argv[1], argv[2]) == 0 ? 0 : Fail("symlink", argv[2]);
}

int MakeDirectory(int argc, char** argv) {
  if (argc != 2) return Usage();
  return mkdir(argv[1], 0755) == 0 ? 0 : Fail("mkdir", argv[1]);
}

int Remove(int argc, char** argv) {
  if (argc != 2) return Usage();
  return std::remove(argv[1]) == 0 ? 0 : Fail("remove", argv[1]);
}

int Rename(int argc, char** argv) {
  if (argc != 3) return Usage();
  return std::rename(argv[1], argv[2]) == 0 ? 0 : Fail("rename", argv[1]);
}

int ChangeMode(int argc, char** argv) {
  if (argc != 3) return Usage();
  return chmod(argv[2], static_cast<mode_t>(std::strtoul(argv[1], nullptr, 8))) == 0 ? 0 : Fail("chmod", argv[2]);
}

int ChangeOwner(int argc, char** argv) {
  unsigned uid = 0, gid = 0;
  if (argc != 3 || std::sscanf(argv[1], "%u:%u", &uid, &gid) != 2) return Usage();
  return lchown(argv[2], uid, gid) == 0 ? 0 : Fail("chown", argv[2]);
}

// Prints the value in hexadecimal.
int GetXattr(int argc, char** argv) {
  if (argc != 3) return Usage();
  unsigned char value[65536];
  const ssize_t length = lgetxattr(argv[2], argv[1], value, sizeof value);
  if (length < 0) return Fail("getxattr", argv[2]);
  for (ssize_t i = 0; i < length; ++i) std::printf("%02x", value[i]);
  std::printf("\n");
  return 0;
}

// Opens for reading and writing, as a test whether a device may be used.
int Open(int argc, char** argv) {
  if (argc != 2 && argc != 3) return Usage();
  const char* how = argc == 3 ? argv[2] : "r";
  const int access = std::strcmp(how, "rw") == 0 ? O_RDWR : std::strcmp(how, "w") == 0 ? O_WRONLY : O_RDONLY;
  const int fd = open(argv[1], access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd < 0) return Fail("open", argv[1]);
  close(fd);
  std::printf("opened %s\n", argv[1]);
  return 0;
}

constexpr Verb kVerbs[] = {
    {"cat", "[FILE…]", Cat},
    {"print-file", "FILE…", PrintFile},
    {"write-file", "FILE TEXT", WriteFile},
    {"append-file", "FILE TEXT", AppendFile},
    {"fill", "FILE BYTES", Fill},
    {"stat", "PATH…", Stat},
    {"ls", "[DIRECTORY]", List},
    {"readlink", "PATH", ReadLink},
    {"symlink", "TO PATH", Link},
    {"mkdir", "PATH", MakeDirectory},
    {"rm", "PATH", Remove},
    {"mv", "FROM TO", Rename},
    {"chmod", "MODE PATH", ChangeMode},
    {"chown", "UID:GID PATH", ChangeOwner},
    {"getxattr", "NAME PATH", GetXattr},
    {"open", "PATH [r|w|rw]", Open},
};

}  // namespace

Verbs FileVerbs() { return {kVerbs, sizeof kVerbs / sizeof *kVerbs}; }

}  // namespace probe
