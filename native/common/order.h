// How a program that was started before it was known what for is told what to do: `PROGRAM wait` with a socket of whole messages (SOCK_SEQPACKET) as 0 takes
// one message there, with its arguments (texts) and with the descriptors that it then has from 0 on. At an end of file nobody wants it.
#ifndef BERTH_COMMON_ORDER_H_
#define BERTH_COMMON_ORDER_H_

#include <cstddef>

namespace berth {

inline constexpr char kWaitForOrder[] = "wait";
inline constexpr size_t kOrderBytesMax = 16 * 1024;
inline constexpr size_t kOrderWordsMax = 64;
// The kernel's SCM_MAX_FD.
inline constexpr int kOrderFdsMax = 253;

}  // namespace berth

#endif  // BERTH_COMMON_ORDER_H_
