// How failures of ExecuTorch become Python exceptions.
#pragma once

#include <executorch/runtime/core/error.h>
#include <nanobind/nanobind.h>

#include <exception>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "log.h"

namespace fastserve {

using executorch::runtime::Error;

// What a guarded call came to.
struct Outcome {
  Error error = Error::Ok;
  bool aborted = false;  // an internal check failed: the objects involved can only be destroyed
  std::vector<LogLine> lines;

  bool ok() const { return error == Error::Ok; }
};

// Runs ExecuTorch code: collects its log, and turns failed internal checks and lack of memory into errors.
// Call it without the GIL; body returns an Error and must not touch Python.
template <typename Body>
Outcome guarded(Body&& body) {
  LogScope log;
  AbortScope aborts;
  Outcome outcome;
  try {
    outcome.error = std::forward<Body>(body)();
  } catch (const Aborted&) {
    outcome.error = Error::Internal;
    outcome.aborted = true;
  } catch (const std::bad_alloc&) {
    outcome.error = Error::MemoryAllocationFailed;
  } catch (const std::exception& error) {
    outcome.error = Error::Internal;
    outcome.aborted = true;
    collect_line({'E', "exception", error.what()});
  }
  outcome.lines = log.take();
  return outcome;
}

// The same for callers that hold the GIL: it is released while body runs, and the log goes to Python afterwards.
template <typename Body>
Outcome guarded_without_gil(Body&& body) {
  Outcome outcome;
  {
    nanobind::gil_scoped_release release;
    outcome = guarded(std::forward<Body>(body));
  }
  emit_to_python(outcome.lines);
  return outcome;
}

// Raises ExecutorchError with the code's name, the log of the failing call, and what to do, where that is known.
[[noreturn]] void raise_executorch_error(const std::string& what, const Outcome& outcome,
                                         const std::string& remedy = {});
// Raises ExecutorchError with InvalidProgram and the reason.
[[noreturn]] void raise_invalid_program(const std::string& what, const std::string& reason);
[[noreturn]] void raise_busy(const std::string& message);
[[noreturn]] void raise_value_error(const std::string& message);

inline void check(const Outcome& outcome, const std::string& what, const std::string& remedy = {}) {
  if (!outcome.ok()) {
    raise_executorch_error(what, outcome, remedy);
  }
}

}  // namespace fastserve
