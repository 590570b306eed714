#include "words.h"

#include <signal.h>
#include <string.h>
#include <strings.h>

namespace berth {
namespace {

// As src/oci/record.ts has it.
constexpr size_t kIdBytesMax = 240;
constexpr char kIdFirst[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-";
constexpr char kIdRest[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-.";
constexpr int kLastNamed = 31;
struct NamedSignal {
  int number;
  const char* name;
};
constexpr NamedSignal kSignals[] = {
    {SIGHUP, "HUP"},   {SIGINT, "INT"},   {SIGQUIT, "QUIT"},     {SIGILL, "ILL"},   {SIGTRAP, "TRAP"}, {SIGABRT, "ABRT"}, {SIGBUS, "BUS"},   {SIGFPE, "FPE"},
    {SIGKILL, "KILL"}, {SIGUSR1, "USR1"}, {SIGSEGV, "SEGV"},     {SIGUSR2, "USR2"}, {SIGPIPE, "PIPE"}, {SIGALRM, "ALRM"}, {SIGTERM, "TERM"}, {SIGSTKFLT, "STKFLT"},
    {SIGCHLD, "CHLD"}, {SIGCONT, "CONT"}, {SIGSTOP, "STOP"},     {SIGTSTP, "TSTP"}, {SIGTTIN, "TTIN"}, {SIGTTOU, "TTOU"}, {SIGURG, "URG"},   {SIGXCPU, "XCPU"},
    {SIGXFSZ, "XFSZ"}, {SIGVTALRM, "VTALRM"}, {SIGPROF, "PROF"}, {SIGWINCH, "WINCH"}, {SIGPOLL, "POLL"}, {SIGPWR, "PWR"}, {SIGSYS, "SYS"},
};
constexpr const char* kCommands[] = {"start", "state", "kill", "delete"};

bool IsId(const char* text) {
  const size_t size = ::strlen(text);
  return size > 0 && size <= kIdBytesMax && text[0] != '-' && ::strchr(kIdFirst, text[0]) && ::strspn(text, kIdRest) == size;
}

// `--name VALUE` or `--name=VALUE`; nullptr where the word is not that.
const char* ValueOf(const char* name, int argc, char** argv, int* at) {
  const char* word = argv[*at];
  const size_t size = ::strlen(name);
  if (::strncmp(word, name, size) != 0) return nullptr;
  if (word[size] == '=') return word + size + 1;
  return word[size] == '\0' && *at + 1 < argc ? argv[++*at] : nullptr;
}

bool TakeGlobal(int argc, char** argv, int* at, OciWords* words) {
  if (::strcmp(argv[*at], "--systemd-cgroup") == 0) return true;
  if (const char* root = ValueOf("--root", argc, argv, at)) {
    words->root = root;
    // Node takes a `..` away without looking at what is before it.
    return *root != '\0' && !::strstr(root, "..");
  }
  // Nothing is logged of what succeeds.
  if (const char* format = ValueOf("--log-format", argc, argv, at)) return ::strcmp(format, "text") == 0 || ::strcmp(format, "json") == 0;
  return ValueOf("--log", argc, argv, at) != nullptr;
}

bool TakeArgument(const char* word, OciWords* words) {
  const bool is_delete = ::strcmp(words->command, "delete") == 0;
  if (is_delete && (::strcmp(word, "--force") == 0 || ::strcmp(word, "-f") == 0)) {
    words->force = true;
    return true;
  }
  if (word[0] == '-') return false;
  if (!words->id) {
    words->id = word;
    return IsId(word);
  }
  if (words->signal || ::strcmp(words->command, "kill") != 0) return false;
  words->signal = word;
  return true;
}

}  // namespace

bool ParseOciWords(int argc, char** argv, OciWords* words) {
  int at = 1;
  for (; at < argc && argv[at][0] == '-'; at++) {
    if (!TakeGlobal(argc, argv, &at, words)) return false;
  }
  if (at >= argc) return false;
  for (const char* command : kCommands) {
    if (::strcmp(argv[at], command) == 0) words->command = command;
  }
  if (!words->command) return false;
  for (at++; at < argc; at++) {
    if (!TakeArgument(argv[at], words)) return false;
  }
  return words->id != nullptr;
}

int SimpleSignal(const char* text) {
  for (const auto& [signal, name] : kSignals) {
    if (::strcasecmp(text, name) == 0 || (::strncasecmp(text, "SIG", 3) == 0 && ::strcasecmp(text + 3, name) == 0)) return signal;
  }
  int number = 0;
  for (const char* digit = text; *digit; digit++) {
    if (*digit < '0' || *digit > '9' || number > kLastNamed) return 0;
    number = number * 10 + (*digit - '0');
  }
  return number <= kLastNamed ? number : 0;
}

}  // namespace berth
