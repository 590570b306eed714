// The few kernel calls of the smallest programs, without a C library where that is easy: the program is a few KiB then, once for all pods.
#ifndef BERTH_COMMON_SYSTEM_H_
#define BERTH_COMMON_SYSTEM_H_

#include <sys/syscall.h>

#ifndef BERTH_FREESTANDING
#include <unistd.h>
#endif

namespace berth {

#if defined(BERTH_FREESTANDING) && defined(__x86_64__)
// Negative: an errno.
inline long Call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) {
  long result;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
               : "rcx", "r11", "memory");
  return result;
}
#elif defined(BERTH_FREESTANDING) && defined(__aarch64__)
inline long Call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) {
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a;
  register long x1 asm("x1") = b;
  register long x2 asm("x2") = c;
  register long x3 asm("x3") = d;
  register long x4 asm("x4") = e;
  asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
  return x0;
}
#else
inline long Call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) {
  return ::syscall(number, a, b, c, d, e);
}
#endif

inline long Address(const void* pointer) { return reinterpret_cast<long>(pointer); }

}  // namespace berth

#endif  // BERTH_COMMON_SYSTEM_H_
