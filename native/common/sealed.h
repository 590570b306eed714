// The running program cannot be written to by anyone who reaches it through /proc/PID/exe (CVE-2019-5736).
#ifndef BERTH_COMMON_SEALED_H_
#define BERTH_COMMON_SEALED_H_

namespace berth {

// Executes this program again from a read-only detached mount, unless it runs from one. Returns only when nothing is
// left to do (true) or when it could not be done (false, errno set).
bool RunSealed(char** argv, char** envp);

}  // namespace berth

#endif  // BERTH_COMMON_SEALED_H_
