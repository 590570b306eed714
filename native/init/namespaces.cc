// Making and joining namespaces.
#include <fcntl.h>
#include <linux/nsfs.h>
#include <linux/sched.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>

#include "../common/end.h"
#include "call.h"
#include "child.h"
#include "path.h"
#include "sync.h"

namespace berth {
namespace {

// The kernel's limit for lines in a map (user_namespaces(7)).
constexpr size_t kMapLinesMax = 340;
constexpr size_t kMapLineMax = 36;

const char* NameOf(int flag) {
  switch (flag) {
    case CLONE_NEWTIME: return "time";
    case CLONE_NEWNS: return "mount";
    case CLONE_NEWCGROUP: return "cgroup";
    case CLONE_NEWUTS: return "uts";
    case CLONE_NEWIPC: return "ipc";
    case CLONE_NEWUSER: return "user";
    case CLONE_NEWPID: return "pid";
    case CLONE_NEWNET: return "network";
    default: return "unknown";
  }
}

void WriteMap(Child* child, pid_t pid, const char* file, const Array<IdMap>& maps) {
  if (maps.size == 0 || maps.size > kMapLinesMax) Die(EINVAL, "user namespace", "%s with %zu lines", file, maps.size);
  char* text = static_cast<char*>(child->arena.Take(maps.size * kMapLineMax));
  if (!text) Die(ENOMEM, "user namespace", "%s", file);
  size_t used = 0;
  for (const IdMap& map : maps) {
    used += static_cast<size_t>(
        std::snprintf(text + used, kMapLineMax, "%u %u %u\n", map.inside, map.outside, map.size));
  }
  char path[64];
  std::snprintf(path, sizeof(path), "%d/%s", pid, file);
  const int fd =
      static_cast<int>(Must(Call(SYS_openat, child->proc, path, O_WRONLY | O_CLOEXEC), "user namespace", "%s", file));
  // The kernel wants the whole map in one write.
  Must(Call(SYS_write, fd, text, used), "user namespace", "cannot write %s", file);
  ::close(fd);
}

}  // namespace

bool MakesNamespace(const ContainerPlan& plan, int flag) {
  for (const NamespacePlan& ns : plan.namespaces) {
    if (ns.flag == flag) return !ns.path;
  }
  return false;
}

bool JoinsNamespace(const ContainerPlan& plan, int flag) {
  for (const NamespacePlan& ns : plan.namespaces) {
    if (ns.flag == flag) return ns.path;
  }
  return false;
}

bool SharesMounts(const ContainerPlan& plan) {
  return plan.root_place && !MakesNamespace(plan, CLONE_NEWNS) && !JoinsNamespace(plan, CLONE_NEWNS);
}

void OpenNamespaces(Child* child) {
  const Array<NamespacePlan>& all = child->plan->namespaces;
  child->namespaces = static_cast<int*>(child->arena.Take((all.size + 1) * sizeof(int)));
  if (!child->namespaces) Die(ENOMEM, "namespace", "cannot hold %zu namespaces", all.size);
  for (size_t i = 0; i < all.size; i++) {
    const NamespacePlan& ns = all[i];
    child->namespaces[i] = -1;
    if (!ns.path) continue;
    const int fd = static_cast<int>(Must(Call(SYS_openat, AT_FDCWD, ns.path, O_RDONLY | O_CLOEXEC), "namespace",
                                         "cannot open %s namespace %s", NameOf(ns.flag), ns.path));
    // setns(2) would say EINVAL without a word.
    const int type = ::ioctl(fd, NS_GET_NSTYPE);
    if (type != ns.flag) Die(EINVAL, "namespace", "%s is no %s namespace", ns.path, NameOf(ns.flag));
    child->namespaces[i] = fd;
    if (ns.flag == CLONE_NEWUSER) child->user_namespace = fd;
  }
}

int UserNamespaceOf(Child* child, const IdMappings& ids) {
  // A helper holds the new namespace until we have it by fd. It ends with the pipe: also when we die on the way.
  int alive[2];
  Must(Call(SYS_pipe2, alive, O_CLOEXEC), "user namespace", "pipe");
  clone_args arguments = {};
  arguments.flags = CLONE_NEWUSER;
  arguments.exit_signal = SIGCHLD;
  const pid_t helper =
      static_cast<pid_t>(Must(Call(SYS_clone3, &arguments, sizeof(arguments)), "user namespace", "clone3"));
  if (helper == 0) {
    char byte;
    ::close(alive[1]);
    (void)!::read(alive[0], &byte, 1);
    End(0);
  }
  char path[32];
  std::snprintf(path, sizeof(path), "%d/ns/user", helper);
  const int fd = static_cast<int>(Must(Call(SYS_openat, child->proc, path, O_RDONLY | O_CLOEXEC), "user namespace",
                                       "cannot open the new user namespace"));
  WriteMap(child, helper, "uid_map", ids.uids);
  WriteMap(child, helper, "gid_map", ids.gids);
  ::close(alive[0]);
  ::close(alive[1]);
  while (::waitpid(helper, nullptr, 0) < 0 && errno == EINTR) continue;
  return fd;
}

void MakeUserNamespace(Child* child) {
  if (!MakesNamespace(*child->plan, CLONE_NEWUSER)) return;
  if (!child->plan->id_mappings) Die(EINVAL, "user namespace", "a new user namespace without id mappings");
  child->user_namespace = UserNamespaceOf(child, *child->plan->id_mappings);
}

void JoinNamespaces(Child* child) {
  // With the host's privileges, before any user namespace takes them: the others may be owned by another one.
  const Array<NamespacePlan>& all = child->plan->namespaces;
  for (const bool mount : {false, true}) {
    for (size_t i = 0; i < all.size; i++) {
      const NamespacePlan& ns = all[i];
      if (!ns.path || ns.flag == CLONE_NEWUSER || (ns.flag == CLONE_NEWNS) != mount) continue;
      Must(Call(SYS_setns, child->namespaces[i], ns.flag), "namespace", "cannot join %s namespace %s", NameOf(ns.flag),
           ns.path);
    }
  }
}

void EnterUserNamespace(Child* child) {
  Must(Call(SYS_setns, child->user_namespace, CLONE_NEWUSER), "user namespace", "cannot join the user namespace");
  child->in_user_namespace = true;
  Must(Call(SYS_setgroups, 0, nullptr), "user namespace", "setgroups");
  Must(Call(SYS_setresgid, 0, 0, 0), "user namespace", "gid 0 is not mapped");
  Must(Call(SYS_setresuid, 0, 0, 0), "user namespace", "uid 0 is not mapped");
}

void SetTimeOffsets(Child* child, int offsets) {
  const ContainerPlan& plan = *child->plan;
  Must(Call(SYS_unshare, CLONE_NEWTIME), "time namespace", "unshare");
  char text[160] = "";
  int used = 0;
  if (plan.monotonic.given) {
    used += std::snprintf(text + used, sizeof(text) - static_cast<size_t>(used), "monotonic %lld %u\n",
                          static_cast<long long>(plan.monotonic.seconds), plan.monotonic.nanoseconds);
  }
  if (plan.boottime.given) {
    used += std::snprintf(text + used, sizeof(text) - static_cast<size_t>(used), "boottime %lld %u\n",
                          static_cast<long long>(plan.boottime.seconds), plan.boottime.nanoseconds);
  }
  if (used > 0) Must(Call(SYS_write, offsets, text, used), "time namespace", "cannot set the clocks' offsets");
}

bool MapOut(const Array<IdMap>& maps, uint32_t inside, uint32_t* outside) {
  for (const IdMap& map : maps) {
    if (inside < map.inside || inside - map.inside >= map.size) continue;
    *outside = map.outside + (inside - map.inside);
    return true;
  }
  return false;
}

}  // namespace berth
