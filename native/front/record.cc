#include "record.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/fd.h"

namespace berth {
namespace {

// Behind the value that begins at `at`; npos where it has no end.
size_t EndOfValue(std::string_view text, size_t at) {
  int depth = 0;
  for (bool quoted = false; at < text.size(); at++) {
    const char c = text[at];
    if (quoted) {
      if (c == '\\') at++;
      if (c != '"') continue;
      quoted = false;
    } else if (c == '"') {
      quoted = true;
      continue;
    } else if (c == '{' || c == '[') {
      depth++;
      continue;
    } else if (c == '}' || c == ']') {
      if (depth == 0) return at;
      depth--;
    } else if (c == ',' && depth == 0) {
      return at;
    } else {
      continue;
    }
  }
  return std::string_view::npos;
}

// substr(), whose exception would be of the C++ library that is not linked. Never out of range.
std::string_view Part(std::string_view text, size_t at, size_t size) { return {text.data() + at, size}; }

bool IsText(std::string_view value) { return value.size() >= 2 && value.front() == '"' && value.back() == '"'; }

// A text that needs no unescaping, with a NUL behind it.
template <size_t kSize>
bool CopyText(std::string_view value, char (&text)[kSize]) {
  if (!IsText(value) || value.size() - 2 >= kSize || value.find('\\') != std::string_view::npos) return false;
  ::memcpy(text, value.data() + 1, value.size() - 2);
  text[value.size() - 2] = '\0';
  return true;
}

bool ToNumber(std::string_view value, unsigned long long* number) {
  char text[24];
  if (value.empty() || value.size() >= sizeof(text) || value.find_first_not_of("0123456789") != std::string_view::npos) return false;
  ::memcpy(text, value.data(), value.size());
  text[value.size()] = '\0';
  *number = ::strtoull(text, nullptr, 10);
  return true;
}

bool Parse(std::string_view text, OciRecord* record) {
  bool plain = false;
  unsigned long long pid = 0;
  unsigned long long inode = 0;
  std::string_view cgroup, start_time, inode_text;
  RawObject object(text);
  for (RawJson member; object.Next(&member);) {
    const auto& [key, value] = member;
    if (key == "\"id\"") record->id = value;
    if (key == "\"ociVersion\"") record->oci_version = value;
    if (key == "\"bundle\"") record->bundle = value;
    if (key == "\"rootfs\"") record->rootfs = value;
    if (key == "\"created\"") record->created = value;
    if (key == "\"annotations\"") record->annotations = value;
    if (key == "\"cgroup\"") cgroup = value;
    if (key == "\"cgroupInode\"") inode_text = value;
    if (key == "\"startTime\"") start_time = value;
    if (key == "\"pid\"" && !ToNumber(value, &pid)) return false;
    if (key == "\"plain\"") plain = value == "true";
  }
  if (!object.whole() || !plain || pid < 1 || pid > 1u << 30 || !IsText(inode_text)) return false;
  for (const auto& value : {record->id, record->oci_version, record->bundle, record->rootfs, record->created}) {
    if (!IsText(value)) return false;
  }
  record->pid = static_cast<pid_t>(pid);
  if (!ToNumber(Part(inode_text, 1, inode_text.size() - 2), &inode)) return false;
  record->cgroup_inode = inode;
  return CopyText(cgroup, record->cgroup) && record->cgroup[0] == '/' && CopyText(start_time, record->start_time) && record->start_time[0];
}

}  // namespace

bool RawObject::Next(RawJson* member) {
  if (at_ >= text_.size() || whole_) return false;
  const char before = text_[at_];
  if (before == '}' && at_ == text_.size() - 1) {
    whole_ = true;
    return false;
  }
  if (before != (at_ == 0 ? '{' : ',')) return false;
  if (at_ == 0 && text_ == "{}") {
    whole_ = true;
    return false;
  }
  const size_t key = at_ + 1;
  if (key >= text_.size() || text_[key] != '"') return false;
  size_t end = key + 1;
  while (end < text_.size() && text_[end] != '"') end += text_[end] == '\\' ? 2 : 1;
  const size_t value = end + 2;
  if (value >= text_.size() || text_[end + 1] != ':') return false;
  const size_t after = EndOfValue(text_, value);
  if (after == std::string_view::npos || after == value) return false;
  *member = {Part(text_, key, end + 1 - key), Part(text_, value, after - value)};
  at_ = after;
  return true;
}

bool ReadPlainRecord(int directory, OciRecord* record) {
  const Fd file(::openat(directory, "record.json", O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file) return false;
  size_t size = 0;
  for (;;) {
    const ssize_t count = ::read(file.get(), record->bytes + size, kRecordBytesMax - size);
    if (count < 0) return false;
    if (count == 0) break;
    size += static_cast<size_t>(count);
    // There may be more.
    if (size == kRecordBytesMax) return false;
  }
  return Parse({record->bytes, size}, record);
}

}  // namespace berth
