// errno out: a failed system call as a JavaScript Error with the fields that Node's own errors have.
#ifndef BERTH_ADDON_ERROR_H_
#define BERTH_ADDON_ERROR_H_

#include <napi.h>

#include <cstring>
#include <string>

namespace berth {

// `detail` is what the kernel says beyond errno (a file system's or the BPF verifier's log); empty for nothing.
inline Napi::Error SystemError(Napi::Env env, int number, const char* syscall, const char* path = nullptr,
                               const std::string& detail = "") {
  const char* known = strerrorname_np(number);
  const std::string code = known ? known : "E" + std::to_string(number);
  const char* meaning = strerrordesc_np(number);
  std::string message = code + ": " + (meaning ? meaning : "unknown error") + ", " + syscall;
  if (path) message.append(" '").append(path).append("'");
  if (!detail.empty()) message.append(": ").append(detail);
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  // Negative, as in Node.
  error.Set("errno", Napi::Number::New(env, -number));
  error.Set("syscall", Napi::String::New(env, syscall));
  if (path) error.Set("path", Napi::String::New(env, path));
  return error;
}

}  // namespace berth

#endif  // BERTH_ADDON_ERROR_H_
