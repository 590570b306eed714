#include "json.h"

#include <cstring>

namespace berth {
namespace {

// Length of the well-formed UTF-8 sequence at `s` (no overlong form, no surrogate), 0 when there is none.
size_t Utf8Length(const unsigned char* s) {
  if (s[0] < 0x80) return 1;
  const size_t length = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
  if (s[0] < 0xc2 || s[0] > 0xf4) return 0;
  for (size_t i = 1; i < length; i++) {
    if ((s[i] & 0xc0) != 0x80) return 0;
  }
  if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)) return 0;
  if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) return 0;
  return length;
}

// Decimal digits of `value`, written before `end`; returns their start.
char* Digits(uint64_t value, char* end) {
  do {
    *--end = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value);
  return end;
}

}  // namespace

void JsonWriter::Raw(const char* bytes, size_t size) {
  if (!ok_) return;
  if (size_ + size + 1 > capacity_) {
    size_t capacity = capacity_ ? capacity_ * 2 : 256;
    while (capacity < size_ + size + 1) capacity *= 2;
    void* data = std::realloc(data_, capacity);
    if (!data) {
      ok_ = false;
      return;
    }
    data_ = static_cast<char*>(data);
    capacity_ = capacity;
  }
  std::memcpy(data_ + size_, bytes, size);
  size_ += size;
  data_[size_] = '\0';
}

void JsonWriter::Comma() {
  if (comma_) Raw(",", 1);
  comma_ = true;
}

void JsonWriter::BeginObject() {
  Comma();
  Raw("{", 1);
  comma_ = false;
}

void JsonWriter::EndObject() {
  Raw("}", 1);
  comma_ = true;
}

void JsonWriter::BeginArray() {
  Comma();
  Raw("[", 1);
  comma_ = false;
}

void JsonWriter::EndArray() {
  Raw("]", 1);
  comma_ = true;
}

void JsonWriter::Key(const char* key) {
  Comma();
  Escaped(key);
  Raw(":", 1);
  comma_ = false;
}

void JsonWriter::Text(const char* value) {
  Comma();
  Escaped(value);
}

void JsonWriter::Number(int64_t value) {
  Comma();
  char buffer[24];
  char* end = buffer + sizeof(buffer);
  const uint64_t magnitude = value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  char* start = Digits(magnitude, end);
  if (value < 0) *--start = '-';
  Raw(start, static_cast<size_t>(end - start));
}

void JsonWriter::QuotedNumber(uint64_t value) {
  Comma();
  char buffer[24];
  char* end = buffer + sizeof(buffer);
  *--end = '"';
  char* start = Digits(value, end);
  *--start = '"';
  Raw(start, static_cast<size_t>(end + 1 - start));
}

void JsonWriter::Flag(bool value) {
  Comma();
  if (value) {
    Raw("true", 4);
  } else {
    Raw("false", 5);
  }
}

void JsonWriter::Escaped(const char* value) {
  static constexpr char kHex[] = "0123456789abcdef";
  Raw("\"", 1);
  for (const unsigned char* s = reinterpret_cast<const unsigned char*>(value); *s;) {
    const size_t length = Utf8Length(s);
    if (length == 0) {
      Raw("\\ufffd", 6);
      s++;
    } else if (*s == '"' || *s == '\\') {
      const char escape[2] = {'\\', static_cast<char>(*s)};
      Raw(escape, 2);
      s++;
    } else if (*s < 0x20 || *s == 0x7f) {
      const char escape[6] = {'\\', 'u', '0', '0', kHex[*s >> 4], kHex[*s & 15]};
      Raw(escape, 6);
      s++;
    } else {
      Raw(reinterpret_cast<const char*>(s), length);
      s += length;
    }
  }
  Raw("\"", 1);
}

}  // namespace berth
