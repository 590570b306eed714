// A blocking call on a thread of its own, settled as a Promise. Not libuv's pool: its four threads would all be
// taken by calls that wait for a process or a lock, and every file operation of the program would stand still.
#ifndef BERTH_ADDON_WORK_H_
#define BERTH_ADDON_WORK_H_

#include <napi.h>

#include <functional>
#include <memory>

namespace berth {

// What Work needs of an environment (the main program, a worker thread); made once by the module.
struct Gate;
std::shared_ptr<Gate> OpenGate(Napi::Env env);

// `run` is called on the thread and must touch no JavaScript value; `finish` then on the environment's own thread,
// where its value resolves the promise and what it throws rejects it. Keeps the program alive until then. Where the
// environment ends first, the thread's result is dropped.
Napi::Promise Work(Napi::Env env, std::function<void()> run, std::function<Napi::Value(Napi::Env)> finish);

}  // namespace berth

#endif  // BERTH_ADDON_WORK_H_
