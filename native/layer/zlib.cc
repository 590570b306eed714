// Inflating by zlib: the one that Node is built with, or else the system's.
#include <dlfcn.h>
#include <zlib.h>

#include <algorithm>
#include <limits>

#include "decoder.h"

namespace berth {
namespace {

struct Library {
  decltype(&inflateInit2_) init = nullptr;
  decltype(&inflate) run = nullptr;
  decltype(&inflateReset) reset = nullptr;
  decltype(&inflateEnd) end = nullptr;

  explicit Library(void* handle) {
    init = reinterpret_cast<decltype(init)>(dlsym(handle, "inflateInit2_"));
    run = reinterpret_cast<decltype(run)>(dlsym(handle, "inflate"));
    reset = reinterpret_cast<decltype(reset)>(dlsym(handle, "inflateReset"));
    end = reinterpret_cast<decltype(end)>(dlsym(handle, "inflateEnd"));
  }

  bool IsWhole() const { return init && run && reset && end; }
};

Library Load() {
  const Library own(RTLD_DEFAULT);
  if (own.IsWhole()) return own;
  void* handle = dlopen("libz.so.1", RTLD_NOW | RTLD_LOCAL);
  return handle ? Library(handle) : own;
}

const Library& TheLibrary() {
  static const Library library = Load();
  return library;
}

// The largest window, and 16 for gzip's header and trailer.
constexpr int kWindowBits = 15 + 16;

class Zlib : public Inflater {
 public:
  ~Zlib() override {
    if (is_open_) TheLibrary().end(&state_);
  }

  bool Open() {
    is_open_ = TheLibrary().init(&state_, kWindowBits, ZLIB_VERSION, sizeof(state_)) == Z_OK;
    return is_open_;
  }

  void Reset() override { TheLibrary().reset(&state_); }

  Result Run(Stream* stream) override {
    for (;;) {
      const uInt in_size = Bound(stream->in_size);
      const uInt out_size = Bound(stream->out_size);
      state_.next_in = const_cast<Bytef*>(stream->in);
      state_.avail_in = in_size;
      state_.next_out = stream->out;
      state_.avail_out = out_size;
      const int result = TheLibrary().run(&state_, Z_NO_FLUSH);
      stream->in = state_.next_in;
      stream->in_size -= in_size - state_.avail_in;
      stream->out = state_.next_out;
      stream->out_size -= out_size - state_.avail_out;
      if (result == Z_STREAM_END) return Result::kEnd;
      // Z_BUF_ERROR: nothing could be done, as both have to be given anew.
      if (result == Z_BUF_ERROR) return Result::kMore;
      if (result != Z_OK) return Result::kDamaged;
      if (stream->in_size == 0 || stream->out_size == 0) return Result::kMore;
    }
  }

  const char* Name() const override { return "zlib"; }
  const char* Reason() const override { return state_.msg ? state_.msg : "it cannot be decoded"; }

 private:
  static uInt Bound(size_t size) {
    return static_cast<uInt>(std::min<size_t>(size, std::numeric_limits<uInt>::max()));
  }

  z_stream state_{};
  bool is_open_ = false;
};

}  // namespace

std::unique_ptr<Inflater> OpenZlib() {
  if (!TheLibrary().IsWhole()) return nullptr;
  auto zlib = std::make_unique<Zlib>();
  return zlib->Open() ? std::move(zlib) : nullptr;
}

}  // namespace berth
