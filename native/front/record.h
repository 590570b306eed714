// What is on disk about a container of berth-oci: `record.json`, as src/oci/record.ts writes it.
#ifndef BERTH_FRONT_RECORD_H_
#define BERTH_FRONT_RECORD_H_

#include <sys/types.h>

#include <cstddef>
#include <string_view>

namespace berth {

// A value as it stands in the file, with its quotes.
struct RawJson {
  std::string_view key;
  std::string_view value;
};

// The members of an object of JSON without white space, one after the other.
class RawObject {
 public:
  explicit RawObject(std::string_view text) : text_(text) {}

  bool Next(RawJson* member);
  // All of it was an object, and Next has given all of its members.
  bool whole() const { return whole_; }

 private:
  std::string_view text_;
  size_t at_ = 0;
  bool whole_ = false;
};

inline constexpr size_t kRecordBytesMax = 1024 * 1024;

struct OciRecord {
  char bytes[kRecordBytesMax];
  // With quotes.
  std::string_view oci_version, id, bundle, rootfs, created;
  std::string_view annotations;
  // Without.
  char cgroup[4096];
  char start_time[32];
  ino_t cgroup_inode;
  pid_t pid;
};

// Reads DIRECTORY/record.json. False where there is none, or one that is not `plain`: what is to be done with the container is then more than `direct.cc` knows.
bool ReadPlainRecord(int directory, OciRecord* record);

}  // namespace berth

#endif  // BERTH_FRONT_RECORD_H_
