// Commands of berth-oci that are a few system calls once a container is made: `start`, `state`, `kill` and `delete` of one whose record is `plain`.
#ifndef BERTH_FRONT_DIRECT_H_
#define BERTH_FRONT_DIRECT_H_

namespace berth {

// Names the descriptor of a start that was said here and has failed: src/oci/start.ts tells why.
inline constexpr char kBegunStart[] = "BERTH_OCI_START";

// The exit code, or -1: somebody else is to do the command. What has been done of it by then he finds as done; with kBegunStart in the environment it is
// for Node alone.
int DoDirectly(int argc, char** argv);

}  // namespace berth

#endif  // BERTH_FRONT_DIRECT_H_
