// Decompression for layers: the decoders of native/layer, one call a piece.
#include "../layer/decoder.h"

#include "calls.h"
#include "error.h"
#include "value.h"

namespace berth {
namespace {

Decoder& DecoderOf(const Napi::Value& value) {
  if (!value.IsExternal()) Refuse(value.Env(), "decoder", "a decoder");
  return *value.As<Napi::External<Decoder>>().Data();
}

Napi::Value Wrap(Napi::Env env, std::unique_ptr<Decoder> decoder) {
  if (!decoder) return env.Undefined();
  return Napi::External<Decoder>::New(env, decoder.release(), [](Napi::BasicEnv, Decoder* decoder) { delete decoder; });
}

}  // namespace

Napi::Value GzipDecoder(const Napi::CallbackInfo& info) {
  return Wrap(info.Env(), OpenGzip(Bool(info[0], "extra")));
}

Napi::Value ZstdDecoder(const Napi::CallbackInfo& info) {
  return Wrap(info.Env(), OpenZstd(Bool(info[0], "extra"), Int(info[1], "windowLog")));
}

Napi::Value Decode(const Napi::CallbackInfo& info) {
  Decoder& decoder = DecoderOf(info[0]);
  const Bytes input = BytesOf(info[1], "input");
  const Bytes output = BytesOf(info[2], "output");
  napi_typedarray_type type;
  size_t length = 0;
  void* counts = nullptr;
  if (napi_get_typedarray_info(info.Env(), info[3], &type, &length, &counts, nullptr, nullptr) != napi_ok ||
      type != napi_float64_array || length < 2) {
    Refuse(info.Env(), "counts", "a Float64Array of two");
  }
  Stream stream = {input.data, input.size, const_cast<uint8_t*>(output.data), output.size};
  const Verdict verdict = decoder.Run(&stream);
  static_cast<double*>(counts)[0] = static_cast<double>(input.size - stream.in_size);
  static_cast<double*>(counts)[1] = static_cast<double>(output.size - stream.out_size);
  return Napi::Number::New(info.Env(), static_cast<int>(verdict));
}

Napi::Value DecoderState(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Decoder& decoder = DecoderOf(info[0]);
  Napi::Object state = Napi::Object::New(env);
  state.Set("library", Napi::String::New(env, decoder.Name()));
  state.Set("isWhole", Napi::Boolean::New(env, decoder.IsWhole()));
  state.Set("reason", Napi::String::New(env, decoder.reason()));
  return state;
}

}  // namespace berth
