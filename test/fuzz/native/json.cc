// Text of containers and clients in the monitor's JSON: whatever its bytes are, what comes out is JSON in UTF-8.
#include "../../../native/common/json.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

// Length of the character at the beginning, 0 where it is no UTF-8 (RFC 3629).
size_t CharacterSize(const unsigned char* s, size_t size) {
  const auto follows = [&](size_t count, unsigned char low, unsigned char high) -> size_t {
    if (size <= count || s[1] < low || s[1] > high) return 0;
    for (size_t i = 2; i <= count; i++) {
      if (s[i] < 0x80 || s[i] > 0xbf) return 0;
    }
    return count + 1;
  };
  if (s[0] < 0x80) return 1;
  if (s[0] >= 0xc2 && s[0] <= 0xdf) return follows(1, 0x80, 0xbf);
  if (s[0] == 0xe0) return follows(2, 0xa0, 0xbf);
  if (s[0] == 0xed) return follows(2, 0x80, 0x9f);
  if (s[0] >= 0xe1 && s[0] <= 0xef) return follows(2, 0x80, 0xbf);
  if (s[0] == 0xf0) return follows(3, 0x90, 0xbf);
  if (s[0] >= 0xf1 && s[0] <= 0xf3) return follows(3, 0x80, 0xbf);
  if (s[0] == 0xf4) return follows(3, 0x80, 0x8f);
  return 0;
}

// RFC 8259, 7: one string, to the end.
bool IsString(const char* data, size_t size) {
  if (size < 2 || data[0] != '"') return false;
  for (size_t at = 1; at < size;) {
    const auto c = static_cast<unsigned char>(data[at]);
    if (c == '"') return at + 1 == size;
    if (c < 0x20) return false;
    if (c == '\\') {
      if (at + 1 >= size) return false;
      if (data[at + 1] == 'u') {
        if (at + 6 > size || strspn(data + at + 2, "0123456789abcdefABCDEF") < 4) return false;
        at += 6;
      } else {
        if (strchr("\"\\/bfnrt", data[at + 1]) == nullptr) return false;
        at += 2;
      }
      continue;
    }
    const size_t length = CharacterSize(reinterpret_cast<const unsigned char*>(data) + at, size - at);
    if (length == 0) return false;
    at += length;
  }
  return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  berth::JsonWriter json;
  json.Text(text.c_str());
  if (!json.ok() || !IsString(json.data(), json.size())) abort();
  return 0;
}
