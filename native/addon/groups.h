// Files of cgroups that stay open from one look at what they use to the next; see groups.cc.
#ifndef BERTH_ADDON_GROUPS_H_
#define BERTH_ADDON_GROUPS_H_

#include <memory>

namespace berth {

class Groups;
// Shared with the threads that read, because one may outlive its environment.
std::shared_ptr<Groups> MakeGroups();

}  // namespace berth

#endif  // BERTH_ADDON_GROUPS_H_
