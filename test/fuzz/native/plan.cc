// The plan file, the namespaces and the process of a request: what the monitor is told over its socket and by a file.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "../../../native/common/plan.h"

namespace berth {
namespace {

// Reads everything that the decoder says is there: what lies outside of its arena is found by the sanitizer.
size_t Touch(const char* text) { return text == nullptr ? 0 : strlen(text); }

size_t Touch(const Array<const char*>& texts) {
  size_t sum = 0;
  for (const char* text : texts) sum += Touch(text);
  return sum;
}

size_t Touch(const IdMappings* ids) {
  size_t sum = 0;
  if (ids == nullptr) return sum;
  for (const IdMap& map : ids->uids) sum += map.size;
  for (const IdMap& map : ids->gids) sum += map.size;
  return sum;
}

size_t Touch(const ProcessPlan& process) {
  // execve needs the null behind the last one.
  if (process.args.size == 0 || process.args.data[process.args.size] != nullptr) abort();
  if (process.env.data != nullptr && process.env.data[process.env.size] != nullptr) abort();
  size_t sum = Touch(process.args) + Touch(process.env) + Touch(process.cwd);
  for (const uint32_t group : process.groups) sum += group;
  for (const RlimitPlan& limit : process.rlimits) sum += limit.soft;
  for (const uint8_t byte : process.seccomp_program) sum += byte;
  return sum + Touch(process.apparmor) + Touch(process.selinux);
}

size_t Touch(const ContainerPlan& plan) {
  size_t sum = Touch(plan.id) + Touch(plan.cgroup) + Touch(plan.id_mappings) + Touch(plan.hostname);
  for (const NamespacePlan& one : plan.namespaces) sum += Touch(one.path);
  sum += Touch(plan.root.lower) + Touch(plan.root.upper) + Touch(plan.root.options) + Touch(plan.root.directory);
  for (const MountPlan& mount : plan.mounts) {
    sum += Touch(mount.source) + Touch(mount.target) + Touch(mount.type) + Touch(mount.options) + Touch(mount.idmap);
    sum += Touch(mount.source_namespace) + Touch(mount.lower);
  }
  for (const DevicePlan& device : plan.devices) sum += Touch(device.target);
  for (const LinkPlan& link : plan.links) sum += Touch(link.target) + Touch(link.to);
  for (const SysctlPlan& sysctl : plan.sysctls) sum += Touch(sysctl.name) + Touch(sysctl.value);
  sum += Touch(plan.masked_paths) + Touch(plan.readonly_paths) + Touch(plan.log_path) + Touch(plan.exit_record);
  return sum + Touch(plan.exit_command);
}

}  // namespace
}  // namespace berth

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace berth;
  if (size == 0) return 0;
  static volatile size_t sink;
  Arena arena;
  const char* error = nullptr;
  const Bytes message{data + 1, size - 1};
  const bool decoded = [&] {
    if (data[0] % 3 == 2) {
      const ProcessPlan* process = DecodeProcess(message, &arena, &error);
      if (process != nullptr) sink = Touch(*process);
      return process != nullptr;
    }
    const bool whole = data[0] % 3 == 0;
    const ContainerPlan* plan =
        whole ? DecodeContainer(message, &arena, &error) : DecodeNamespaces(message, &arena, &error);
    if (plan != nullptr) sink = Touch(*plan) + (whole ? Touch(plan->process) : 0);
    return plan != nullptr;
  }();
  // A refusal says why.
  if (!decoded && Touch(error) == 0) abort();
  return 0;
}
