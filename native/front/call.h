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

// The exit code, or -1: no daemon has done anything of it.
int CallDaemon(const Call& call);

}  // namespace berth

#endif  // BERTH_FRONT_CALL_H_
