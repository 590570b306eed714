#include "sha256.h"

#include <dlfcn.h>

#include <type_traits>

namespace berth {
namespace {

// Of OpenSSL's evp.h, the same since 1.1.
struct Library {
  void* (*open)() = nullptr;
  void (*close)(void*) = nullptr;
  const void* (*sha256)() = nullptr;
  int (*init)(void*, const void*, void*) = nullptr;
  int (*update)(void*, const void*, size_t) = nullptr;
  int (*finish)(void*, unsigned char*, unsigned*) = nullptr;

  bool IsWhole() const { return open && close && sha256 && init && update && finish; }
};

Library Load() {
  Library library;
  auto find = [](auto* target, const char* name) {
    *target = reinterpret_cast<std::remove_reference_t<decltype(*target)>>(dlsym(RTLD_DEFAULT, name));
  };
  find(&library.open, "EVP_MD_CTX_new");
  find(&library.close, "EVP_MD_CTX_free");
  find(&library.sha256, "EVP_sha256");
  find(&library.init, "EVP_DigestInit_ex");
  find(&library.update, "EVP_DigestUpdate");
  find(&library.finish, "EVP_DigestFinal_ex");
  return library;
}

const Library& TheLibrary() {
  static const Library library = Load();
  return library;
}

constexpr size_t kDigestBytes = 32;
// EVP_MAX_MD_SIZE: what the library may write.
constexpr size_t kDigestBytesMax = 64;

}  // namespace

std::unique_ptr<Sha256> Sha256::Open() {
  const Library& library = TheLibrary();
  if (!library.IsWhole()) return nullptr;
  void* context = library.open();
  if (!context) return nullptr;
  std::unique_ptr<Sha256> hash(new Sha256(context));
  return library.init(context, library.sha256(), nullptr) == 1 ? std::move(hash) : nullptr;
}

Sha256::~Sha256() { TheLibrary().close(context_); }

void Sha256::Update(const uint8_t* data, size_t size) {
  if (TheLibrary().update(context_, data, size) != 1) is_good_ = false;
}

std::string Sha256::Finish() {
  unsigned char digest[kDigestBytesMax];
  unsigned size = 0;
  if (!is_good_ || TheLibrary().finish(context_, digest, &size) != 1 || size != kDigestBytes) return "";
  std::string text;
  for (size_t i = 0; i < kDigestBytes; i++) {
    text += "0123456789abcdef"[digest[i] >> 4];
    text += "0123456789abcdef"[digest[i] & 15];
  }
  return text;
}

}  // namespace berth
