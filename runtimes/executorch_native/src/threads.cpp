#include "threads.h"

#include <executorch/extension/threadpool/threadpool_guard.h>

#ifdef __linux__
#include <sched.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <thread>

// ExecuTorch's package ships the thread pool's library without the header that declares it. Only references to the
// class are used here, so its layout does not matter.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  size_t get_thread_count() const;
  void run(executorch::runtime::FunctionRef<void(size_t)> body, size_t count);
  bool _unsafe_reset_threadpool(uint32_t num_threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

namespace fastserve::threads {
namespace {

std::mutex mutex;
size_t leases = 0;

size_t usable_processors() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    return static_cast<size_t>(std::max(CPU_COUNT(&set), 1));
  }
#endif
  return std::max(std::thread::hardware_concurrency(), 1U);
}

// Needs the mutex.
executorch::extension::threadpool::ThreadPool& pool() {
  auto* found = executorch::extension::threadpool::get_threadpool();
  if (found == nullptr) {
    const std::string problem = processors_problem();
    throw std::runtime_error("ExecuTorch has no pool of threads" + (problem.empty() ? "" : ". " + problem));
  }
  static bool fresh = true;
  if (fresh) {
    fresh = false;
    const size_t most = usable_processors();
    if (found->get_thread_count() > most) {
      found->_unsafe_reset_threadpool(static_cast<uint32_t>(most));
    }
  }
  return *found;
}

}  // namespace

std::string processors_problem() {
#ifdef __linux__
  constexpr const char* kPath = "/sys/devices/system/cpu/possible";
  if (access(kPath, R_OK) != 0) {
    return std::string("The processors of this computer are not known, as ") + kPath +
           " cannot be read. Mount /sys (mount -t sysfs sysfs /sys) and start Python anew.";
  }
#endif
  return {};
}

size_t count() {
  std::lock_guard<std::mutex> lock(mutex);
  return pool().get_thread_count();
}

bool resize(size_t wanted) {
  std::lock_guard<std::mutex> lock(mutex);
  if (pool().get_thread_count() == wanted) {
    return true;
  }
  return leases == 0 && pool()._unsafe_reset_threadpool(static_cast<uint32_t>(wanted));
}

size_t usable() {
  using executorch::extension::threadpool::NoThreadPoolGuard;
  if (NoThreadPoolGuard::is_enabled()) {
    return 1;
  }
  auto* found = executorch::extension::threadpool::get_threadpool();
  return found == nullptr ? 1 : found->get_thread_count();
}

void run(size_t count, executorch::runtime::FunctionRef<void(size_t)> body) {
  if (count == 1 || usable() == 1) {
    for (size_t i = 0; i < count; ++i) {
      body(i);
    }
    return;
  }
  executorch::extension::threadpool::get_threadpool()->run(body, count);
}

Lease::Lease() {
  std::lock_guard<std::mutex> lock(mutex);
  pool();
  ++leases;
}

Lease::~Lease() {
  std::lock_guard<std::mutex> lock(mutex);
  --leases;
}

}  // namespace fastserve::threads
