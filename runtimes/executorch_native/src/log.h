// ExecuTorch's platform log, captured instead of printed.
#pragma once

#include <string>
#include <vector>

namespace fastserve {

struct LogLine {
  char level;         // 'D', 'I', 'E' or 'F', as ExecuTorch writes them
  std::string place;  // file:line
  std::string message;
};

// Takes over ExecuTorch's log and abort hooks. Called once, when the module is imported.
void install_platform_hooks();

// Collects what this thread logs while the scope lives. Scopes do not nest.
class LogScope {
 public:
  LogScope();
  ~LogScope();
  LogScope(const LogScope&) = delete;
  LogScope& operator=(const LogScope&) = delete;

  std::vector<LogLine> take();

 private:
  friend void collect_line(LogLine line);
  std::vector<LogLine> lines_;
  LogScope* outer_;
};

void collect_line(LogLine line);

// Thrown by the abort hook in place of ending the process, on threads that are inside a guarded call.
struct Aborted {};

// While one lives, a failed internal check of ExecuTorch on this thread throws Aborted.
class AbortScope {
 public:
  AbortScope();
  ~AbortScope();
  AbortScope(const AbortScope&) = delete;
  AbortScope& operator=(const AbortScope&) = delete;

 private:
  bool outer_;
};

// Hands lines, and those of threads outside any scope, to Python's logging. Needs the GIL.
void emit_to_python(const std::vector<LogLine>& lines);

}  // namespace fastserve
