// The members of a gzip stream one after the other.
#include "decoder.h"

namespace berth {
namespace {

class Gzip : public Decoder {
 public:
  // `exact` is zlib, for members that `fast` cannot do; null where `fast` can do all.
  Gzip(std::unique_ptr<Inflater> fast, std::unique_ptr<Inflater> exact)
      : fast_(std::move(fast)), exact_(std::move(exact)), inflater_(fast_.get()) {}

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
        state_ = State::kHead;
        head_size_ = 0;
        has_member_ = true;
      }
      Inflater::Result result;
      if (state_ == State::kHead) {
        while (head_size_ < sizeof(head_) && stream->in_size > 0) {
          head_[head_size_++] = *stream->in++;
          stream->in_size--;
        }
        if (head_size_ < sizeof(head_)) return Verdict::kGood;
        state_ = State::kMember;
        result = Begin(stream);
        if (result == Inflater::Result::kMore && stream->in_size > 0) continue;
      } else {
        result = inflater_->Run(stream);
      }
      switch (result) {
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

  bool IsWhole() const override {
    return has_member_ && (state_ == State::kBetween || state_ == State::kBehind);
  }
  const char* Name() const override { return fast_->Name(); }

 private:
  enum class State { kBetween, kHead, kMember, kBehind };

  // When a header with fields comes in pieces, ISA-L loses its way in them, now and then; it also takes flags that nobody has defined. What
  // packs layers sets none (RFC 1952, 2.3.1).
  Inflater::Result Begin(Stream* stream) {
    const bool has_fields = head_[3] != 0;
    inflater_ = has_fields && exact_ ? exact_.get() : fast_.get();
    inflater_->Reset();
    Stream head{head_, sizeof(head_), stream->out, stream->out_size};
    return inflater_->Run(&head);
  }

  std::unique_ptr<Inflater> fast_;
  std::unique_ptr<Inflater> exact_;
  Inflater* inflater_;
  State state_ = State::kBetween;
  bool has_member_ = false;
  // Up to the flags.
  uint8_t head_[4] = {};
  size_t head_size_ = 0;
};

}  // namespace

std::unique_ptr<Decoder> OpenGzip(bool extra) {
  std::unique_ptr<Inflater> zlib = OpenZlib();
  std::unique_ptr<Inflater> isal = extra && zlib ? OpenIsal() : nullptr;
  if (isal) return std::make_unique<Gzip>(std::move(isal), std::move(zlib));
  return zlib ? std::make_unique<Gzip>(std::move(zlib), nullptr) : nullptr;
}

}  // namespace berth
