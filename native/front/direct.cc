#include "direct.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "../common/fd.h"
#include "record.h"
#include "streams.h"
#include "words.h"

namespace berth {
namespace {

// Node's turn: it does the whole, or what is left of it.
constexpr int kNotHere = -1;
// For a killed process to end. Who waits longer tells why, and that is Node.
constexpr int kEndMs = 10'000;
constexpr int kRemovals = 20;
constexpr int kRemovalPauseUs = 500;
constexpr char kTrash[] = ".trash-";

struct Container {
  Fd root;
  Fd directory;
  Fd lock;
  const OciRecord& record;
};

Fd OpenDirectory(int at, const char* name) { return Fd(::openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)); }

// flock(2) as src/kernel/lock.ts has it: between open and lock the last holder may have removed the file, and then this lock excludes nobody.
bool Lock(Container* container) {
  container->lock = Fd(::openat(container->directory.get(), "lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!container->lock) return false;
  while (::flock(container->lock.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return false;
  }
  struct stat mine = {};
  struct stat there = {};
  return ::fstat(container->lock.get(), &mine) == 0 && ::fstatat(container->directory.get(), "lock", &there, AT_SYMLINK_NOFOLLOW) == 0 &&
         mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
}

// As isAlive of src/oci/status.ts: the number may be a later process's by now, and a zombie has ended.
bool IsAlive(const OciRecord& record) {
  char path[64];
  char text[1024];
  ::snprintf(path, sizeof(path), "/proc/%d/stat", record.pid);
  const Fd file(::open(path, O_RDONLY | O_CLOEXEC));
  const ssize_t size = file ? ::read(file.get(), text, sizeof(text) - 1) : -1;
  if (size <= 0) return false;
  text[size] = '\0';
  // The name in parentheses may hold anything.
  char* field = ::strrchr(text, ')');
  if (!field || field[1] != ' ' || field[2] == 'Z' || field[2] == 'X') return false;
  constexpr int kFromStateToStart = 19;
  field += 2;
  for (int i = 0; i < kFromStateToStart && field; i++) {
    field = ::strchr(field, ' ');
    if (field) field++;
  }
  if (!field) return false;
  const size_t length = ::strcspn(field, " ");
  return length == ::strlen(record.start_time) && ::strncmp(field, record.start_time, length) == 0;
}

bool IsFrozen(const OciRecord& record) {
  char path[sizeof(record.cgroup) + 16];
  char text[256] = "";
  ::snprintf(path, sizeof(path), "%s/cgroup.events", record.cgroup);
  const Fd file(::open(path, O_RDONLY | O_CLOEXEC));
  if (file && ::read(file.get(), text, sizeof(text) - 1) < 0) return false;
  return ::strstr(text, "frozen 1") != nullptr;
}

// Connected to a container that waits for its start. errno is ENOENT or ECONNREFUSED where it does not.
Fd ConnectStart(const Container& container) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  // Not by the directory's own path, which may be longer than a socket's may be.
  ::snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/start", container.directory.get());
  // One that is stopped takes nobody any more: who waits behind too many others would wait for ever.
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const bool is_there = socket && ::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  return is_there && ::fcntl(socket.get(), F_SETFL, 0) == 0 ? static_cast<Fd&&>(socket) : Fd();
}

const char* StatusOf(const Container& container) {
  if (!IsAlive(container.record)) return "stopped";
  if (IsFrozen(container.record)) return "paused";
  if (ConnectStart(container)) return "created";
  return errno == ENOENT || errno == ECONNREFUSED ? "running" : nullptr;
}

int Start(const Container& container) {
  if (!IsAlive(container.record) || IsFrozen(container.record)) return kNotHere;
  const Fd socket = ConnectStart(container);
  if (!socket) return kNotHere;
  // `S` and two texts, for hooks and for a listener of seccomp: a plain container has neither (native/init/sync.h).
  constexpr char kStart[9] = {'S'};
  if (::send(socket.get(), kStart, sizeof(kStart), MSG_NOSIGNAL) != sizeof(kStart)) return kNotHere;
  char answer;
  ssize_t size;
  do size = ::recv(socket.get(), &answer, 1, MSG_PEEK);
  while (size < 0 && errno == EINTR);
  if (size == 0) {
    ::unlinkat(container.directory.get(), "start", 0);
    return 0;
  }
  // An error, or none that can be read: it is told by Node, from this socket.
  char number[16];
  ::snprintf(number, sizeof(number), "%d", ::fcntl(socket.get(), F_DUPFD, 3));
  ::setenv(kBegunStart, number, 1);
  return kNotHere;
}

void Print(FILE* out, std::string_view text) { ::fwrite(text.data(), 1, text.size(), out); }

void PrintMember(FILE* out, const char* key, std::string_view value) {
  ::fprintf(out, "  \"%s\": ", key);
  Print(out, value);
  Print(out, ",\n");
}

bool IsPrintable(std::string_view annotations) {
  RawObject object(annotations);
  for (RawJson member; object.Next(&member);) {
    if (member.value.front() != '"') return false;
  }
  return object.whole();
}

void PrintAnnotations(FILE* out, std::string_view annotations) {
  const char* before = "  \"annotations\": {\n    ";
  RawObject object(annotations);
  for (RawJson member; object.Next(&member); before = ",\n    ") {
    Print(out, before);
    Print(out, member.key);
    Print(out, ": ");
    Print(out, member.value);
  }
  Print(out, "\n  },\n");
}

// As JSON.stringify of src/oci/program.ts prints what src/oci/list.ts tells.
int State(const Container& container) {
  const OciRecord& record = container.record;
  const char* status = StatusOf(container);
  char* text = nullptr;
  size_t size = 0;
  FILE* out = status && IsPrintable(record.annotations) ? ::open_memstream(&text, &size) : nullptr;
  if (!out) return kNotHere;
  Print(out, "{\n");
  PrintMember(out, "ociVersion", record.oci_version);
  PrintMember(out, "id", record.id);
  ::fprintf(out, "  \"pid\": %d,\n  \"status\": \"%s\",\n", ::strcmp(status, "stopped") == 0 ? 0 : record.pid, status);
  PrintMember(out, "bundle", record.bundle);
  PrintMember(out, "rootfs", record.rootfs);
  PrintMember(out, "created", record.created);
  if (record.annotations != "{}") PrintAnnotations(out, record.annotations);
  Print(out, "  \"owner\": \"root\"\n}\n");
  const bool whole = ::fclose(out) == 0;
  // A reader that has gone is no error, as with Node.
  ::signal(SIGPIPE, SIG_IGN);
  if (whole) WriteAll(1, text, size);
  ::free(text);
  return whole ? 0 : kNotHere;
}

// Looked at again after it is held: the number may be another process's by now.
Fd OpenProcess(const OciRecord& record) {
  Fd process(static_cast<int>(::syscall(SYS_pidfd_open, record.pid, 0)));
  return process && IsAlive(record) ? static_cast<Fd&&>(process) : Fd();
}

int Kill(const Container& container, const char* text) {
  const int signal = SimpleSignal(text ? text : "TERM");
  const Fd process = signal > 0 ? OpenProcess(container.record) : Fd();
  if (!process) return kNotHere;
  return ::syscall(SYS_pidfd_send_signal, process.get(), signal, nullptr, 0) == 0 || errno == ESRCH ? 0 : kNotHere;
}

// Takes away the container's own cgroup, which is empty by now or will be at once. False where it is not, or has others below.
bool RemoveCgroup(const OciRecord& record) {
  for (int i = 0; i < kRemovals; i++) {
    if (::rmdir(record.cgroup) == 0 || errno == ENOENT || errno == ENODEV) return true;
    if (errno != EBUSY) return false;
    ::usleep(kRemovalPauseUs);
  }
  return false;
}

bool EndProcesses(const OciRecord& record) {
  const Fd process = OpenProcess(record);
  if (process) ::syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0);
  const Fd cgroup = OpenDirectory(AT_FDCWD, record.cgroup);
  if (!cgroup && errno != ENOENT) return false;
  struct stat status = {};
  if (cgroup && ::fstat(cgroup.get(), &status) != 0) return false;
  // Whatever else is at its path is another container's.
  const bool is_own = cgroup && status.st_ino == record.cgroup_inode;
  if (is_own) {
    const Fd kill(::openat(cgroup.get(), "cgroup.kill", O_WRONLY | O_CLOEXEC));
    if (kill && ::write(kill.get(), "1", 1) != 1) return false;
  }
  if (process) {
    pollfd end = {process.get(), POLLIN, 0};
    if (::poll(&end, 1, kEndMs) != 1) return false;
  }
  return !is_own || RemoveCgroup(record);
}

// Calls `act` for each entry until it is false.
template <typename Act>
bool EachEntry(int directory, Act act) {
  const int copy = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* entries = copy < 0 ? nullptr : ::fdopendir(copy);
  if (!entries) {
    if (copy >= 0) ::close(copy);
    return false;
  }
  bool good = true;
  while (good) {
    errno = 0;
    const dirent* entry = ::readdir(entries);
    if (!entry) {
      good = errno == 0;
      break;
    }
    if (::strcmp(entry->d_name, ".") != 0 && ::strcmp(entry->d_name, "..") != 0) good = act(*entry);
  }
  ::closedir(entries);
  return good;
}

// Out of sight at once, as removePlace of src/oci/record.ts does it; whatever stays is found there by the next removal.
bool RemovePlace(const Container& container, const char* id) {
  const int directory = container.directory.get();
  char trash[512];
  ::snprintf(trash, sizeof(trash), "%s%s-%d", kTrash, id, ::getpid());
  if (::mkdirat(container.root.get(), trash, 0700) != 0) return false;
  const Fd place = OpenDirectory(container.root.get(), trash);
  if (!place || ::renameat(container.root.get(), id, place.get(), "0") != 0) {
    ::unlinkat(container.root.get(), trash, AT_REMOVEDIR);
    return false;
  }
  EachEntry(directory, [directory](const dirent& entry) { return ::unlinkat(directory, entry.d_name, 0) == 0; });
  if (::unlinkat(place.get(), "0", AT_REMOVEDIR) == 0) ::unlinkat(container.root.get(), trash, AT_REMOVEDIR);
  return true;
}

bool MayDelete(const Container& container) {
  const char* status = StatusOf(container);
  return status && (::strcmp(status, "stopped") == 0 || ::strcmp(status, "created") == 0);
}

int Delete(const Container& container, const OciWords& words) {
  // Directories, and what killed removals have left, are Node's.
  const auto is_file = [](const dirent& entry) { return entry.d_type == DT_REG || entry.d_type == DT_SOCK; };
  const auto is_no_trash = [](const dirent& entry) { return ::strncmp(entry.d_name, kTrash, sizeof(kTrash) - 1) != 0; };
  if (!words.force && !MayDelete(container)) return kNotHere;
  if (!EachEntry(container.directory.get(), is_file) || !EachEntry(container.root.get(), is_no_trash)) return kNotHere;
  if (!EndProcesses(container.record) || !RemovePlace(container, words.id)) return kNotHere;
  return 0;
}

}  // namespace

int DoDirectly(int argc, char** argv) {
  OciWords words;
  if (!ParseOciWords(argc, argv, &words)) return kNotHere;
  // 1 MiB, of which only those pages are made that a record has.
  static OciRecord record;
  Container container = {.root = OpenDirectory(AT_FDCWD, words.root), .directory = Fd(), .lock = Fd(), .record = record};
  if (container.root) container.directory = OpenDirectory(container.root.get(), words.id);
  if (!container.directory) return kNotHere;
  const bool is_state = ::strcmp(words.command, "state") == 0;
  if ((!is_state && !Lock(&container)) || !ReadPlainRecord(container.directory.get(), &record)) return kNotHere;
  if (is_state) return State(container);
  if (::strcmp(words.command, "start") == 0) return Start(container);
  if (::strcmp(words.command, "kill") == 0) return Kill(container, words.signal);
  return Delete(container, words);
}

}  // namespace berth
