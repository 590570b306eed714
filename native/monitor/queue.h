// Bytes that wait; memory only while there are any.
#ifndef BERTH_MONITOR_QUEUE_H_
#define BERTH_MONITOR_QUEUE_H_

#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace berth {

class Queue {
 public:
  Queue() = default;
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;
  ~Queue() { free(data_); }

  const char* data() const { return data_ + begin_; }
  size_t size() const { return end_ - begin_; }

  // False when there is no memory: nothing was added.
  bool Add(const char* bytes, size_t size) {
    if (size == 0) return true;
    if (capacity_ - end_ < size && begin_ > 0) {
      memmove(data_, data_ + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    if (capacity_ - end_ < size) {
      size_t capacity = capacity_ == 0 ? 512 : capacity_;
      while (capacity - end_ < size) capacity *= 2;
      char* grown = static_cast<char*>(realloc(data_, capacity));
      if (grown == nullptr) return false;
      data_ = grown;
      capacity_ = capacity;
    }
    memcpy(data_ + end_, bytes, size);
    end_ += size;
    return true;
  }

  void Drop(size_t size) {
    begin_ += size;
    if (begin_ == end_) Clear();
  }

  void Clear() {
    free(data_);
    data_ = nullptr;
    begin_ = end_ = capacity_ = 0;
  }

 private:
  char* data_ = nullptr;
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t capacity_ = 0;
};

}  // namespace berth

#endif  // BERTH_MONITOR_QUEUE_H_
