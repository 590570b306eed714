#include "call.h"

#ifdef BERTH_FAULTS

#include <cstdlib>

namespace berth {
namespace {

long g_calls = 0;
long g_fail = 0;

}  // namespace

void BeginFaults() {
  static const long nth = [] {
    const char* text = std::getenv("BERTH_FAULT_NTH");
    return text ? std::strtol(text, nullptr, 10) : 0;
  }();
  g_calls = 0;
  g_fail = nth;
}

bool FaultHere() { return g_fail > 0 && ++g_calls == g_fail; }

}  // namespace berth

#endif  // BERTH_FAULTS
