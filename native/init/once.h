// A container from a plan file without a monitor, for tests and for looking at a plan: `berth-monitor once FILE`.
#ifndef BERTH_INIT_ONCE_H_
#define BERTH_INIT_ONCE_H_

namespace berth {

// Runs it with this process's stdio (a terminal's output is copied to stdout). Returns the exit code, 128+n for signal
// n; 125 with `stage: text` on stderr when it could not be made, 126 or 127 when its program could not be executed.
int RunOnce(const char* plan_path);

// Runs the process of the second plan, in its cgroup, in a container made from the first, after its first process has said a line on
// stdout; returns that process's code, when the container has been killed.
int RunOnceWithExec(const char* plan_path, const char* exec_plan_path);

}  // namespace berth

#endif  // BERTH_INIT_ONCE_H_
