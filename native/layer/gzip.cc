// The members of a gzip stream one after the other.
#include "decoder.h"

namespace berth {
namespace {

class Gzip : public Decoder {
 public:
  explicit Gzip(std::unique_ptr<Inflater> inflater) : inflater_(std::move(inflater)) {}

  Verdict Run(Stream* stream) override {
    for (;;) {
      if (state_ == State::kBehind) {
        stream->in += stream->in_size;
        stream->in_size = 0;
        return Verdict::kGood;
      }
      if (state_ == State::kBetween) {
        if (stream->in_size == 0) return Verdict::kGood;
        if (has_member_ && *stream->in == 0) {
          state_ = State::kBehind;
          continue;
        }
        inflater_->Reset();
        state_ = State::kMember;
        has_member_ = true;
      }
      switch (inflater_->Run(stream)) {
        case Inflater::Result::kMore:
          return Verdict::kGood;
        case Inflater::Result::kEnd:
          state_ = State::kBetween;
          break;
        case Inflater::Result::kDamaged:
          reason_ = inflater_->Reason();
          return Verdict::kDamaged;
      }
    }
  }

  bool IsWhole() const override { return has_member_ && state_ != State::kMember; }
  const char* Name() const override { return inflater_->Name(); }

 private:
  enum class State { kBetween, kMember, kBehind };

  std::unique_ptr<Inflater> inflater_;
  State state_ = State::kBetween;
  bool has_member_ = false;
};

}  // namespace

std::unique_ptr<Decoder> OpenGzip(bool extra) {
  std::unique_ptr<Inflater> inflater = extra ? OpenIsal() : nullptr;
  if (!inflater) inflater = OpenZlib();
  return inflater ? std::make_unique<Gzip>(std::move(inflater)) : nullptr;
}

}  // namespace berth
