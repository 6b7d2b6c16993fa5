// The process-wide pool of threads that kernels and delegates share.
#pragma once

#include <executorch/runtime/core/function_ref.h>

#include <cstddef>
#include <string>

namespace fastserve::threads {

// Why ExecuTorch cannot know this computer's processors, and what to do; nothing where it can.
std::string processors_problem();

// The pool's size; starts the pool if need be, no larger than the processors that this process may use.
size_t count();

// Changes the pool's size. False, and nothing changes, while a Lease is held and the size would differ:
// loaded delegates keep pointers into the pool.
bool resize(size_t wanted);

// For kernels, in the methods that hold a Lease or are to run in the caller's thread alone: how many threads there are.
size_t usable();

// Calls body(0) to body(count - 1), at the same time where there are threads. No call may throw.
void run(size_t count, executorch::runtime::FunctionRef<void(size_t)> body);

// Held by every loaded method that uses the pool, so that the pool stays as it is.
class Lease {
 public:
  Lease();
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
};

}  // namespace fastserve::threads
