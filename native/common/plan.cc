#include "plan.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "fd.h"
#include "message.h"

namespace berth {
namespace {

// One decoding: the arena, and the first thing that was wrong. After a failure all further steps do nothing.
class Decoder {
 public:
  explicit Decoder(Arena* arena) : arena_(arena) {}

  const char* error() const { return error_; }
  void Fail(const char* why) {
    if (!error_) error_ = why;
  }

  const char* Text(const Field& field) {
    if (field.bytes.size && std::memchr(field.bytes.data, 0, field.bytes.size)) Fail("text with a NUL byte");
    const char* text = arena_->Text(field.bytes.data, field.bytes.size);
    if (!text) Fail("out of memory");
    return text ? text : "";
  }

  // Aligned for whatever it is.
  Bytes Copy(const Field& field) {
    const char* bytes = arena_->Text(field.bytes.data, field.bytes.size);
    if (!bytes) Fail("out of memory");
    return {reinterpret_cast<const uint8_t*>(bytes), bytes ? field.bytes.size : 0};
  }

  template <typename T>
  T Number(const Field& field) {
    int64_t value = 0;
    if (!field.Number(&value)) Fail("a number that is not 8 bytes");
    // 64 bit masks use the sign bit; everything narrower must fit.
    if constexpr (sizeof(T) < sizeof(value)) {
      if (static_cast<int64_t>(static_cast<T>(value)) != value) Fail("a number out of range");
    }
    return static_cast<T>(value);
  }

  bool Flag(const Field& field) { return Number<int64_t>(field) != 0; }

  // Memory for all fields with that tag, with one zeroed element more behind them.
  template <typename T>
  Array<T> Reserve(Bytes message, Tag tag) {
    size_t count = 0;
    Field field;
    for (Reader reader(message); reader.Next(&field);) count += field.tag == tag;
    Array<T> array;
    array.data = static_cast<T*>(arena_->Take((count + 1) * sizeof(T)));
    if (!array.data) Fail("out of memory");
    return array;
  }

  template <typename T>
  void Add(Array<T>* array, Bytes message, Tag tag, const T& value) {
    if (!array->data) *array = Reserve<T>(message, tag);
    if (!error_) array->data[array->size++] = value;
  }

  // Lists that are null-terminated must have their terminator even when they are empty.
  template <typename T>
  void Terminate(Array<T>* array) {
    if (!array->data) *array = Reserve<T>({}, Tag{});
  }

  // Visits the fields; `visit` returns false for a tag that does not belong there.
  template <typename Visit>
  void Fields(Bytes message, Visit visit) {
    Field field;
    Reader reader(message);
    while (!error_ && reader.Next(&field)) {
      if (!visit(field)) Fail("a field that this monitor does not know");
    }
    if (!reader.ok()) Fail("a field reaches over the end");
  }

  Arena* arena() { return arena_; }

 private:
  Arena* arena_;
  const char* error_ = nullptr;
};

IdMap DecodeIdMap(Decoder& d, Bytes message) {
  IdMap map;
  d.Fields(message, [&](const Field& f) {
    switch (f.tag) {
      case Tag::kIdInside: map.inside = d.Number<uint32_t>(f); return true;
      case Tag::kIdOutside: map.outside = d.Number<uint32_t>(f); return true;
      case Tag::kIdSize: map.size = d.Number<uint32_t>(f); return true;
      default: return false;
    }
  });
  return map;
}

const IdMappings* DecodeIdMappings(Decoder& d, Bytes message) {
  IdMappings* ids = d.arena()->New<IdMappings>();
  if (!ids) {
    d.Fail("out of memory");
    return nullptr;
  }
  d.Fields(message, [&](const Field& f) {
    switch (f.tag) {
      case Tag::kIdUid: d.Add(&ids->uids, message, f.tag, DecodeIdMap(d, f.bytes)); return true;
      case Tag::kIdGid: d.Add(&ids->gids, message, f.tag, DecodeIdMap(d, f.bytes)); return true;
      default: return false;
    }
  });
  return ids;
}

NamespacePlan DecodeNamespace(Decoder& d, Bytes message) {
  NamespacePlan ns;
  d.Fields(message, [&](const Field& f) {
    switch (f.tag) {
      case Tag::kNamespaceFlag: ns.flag = d.Number<int>(f); return true;
      case Tag::kNamespacePath: ns.path = d.Text(f); return true;
      default: return false;
    }
  });
  return ns;
}

void DecodeRoot(Decoder& d, Bytes message, RootPlan* root) {
  d.Fields(message, [&](const Field& f) {
    switch (f.tag) {
      case Tag::kRootOverlay: root->overlay = d.Flag(f); return true;
      case Tag::kRootLower: d.Add(&root->lower, message, f.tag, d.Text(f)); return true;
      case Tag::kRootUpper: root->upper = d.Text(f); return true;
      case Tag::kRootWork: root->work = d.Text(f); return true;
      case Tag::kRootOption: d.Add(&root->options, message, f.tag, d.Text(f)); return true;
      case Tag::kRootDirectory: root->directory = d.Text(f); return true;
      default: return false;
    }
  });
  if (root->overlay ? root->lower.empty() || root->directory : !root->directory) d.Fail("no root");
  if (!root->upper != !root->work) d.Fail("an overlay with only one of upper and work");
}

MountPlan DecodeMount(Decoder& d, Bytes message) {
  MountPlan m;
  d.Fields(message, [&](const Field& f) {
    switch (f.tag) {
      case Tag::kMountKind: m.kind = static_cast<MountKind>(d.Number<uint8_t>(f)); return true;
      case Tag::kMountSource: m.source = d.Text(f); return true;
      case Tag::kMountTarget: m.target = d.Text(f); return true;
      case Tag::kMountType: m.type = d.Text(f); return true;
      case Tag::kMountOption: d.Add(&m.options, message, f.tag, d.Text(f)); return true;
      case Tag::kMountSetAttributes: m.set_attributes = d.Number<uint64_t>(f); return true;
      case Tag::kMountClearAttributes: m.clear_attributes = d.Number<uint64_t>(f); return true;
      case Tag::kMountSetAttributesRecursive: m.set_attributes_recursive = d.Number<uint64_t>(f); return true;
      case Tag::kMountClearAttributesRecursive: m.clear_attributes_recursive = d.Number<uint64_t>(f); return true;
      case Tag::kMountPropagation: m.propagation = d.Number<uint64_t>(f); return true;
      case Tag::kMountRecursive: m.recursive = d.Flag(f); return true;
      case Tag::kMountIdmapContainer: m.idmap_container = d.Flag(f); return true;
      case Tag::kMountIdmap: m.idmap = DecodeIdMappings(d, f.bytes); return true;
      case Tag::kMountCopyUp: m.copy_up = d.Flag(f); return true;
      case Tag::kMountOptional: m.optional = d.Flag(f); return true;
      case Tag::kMountLower: d.Add(&m.lower, message, f.tag, d.Text(f)); return true;
      case Tag::kMountSourceNamespace: m.source_namespace = d.Text(f); return true;
      default: return false;
    }
  });
  if (m.kind > MountKind::kRemount) d.Fail("an unknown kind of mount");
  return m;
}

DevicePlan DecodeDevice(Decoder& d, Bytes message) {
  DevicePlan device;
  d.Fields(message, [&](const Field& f) {
    switch (f.tag) {
      case Tag::kDeviceTarget: device.target = d.Text(f); return true;
      case Tag::kDeviceType: device.type = d.Number<char>(f); return true;
      case Tag::kDeviceMajor: device.major = d.Number<uint32_t>(f); return true;
      case Tag::kDeviceMinor: device.minor = d.Number<uint32_t>(f); return true;
      case Tag::kDeviceMode: device.mode = d.Number<uint32_t>(f); return true;
      case Tag::kDeviceUid: device.uid = d.Number<uint32_t>(f); return true;
      case Tag::kDeviceGid: device.gid = d.Number<uint32_t>(f); return true;
      default: return false;
    }
  });
  if (device.type != 'c' && device.type != 'b' && device.type != 'p') d.Fail("an unknown type of device");
  return device;
}

LinkPlan DecodeLink(Decoder& d, Bytes message) {
  LinkPlan link;
  d.Fields(message, [&](const Field& f) {
    switch (f.tag) {
      case Tag::kLinkTarget: link.target = d.Text(f); return true;
      case Tag::kLinkTo: link.to = d.Text(f); return true;
      default: return false;
    }
  });
  return link;
}

SysctlPlan DecodeSysctl(Decoder& d, Bytes message) {
  SysctlPlan sysctl;
  d.Fields(message, [&](const Field& f) {
    switch (f.tag) {
      case Tag::kSysctlName: sysctl.name = d.Text(f); return true;
      case Tag::kSysctlValue: sysctl.value = d.Text(f); return true;
      default: return false;
    }
  });
  return sysctl;
}

RlimitPlan DecodeRlimit(Decoder& d, Bytes message) {
  RlimitPlan limit;
  d.Fields(message, [&](const Field& f) {
    switch (f.tag) {
      case Tag::kRlimitResource: limit.resource = d.Number<int>(f); return true;
      case Tag::kRlimitSoft: limit.soft = d.Number<uint64_t>(f); return true;
      case Tag::kRlimitHard: limit.hard = d.Number<uint64_t>(f); return true;
      default: return false;
    }
  });
  return limit;
}

HookPlan DecodeHook(Decoder& d, Bytes message) {
  HookPlan hook;
  d.Fields(message, [&](const Field& f) {
    switch (f.tag) {
      case Tag::kHookPath: hook.path = d.Text(f); return true;
      case Tag::kHookArg: d.Add(&hook.args, message, f.tag, d.Text(f)); return true;
      case Tag::kHookEnv: d.Add(&hook.env, message, f.tag, d.Text(f)); return true;
      case Tag::kHookTimeoutMs: hook.timeout_ms = d.Number<uint32_t>(f); return true;
      default: return false;
    }
  });
  d.Terminate(&hook.args);
  d.Terminate(&hook.env);
  return hook;
}

void DecodeProcessInto(Decoder& d, Bytes message, ProcessPlan* p) {
  d.Fields(message, [&](const Field& f) {
    switch (f.tag) {
      case Tag::kProcessArg: d.Add(&p->args, message, f.tag, d.Text(f)); return true;
      case Tag::kProcessEnv: d.Add(&p->env, message, f.tag, d.Text(f)); return true;
      case Tag::kProcessCwd: p->cwd = d.Text(f); return true;
      case Tag::kProcessCreateCwd: p->create_cwd = d.Flag(f); return true;
      case Tag::kProcessUid: p->uid = d.Number<uint32_t>(f); return true;
      case Tag::kProcessGid: p->gid = d.Number<uint32_t>(f); return true;
      case Tag::kProcessGroup: d.Add(&p->groups, message, f.tag, d.Number<uint32_t>(f)); return true;
      case Tag::kProcessUmask: p->umask = d.Number<uint32_t>(f); return true;
      case Tag::kProcessTerminal: p->terminal = d.Flag(f); return true;
      case Tag::kProcessRows: p->rows = d.Number<uint16_t>(f); return true;
      case Tag::kProcessColumns: p->columns = d.Number<uint16_t>(f); return true;
      case Tag::kProcessCapBounding: p->bounding = d.Number<uint64_t>(f); return true;
      case Tag::kProcessCapEffective: p->effective = d.Number<uint64_t>(f); return true;
      case Tag::kProcessCapPermitted: p->permitted = d.Number<uint64_t>(f); return true;
      case Tag::kProcessCapInheritable: p->inheritable = d.Number<uint64_t>(f); return true;
      case Tag::kProcessCapAmbient: p->ambient = d.Number<uint64_t>(f); return true;
      case Tag::kProcessNoNewPrivileges: p->no_new_privileges = d.Flag(f); return true;
      case Tag::kProcessRlimit: d.Add(&p->rlimits, message, f.tag, DecodeRlimit(d, f.bytes)); return true;
      case Tag::kProcessSeccompProgram:
        // Copied for its alignment; struct sock_filter has 8 bytes.
        if (f.bytes.size % 8 != 0) d.Fail("a seccomp program of uneven length");
        p->seccomp_program = {reinterpret_cast<const uint8_t*>(d.arena()->Text(f.bytes.data, f.bytes.size)),
                              f.bytes.size};
        if (!p->seccomp_program.data) d.Fail("out of memory");
        return true;
      case Tag::kProcessSeccompFlags: p->seccomp_flags = d.Number<uint32_t>(f); return true;
      case Tag::kProcessOomScoreAdj:
        p->has_oom_score_adj = true;
        p->oom_score_adj = d.Number<int>(f);
        return true;
      case Tag::kProcessApparmor: p->apparmor = d.Text(f); return true;
      case Tag::kProcessSelinux: p->selinux = d.Text(f); return true;
      case Tag::kProcessScheduler: p->scheduler = d.Copy(f); return true;
      case Tag::kProcessIoPriority: p->io_priority = d.Number<int>(f); return true;
      case Tag::kProcessPersonality: p->personality = d.Number<int64_t>(f); return true;
      case Tag::kProcessMemoryPolicy: p->memory_policy = d.Number<int>(f); return true;
      case Tag::kProcessMemoryNodes: p->memory_nodes = d.Copy(f); return true;
      case Tag::kProcessInitialCpus: p->initial_cpus = d.Copy(f); return true;
      case Tag::kProcessFinalCpus: p->final_cpus = d.Copy(f); return true;
      case Tag::kProcessInRoot: p->in_root = d.Flag(f); return true;
      case Tag::kProcessKeepKeyring: p->keep_keyring = d.Flag(f); return true;
      default: return false;
    }
  });
  d.Terminate(&p->env);
  if (p->args.empty()) d.Fail("a process without arguments");
}

void DecodeFields(Decoder& d, Bytes message, ContainerPlan* c, bool whole) {
  bool process = false;
  bool root = false;
  d.Fields(message, [&](const Field& f) {
    switch (f.tag) {
      case Tag::kContainerId: c->id = d.Text(f); return true;
      case Tag::kContainerCgroup: c->cgroup = d.Text(f); return true;
      case Tag::kContainerNamespace:
        d.Add(&c->namespaces, message, f.tag, DecodeNamespace(d, f.bytes));
        return true;
      case Tag::kContainerIdMappings: c->id_mappings = DecodeIdMappings(d, f.bytes); return true;
      case Tag::kContainerMonotonicSeconds:
        c->monotonic.given = true;
        c->monotonic.seconds = d.Number<int64_t>(f);
        return true;
      case Tag::kContainerMonotonicNanoseconds: c->monotonic.nanoseconds = d.Number<uint32_t>(f); return true;
      case Tag::kContainerBoottimeSeconds:
        c->boottime.given = true;
        c->boottime.seconds = d.Number<int64_t>(f);
        return true;
      case Tag::kContainerBoottimeNanoseconds: c->boottime.nanoseconds = d.Number<uint32_t>(f); return true;
      case Tag::kContainerHostname: c->hostname = d.Text(f); return true;
      case Tag::kContainerDomainname: c->domainname = d.Text(f); return true;
      case Tag::kContainerRoot:
        // The arrays below were made for the fields of the first one.
        if (root) d.Fail("two roots");
        root = true;
        DecodeRoot(d, f.bytes, &c->root);
        return true;
      case Tag::kContainerRootReadonly: c->root_readonly = d.Flag(f); return true;
      case Tag::kContainerNoPivot: c->no_pivot = d.Flag(f); return true;
      case Tag::kContainerRootPlace: c->root_place = d.Text(f); return true;
      case Tag::kContainerRootPropagation: c->root_propagation = d.Number<uint64_t>(f); return true;
      case Tag::kContainerMount: d.Add(&c->mounts, message, f.tag, DecodeMount(d, f.bytes)); return true;
      case Tag::kContainerDevice: d.Add(&c->devices, message, f.tag, DecodeDevice(d, f.bytes)); return true;
      case Tag::kContainerLink: d.Add(&c->links, message, f.tag, DecodeLink(d, f.bytes)); return true;
      case Tag::kContainerSysctl: d.Add(&c->sysctls, message, f.tag, DecodeSysctl(d, f.bytes)); return true;
      case Tag::kContainerMasked: d.Add(&c->masked_paths, message, f.tag, d.Text(f)); return true;
      case Tag::kContainerReadonly: d.Add(&c->readonly_paths, message, f.tag, d.Text(f)); return true;
      case Tag::kContainerLoopback: c->loopback = d.Flag(f); return true;
      case Tag::kContainerReaper: c->reaper = d.Flag(f); return true;
      case Tag::kContainerProcess:
        if (process) d.Fail("two processes");
        process = true;
        DecodeProcessInto(d, f.bytes, &c->process);
        return true;
      case Tag::kContainerStdin: c->keep_stdin = d.Flag(f); return true;
      case Tag::kContainerStdinOnce: c->stdin_once = d.Flag(f); return true;
      case Tag::kContainerLogKind: c->log = static_cast<LogKind>(d.Number<uint8_t>(f)); return true;
      case Tag::kContainerLogPath: c->log_path = d.Text(f); return true;
      case Tag::kContainerExitRecord: c->exit_record = d.Text(f); return true;
      case Tag::kContainerExitCommand: d.Add(&c->exit_command, message, f.tag, d.Text(f)); return true;
      case Tag::kContainerRestartPolicy:
        c->restart = static_cast<RestartPolicy>(d.Number<uint8_t>(f));
        return true;
      case Tag::kContainerRestartMaximum: c->restart_maximum = d.Number<uint32_t>(f); return true;
      case Tag::kContainerAwaitsHooks: c->awaits_hooks = d.Flag(f); return true;
      case Tag::kContainerCreateHook: d.Add(&c->create_hooks, message, f.tag, DecodeHook(d, f.bytes)); return true;
      case Tag::kContainerStartHook: d.Add(&c->start_hooks, message, f.tag, DecodeHook(d, f.bytes)); return true;
      case Tag::kContainerHookDirectory: c->hook_directory = d.Text(f); return true;
      case Tag::kContainerNotifySocket: c->notify_socket = d.Text(f); return true;
      default: return false;
    }
  });
  d.Terminate(&c->exit_command);
  if (whole && !process) d.Fail("no process");
  if (whole && !root) d.Fail("no root");
  if (c->log > LogKind::kCri) d.Fail("an unknown kind of log");
  if (c->restart > RestartPolicy::kUnlessStopped) d.Fail("an unknown restart policy");
}

void DecodeContainerInto(Decoder& d, Bytes message, ContainerPlan* c) { DecodeFields(d, message, c, true); }

void DecodeNamespacesInto(Decoder& d, Bytes message, ContainerPlan* c) { DecodeFields(d, message, c, false); }

template <typename T, typename Decode>
const T* DecodeMessage(Bytes message, Arena* arena, const char** error, Decode decode) {
  Decoder decoder(arena);
  T* plan = arena->New<T>();
  if (plan) {
    decode(decoder, message, plan);
  } else {
    decoder.Fail("out of memory");
  }
  *error = decoder.error();
  return *error ? nullptr : plan;
}

}  // namespace

const ContainerPlan* DecodeContainer(Bytes message, Arena* arena, const char** error) {
  return DecodeMessage<ContainerPlan>(message, arena, error, DecodeContainerInto);
}

const ContainerPlan* DecodeNamespaces(Bytes message, Arena* arena, const char** error) {
  return DecodeMessage<ContainerPlan>(message, arena, error, DecodeNamespacesInto);
}

const ProcessPlan* DecodeProcess(Bytes message, Arena* arena, const char** error) {
  return DecodeMessage<ProcessPlan>(message, arena, error, DecodeProcessInto);
}

const ContainerPlan* LoadContainer(const char* path, Arena* arena, const char** error) {
  const Fd file(::open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  *error = "cannot read the plan";
  return file ? LoadContainer(file.get(), arena, error) : nullptr;
}

const ContainerPlan* LoadContainer(int file, Arena* arena, const char** error) {
  *error = "cannot read the plan";
  struct stat st = {};
  if (::fstat(file, &st) != 0) return nullptr;
  if (!S_ISREG(st.st_mode) || st.st_size > static_cast<off_t>(kPlanBytesMax)) {
    errno = S_ISREG(st.st_mode) ? EFBIG : EINVAL;
    return nullptr;
  }
  // The raw bytes have their own arena: they need not live on.
  Arena raw;
  const size_t size = static_cast<size_t>(st.st_size);
  uint8_t* bytes = static_cast<uint8_t*>(raw.Take(size));
  if (!bytes) {
    errno = ENOMEM;
    return nullptr;
  }
  size_t got = 0;
  while (got < size) {
    const ssize_t n = ::read(file, bytes + got, size - got);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return nullptr;
    if (n == 0) break;
    got += static_cast<size_t>(n);
  }
  const ContainerPlan* plan = DecodeContainer({bytes, got}, arena, error);
  if (!plan) errno = EBADMSG;
  return plan;
}

}  // namespace berth
