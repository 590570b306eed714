// Opening a log where others may write to the directories above it.
#ifndef BERTH_MONITOR_LOG_FILE_H_
#define BERTH_MONITOR_LOG_FILE_H_

#include "../common/fd.h"

namespace berth {

// Opens, or makes, the regular file at the path, to append to it. What is before a first `/./` is the caller's own, and may be reached by
// symbolic links; each directory after it is made where it is missing, and neither it nor the file is one that a link leads to. Invalid with errno
// (ELOOP or ENOTDIR where a link is in the way).
Fd OpenLogFile(const char* path);

}  // namespace berth

#endif  // BERTH_MONITOR_LOG_FILE_H_
