// What an overlay needs on kernels without `lowerdir+`: all of its options in one page, with layers under short names.
#ifndef BERTH_COMMON_OVERLAY_H_
#define BERTH_COMMON_OVERLAY_H_

#include <sys/utsname.h>

#include <cstddef>
#include <cstdio>
#include <cstring>

namespace berth {

// Longest value of fsconfig(2).
inline constexpr size_t kFsconfigValueMax = 255;

inline bool KernelIsAtLeast(unsigned major, unsigned minor) {
  utsname name;
  unsigned its_major = 0;
  unsigned its_minor = 0;
  if (::uname(&name) || std::sscanf(name.release, "%u.%u", &its_major, &its_minor) != 2) return false;
  return its_major > major || (its_major == major && its_minor >= minor);
}

// Layers one by one came with Linux 6.7. Not found out by trying: before 6.5 fsconfig takes any option, fsmount refuses them together, and
// the kernel's log gets a line each time.
inline bool HasOverlayLayersOneByOne() { return KernelIsAtLeast(6, 7); }

// The last argument of mount(2): one page, with its NUL.
class OverlayData {
 public:
  // Layers that are mounted at "0", "1" … of the working directory, topmost first: 500 of them, overlayfs's limit, take 2 KiB.
  void AddLayers(size_t count) {
    Add("lowerdir=", false);
    for (size_t i = 0; i < count; i++) {
      char name[24];
      std::snprintf(name, sizeof(name), i ? ":%zu" : "%zu", i);
      Add(name, false);
    }
  }
  // `key` ends in '='.
  void AddPath(const char* key, const char* path) {
    AddOption(key);
    Add(path, true);
  }
  void AddOption(const char* option) {
    if (used_) Add(",", false);
    Add(option, false);
  }
  bool fits() const { return fits_; }
  const char* text() const { return text_; }

 private:
  void Add(const char* text, bool escape) {
    for (; *text; text++) {
      // Overlayfs reads a backslash before these as part of the name.
      if (escape && std::strchr(",:\\", *text)) Put('\\');
      Put(*text);
    }
  }
  void Put(char c) {
    fits_ = fits_ && used_ + 1 < sizeof(text_);
    if (fits_) text_[used_++] = c;
  }

  char text_[4096] = "";
  size_t used_ = 0;
  bool fits_ = true;
};

}  // namespace berth

#endif  // BERTH_COMMON_OVERLAY_H_
