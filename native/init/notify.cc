// A filter's listener goes to who answers for it: runtime-spec, "Linux seccomp", listenerPath.
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "call.h"
#include "child.h"
#include "sync.h"

namespace berth {

void ConnectNotify(Child* child) {
  const char* const path = child->plan->notify_socket;
  if (!path[0]) return;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (std::strlen(path) >= sizeof(address.sun_path)) Die(ENAMETOOLONG, "seccomp", "listenerPath %s", path);
  std::strcpy(address.sun_path, path);
  child->notify = static_cast<int>(Must(Call(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "seccomp", "socket"));
  Must(Call(SYS_connect, child->notify, &address, sizeof(address)), "seccomp", "cannot connect to listenerPath %s", path);
}

void SendNotify(int socket, int text, int filter) {
  struct stat st = {};
  if (text < 0 || ::fstat(text, &st) != 0) Die(-EINVAL, "seccomp", "no state for the listener");
  const size_t size = static_cast<size_t>(st.st_size);
  void* const bytes = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, text, 0);
  if (bytes == MAP_FAILED) Die(errno, "seccomp", "the state for the listener");
  if (!SendMessage(socket, bytes, size, filter)) Die(errno, "seccomp", "cannot hand the listener on");
  ::munmap(bytes, size);
  ::close(text);
  ::close(filter);
  ::close(socket);
}

}  // namespace berth
