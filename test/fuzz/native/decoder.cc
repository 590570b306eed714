// Decompression of layers: gzip by ISA-L and by zlib, zstd. However the bytes are cut the same comes out, and what two libraries both accept they read
// alike. The libraries are not instrumented: their writes are looked for behind the output.
#include "../../../native/layer/decoder.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace berth {
namespace {

constexpr size_t kOutputMax = 256 * 1024;
constexpr size_t kGuard = 64;
constexpr uint8_t kGuardByte = 0xa5;
constexpr int kWindowLog = 20;

struct Decoded {
  Verdict verdict = Verdict::kGood;
  bool whole = false;
  bool cut = false;  // More than kOutputMax came out.
  std::string bytes;
};

Decoded Decode(Decoder* decoder, const uint8_t* data, size_t size, size_t in_piece, size_t out_piece) {
  Decoded result;
  std::vector<uint8_t> output(out_piece + kGuard, kGuardByte);
  for (size_t at = 0; at < size;) {
    // On the heap by itself, so that a byte read behind it is found.
    const size_t length = std::min(in_piece, size - at);
    const std::vector<uint8_t> input(data + at, data + at + length);
    Stream stream{input.data(), input.size(), nullptr, 0};
    at += length;
    for (;;) {
      stream.out = output.data();
      stream.out_size = out_piece;
      const size_t before = stream.in_size;
      result.verdict = decoder->Run(&stream);
      if (stream.in_size > before || stream.out_size > out_piece) abort();
      for (size_t i = out_piece; i < output.size(); i++) {
        if (output[i] != kGuardByte) abort();
      }
      result.bytes.append(reinterpret_cast<const char*>(output.data()), out_piece - stream.out_size);
      if (result.verdict != Verdict::kGood) {
        if (result.verdict == Verdict::kDamaged && strlen(decoder->reason()) == 0) abort();
        return result;
      }
      if (result.bytes.size() > kOutputMax) {
        result.cut = true;
        return result;
      }
      // With room left in the output it wants more input, and must have taken all there was.
      if (stream.out_size > 0) {
        if (stream.in_size > 0) abort();
        break;
      }
    }
  }
  result.whole = decoder->IsWhole();
  return result;
}

void Compare(std::unique_ptr<Decoder> one, std::unique_ptr<Decoder> other, const uint8_t* data, size_t size,
             size_t in_piece, size_t out_piece) {
  if (!one || !other) abort();
  const Decoded whole = Decode(one.get(), data, size, size, 16 * 1024);
  const Decoded pieces = Decode(other.get(), data, size, in_piece, out_piece);
  if (whole.cut || pieces.cut) return;
  if ((whole.verdict == Verdict::kGood) != (pieces.verdict == Verdict::kGood)) abort();
  if (whole.verdict != Verdict::kGood) return;
  if (whole.whole != pieces.whole || whole.bytes != pieces.bytes) abort();
}

}  // namespace
}  // namespace berth

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace berth;
  if (size < 3) return 0;
  const size_t in_piece = 1 + data[1];
  const size_t out_piece = 1 + 16 * data[2];
  const uint8_t* bytes = data + 3;
  const size_t length = size - 3;
  if ((data[0] & 1) != 0) {
    Compare(OpenZstd(true, kWindowLog), OpenZstd(true, kWindowLog), bytes, length, in_piece, out_piece);
    return 0;
  }
  for (const bool extra : {false, true}) {
    Compare(OpenGzip(extra), OpenGzip(extra), bytes, length, in_piece, out_piece);
  }
  const Decoded zlib = Decode(OpenGzip(false).get(), bytes, length, length, 16 * 1024);
  const Decoded isal = Decode(OpenGzip(true).get(), bytes, length, length, 16 * 1024);
  const bool both = !zlib.cut && !isal.cut && zlib.verdict == Verdict::kGood && isal.verdict == Verdict::kGood;
  if (both && zlib.whole && isal.whole && zlib.bytes != isal.bytes) abort();
  return 0;
}
