// The frames of a zstd stream (RFC 8878) one after the other, by libzstd.so.1.
#include <dlfcn.h>

#include <algorithm>
#include <cstring>

#include "decoder.h"

namespace berth {
namespace {

constexpr uint32_t kMagic = 0xfd2fb528;
constexpr uint32_t kSkippable = 0x184d2a50;
// Of a frame's header behind the magic number, at most.
constexpr size_t kHeaderMax = 14;

// Of zstd.h and zstd_errors.h, whose values are stable.
struct OutBuffer {
  void* data;
  size_t size;
  size_t done;
};
struct InBuffer {
  const void* data;
  size_t size;
  size_t done;
};
constexpr int kWindowLogMax = 100;
constexpr int kResetSession = 1;
constexpr int kWindowTooLarge = 16;
constexpr int kDictionaryWrong = 32;
constexpr int kMemory = 64;

struct Library {
  void* (*open)() = nullptr;
  size_t (*close)(void*) = nullptr;
  size_t (*reset)(void*, int) = nullptr;
  size_t (*set)(void*, int, int) = nullptr;
  size_t (*run)(void*, OutBuffer*, InBuffer*) = nullptr;
  unsigned (*is_error)(size_t) = nullptr;
  int (*code)(size_t) = nullptr;
  const char* (*name)(size_t) = nullptr;

  bool IsWhole() const { return open && close && reset && set && run && is_error && code && name; }
};

Library Load() {
  Library library;
  void* handle = dlopen("libzstd.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!handle) return library;
  const auto find = [handle](auto& call, const char* name) {
    call = reinterpret_cast<std::remove_reference_t<decltype(call)>>(dlsym(handle, name));
  };
  find(library.open, "ZSTD_createDCtx");
  find(library.close, "ZSTD_freeDCtx");
  find(library.reset, "ZSTD_DCtx_reset");
  find(library.set, "ZSTD_DCtx_setParameter");
  find(library.run, "ZSTD_decompressStream");
  find(library.is_error, "ZSTD_isError");
  find(library.code, "ZSTD_getErrorCode");
  find(library.name, "ZSTD_getErrorName");
  return library;
}

const Library& TheLibrary() {
  static const Library library = Load();
  return library;
}

class Zstd : public Decoder {
 public:
  ~Zstd() override { TheLibrary().close(context_); }

  bool Open(int window_log) {
    context_ = TheLibrary().open();
    return context_ && !TheLibrary().is_error(TheLibrary().set(context_, kWindowLogMax, window_log));
  }

  Verdict Run(Stream* stream) override {
    for (;;) {
      // Also without input: a block may wait for room in the output.
      if (state_ == State::kFrame) {
        const size_t before = stream->in_size + stream->out_size;
        const Verdict verdict = Frame(stream);
        if (verdict != Verdict::kGood) return verdict;
        if (state_ == State::kFrame && (stream->in_size == 0 || stream->out_size == 0)) return Verdict::kGood;
        if (state_ == State::kFrame && before == stream->in_size + stream->out_size) return Damaged("it cannot be decoded");
        continue;
      }
      if (stream->in_size == 0) return Verdict::kGood;
      if (state_ == State::kSkip) {
        const size_t size = std::min<size_t>(skip_, stream->in_size);
        stream->in += size;
        stream->in_size -= size;
        skip_ -= static_cast<uint32_t>(size);
        if (skip_ == 0) state_ = State::kMagic;
        continue;
      }
      if (!Collect(stream)) return Verdict::kGood;
      const uint32_t word = Word();
      if (state_ == State::kSkipSize) {
        skip_ = word;
        state_ = skip_ == 0 ? State::kMagic : State::kSkip;
      } else if ((word & 0xfffffff0) == kSkippable) {
        state_ = State::kSkipSize;
      } else if (word == kMagic) {
        const Verdict verdict = Start();
        if (verdict != Verdict::kGood) return verdict;
      } else {
        return Damaged("what follows a zstd frame is no other frame");
      }
    }
  }

  bool IsWhole() const override { return state_ == State::kMagic && held_ == 0; }
  const char* Name() const override { return "libzstd"; }

 private:
  enum class State { kMagic, kSkipSize, kSkip, kFrame };

  // Whether the four bytes are there.
  bool Collect(Stream* stream) {
    const size_t size = std::min<size_t>(sizeof(word_) - held_, stream->in_size);
    std::memcpy(word_ + held_, stream->in, size);
    stream->in += size;
    stream->in_size -= size;
    held_ += size;
    if (held_ < sizeof(word_)) return false;
    held_ = 0;
    return true;
  }

  uint32_t Word() const {
    return word_[0] | word_[1] << 8 | word_[2] << 16 | static_cast<uint32_t>(word_[3]) << 24;
  }

  // Gives the library the magic number, which it was not to see before it was known to be today's.
  Verdict Start() {
    TheLibrary().reset(context_, kResetSession);
    header_ = 0;
    state_ = State::kFrame;
    uint8_t none;
    Stream magic = {word_, sizeof(word_), &none, 0};
    const Verdict verdict = Frame(&magic);
    if (verdict != Verdict::kGood) return verdict;
    header_ = kHeaderMax;
    return magic.in_size == 0 ? Verdict::kGood : Damaged("it cannot be decoded");
  }

  Verdict Frame(Stream* stream) {
    OutBuffer out = {stream->out, stream->out_size, 0};
    // The call that sees the header's end looks for a whole frame where its own input begins (ZSTD_decompressStream's single pass): a header that looks like the
    // magic number of a skippable frame would have it skip what is content. One byte by itself is no frame.
    InBuffer in = {stream->in, header_ > 0 ? std::min<size_t>(stream->in_size, 1) : stream->in_size, 0};
    const size_t result = TheLibrary().run(context_, &out, &in);
    stream->out += out.done;
    stream->out_size -= out.done;
    stream->in += in.done;
    stream->in_size -= in.done;
    header_ -= std::min(header_, in.done);
    if (TheLibrary().is_error(result)) return Judge(result);
    if (result == 0) state_ = State::kMagic;
    return Verdict::kGood;
  }

  Verdict Judge(size_t result) {
    switch (TheLibrary().code(result)) {
      case kWindowTooLarge:
        return Verdict::kWindow;
      case kDictionaryWrong:
        return Verdict::kDictionary;
      case kMemory:
        return Verdict::kNoMemory;
      default:
        return Damaged(TheLibrary().name(result));
    }
  }

  Verdict Damaged(const char* reason) {
    reason_ = reason;
    return Verdict::kDamaged;
  }

  void* context_ = nullptr;
  State state_ = State::kMagic;
  uint8_t word_[4];
  size_t held_ = 0;
  uint32_t skip_ = 0;
  // Bytes that are yet to be given one by one.
  size_t header_ = 0;
};

}  // namespace

std::unique_ptr<Decoder> OpenZstd(bool extra, int window_log) {
  if (!extra || !TheLibrary().IsWhole()) return nullptr;
  auto zstd = std::make_unique<Zstd>();
  return zstd->Open(window_log) ? std::move(zstd) : nullptr;
}

}  // namespace berth
