// Giving privileges up, right before exec.
#ifndef BERTH_INIT_DROP_H_
#define BERTH_INIT_DROP_H_

#include "../common/plan.h"

namespace berth {

// Bounding set, ids, capability sets, ambient set.
void DropPrivileges(const ProcessPlan& process);
// The listener's descriptor where the flags ask for one, else -1.
int LoadSeccomp(const ProcessPlan& process);

}  // namespace berth

#endif  // BERTH_INIT_DROP_H_
