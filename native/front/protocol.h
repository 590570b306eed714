// What the front and a daemon say to each other, as in src/front/protocol.ts: frames `u32 length, u8 type, payload`, little endian. Texts of a
// payload end with a NUL each. See docs/native.md, "The front".
#ifndef BERTH_FRONT_PROTOCOL_H_
#define BERTH_FRONT_PROTOCOL_H_

#include <cstddef>

namespace berth {

inline constexpr char kProtocol[] = "1";

// From the front.
inline constexpr char kFrameCall = 'c';     // Texts: protocol, build, program, directory, umask, count of arguments, these, the environment.
inline constexpr char kFrameGo = 'g';       // Only now anything is done: who has not said this may still do the call himself.
inline constexpr char kFrameSignal = 's';   // u32: a signal that came, after kFrameListen; 0: from now on.
inline constexpr char kFrameEnded = 'e';    // u32 u32 u32: which child, counted from 0, its exit code, 128 + signal, and an errno where it could not be made.

// From the daemon.
inline constexpr char kFrameReady = 'r';    // The call can be done here.
inline constexpr char kFrameNotHere = 'n';  // Nothing was done: the front does the call without the daemon.
inline constexpr char kFrameWrite = 'w';    // u8: 1 or 2; bytes.
inline constexpr char kFrameSpawn = 'p';    // With descriptors. Texts: the program's path, its descriptors, its directory, 1 for a process group of its
                                            // own, count of arguments, these, the environment.
inline constexpr char kFrameListen = 'l';   // u8: signals are handed on (1), or do what they do by default (0).
inline constexpr char kFrameKill = 'k';     // u32: the child whose process group gets SIGKILL.
inline constexpr char kFrameExit = 'x';     // u32: the exit code. The last frame.

// What a call may have; a longer one is done without the daemon.
inline constexpr size_t kCallBytesMax = 256 * 1024;
// A frame of the daemon.
inline constexpr size_t kFrameBytesMax = 16 * 1024 * 1024;
inline constexpr size_t kHeadBytes = 5;

}  // namespace berth

#endif  // BERTH_FRONT_PROTOCOL_H_
