// Writes JSON for replies and records; escapes what JSON and UTF-8 demand.
#ifndef BERTH_COMMON_JSON_H_
#define BERTH_COMMON_JSON_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace berth {

// Grows on the heap. When memory runs out `ok()` turns false and what is there must not be used.
class JsonWriter {
 public:
  JsonWriter() = default;
  JsonWriter(const JsonWriter&) = delete;
  JsonWriter& operator=(const JsonWriter&) = delete;
  ~JsonWriter() { std::free(data_); }

  void BeginObject();
  void EndObject();
  void BeginArray();
  void EndArray();
  void Key(const char* key);
  void Text(const char* value);
  void Number(int64_t value);
  void Flag(bool value);
  // A number as text in quotes: nanoseconds do not fit a JavaScript number.
  void QuotedNumber(uint64_t value);

  void Text(const char* key, const char* value) { Key(key), Text(value); }
  void Number(const char* key, int64_t value) { Key(key), Number(value); }
  void Flag(const char* key, bool value) { Key(key), Flag(value); }
  void QuotedNumber(const char* key, uint64_t value) { Key(key), QuotedNumber(value); }

  const char* data() const { return data_; }
  size_t size() const { return size_; }
  bool ok() const { return ok_ && data_; }

 private:
  void Raw(const char* bytes, size_t size);
  void Comma();
  void Escaped(const char* value);

  char* data_ = nullptr;
  size_t size_ = 0;
  size_t capacity_ = 0;
  bool comma_ = false;
  bool ok_ = true;
};

}  // namespace berth

#endif  // BERTH_COMMON_JSON_H_
