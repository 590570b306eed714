// The end of a process whose system calls a container's own filter may refuse.
#ifndef BERTH_COMMON_END_H_
#define BERTH_COMMON_END_H_

#include <sys/syscall.h>
#include <unistd.h>

namespace berth {

// As _exit(2), which some C libraries call for ever where it fails. What a fault ends no filter keeps, nor being the first of a PID namespace.
[[noreturn]] inline void End(int code) {
  ::syscall(SYS_exit_group, code);
  __builtin_trap();
}

}  // namespace berth

#endif  // BERTH_COMMON_END_H_
