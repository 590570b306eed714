// The child's side of the conversation of docs/native.md, "Inside: from clone to exec".
//
//   P  i32 pid, and the pidfd        the real first process was made by the first child
//   T  and the pty's master
//   R
//   E  i32 errno, stage NUL, text NUL
//   H                                everything but the hooks before pivot_root; waits for C
//   C  (received) and the state      go on
//   S  (received)
//
// S comes over a connection of the listener where there is one: S, u32 size and text of the state for hooks, u32 size and
// text for the listener of seccomp. Then `E` or an end of file is the answer. A connection that ends without a word was
// somebody who wanted to know whether we still wait.
#ifndef BERTH_INIT_SYNC_H_
#define BERTH_INIT_SYNC_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace berth {

inline constexpr char kSyncPid = 'P';
inline constexpr char kSyncTerminal = 'T';
inline constexpr char kSyncReady = 'R';
inline constexpr char kSyncError = 'E';
inline constexpr char kSyncStart = 'S';
inline constexpr char kSyncHooks = 'H';
inline constexpr char kSyncContinue = 'C';
// Of each text of S.
inline constexpr uint32_t kStateBytesMax = 4 * 1024 * 1024;
// No message is longer; a longer text of 'E' is cut.
inline constexpr size_t kSyncBytesMax = 4096;

// The socket of this process; said once in the child.
void SetSync(int fd);
int SyncFd();

// Reports a failure of the stage and ends this process. `error` is an errno whose text is appended; negative:
// the text says it already.
[[noreturn, gnu::format(printf, 3, 4)]] void Die(int error, const char* stage, const char* format, ...);

// Dies with errno when `result` is negative; else gives it back.
[[gnu::format(printf, 3, 4)]] long Must(long result, const char* stage, const char* format, ...);

void SendPid(pid_t pid, int pidfd);
void SendTerminal(int master);
void SendReady();
// Reports H and waits for C; returns the state's file.
int AwaitContinue();
// What came with the start; -1 for nothing.
struct StartTexts {
  int state = -1;
  int notify = -1;
};
// Returns when the start is said; ends this process when who should say it has gone.
StartTexts AwaitStart(int listener);

// All of it; false where it ends before.
bool ReadAll(int fd, void* to, size_t size);
// A text of S or C as a file in memory, for it becomes a hook's stdin; -1 where it is empty. The caller closes it, also after a failure.
bool TakeText(int connection, int* file);

// One message with at most one fd (-1 for none); false with errno set.
bool SendMessage(int socket, const void* bytes, size_t size, int fd);
// Waits for one, as recvmsg(2), whatever signals come; `fd` is -1 where none came with it.
ssize_t ReceiveMessage(int socket, void* bytes, size_t size, int* fd);

}  // namespace berth

#endif  // BERTH_INIT_SYNC_H_
