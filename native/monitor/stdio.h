// The monitor's ends of a process's stdin, stdout and stderr: three pipes or a terminal.
#ifndef BERTH_MONITOR_STDIO_H_
#define BERTH_MONITOR_STDIO_H_

#include <cstdint>

#include "../common/fd.h"
#include "../init/launch.h"
#include "log.h"
#include "loop.h"

namespace berth {

class Stdio {
 public:
  struct Options {
    bool terminal = false;
    bool keep_stdin = false;
    // Closes the process's stdin with the client that attached to it.
    bool stdin_once = false;
    // Nobody will read: everything is /dev/null.
    bool discard = false;
  };

  Stdio() = default;
  Stdio(const Stdio&) = delete;
  Stdio& operator=(const Stdio&) = delete;
  ~Stdio() { Close(); }

  // Makes the pipes; `child` is good until CloseChild. With a terminal SetMaster follows.
  bool Open(const Options& options, Log* log, ChildStdio* child);
  void CloseChild();
  void SetMaster(Fd master);

  // Takes what it can of the bytes; the caller keeps the rest until StdinReady of the connections. -1: they go nowhere.
  ssize_t WriteStdin(const char* bytes, size_t size);
  // The client's end of file. For a process with `stdin_once` unset only the client ends.
  void CloseStdin(bool force);
  void Resize(uint16_t rows, uint16_t columns);
  bool stdin_once() const { return options_.stdin_once; }

  // The process has ended: passes on what it left behind, without waiting for anybody, and closes.
  void Drain();
  void Close();

  // Looks again whether the clients and the log leave room to read more.
  void Resume();

 private:
  static void OnOut(void* self, uint32_t events);
  static void OnErr(void* self, uint32_t events);
  static void OnIn(void* self, uint32_t events);
  static void OnRetry(void* self);
  // Reads once. 0: end, -1: nothing there now.
  int Pump(Log::Stream stream);
  void CloseStream(Log::Stream stream);
  void OpenPeer();
  bool IsHeldBack() const;

  Options options_;
  Log* log_ = nullptr;
  Fd in_;
  Fd out_;  // With a terminal its master, which is stdin too.
  Fd err_;
  // Keeps the terminal from hanging up while a program has it closed and opens it again, as systemd does.
  Fd peer_;
  Fd child_[3];
  Watch in_watch_;
  Watch out_watch_;
  Watch err_watch_;
  Timer retry_;
};

// Frees the pages of the buffer that all streams are read into.
void TrimReadBuffer();

}  // namespace berth

#endif  // BERTH_MONITOR_STDIO_H_
