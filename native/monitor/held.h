// What this monitor holds for a pod: namespaces, shared memory, PID 1 of the PID namespace.
#ifndef BERTH_MONITOR_HELD_H_
#define BERTH_MONITOR_HELD_H_

#include <sys/types.h>

#include "../common/json.h"
#include "../common/plan.h"
#include "../init/launch.h"
#include "process.h"

namespace berth {

// Makes what the containers here share, once: where something is held already that is a success. With `more`, what of the plan is not held yet is made
// beside it: no user and no PID namespace, which would have to be there first. With `aside` it is nobody's yet, and HeldAny() does not count it, until
// somebody asks without.
bool HeldMake(const ContainerPlan& plan, const HoldOptions& options, bool more, bool aside, Failure* failure);
bool HeldAny();
// Whether PID 1 lives that is held.
bool HeldAlive();
// Kills that. Where it does not go (a process of its namespace hangs in the kernel) nobody waits for it for long.
void HeldEnd();
// A child was reaped; false where it is none of ours.
bool HeldReaped(pid_t pid, int status);
// Writes the member "namespaces": a path for each, and for the shared memory; and what is to be said of PID 1.
void HeldWrite(JsonWriter* json);

}  // namespace berth

#endif  // BERTH_MONITOR_HELD_H_
