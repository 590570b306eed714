// SHA-256 by the OpenSSL that Node is built with. Knows no Node.
#ifndef BERTH_LAYER_SHA256_H_
#define BERTH_LAYER_SHA256_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace berth {

class Sha256 {
 public:
  // Null where the program has no OpenSSL.
  static std::unique_ptr<Sha256> Open();

  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  ~Sha256();

  void Update(const uint8_t* data, size_t size);
  // Of all that was given, in hexadecimal digits; '' where the library has failed. Only once, and nothing after it.
  std::string Finish();

 private:
  explicit Sha256(void* context) : context_(context) {}

  void* context_;
  bool is_good_ = true;
};

}  // namespace berth

#endif  // BERTH_LAYER_SHA256_H_
