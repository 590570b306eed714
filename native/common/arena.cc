#include "arena.h"

#include <sys/mman.h>

#include <cstring>

namespace berth {
namespace {

constexpr size_t kBlockSize = 16 * 1024;
constexpr size_t kAlign = 16;
constexpr size_t kPage = 4096;

constexpr size_t RoundUp(size_t size, size_t to) { return (size + to - 1) / to * to; }

}  // namespace

void* Arena::Take(size_t size) {
  size = RoundUp(size ? size : 1, kAlign);
  if (!head_ || head_->size - head_->used < size) {
    const size_t header = RoundUp(sizeof(Block), kAlign);
    const size_t need = size + header > kBlockSize ? RoundUp(size + header, kPage) : kBlockSize;
    void* memory = ::mmap(nullptr, need, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    head_ = new (memory) Block{head_, need, header};
  }
  void* taken = reinterpret_cast<char*>(head_) + head_->used;
  head_->used += size;
  return taken;
}

const char* Arena::Text(const uint8_t* bytes, size_t size) {
  char* text = static_cast<char*>(Take(size + 1));
  if (!text) return nullptr;
  if (size) std::memcpy(text, bytes, size);
  text[size] = '\0';
  return text;
}

void Arena::Reset() {
  while (head_) {
    Block* next = head_->next;
    ::munmap(head_, head_->size);
    head_ = next;
  }
}

}  // namespace berth
