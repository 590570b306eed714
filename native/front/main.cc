// berth-front: what a person or an engine calls as `berth` or `berth-oci`. Hands the command line to a daemon where one runs, for Node takes longer to
// start than most commands to do; executes Node otherwise. What comes of it is the same. See docs/native.md, "The front".
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/errors.h"
#include "call.h"
#include "direct.h"

namespace berth {
namespace {

constexpr size_t kPathBytes = 4096;
constexpr char kSocketName[] = "front.sock";
constexpr char kDefaultState[] = "/run/berth";

// The package: this program is build/Release/berth-front in it.
bool FindPackage(char (&directory)[kPathBytes]) {
  const ssize_t size = ::readlink("/proc/self/exe", directory, sizeof(directory) - 1);
  if (size <= 0) return false;
  directory[size] = '\0';
  for (int i = 0; i < 3; i++) {
    char* slash = ::strrchr(directory, '/');
    if (!slash) return false;
    *slash = '\0';
  }
  return true;
}

constexpr const char* kBuildFiles[] = {"build/Release/berth-front", "build/Release/berth-launch", "dist/src/bundle/front.cjs"};

// What a daemon compares with its own: another build may do things in another way.
bool DescribeBuild(const char* package, char (&build)[256]) {
  size_t at = 0;
  for (const char* file : kBuildFiles) {
    char path[kPathBytes + 64];
    struct stat status = {};
    ::snprintf(path, sizeof(path), "%s/%s", package, file);
    if (::stat(path, &status) != 0) return false;
    at += static_cast<size_t>(::snprintf(build + at, sizeof(build) - at, "%llu:%lld:%lld.%09ld ", static_cast<unsigned long long>(status.st_ino),
                                         static_cast<long long>(status.st_size), static_cast<long long>(status.st_mtim.tv_sec),
                                         status.st_mtim.tv_nsec));
    if (at >= sizeof(build)) return false;
  }
  return true;
}

// Of --state, the environment, or nobody: as berth itself finds it.
const char* FindState(const char* program, int argc, char** argv) {
  const char* state = ::getenv("BERTH_STATE");
  if (!state || !*state) state = kDefaultState;
  if (::strcmp(program, "berth") != 0) return state;
  constexpr char kOption[] = "--state";
  constexpr size_t kLength = sizeof(kOption) - 1;
  for (int i = 1; i < argc && argv[i][0] == '-'; i++) {
    const bool is_state = ::strncmp(argv[i], kOption, kLength) == 0;
    if (is_state && argv[i][kLength] == '=') state = argv[i] + kLength + 1;
    const bool has_value = (is_state && argv[i][kLength] == '\0') || ::strcmp(argv[i], "--root") == 0;
    if (has_value && i + 1 < argc && *argv[++i] && is_state) state = argv[i];
  }
  return state;
}

// Numbers 0 to 2 are then nobody else's, as in Node.
void OpenStdio() {
  int fd;
  do fd = ::open("/dev/null", O_RDWR);
  while (fd >= 0 && fd <= 2);
  if (fd > 2) ::close(fd);
}

int RunNode(const char* package, const char* program, int argc, char** argv) {
  char script[kPathBytes + 64];
  ::snprintf(script, sizeof(script), "%s/bin/%s.cjs", package, program);
  auto** words = static_cast<char**>(::calloc(static_cast<size_t>(argc) + 4, sizeof(char*)));
  if (!words) return 1;
  size_t count = 0;
  words[count++] = const_cast<char*>("node");
  // What an engine asks for is over before V8's threads are of use: without four of them it is 4 ms sooner.
  if (::strcmp(program, "berth-oci") == 0) words[count++] = const_cast<char*>("--v8-pool-size=1");
  // Without it Node 20 takes an --env-file of ours as its own.
  words[count++] = const_cast<char*>("--");
  words[count++] = script;
  for (int i = 1; i < argc; i++) words[count++] = argv[i];
  ::execvp("node", words);
  ::dprintf(2, "%s: cannot execute node: %s\n", program, ErrorText(errno));
  return errno == ENOENT ? 127 : 126;
}

int Main(int argc, char** argv) {
  OpenStdio();
  const char* slash = argc > 0 ? ::strrchr(argv[0], '/') : nullptr;
  const char* name = slash ? slash + 1 : argc > 0 ? argv[0] : "berth";
  const char* program = ::strcmp(name, "berth-oci") == 0 ? "berth-oci" : "berth";
  char package[kPathBytes];
  if (!FindPackage(package)) return ::dprintf(2, "%s: cannot find its own program\n", program), 1;
  char build[256];
  char socket[kPathBytes];
  ::snprintf(socket, sizeof(socket), "%s/%s", FindState(program, argc, argv), kSocketName);
  // What a service manager gives is this process's.
  const bool is_service = ::getenv("LISTEN_FDS") || ::getenv("NOTIFY_SOCKET");
  const bool may = ::geteuid() == 0 && !is_service;
  ::unsetenv(kBegunStart);
  if (may && ::strcmp(program, "berth-oci") == 0) {
    const int code = DoDirectly(argc, argv);
    if (code >= 0) return code;
  }
  Call call = {program, socket, build, argc, argv};
  if (may && !::getenv(kBegunStart) && DescribeBuild(package, build)) {
    const int code = CallDaemon(&call);
    if (code >= 0) return code;
  }
  return RunNode(package, program, call.argc, call.argv);
}

}  // namespace
}  // namespace berth

int main(int argc, char** argv) { return berth::Main(argc, argv); }
