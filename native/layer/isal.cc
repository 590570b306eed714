// Inflating by ISA-L (libisal.so.2), about twice as fast as zlib.
#include <dlfcn.h>

#include <algorithm>
#include <cstring>

#include "decoder.h"

namespace berth {
namespace {

// struct inflate_state of ISA-L's igzip_lib.h, soname 2 (2.17 to 2.31), as far as it is used; the header is seldom installed where the
// library is. The tables and buffers between belong to the library.
constexpr size_t kLiteralTableBytes = 4 * 4096 + 2 * 1264;
constexpr size_t kDistanceTableBytes = 2 * 1024 + 2 * 80;

struct State {
  uint8_t* next_out;
  uint32_t avail_out;
  uint32_t total_out;
  const uint8_t* next_in;
  uint64_t read_in;
  uint32_t avail_in;
  int32_t read_in_length;
  uint8_t tables[kLiteralTableBytes + kDistanceTableBytes];
  uint32_t block_state;
  uint32_t dict_length;
  uint32_t bfinal;
  uint32_t crc_flag;
  // 66 KiB in 2.30; the rest is room for a version that has grown, which the test of its work then judges.
  uint8_t rest[128 * 1024];
};

// ISAL_BLOCK_FINISH: the member has ended and all of it is in the output.
constexpr uint32_t kFinished = 5;
// ISAL_GZIP: reads header and trailer, and verifies the checksum.
constexpr uint32_t kGzip = 1;

struct Library {
  void (*init)(State*) = nullptr;
  void (*reset)(State*) = nullptr;
  int (*run)(State*) = nullptr;
};

const char* ReasonOf(int result) {
  switch (result) {
    case -1:
      return "invalid block";
    case -2:
      return "invalid symbol";
    case -3:
      return "invalid distance too far back";
    case -4:
      return "incorrect header check";
    case -5:
      return "unknown compression method";
    case -6:
      return "incorrect data check";
    default:
      return "it cannot be decoded";
  }
}

class Isal : public Inflater {
 public:
  explicit Isal(const Library& library) : library_(library), state_(std::make_unique<State>()) { library_.init(state_.get()); }

  void Reset() override {
    library_.reset(state_.get());
    state_->crc_flag = kGzip;
  }

  Result Run(Stream* stream) override {
    for (;;) {
      const uint32_t in_size = Bound(stream->in_size);
      const uint32_t out_size = Bound(stream->out_size);
      state_->next_in = stream->in;
      state_->avail_in = in_size;
      state_->next_out = stream->out;
      state_->avail_out = out_size;
      const int result = library_.run(state_.get());
      // A library that returns more than it was given is not the one this was written for.
      if (state_->avail_in > in_size || state_->avail_out > out_size) {
        reason_ = "the library does not keep its limits";
        return Result::kDamaged;
      }
      stream->in += in_size - state_->avail_in;
      stream->in_size -= in_size - state_->avail_in;
      stream->out += out_size - state_->avail_out;
      stream->out_size -= out_size - state_->avail_out;
      if (result < 0) {
        reason_ = ReasonOf(result);
        return Result::kDamaged;
      }
      if (state_->block_state == kFinished) return Result::kEnd;
      if (stream->in_size == 0 || stream->out_size == 0) return Result::kMore;
      // It neither took nor gave anything: it would for ever.
      if (state_->avail_in == in_size && state_->avail_out == out_size) {
        reason_ = "it cannot be decoded";
        return Result::kDamaged;
      }
    }
  }

  const char* Name() const override { return "ISA-L"; }
  const char* Reason() const override { return reason_; }

 private:
  static uint32_t Bound(size_t size) { return static_cast<uint32_t>(std::min<size_t>(size, 1u << 30)); }

  Library library_;
  std::unique_ptr<State> state_;
  const char* reason_ = "";
};

// "berth" as gzip, and the same with a wrong checksum.
constexpr uint8_t kSample[] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b, 0x4a, 0x2d, 0x2a, 0xc9, 0x00, 0x00, 0xa7, 0x3d, 0x67, 0x76, 5, 0, 0, 0};

Inflater::Result Decode(const Library& library, const uint8_t* sample, size_t cut, char* text, Stream* stream) {
  Isal isal(library);
  isal.Reset();
  *stream = {sample, cut, reinterpret_cast<uint8_t*>(text), 16};
  const Inflater::Result first = isal.Run(stream);
  if (cut == sizeof(kSample) || first != Inflater::Result::kMore) return first;
  stream->in_size = sizeof(kSample) - cut;
  return isal.Run(stream);
}

// Whether the structure above is the one that this library has.
bool Works(const Library& library) {
  for (size_t cut = 1; cut <= sizeof(kSample); cut++) {
    char text[16] = {};
    Stream stream;
    if (Decode(library, kSample, cut, text, &stream) != Inflater::Result::kEnd) return false;
    if (std::strcmp(text, "berth") != 0 || stream.in_size != 0 || stream.out_size != 11) return false;
  }
  uint8_t damaged[sizeof(kSample)];
  std::memcpy(damaged, kSample, sizeof(kSample));
  damaged[sizeof(kSample) - 5] ^= 1;
  char text[16] = {};
  Stream stream;
  return Decode(library, damaged, sizeof(kSample), text, &stream) == Inflater::Result::kDamaged;
}

Library Load() {
  Library library;
  void* handle = dlopen("libisal.so.2", RTLD_NOW | RTLD_LOCAL);
  if (!handle) return library;
  library.init = reinterpret_cast<decltype(library.init)>(dlsym(handle, "isal_inflate_init"));
  library.reset = reinterpret_cast<decltype(library.reset)>(dlsym(handle, "isal_inflate_reset"));
  library.run = reinterpret_cast<decltype(library.run)>(dlsym(handle, "isal_inflate"));
  if (!library.init || !library.reset || !library.run || !Works(library)) return {};
  return library;
}

}  // namespace

std::unique_ptr<Inflater> OpenIsal() {
  static const Library library = Load();
  return library.run ? std::make_unique<Isal>(library) : nullptr;
}

}  // namespace berth
