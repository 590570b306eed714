// What a monitor does with a container's cgroup (v2): kill, look, take away. The limits are TypeScript's.
#ifndef BERTH_MONITOR_CGROUP_H_
#define BERTH_MONITOR_CGROUP_H_

#include <cstddef>
#include <cstdint>

#include "../common/fd.h"

namespace berth {

Fd CgroupOpen(const char* path);

// Sends a signal to every process of the cgroup and of those below it; SIGKILL by cgroup.kill, which no fork escapes.
bool CgroupSignal(int cgroup, int signal);

// Whether live processes are in it or below it; `events` is its cgroup.events.
bool CgroupPopulated(int events);

// oom_kill + oom_group_kill of memory.events; 0 where there is no memory controller.
uint64_t CgroupOomKills(int cgroup);

// Removes the cgroups below it, which the container made. False when one is still in use.
bool CgroupRemoveChildren(int cgroup);

// Removes those directly below it whose names begin so and in which nothing lives.
void CgroupRemoveUnused(int cgroup, const char* prefix);

}  // namespace berth

#endif  // BERTH_MONITOR_CGROUP_H_
