// The command line of berth-oci, as far as it is simple.
#ifndef BERTH_FRONT_WORDS_H_
#define BERTH_FRONT_WORDS_H_

namespace berth {

struct OciWords {
  const char* root = "/run/berth-oci";
  const char* command = nullptr;
  const char* id = nullptr;
  // Of `kill`; nullptr where none is given.
  const char* signal = nullptr;
  bool force = false;
};

// False: not one of the commands, options or forms that are known here. Whether they are wrong is then for src/oci/program.ts to say.
bool ParseOciWords(int argc, char** argv, OciWords* words);

// A number of 1 to 31, or its name with or without SIG; 0 for what else there is.
int SimpleSignal(const char* text);

}  // namespace berth

#endif  // BERTH_FRONT_WORDS_H_
