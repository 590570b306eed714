// The plan of src/spec/plan.ts as the native side sees it. All text is a C string in the arena it was decoded
// into, never null unless said so. Field by field the meaning is documented there.
#ifndef BERTH_COMMON_PLAN_H_
#define BERTH_COMMON_PLAN_H_

#include <cstdint>

#include "arena.h"
#include "tags.h"

namespace berth {

inline constexpr size_t kPlanBytesMax = 4 * 1024 * 1024;

struct IdMap {
  uint32_t inside = 0;
  uint32_t outside = 0;
  uint32_t size = 0;
};

struct IdMappings {
  Array<IdMap> uids;
  Array<IdMap> gids;
};

struct NamespacePlan {
  int flag = 0;                // CLONE_NEW*
  const char* path = nullptr;  // Null: made new.
};

struct RootPlan {
  bool overlay = false;
  Array<const char*> lower;     // Topmost first.
  const char* upper = nullptr;  // Null: read-only.
  const char* work = nullptr;
  Array<const char*> options;
  const char* directory = nullptr;  // Instead of the overlay.
};

struct MountPlan {
  MountKind kind = MountKind::kBind;
  const char* source = "";
  const char* target = "";
  const char* type = "";
  Array<const char*> options;
  uint64_t set_attributes = 0;
  uint64_t clear_attributes = 0;
  uint64_t set_attributes_recursive = 0;
  uint64_t clear_attributes_recursive = 0;
  uint64_t propagation = 0;
  bool recursive = false;
  bool idmap_container = false;
  const IdMappings* idmap = nullptr;
  bool copy_up = false;
  const char* source_namespace = "";
  Array<const char*> lower;  // Bind only: topmost first; the source is a path inside a view of them.
  bool optional = false;
};

struct DevicePlan {
  const char* target = "";
  char type = 'c';
  uint32_t major = 0;
  uint32_t minor = 0;
  uint32_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
};

struct LinkPlan {
  const char* target = "";
  const char* to = "";
};

struct SysctlPlan {
  const char* name = "";
  const char* value = "";
};

struct RlimitPlan {
  int resource = 0;
  uint64_t soft = 0;
  uint64_t hard = 0;
};

struct ProcessPlan {
  Array<const char*> args;  // At least one; args.data[args.size] is null, as execve wants it. The same for env.
  Array<const char*> env;
  const char* cwd = "/";
  bool create_cwd = false;
  uint32_t uid = 0;
  uint32_t gid = 0;
  Array<uint32_t> groups;
  uint32_t umask = 0022;
  bool terminal = false;
  uint16_t rows = 0;
  uint16_t columns = 0;
  uint64_t bounding = 0;
  uint64_t effective = 0;
  uint64_t permitted = 0;
  uint64_t inheritable = 0;
  uint64_t ambient = 0;
  bool no_new_privileges = false;
  Array<RlimitPlan> rlimits;
  Bytes seccomp_program;  // struct sock_filter array, aligned; empty for none.
  uint32_t seccomp_flags = 0;
  bool has_oom_score_adj = false;
  int oom_score_adj = 0;
  const char* apparmor = nullptr;
  const char* selinux = nullptr;
  bool keep_keyring = false;
  Bytes scheduler;  // struct sched_attr; empty: as it is. The same of the others.
  int io_priority = -1;
  int64_t personality = -1;
  int memory_policy = -1;
  Bytes memory_nodes;  // A bit for each node, in words of 64.
  Bytes initial_cpus;  // The same of processors: those that a further process enters the cgroup on,
  Bytes final_cpus;    // and those that it has then.
  bool in_root = false;  // Of a further process: its root is the first process's, not its mount namespace's.
};

struct HookPlan {
  const char* path = "";
  Array<const char*> args;  // Null-terminated behind its end, as env is.
  Array<const char*> env;
  uint32_t timeout_ms = 0;  // 0: none.
};

struct TimeOffset {
  bool given = false;
  int64_t seconds = 0;
  uint32_t nanoseconds = 0;
};

struct ContainerPlan {
  const char* id = "";
  const char* cgroup = "";  // Empty: the caller's is kept.
  Array<NamespacePlan> namespaces;
  const IdMappings* id_mappings = nullptr;
  TimeOffset monotonic;
  TimeOffset boottime;
  const char* hostname = nullptr;
  const char* domainname = nullptr;
  RootPlan root;
  bool root_readonly = false;
  bool no_pivot = false;
  const char* root_place = nullptr;  // Without a mount namespace: where the root is mounted on the host.
  uint64_t root_propagation = 0;
  Array<MountPlan> mounts;
  Array<DevicePlan> devices;
  Array<LinkPlan> links;
  Array<SysctlPlan> sysctls;
  Array<const char*> masked_paths;
  Array<const char*> readonly_paths;
  bool loopback = false;
  bool reaper = false;
  ProcessPlan process;
  bool keep_stdin = false;  // io.stdin
  bool stdin_once = false;
  LogKind log = LogKind::kNone;
  const char* log_path = "";
  const char* exit_record = "";
  Array<const char*> exit_command;  // Null-terminated behind its end, as args.
  RestartPolicy restart = RestartPolicy::kNo;
  uint32_t restart_maximum = 0;
  bool awaits_hooks = false;
  Array<HookPlan> create_hooks;
  Array<HookPlan> start_hooks;
  const char* hook_directory = "/";
  const char* notify_socket = "";  // Empty: the filter notifies nobody.
};

// Decodes into the arena. Null when the message is malformed, incomplete or holds a field that this monitor does
// not know: `error` then says so.
const ContainerPlan* DecodeContainer(Bytes message, Arena* arena, const char** error);
// One of namespaces alone, for what is shared by the containers of a pod: without root and process.
const ContainerPlan* DecodeNamespaces(Bytes message, Arena* arena, const char** error);
const ProcessPlan* DecodeProcess(Bytes message, Arena* arena, const char** error);

// Reads and decodes a plan file. Null with errno set (EBADMSG when it was read but is no plan) and `error`.
const ContainerPlan* LoadContainer(const char* path, Arena* arena, const char** error);
// The same of an open file.
const ContainerPlan* LoadContainer(int file, Arena* arena, const char** error);

}  // namespace berth

#endif  // BERTH_COMMON_PLAN_H_
