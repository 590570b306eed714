// One request to CRIU, and what it asks meanwhile.
#ifndef BERTH_LAUNCH_CRIU_H_
#define BERTH_LAUNCH_CRIU_H_

namespace berth {

// `berth-launch criu [OPTION…] PROGRAM`; the plan file holds the request, as of CRIU's rpc.proto. See docs/native.md, "Checkpoints". The exit code.
int RunCriu(int argc, char** argv);

}  // namespace berth

#endif  // BERTH_LAUNCH_CRIU_H_
