// JavaScript values in: each is taken as exactly the type that the call needs, or refused with a TypeError that names it.
#ifndef BERTH_ADDON_VALUE_H_
#define BERTH_ADDON_VALUE_H_

#include <napi.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace berth {

[[noreturn]] inline void Refuse(Napi::Env env, const char* name, const char* wanted) {
  throw Napi::TypeError::New(env, std::string(name) + " must be " + wanted);
}

// A number that is whole and lies within T.
template <typename T>
T Integer(const Napi::Value& value, const char* name) {
  double number = 0;
  if (napi_get_value_double(value.Env(), value, &number) != napi_ok) Refuse(value.Env(), name, "a number");
  // 2^53: beyond it a double no longer says which number was meant.
  constexpr double kExact = 9007199254740992.0;
  constexpr double kLow = std::max(-kExact, static_cast<double>(std::numeric_limits<T>::min()));
  constexpr double kHigh = std::min(kExact, static_cast<double>(std::numeric_limits<T>::max()));
  if (!(number >= kLow && number <= kHigh) || number != std::trunc(number)) {
    Refuse(value.Env(), name, "a whole number within its range");
  }
  return static_cast<T>(number);
}

inline int Int(const Napi::Value& value, const char* name) { return Integer<int>(value, name); }
inline uint32_t Unsigned(const Napi::Value& value, const char* name) { return Integer<uint32_t>(value, name); }

// An id or -1, which the calls take as "unchanged".
inline uint32_t IdOrKeep(const Napi::Value& value, const char* name) {
  const int64_t id = Integer<int64_t>(value, name);
  if (id < -1 || id > std::numeric_limits<uint32_t>::max()) Refuse(value.Env(), name, "an id or -1");
  return static_cast<uint32_t>(id);
}

inline int64_t BigInt64(const Napi::Value& value, const char* name) {
  int64_t number = 0;
  bool lossless = false;
  if (napi_get_value_bigint_int64(value.Env(), value, &number, &lossless) != napi_ok || !lossless) {
    Refuse(value.Env(), name, "a bigint of 64 bits");
  }
  return number;
}

inline bool Bool(const Napi::Value& value, const char* name) {
  bool flag = false;
  if (napi_get_value_bool(value.Env(), value, &flag) != napi_ok) Refuse(value.Env(), name, "a boolean");
  return flag;
}

struct Bytes {
  const uint8_t* data;
  size_t size;
};

// The bytes of a Uint8Array (a Buffer is one); valid while the value is.
inline Bytes BytesOf(const Napi::Value& value, const char* name) {
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(value.Env(), value, &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array) {
    Refuse(value.Env(), name, "a Uint8Array");
  }
  return {static_cast<const uint8_t*>(data), length};
}

// A C string out of a string, or out of bytes where names need not be UTF-8. A NUL inside is refused: the kernel would see another name.
class Text {
 public:
  enum class Accept { kString, kStringOrBytes };

  Text(const Napi::Value& value, const char* name, Accept accept = Accept::kString) {
    const napi_env env = value.Env();
    const napi_status status = napi_get_value_string_utf8(env, value, short_, sizeof(short_), &size_);
    if (status == napi_string_expected && accept == Accept::kStringOrBytes) {
      const Bytes bytes = BytesOf(value, name);
      size_ = bytes.size;
      char* target = short_;
      if (size_ >= sizeof(short_)) target = Grow();
      if (size_ > 0) std::memcpy(target, bytes.data, size_);
      target[size_] = '\0';
    } else if (status != napi_ok) {
      Refuse(env, name, accept == Accept::kString ? "a string" : "a string or a Uint8Array");
    } else if (size_ + 4 >= sizeof(short_)) {
      // Perhaps cut off (a character takes up to 4 bytes): asks for the length first.
      napi_get_value_string_utf8(env, value, nullptr, 0, &size_);
      napi_get_value_string_utf8(env, value, Grow(), size_ + 1, &size_);
    }
    if (std::memchr(c_str(), 0, size_)) Refuse(env, name, "free of NUL bytes");
  }
  Text(const Text&) = delete;
  Text& operator=(const Text&) = delete;

  const char* c_str() const { return long_ ? long_.get() : short_; }
  std::string str() const { return {c_str(), size_}; }

 private:
  char* Grow() {
    long_ = std::make_unique<char[]>(size_ + 1);
    return long_.get();
  }

  size_t size_ = 0;
  char short_[512];
  std::unique_ptr<char[]> long_;
};

// A path of a file: a name in a hostile tree may be any bytes.
class Path : public Text {
 public:
  Path(const Napi::Value& value, const char* name) : Text(value, name, Accept::kStringOrBytes) {}
};

inline Napi::Object ObjectOf(const Napi::Value& value, const char* name) {
  if (!value.IsObject()) Refuse(value.Env(), name, "an object");
  return value.As<Napi::Object>();
}

inline Napi::Array ArrayOf(const Napi::Value& value, const char* name) {
  if (!value.IsArray()) Refuse(value.Env(), name, "an array");
  return value.As<Napi::Array>();
}

inline std::vector<std::string> Texts(const Napi::Value& value, const char* name) {
  const Napi::Array array = ArrayOf(value, name);
  std::vector<std::string> texts;
  texts.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); i++) texts.push_back(Text(array.Get(i), name).str());
  return texts;
}

inline std::vector<int> Ints(const Napi::Value& value, const char* name) {
  const Napi::Array array = ArrayOf(value, name);
  std::vector<int> numbers;
  numbers.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); i++) numbers.push_back(Int(array.Get(i), name));
  return numbers;
}

}  // namespace berth

#endif  // BERTH_ADDON_VALUE_H_
