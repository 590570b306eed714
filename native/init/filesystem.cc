// New file systems by the mount API: detached until they are moved to their place.
#include <fcntl.h>
#include <linux/mount.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "call.h"
#include "child.h"

namespace berth {
namespace {

// fsconfig(2) takes keys and values of less than 256 bytes.
constexpr size_t kKeyMax = 255;

// The context's log has lines such as `e overlay: no such layer`; the last one is the reason.
void ReadComplaint(int context, char* complaint, size_t size) {
  char line[256];
  for (int i = 0; i < 16; i++) {
    const ssize_t got = ::read(context, line, sizeof(line) - 1);
    if (got <= 0) break;
    line[got] = '\0';
    line[std::strcspn(line, "\n")] = '\0';
    if (line[0] == 'e' && line[1] == ' ') std::snprintf(complaint, size, " (%s)", line + 2);
  }
}

long Configure(int context, const char* option) {
  const char* equals = std::strchr(option, '=');
  if (!equals) return Call(SYS_fsconfig, context, FSCONFIG_SET_FLAG, option, nullptr, 0);
  char key[kKeyMax + 1];
  const size_t length = static_cast<size_t>(equals - option);
  if (length > kKeyMax) {
    errno = ENAMETOOLONG;
    return -1;
  }
  std::memcpy(key, option, length);
  key[length] = '\0';
  return Call(SYS_fsconfig, context, FSCONFIG_SET_STRING, key, equals + 1, 0);
}

}  // namespace

int NewFileSystem(const char* type, const char* source, const Array<const char*>& options, char* complaint,
                  size_t complaint_size) {
  complaint[0] = '\0';
  const int context = static_cast<int>(Call(SYS_fsopen, type, FSOPEN_CLOEXEC));
  if (context < 0) return -1;
  long result = 0;
  if (source[0]) result = Call(SYS_fsconfig, context, FSCONFIG_SET_STRING, "source", source, 0);
  for (const char* option : options) {
    if (result >= 0) result = Configure(context, option);
  }
  if (result >= 0) result = Call(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0);
  if (result >= 0) result = Call(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
  const int error = errno;
  if (result < 0) ReadComplaint(context, complaint, complaint_size);
  ::close(context);
  errno = error;
  return static_cast<int>(result);
}

}  // namespace berth
