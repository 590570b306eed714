// Texts that end with a NUL each, in a row.
#ifndef BERTH_COMMON_TEXTS_H_
#define BERTH_COMMON_TEXTS_H_

#include <stdio.h>
#include <string.h>

#include <cstddef>
#include <cstdlib>

namespace berth {

class TextReader {
 public:
  TextReader(const char* bytes, size_t size) : at_(bytes), end_(bytes + size), good_(size > 0 && bytes[size - 1] == '\0') {}

  // nullptr, and no longer good, where there is none.
  const char* Next() {
    if (!good_ || done()) {
      good_ = false;
      return nullptr;
    }
    const char* text = at_;
    at_ += ::strlen(at_) + 1;
    return text;
  }
  // -1 for what is no number.
  long NextNumber() {
    const char* text = Next();
    char* end = nullptr;
    const long number = text ? ::strtol(text, &end, 10) : -1;
    return text && end != text && *end == '\0' ? number : -1;
  }
  bool done() const { return at_ >= end_; }
  bool good() const { return good_; }

 private:
  const char* at_;
  const char* end_;
  bool good_;
};

// Grows up to a bound; what does not fit makes it bad.
template <size_t kBytesMax>
class TextWriter {
 public:
  TextWriter() : bytes_(static_cast<char*>(::malloc(kBytesMax))) {}
  TextWriter(const TextWriter&) = delete;
  TextWriter& operator=(const TextWriter&) = delete;
  ~TextWriter() { ::free(bytes_); }

  void Add(const char* text) {
    const size_t size = ::strlen(text) + 1;
    if (!bytes_ || size > kBytesMax - size_) {
      good_ = false;
      return;
    }
    ::memcpy(bytes_ + size_, text, size);
    size_ += size;
  }
  void Add(long number) {
    char text[24];
    ::snprintf(text, sizeof(text), "%ld", number);
    Add(text);
  }
  const char* bytes() const { return bytes_; }
  size_t size() const { return size_; }
  bool good() const { return bytes_ && good_; }

 private:
  char* bytes_;
  size_t size_ = 0;
  bool good_ = true;
};

}  // namespace berth

#endif  // BERTH_COMMON_TEXTS_H_
