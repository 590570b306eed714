// Into a network namespace, for threads that end with their act and so never have to find back.
#ifndef BERTH_ADDON_NETNS_H_
#define BERTH_ADDON_NETNS_H_

#include <errno.h>
#include <fcntl.h>
#include <sched.h>

#include <string>

#include "../common/fd.h"

namespace berth {

// Takes the calling thread into the namespace for the rest of its life. Null, or the name of the call that has failed, with errno.
inline const char* EnterNetwork(const std::string& path) {
  // Not waiting, should somebody have put a fifo there.
  const Fd ns(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!ns) return "open";
  return setns(ns.get(), CLONE_NEWNET) == 0 ? nullptr : "setns";
}

}  // namespace berth

#endif  // BERTH_ADDON_NETNS_H_
