// A program that the daemon wants to be the caller's child: what the caller has (namespaces, limits, keyring, label, cgroup) is then the program's.
#ifndef BERTH_FRONT_CHILD_H_
#define BERTH_FRONT_CHILD_H_

#include <sys/types.h>

#include <cstddef>

#include "../common/fd.h"

namespace berth {

// A child that is started before it is known what for (../common/order.h), while the daemon plans: to execute a program takes as long as that. Ends with this.
class WaitingChild {
 public:
  WaitingChild() = default;
  WaitingChild(const WaitingChild&) = delete;
  WaitingChild& operator=(const WaitingChild&) = delete;
  ~WaitingChild() { End(); }

  // All that opens descriptors of ours among the caller's, of which the daemon looks at once which are open.
  void Prepare(Fd program);
  // Where it cannot be started, or nothing is prepared, there is none.
  void Start();
  // Whether it has been started from the very file.
  bool IsOf(int program) const;
  // Its pid; -1 where it has not taken the order, and is no more.
  pid_t Give(const char* texts, size_t size, const int* fds, int count);

 private:
  void End();

  pid_t pid_ = -1;
  Fd program_;
  Fd socket_;
  // Until it is started.
  Fd theirs_;
  Fd read_end_;
  Fd report_;
};

// Of a kFrameSpawn, by the child that waits if that is of the same program. Closes the passed descriptors. -1 with errno where the request is not understood or
// the program cannot be executed.
pid_t SpawnChild(const char* payload, size_t size, const int* passed, int passed_count, WaitingChild* waiting);

}  // namespace berth

#endif  // BERTH_FRONT_CHILD_H_
