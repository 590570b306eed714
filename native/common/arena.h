// Memory for one decoded plan: taken from the kernel in blocks, given back whole, so that a resident monitor
// keeps nothing of it.
#ifndef BERTH_COMMON_ARENA_H_
#define BERTH_COMMON_ARENA_H_

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

namespace berth {

// Elements in an arena.
template <typename T>
struct Array {
  T* data = nullptr;
  size_t size = 0;

  T* begin() const { return data; }
  T* end() const { return data + size; }
  T& operator[](size_t i) const { return data[i]; }
  bool empty() const { return size == 0; }
};

using Bytes = Array<const uint8_t>;

class Arena {
 public:
  Arena() = default;
  Arena(Arena&& other) noexcept : head_(std::exchange(other.head_, nullptr)) {}
  Arena& operator=(Arena&& other) noexcept {
    if (this != &other) {
      Reset();
      head_ = std::exchange(other.head_, nullptr);
    }
    return *this;
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() { Reset(); }

  // Zeroed memory, aligned to 16 bytes. Null when the kernel has none left.
  void* Take(size_t size);
  // A copy of the bytes with a NUL behind them.
  const char* Text(const uint8_t* bytes, size_t size);

  template <typename T>
  T* New() {
    void* memory = Take(sizeof(T));
    return memory ? new (memory) T() : nullptr;
  }

  // Everything taken from here is gone afterwards.
  void Reset();

 private:
  struct Block {
    Block* next;
    size_t size;
    size_t used;
  };
  Block* head_ = nullptr;
};

}  // namespace berth

#endif  // BERTH_COMMON_ARENA_H_
