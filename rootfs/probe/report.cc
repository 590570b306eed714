// hello: what a process sees of its isolation, as a table for people. `hello plain` says the same in `key=value` lines.
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <ifaddrs.h>
#include <net/if.h>
#include <sys/stat.h>
#include <unistd.h>

#include "probe.h"

namespace probe {

namespace {

bool plain = false;
const char* last_section = "";

// One row: section and key on the left, the formatted value on the right.
__attribute__((format(printf, 3, 4))) void Row(const char* section, const char* key, const char* format, ...) {
  char value[8192];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(value, sizeof value, format, arguments);
  va_end(arguments);
  if (plain) {
    std::printf("%s%s%s=%s\n", section, *key ? "." : "", key, value);
    return;
  }
  const bool repeated = std::strcmp(section, last_section) == 0;
  std::printf("  %-14s%-14s%s\n", repeated ? "" : section, key, value);
  last_section = section;
}

void Line(char* text) { text[std::strcspn(text, "\n")] = '\0'; }

// The value of `Key:` in /proc/self/status, into text.
bool Status(const char* key, char* text, size_t size) {
  char status[16384];
  if (!ReadText("/proc/self/status", status, sizeof status)) return false;
  const char* at = status;
  const size_t length = std::strlen(key);
  while (at && !(std::strncmp(at, key, length) == 0 && at[length] == ':')) {
    at = std::strchr(at, '\n');
    if (at) ++at;
  }
  if (!at) return false;
  at += length + 1;
  while (*at == ' ' || *at == '\t') ++at;
  std::snprintf(text, size, "%s", at);
  Line(text);
  return true;
}

// `new` or `host` where berth told the host's ids (BERTH_HOST_NAMESPACES="mnt:4026531841,pid:…"), else nothing.
const char* Compare(const char* name, unsigned long long id) {
  const char* host = std::getenv("BERTH_HOST_NAMESPACES");
  const size_t length = std::strlen(name);
  while (host && *host) {
    if (std::strncmp(host, name, length) == 0 && host[length] == ':') {
      return std::strtoull(host + length + 1, nullptr, 10) == id ? "the host's" : "new";
    }
    host = std::strchr(host, ',');
    if (host) ++host;
  }
  return "";
}

void Namespaces() {
  for (const char* name : {"mnt", "pid", "net", "ipc", "uts", "user", "cgroup", "time"}) {
    char path[64];
    std::snprintf(path, sizeof path, "/proc/self/ns/%s", name);
    struct stat s {};
    if (stat(path, &s) != 0) {
      Row("namespaces", name, "%s", strerrorname_np(errno));
      continue;
    }
    const auto id = static_cast<unsigned long long>(s.st_ino);
    const char* compared = Compare(name, id);
    Row("namespaces", name, "%llu%s%s", id, *compared ? "  " : "", compared);
  }
}

void Maps() {
  for (const char* name : {"uid_map", "gid_map"}) {
    char path[64], text[4096];
    std::snprintf(path, sizeof path, "/proc/self/%s", name);
    if (!ReadText(path, text, sizeof text)) continue;
    char* rest = text;
    while (char* line = strsep(&rest, "\n")) {
      unsigned inside = 0, outside = 0, size = 0;
      if (std::sscanf(line, "%u %u %u", &inside, &outside, &size) != 3) continue;
      Row(name, "", "%u = %u outside, %u ids", inside, outside, size);
    }
  }
}

void Capabilities() {
  uint64_t effective = 0;
  for (const char* key : {"CapEff", "CapBnd"}) {
    char text[64];
    if (!Status(key, text, sizeof text)) continue;
    const uint64_t bits = std::strtoull(text, nullptr, 16);
    if (key[3] == 'E') {
      effective = bits;
    } else if (!plain && bits != 0 && bits == effective) {
      Row("capabilities", "bounding", "the same");
      continue;
    }
    const char* label = key[3] == 'E' ? "effective" : "bounding";
    char names[2048] = "";
    size_t length = 0, column = 0;
    int count = 0;
    for (unsigned i = 0; i < 64; ++i) {
      if ((bits >> i & 1) == 0) continue;
      const char* name = CapabilityName(i);
      char number[16];
      std::snprintf(number, sizeof number, "%u", i);
      const char* word = name ? name : number;
      // The table's right column is kept to the width of a terminal.
      if (!plain && column > 0 && column + std::strlen(word) > 70) {
        length += static_cast<size_t>(std::snprintf(names + length, sizeof names - length, "\n%30s", ""));
        column = 0;
      }
      length += static_cast<size_t>(
          std::snprintf(names + length, sizeof names - length, "%s%s", column ? " " : "", word));
      column += std::strlen(word) + 1;
      ++count;
    }
    Row("capabilities", label, "%s", count ? names : "none");
  }
}

void Privileges() {
  char text[64];
  if (Status("Seccomp", text, sizeof text)) {
    Row("seccomp", "", "%s", text[0] == '2' ? "filter" : text[0] == '1' ? "strict" : "off");
  }
  if (Status("NoNewPrivs", text, sizeof text)) Row("no_new_privs", "", "%s", text[0] == '1' ? "yes" : "no");
}

void Cgroup() {
  char text[8192], path[4096] = "";
  if (ReadText("/proc/self/cgroup", text, sizeof text)) {
    char* rest = text;
    while (char* line = strsep(&rest, "\n")) {
      // The v2 hierarchy is the one numbered 0; on a hybrid host there are others.
      if (std::strncmp(line, "0::", 3) == 0) std::snprintf(path, sizeof path, "%.4000s", line + 3);
    }
  }
  Row("cgroup", "path", "%s", *path ? path : "not visible");
  for (const char* file : {"memory.max", "memory.swap.max", "pids.max", "cpu.max", "cpu.weight", "cpuset.cpus"}) {
    char name[4300], value[256];
    std::snprintf(name, sizeof name, "/sys/fs/cgroup%s/%s", path, file);
    if (!ReadText(name, value, sizeof value)) continue;
    Line(value);
    Row("cgroup", file, "%s", *value ? value : "-");
  }
}

void Mounts() {
  FILE* file = std::fopen("/proc/self/mountinfo", "re");
  if (!file) return;
  static char line[16384];
  while (std::fgets(line, sizeof line, file)) {
    char target[4096], options[1024], type[64];
    const char* dash = std::strstr(line, " - ");
    if (!dash || std::sscanf(line, "%*d %*d %*s %*s %4095s %1023s", target, options) != 2) continue;
    if (std::sscanf(dash, " - %63s", type) != 1) continue;
    if (plain) {
      Row("mount", "", "%s %s %s", target, type, options);
    } else {
      Row("mounts", type, "%-24s %s", target, options);
    }
  }
  std::fclose(file);
}

void Interfaces() {
  struct if_nameindex* all = if_nameindex();
  if (!all) return;
  char names[1024] = "";
  size_t length = 0;
  for (const struct if_nameindex* i = all; i->if_name && length < 900; ++i) {
    length += static_cast<size_t>(
        std::snprintf(names + length, sizeof names - length, "%s%s", length ? " " : "", i->if_name));
  }
  if_freenameindex(all);
  Row("interfaces", "", "%s", *names ? names : "none");
}

int Hello(int argc, char** argv) {
  plain = argc == 2 && std::strcmp(argv[1], "plain") == 0;
  if (argc > 1 && !plain) return Usage();
  char hostname[256] = "", directory[4096] = "";
  gethostname(hostname, sizeof hostname - 1);
  if (!getcwd(directory, sizeof directory)) std::strcpy(directory, "?");
  if (!plain) std::printf("Hello from a container of berth. This is what its process sees:\n\n");
  Row("pid", "", "%d", getpid());
  Row("user", "", "%u:%u", getuid(), getgid());
  Row("hostname", "", "%s", hostname);
  Row("directory", "", "%s", directory);
  Namespaces();
  Maps();
  Capabilities();
  Privileges();
  Cgroup();
  Interfaces();
  Mounts();
  return 0;
}

constexpr Verb kVerbs[] = {{"hello", "[plain]", Hello}};

}  // namespace

Verbs ReportVerbs() { return {kVerbs, sizeof kVerbs / sizeof *kVerbs}; }

}  // namespace probe
