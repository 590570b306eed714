// What the front and a daemon say to each other, as in src/front/protocol.ts: frames `u32 length, u8 type, payload`, little endian. Texts of a
// payload end with a NUL each. See docs/native.md, "The front".
#ifndef BERTH_FRONT_PROTOCOL_H_
#define BERTH_FRONT_PROTOCOL_H_

#include <cstddef>

namespace berth {

inline constexpr char kProtocol[] = "2";

// From the front.
inline constexpr char kFrameCall = 'c';     // Texts: protocol, build, program, directory, umask, which of 0 to 2 are terminals (bits), rows and columns of
                                            // stdout's, count of arguments, these, the environment.
inline constexpr char kFrameGo = 'g';       // Only now anything is done: who has not said this may still do the call himself.
inline constexpr char kFrameSignal = 's';   // u32: a signal that came, after kFrameListen; 0: from now on.
inline constexpr char kFrameEnded = 'e';    // u32 u32 u32: which child, counted from 0, its exit code or 256 + signal, and an errno where it could not be made.
inline constexpr char kFrameWritten = 'a';  // u32: an errno, or 0; for each kFrameOutput, in order.
inline constexpr char kFrameInput = 'i';    // Bytes of stdin that were wanted; none at its end.
inline constexpr char kFrameSize = 'z';     // u32 u32: rows and columns of stdout's terminal, in place of SIGWINCH.

// From the daemon.
inline constexpr char kFrameReady = 'r';    // The call can be done here. With a descriptor: of the program of which a child will be wanted.
inline constexpr char kFrameNotHere = 'n';  // Nothing was done: the front does the call without the daemon.
inline constexpr char kFrameWrite = 'w';    // u8: 1 or 2; bytes.
inline constexpr char kFrameOutput = 'o';   // The same, and is answered.
inline constexpr char kFrameWant = 'd';     // u8: some bytes of stdin are wanted (1), or none any more (0).
inline constexpr char kFrameRaw = 't';      // u8: stdin's terminal is raw (1), or as it was (0).
inline constexpr char kFrameInstead = 'f';  // Texts: the arguments with which Node goes on where the daemon ends before the call.
inline constexpr char kFrameSpawn = 'p';    // With descriptors. Texts: the program's path, or pN, its descriptors, its directory, 1 for a process group of
                                            // its own, count of arguments, these, the environment.
inline constexpr char kFrameListen = 'l';   // u32: these signals are handed on (bit n - 1 for signal n), all others do what they do by default.
inline constexpr char kFrameKill = 'k';     // u32: the child whose process group gets SIGKILL.
inline constexpr char kFrameExit = 'x';     // u32: the exit code. The last frame.

// What a call may have; a longer one is done without the daemon.
inline constexpr size_t kCallBytesMax = 256 * 1024;
// A frame of the daemon.
inline constexpr size_t kFrameBytesMax = 16 * 1024 * 1024;
inline constexpr size_t kHeadBytes = 5;

}  // namespace berth

#endif  // BERTH_FRONT_PROTOCOL_H_
