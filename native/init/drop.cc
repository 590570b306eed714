#include "drop.h"

#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "call.h"
#include "sync.h"

namespace berth {
namespace {

constexpr int kCapabilitiesMax = 64;

struct CapabilitySets {
  uint64_t effective = 0;
  uint64_t permitted = 0;
  uint64_t inheritable = 0;
};

CapabilitySets OwnCapabilities() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  Must(Call(SYS_capget, &header, data), "capabilities", "capget");
  const auto join = [](uint32_t low, uint32_t high) { return uint64_t{high} << 32 | low; };
  return {join(data[0].effective, data[1].effective), join(data[0].permitted, data[1].permitted),
          join(data[0].inheritable, data[1].inheritable)};
}

void SetCapabilities(const CapabilitySets& sets) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  for (int i = 0; i < 2; i++) {
    data[i].effective = static_cast<uint32_t>(sets.effective >> (32 * i));
    data[i].permitted = static_cast<uint32_t>(sets.permitted >> (32 * i));
    data[i].inheritable = static_cast<uint32_t>(sets.inheritable >> (32 * i));
  }
  Must(Call(SYS_capset, &header, data), "capabilities", "capset");
}

void DropBounding(uint64_t keep) {
  for (int cap = 0; cap < kCapabilitiesMax; cap++) {
    if (keep >> cap & 1) continue;
    const int present = ::prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
    if (present < 0) return;  // Past the last one that the kernel knows.
    if (present == 0) continue;
    Must(Call(SYS_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0), "capabilities", "cannot drop capability %d", cap);
  }
}

void RaiseAmbient(uint64_t wanted) {
  Must(Call(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "capabilities", "ambient set");
  for (int cap = 0; cap < kCapabilitiesMax; cap++) {
    if (!(wanted >> cap & 1)) continue;
    Must(Call(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0), "capabilities",
         "cannot make capability %d ambient", cap);
  }
}

}  // namespace

void DropPrivileges(const ProcessPlan& process) {
  DropBounding(process.bounding);
  // Else a change from uid 0 would empty the permitted set (capabilities(7)).
  Must(Call(SYS_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0), "capabilities", "PR_SET_KEEPCAPS");
  const long groups = Call(SYS_setgroups, process.groups.size, process.groups.data);
  Must(groups, "user", "cannot set %zu supplementary groups", process.groups.size);
  Must(Call(SYS_setresgid, process.gid, process.gid, process.gid), "user", "cannot become group %u", process.gid);
  Must(Call(SYS_setresuid, process.uid, process.uid, process.uid), "user", "cannot become user %u", process.uid);
  Must(Call(SYS_prctl, PR_SET_KEEPCAPS, 0, 0, 0, 0), "capabilities", "PR_SET_KEEPCAPS");
  // The runtime-spec wants capabilities that cannot be granted to be left out, not to fail.
  const uint64_t have = OwnCapabilities().permitted;
  const uint64_t permitted = process.permitted & have;
  const uint64_t inheritable = process.inheritable & have & process.bounding;
  SetCapabilities({process.effective & permitted, permitted, inheritable});
  RaiseAmbient(process.ambient & permitted & inheritable);
  // Changing ids may have made us dumpable again (prctl(2), fs.suid_dumpable).
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

int LoadSeccomp(const ProcessPlan& process) {
  if (process.seccomp_program.empty()) return -1;
  const size_t count = process.seccomp_program.size / sizeof(sock_filter);
  if (count > BPF_MAXINSNS) Die(E2BIG, "seccomp", "a program of %zu instructions", count);
  sock_fprog program = {};
  program.len = static_cast<unsigned short>(count);
  program.filter = reinterpret_cast<sock_filter*>(const_cast<uint8_t*>(process.seccomp_program.data));
  const long result = Call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, process.seccomp_flags, &program);
  Must(result, "seccomp", "cannot load the program of %zu instructions", count);
  return process.seccomp_flags & SECCOMP_FILTER_FLAG_NEW_LISTENER ? static_cast<int>(result) : -1;
}

}  // namespace berth
