// What the addon keeps for each environment: the main program, or a worker thread.
#ifndef BERTH_ADDON_ENVIRONMENT_H_
#define BERTH_ADDON_ENVIRONMENT_H_

#include <napi.h>

#include <memory>

namespace berth {

struct Gate;
class Groups;

struct Environment {
  // The way back for calls on threads of their own; see work.cc.
  std::shared_ptr<Gate> gate;
  // Makes the object that statx returns out of its values in order: one call of JavaScript is twice as fast as setting 15 properties.
  Napi::FunctionReference file_status;
  std::shared_ptr<Groups> groups;

  static Environment& Of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }
};

}  // namespace berth

#endif  // BERTH_ADDON_ENVIRONMENT_H_
