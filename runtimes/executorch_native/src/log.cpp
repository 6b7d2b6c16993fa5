#include "log.h"

#include <executorch/runtime/platform/platform.h>
#include <executorch/runtime/platform/runtime.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <cstdlib>
#include <mutex>
#include <utility>

namespace nb = nanobind;

namespace fastserve {
namespace {

constexpr size_t kMostLines = 1000;  // per scope, and for all threads outside scopes together

thread_local LogScope* current_scope = nullptr;
thread_local bool abort_throws = false;

std::mutex stray_mutex;

std::vector<LogLine>& stray_lines() {
  static auto* lines = new std::vector<LogLine>;  // never destroyed: threads of the pool may outlive statics
  return *lines;
}

void on_log(et_timestamp_t, et_pal_log_level_t level, const char* file, const char*, size_t line, const char* message,
            size_t length) {
  try {
    collect_line({static_cast<char>(level), std::string(file ? file : "?") + ":" + std::to_string(line),
                  std::string(message ? message : "", message ? length : 0)});
  } catch (...) {  // out of memory: a lost line is better than an exception inside ExecuTorch
  }
}

void on_abort() {
  if (abort_throws) {
    throw Aborted{};
  }
  std::abort();
}

int python_level(char level) {
  switch (level) {
    case 'D':
      return 10;
    case 'I':
      return 20;
    case 'E':
      return 40;
    case 'F':
      return 50;
    default:
      return 30;
  }
}

}  // namespace

void install_platform_hooks() {
  using executorch::runtime::PalImpl;
  executorch::runtime::register_pal(
      PalImpl::create(nullptr, on_abort, nullptr, nullptr, on_log, nullptr, nullptr, "fastserve_executorch"));
  executorch::runtime::runtime_init();
}

LogScope::LogScope() : outer_(current_scope) { current_scope = this; }

LogScope::~LogScope() { current_scope = outer_; }

std::vector<LogLine> LogScope::take() { return std::exchange(lines_, {}); }

void collect_line(LogLine line) {
  if (current_scope != nullptr) {
    if (current_scope->lines_.size() < kMostLines) {
      current_scope->lines_.push_back(std::move(line));
    }
    return;
  }
  std::lock_guard<std::mutex> lock(stray_mutex);
  if (stray_lines().size() < kMostLines) {
    stray_lines().push_back(std::move(line));
  }
}

AbortScope::AbortScope() : outer_(std::exchange(abort_throws, true)) {}

AbortScope::~AbortScope() { abort_throws = outer_; }

void emit_to_python(const std::vector<LogLine>& lines) {
  std::vector<LogLine> strays;
  {
    std::lock_guard<std::mutex> lock(stray_mutex);
    strays.swap(stray_lines());
  }
  if (lines.empty() && strays.empty()) {
    return;
  }
  // Nobody can have asked for these lines before logging was imported; importing it here would cost start-up time.
  nb::dict modules = nb::borrow<nb::dict>(nb::module_::import_("sys").attr("modules"));
  if (!modules.contains("logging")) {
    return;
  }
  nb::object logging = modules["logging"];
  nb::object logger = logging.attr("getLogger")("fastserve_executorch");
  if (!nb::cast<bool>(logger.attr("hasHandlers")())) {
    logger.attr("addHandler")(logging.attr("NullHandler")());  // else logging prints errors to stderr itself
    return;
  }
  strays.insert(strays.end(), lines.begin(), lines.end());
  for (const LogLine& line : strays) {
    nb::bytes text(line.message.data(), line.message.size());
    logger.attr("log")(python_level(line.level), "[%s] %s", line.place, text.attr("decode")("utf-8", "replace"));
  }
}

}  // namespace fastserve
