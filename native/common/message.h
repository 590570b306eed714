// Reads a message of src/wire/message.ts: fields of `u16 tag, u16 zero, u32 length, bytes`, little endian.
#ifndef BERTH_COMMON_MESSAGE_H_
#define BERTH_COMMON_MESSAGE_H_

#include <cstdint>
#include <cstring>

#include "arena.h"
#include "tags.h"

namespace berth {

// The host is little endian (x86_64, aarch64), as the wire is.
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

struct Field {
  Tag tag{};
  Bytes bytes;

  // Whether the field is a number, and which.
  bool Number(int64_t* value) const {
    if (bytes.size != sizeof(*value)) return false;
    std::memcpy(value, bytes.data, sizeof(*value));
    return true;
  }
};

// `while (reader.Next(&field))` visits all fields; `ok()` then says whether the message ended where it should.
class Reader {
 public:
  explicit Reader(Bytes message) : rest_(message) {}

  bool Next(Field* field) {
    constexpr size_t kHead = 8;
    if (!ok_ || rest_.size == 0) return false;
    uint16_t tag = 0;
    uint16_t zero = 0;
    uint32_t length = 0;
    if (rest_.size >= kHead) {
      std::memcpy(&tag, rest_.data, sizeof(tag));
      std::memcpy(&zero, rest_.data + 2, sizeof(zero));
      std::memcpy(&length, rest_.data + 4, sizeof(length));
    }
    ok_ = rest_.size >= kHead && zero == 0 && length <= rest_.size - kHead;
    if (!ok_) return false;
    field->tag = static_cast<Tag>(tag);
    field->bytes = {rest_.data + kHead, length};
    rest_ = {rest_.data + kHead + length, rest_.size - kHead - length};
    return true;
  }

  bool ok() const { return ok_; }

 private:
  Bytes rest_;
  bool ok_ = true;
};

}  // namespace berth

#endif  // BERTH_COMMON_MESSAGE_H_
