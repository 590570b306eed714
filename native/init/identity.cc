// What a container's namespaces say about it: names, lo, sysctls, labels.
#include <fcntl.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "call.h"
#include "child.h"
#include "path.h"
#include "sync.h"

namespace berth {
namespace {

// A procfs of our own where the host's does not let us write below /proc/sys.
int OwnProc() {
  char complaint[256];
  return static_cast<int>(
      Must(NewFileSystem("proc", "proc", {}, complaint, sizeof(complaint)), "sysctl", "procfs%s", complaint));
}

void WriteSysctl(int proc, int* own, const SysctlPlan& sysctl) {
  char path[512];
  const int length = std::snprintf(path, sizeof(path), "sys/%s", sysctl.name);
  if (length < 0 || static_cast<size_t>(length) >= sizeof(path)) Die(ENAMETOOLONG, "sysctl", "%s", sysctl.name);
  int fd = OpenPlain(proc, path, O_WRONLY);
  if (fd < 0 && (errno == EXDEV || errno == EROFS)) {
    if (*own < 0) *own = OwnProc();
    fd = OpenPlain(*own, path, O_WRONLY);
  }
  Must(fd, "sysctl", "%s", sysctl.name);
  const size_t size = std::strlen(sysctl.value);
  Must(Call(SYS_write, fd, sysctl.value, size), "sysctl", "cannot set %s to %s", sysctl.name, sysctl.value);
  ::close(fd);
}

void BringLoopbackUp() {
  const int fd = static_cast<int>(Must(Call(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "loopback", "socket"));
  ifreq request = {};
  std::strcpy(request.ifr_name, "lo");
  Must(Call(SYS_ioctl, fd, SIOCGIFFLAGS, &request), "loopback", "lo");
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  Must(Call(SYS_ioctl, fd, SIOCSIFFLAGS, &request), "loopback", "cannot bring lo up");
  ::close(fd);
}

}  // namespace

void SetIdentity(Child* child) {
  const ContainerPlan& plan = *child->plan;
  if (plan.hostname) {
    Must(Call(SYS_sethostname, plan.hostname, std::strlen(plan.hostname)), "hostname", "%s", plan.hostname);
  }
  if (plan.domainname) {
    Must(Call(SYS_setdomainname, plan.domainname, std::strlen(plan.domainname)), "domainname", "%s", plan.domainname);
  }
  if (plan.loopback) BringLoopbackUp();
  int own = -1;
  for (const SysctlPlan& sysctl : plan.sysctls) WriteSysctl(child->proc, &own, sysctl);
  if (own >= 0) ::close(own);
}

void OpenLabels(Child* child) {
  const ProcessPlan& process = *child->process;
  if (process.apparmor) {
    child->apparmor = static_cast<int>(Call(SYS_openat, child->proc, "self/attr/apparmor/exec", O_WRONLY | O_CLOEXEC));
    if (child->apparmor < 0 && errno == ENOENT) {
      Die(-ENOTSUP, "apparmor", "profile %s: this kernel has no AppArmor", process.apparmor);
    }
    Must(child->apparmor, "apparmor", "profile %s", process.apparmor);
  }
  if (process.selinux) {
    child->selinux = static_cast<int>(Call(SYS_openat, child->proc, "self/attr/selinux/exec", O_WRONLY | O_CLOEXEC));
    if (child->selinux < 0 && errno == ENOENT) {
      child->selinux = static_cast<int>(Call(SYS_openat, child->proc, "self/attr/exec", O_WRONLY | O_CLOEXEC));
    }
    Must(child->selinux, "selinux", "label %s", process.selinux);
  }
}

}  // namespace berth
