// Decompression of layers as a stream, by the fastest library that the machine has: each is loaded when it is first needed. Knows no Node,
// and trusts neither its input nor a library of another version than it was written for.
#ifndef BERTH_LAYER_DECODER_H_
#define BERTH_LAYER_DECODER_H_

#include <cstddef>
#include <cstdint>
#include <memory>

namespace berth {

// What is left of both; a call moves them on.
struct Stream {
  const uint8_t* in;
  size_t in_size;
  uint8_t* out;
  size_t out_size;
};

enum class Verdict {
  kGood,
  kDamaged,
  // A frame wants a larger window than allowed, or a dictionary.
  kWindow,
  kDictionary,
  kNoMemory,
};

class Decoder {
 public:
  virtual ~Decoder() = default;

  // Goes on until the input is used up or the output full: with room left in the output it wants more input. After anything
  // but kGood the decoder is of no more use.
  virtual Verdict Run(Stream* stream) = 0;
  // Whether the stream may end here.
  virtual bool IsWhole() const = 0;
  // Of the library, for people.
  virtual const char* Name() const = 0;
  // Why the last verdict was kDamaged: a text that lives as long as the program.
  const char* reason() const { return reason_; }

 protected:
  const char* reason_ = "";
};

// gzip of any number of members, each with its checksum verified. What follows the last one is not looked at where it begins with a zero
// byte, and damage otherwise. By ISA-L where the machine has it and `extra` allows it, else (and members whose header has fields) by zlib,
// which Node brings along; null where there is neither.
std::unique_ptr<Decoder> OpenGzip(bool extra);

// zstd of any number of frames, and skippable ones, by the machine's libzstd; null where there is none, or `extra` is false. Windows are at
// most 2^`window_log` bytes. Frames of zstd's versions before 1.0 are damage: their decoders are maintained by nobody.
std::unique_ptr<Decoder> OpenZstd(bool extra, int window_log);

// One member of gzip, by one library.
class Inflater {
 public:
  enum class Result { kMore, kEnd, kDamaged };

  virtual ~Inflater() = default;
  // A new member begins.
  virtual void Reset() = 0;
  virtual Result Run(Stream* stream) = 0;
  virtual const char* Name() const = 0;
  // As Decoder's.
  virtual const char* Reason() const = 0;
};

// Null where the library is not there, or does not pass a test of its work.
std::unique_ptr<Inflater> OpenIsal();
std::unique_ptr<Inflater> OpenZlib();

}  // namespace berth

#endif  // BERTH_LAYER_DECODER_H_
