// flock(2): a lock of an open file that the kernel gives back when its last holder dies.
#include <sys/file.h>

#include "calls.h"
#include "error.h"
#include "value.h"
#include "work.h"

namespace berth {

void Flock(const Napi::CallbackInfo& info) {
  const int fd = Int(info[0], "fd");
  const int kind = Bool(info[1], "exclusive") ? LOCK_EX : LOCK_SH;
  if (flock(fd, kind | LOCK_NB)) throw SystemError(info.Env(), errno, "flock");
}

Napi::Value FlockWait(const Napi::CallbackInfo& info) {
  const int fd = Int(info[0], "fd");
  const int kind = Bool(info[1], "exclusive") ? LOCK_EX : LOCK_SH;
  auto error = std::make_shared<int>(0);
  return Work(
      info.Env(), [fd, kind, error] { *error = flock(fd, kind) ? errno : 0; },
      [error](Napi::Env env) -> Napi::Value {
        if (*error) throw SystemError(env, *error, "flock");
        return env.Undefined();
      });
}

}  // namespace berth
