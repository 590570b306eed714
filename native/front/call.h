// One command line, done by a daemon.
#ifndef BERTH_FRONT_CALL_H_
#define BERTH_FRONT_CALL_H_

namespace berth {

struct Call {
  const char* program;  // berth or berth-oci.
  const char* socket;
  const char* build;
  int argc;
  char** argv;
};

// The exit code, or -1: Node is to do the arguments that `call` then has. No daemon has done anything of these.
int CallDaemon(Call* call);

}  // namespace berth

#endif  // BERTH_FRONT_CALL_H_
