// The one way by which code between clone and exec enters the kernel, so that a test can make the nth call fail.
#ifndef BERTH_INIT_CALL_H_
#define BERTH_INIT_CALL_H_

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <type_traits>

namespace berth {

#ifdef BERTH_FAULTS
// A test build: the nth call of a launch fails with EIO, n from the environment variable BERTH_FAULT_NTH. The count
// begins anew at each launch and goes on in the children.
void BeginFaults();
bool FaultHere();
#else
inline void BeginFaults() {}
inline bool FaultHere() { return false; }
#endif

// An argument as the kernel takes it: a whole register, sign-extended.
template <typename T>
long Word(T value) {
  if constexpr (std::is_null_pointer_v<T>) {
    return 0;
  } else if constexpr (std::is_pointer_v<T>) {
    return reinterpret_cast<long>(value);
  } else {
    return static_cast<long>(value);
  }
}

// syscall(2): -1 with errno set on failure.
template <typename... Args>
long Call(long number, Args... args) {
  if (FaultHere()) {
    errno = EIO;
    return -1;
  }
  return ::syscall(number, Word(args)...);
}

}  // namespace berth

#endif  // BERTH_INIT_CALL_H_
