// Decompression on a thread of its own, which also hashes what it makes: the caller writes one piece to the disk while the next is made.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "../layer/decoder.h"
#include "../layer/sha256.h"
#include "calls.h"
#include "value.h"
#include "work.h"

namespace berth {
namespace {

constexpr size_t kSliceBytes = 128 * 1024;

// Shared with the thread, and by the buffers that JavaScript sees: an environment may end while the thread is at work. Only one of them
// touches it at a time: the thread while `is_busy`, except for the output that it does not write to.
struct Ahead {
  std::unique_ptr<Decoder> decoder;
  std::unique_ptr<Sha256> hash;
  std::vector<uint8_t> input;
  size_t taken = 0;
  size_t output_bytes;
  std::unique_ptr<uint8_t[]> outputs[2];
  bool is_busy = false;
  Verdict verdict = Verdict::kGood;
  size_t made = 0;

  void Run(int which) {
    uint8_t* const output = outputs[which].get();
    made = 0;
    // In slices: each is hashed while it is in the processor's cache.
    for (bool goes_on = true; goes_on;) {
      const size_t room = std::min(output_bytes - made, kSliceBytes);
      Stream stream = {input.data() + taken, input.size() - taken, output + made, room};
      verdict = decoder->Run(&stream);
      taken = input.size() - stream.in_size;
      hash->Update(output + made, room - stream.out_size);
      made += room - stream.out_size;
      goes_on = verdict == Verdict::kGood && stream.out_size == 0 && made < output_bytes;
    }
  }
};
using Shared = std::shared_ptr<Ahead>;

Shared& AheadOf(const Napi::Value& value) {
  if (!value.IsExternal()) Refuse(value.Env(), "ahead", "of decodeAhead");
  Shared& ahead = *value.As<Napi::External<Shared>>().Data();
  if (ahead->is_busy) throw Napi::Error::New(value.Env(), "the thread is at work");
  return ahead;
}

constexpr uint32_t kOutputBytesMax = 64 << 20;

Napi::Value Open(Napi::Env env, std::unique_ptr<Decoder> decoder, uint32_t output_bytes) {
  std::unique_ptr<Sha256> hash = Sha256::Open();
  if (!decoder || !hash) return env.Undefined();
  auto ahead = std::make_shared<Ahead>();
  ahead->decoder = std::move(decoder);
  ahead->hash = std::move(hash);
  ahead->output_bytes = output_bytes;
  Napi::Array outputs = Napi::Array::New(env, 2);
  for (uint32_t i = 0; i < 2; i++) {
    ahead->outputs[i].reset(new uint8_t[output_bytes]);
    outputs[i] = Napi::Buffer<uint8_t>::New(
        env, ahead->outputs[i].get(), output_bytes, [](Napi::BasicEnv, uint8_t*, Shared* held) { delete held; },
        new Shared(ahead));
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("ahead", Napi::External<Shared>::New(env, new Shared(std::move(ahead)),
                                                  [](Napi::BasicEnv, Shared* held) { delete held; }));
  result.Set("outputs", outputs);
  return result;
}

}  // namespace

Napi::Value OpenAhead(const Napi::CallbackInfo& info) {
  const std::string kind = Text(info[0], "kind").str();
  const bool extra = Bool(info[1], "extra");
  const int window_log = Int(info[2], "windowLog");
  const uint32_t output_bytes = Unsigned(info[3], "outputBytes");
  if (output_bytes == 0 || output_bytes > kOutputBytesMax) Refuse(info.Env(), "outputBytes", "from 1 to 64 Mi");
  if (kind == "gzip") return Open(info.Env(), OpenGzip(extra), output_bytes);
  if (kind == "zstd") return Open(info.Env(), OpenZstd(extra, window_log), output_bytes);
  Refuse(info.Env(), "kind", "gzip or zstd");
}

Napi::Value DecodeAhead(const Napi::CallbackInfo& info) {
  const Shared ahead = AheadOf(info[0]);
  if (!info[1].IsUndefined()) {
    const Bytes input = BytesOf(info[1], "input");
    // A copy: what JavaScript owns may be gone before the thread is done.
    ahead->input.erase(ahead->input.begin(), ahead->input.begin() + static_cast<ptrdiff_t>(ahead->taken));
    ahead->input.insert(ahead->input.end(), input.data, input.data + input.size);
    ahead->taken = 0;
  }
  const uint32_t which = Unsigned(info[2], "which");
  if (which > 1) Refuse(info.Env(), "which", "0 or 1");
  ahead->is_busy = true;
  return Work(
      info.Env(), [ahead, which] { ahead->Run(static_cast<int>(which)); },
      [ahead](Napi::Env env) -> Napi::Value {
        ahead->is_busy = false;
        Napi::Object result = Napi::Object::New(env);
        result.Set("verdict", Napi::Number::New(env, static_cast<int>(ahead->verdict)));
        result.Set("left", Napi::Number::New(env, static_cast<double>(ahead->input.size() - ahead->taken)));
        result.Set("made", Napi::Number::New(env, static_cast<double>(ahead->made)));
        return result;
      });
}

Napi::Value EndAhead(const Napi::CallbackInfo& info) {
  const Shared& ahead = AheadOf(info[0]);
  const Napi::Env env = info.Env();
  Napi::Object state = Napi::Object::New(env);
  state.Set("library", Napi::String::New(env, ahead->decoder->Name()));
  state.Set("isWhole", Napi::Boolean::New(env, ahead->decoder->IsWhole()));
  state.Set("reason", Napi::String::New(env, ahead->decoder->reason()));
  state.Set("sha256", Napi::String::New(env, ahead->hash->Finish()));
  return state;
}

}  // namespace berth
