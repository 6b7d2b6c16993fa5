// The arguments of one call of an operator, checked before they are used: a damaged program can pass anything.
#pragma once

#include <executorch/runtime/core/event_tracer_hooks.h>
#include <executorch/runtime/platform/log.h>

#include <cstdarg>
#include <cstdio>
#include <optional>

#include "operators.h"

namespace fastserve {

// Reads arguments by place. The first that is wrong makes the call fail, and everything after it is for nothing:
// callers look at ok() before they use what they read.
class Operands {
 public:
  using Tensor = executorch::aten::Tensor;

  Operands(executorch::runtime::KernelRuntimeContext& context, Arguments arguments, const char* name, size_t count)
      : context_(context), arguments_(arguments), name_(name) {
    require(arguments.size() >= count, "has %zu arguments in place of %zu: export the model with ExecuTorch %s.",
            arguments.size(), count, FASTSERVE_EXECUTORCH_VERSION);
  }

  bool ok() const { return ok_; }

  // Fails the call unless `right`; the text goes on after the operator's name, and says what to do.
  __attribute__((format(printf, 3, 4))) void require(bool right, const char* text, ...) {
    if (right || !ok_) {
      return;
    }
    ok_ = false;
    char message[200];
    va_list values;
    va_start(values, text);
    std::vsnprintf(message, sizeof(message), text, values);
    va_end(values);
    ET_LOG(Error, "%s %s", name_, message);
    context_.fail(executorch::runtime::Error::InvalidArgument);
  }

  // A dense tensor of four dimensions, none of them empty but, perhaps, the second, which counts tokens.
  Tensor* tensor(size_t place, const char* what) {
    Tensor* found = dense(place, what, 4);
    for (const int dim : {0, 2, 3}) {
      require(!ok_ || found->size(dim) > 0, "got a %s whose dimension %d is empty: give every dimension a size.", what,
              dim);
    }
    return ok_ ? found : nullptr;
  }

  Tensor* dense(size_t place, const char* what, int dimensions) {
    Tensor* found = any_tensor(place, what);
    if (!ok_) {
      return nullptr;
    }
    require(found->dim() == dimensions, "got a %s of %d dimensions: give it %d.", what, static_cast<int>(found->dim()),
            dimensions);
    for (size_t i = 0; ok_ && i < found->dim_order().size(); ++i) {
      require(found->dim_order()[i] == i, "got a %s in another order of dimensions: make it contiguous.", what);
    }
    require(found->const_data_ptr() != nullptr || found->numel() == 0, "got a %s without memory: export the model anew.",
            what);
    return ok_ ? found : nullptr;
  }

  Tensor* any_tensor(size_t place, const char* what) {
    require(!ok_ || arguments_[place]->isTensor(), "got a %s that is no tensor: export the model anew.", what);
    return ok_ ? &arguments_[place]->toTensor() : nullptr;
  }

  int64_t integer(size_t place, const char* what) {
    require(!ok_ || arguments_[place]->isInt(), "got a %s that is no integer: export the model anew.", what);
    return ok_ ? arguments_[place]->toInt() : 0;
  }

  bool boolean(size_t place, const char* what) {
    require(!ok_ || arguments_[place]->isBool(), "got a %s that is no boolean: export the model anew.", what);
    return ok_ && arguments_[place]->toBool();
  }

  bool is_none(size_t place) const { return ok_ && arguments_[place]->isNone(); }

  std::optional<double> optional_number(size_t place, const char* what) {
    if (!ok_ || is_none(place)) {
      return std::nullopt;
    }
    const auto& value = *arguments_[place];
    require(value.isDouble() || value.isInt(), "got a %s that is no number: export the model anew.", what);
    return value.isInt() ? static_cast<double>(value.toInt()) : ok_ ? value.toDouble() : 0;
  }

  // That the tokens at `start` and after it fit a cache.
  void require_room(int64_t start, int64_t tokens, int64_t room) {
    require(start >= 0 && start <= room && tokens <= room - start,
            "got %lld tokens at position %lld, and the cache has room for %lld: begin anew, or export the model with a "
            "longer context.",
            static_cast<long long>(tokens), static_cast<long long>(start), static_cast<long long>(room));
  }

  // Shows what was written to whoever looks at intermediate values.
  void log_result(size_t place) {
    executorch::runtime::internal::event_tracer_log_evalue(context_.internal_event_tracer(), *arguments_[place]);
  }

 private:
  executorch::runtime::KernelRuntimeContext& context_;
  Arguments arguments_;
  const char* name_;
  bool ok_ = true;
};

}  // namespace fastserve
