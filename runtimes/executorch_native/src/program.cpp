#include "program.h"

#include <executorch/extension/data_loader/buffer_data_loader.h>
#include <executorch/extension/data_loader/mmap_data_loader.h>
#include <executorch/extension/memory_allocator/malloc_memory_allocator.h>
#include <executorch/extension/threadpool/threadpool_guard.h>
#include <executorch/runtime/backend/interface.h>
#include <executorch/runtime/core/hierarchical_allocator.h>
#include <executorch/runtime/executor/memory_manager.h>
#include <fcntl.h>
#include <nanobind/stl/string.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "arguments.h"
#include "operators.h"
#include "threads.h"

namespace nb = nanobind;

namespace fastserve {
namespace {

using executorch::extension::BufferDataLoader;
using executorch::extension::MallocMemoryAllocator;
using executorch::extension::MmapDataLoader;
using executorch::extension::threadpool::NoThreadPoolGuard;
using executorch::runtime::HierarchicalAllocator;
using executorch::runtime::MemoryManager;
using executorch::runtime::Method;
using executorch::runtime::Span;

constexpr size_t kAlignment = 64;
constexpr size_t kPadding = 128;         // delegates may read past the end of a buffer
constexpr size_t kSourceAlignment = 16;  // what ExecuTorch asks of a program in memory

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<void, Free>;

// Zeroed, and only backed by real memory where it is touched.
Memory zeroed(size_t bytes, uint8_t*& aligned) {
  if (bytes > SIZE_MAX - kAlignment - kPadding) {
    throw std::bad_alloc();
  }
  Memory memory(std::calloc(1, bytes + kAlignment + kPadding));
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  const auto address = reinterpret_cast<uintptr_t>(memory.get());
  aligned = reinterpret_cast<uint8_t*>((address + kAlignment - 1) / kAlignment * kAlignment);
  return memory;
}

// What to do about the backends that a method lacks; nothing where it has all of them.
std::string backends_remedy(const MethodInfo& info) {
  std::string text;
  for (const std::string& name : info.backends) {
    const auto* backend = executorch::runtime::get_backend_class(name.c_str());
    if (backend != nullptr && backend->is_available()) {
      continue;
    }
    text += text.empty() ? "" : " ";
    const std::string call = "fastserve_executorch.load_backend('" + name + "')";
    if (backend == nullptr) {
      text += "Call " + call + " first, or export the model for a backend that this package has.";
    } else if (name != "XnnpackBackend") {
      text += "Call " + call + ", which tells the library that is missing.";
    } else {
      const std::string problem = threads::processors_problem();
      text += problem.empty() ? "XNNPACK cannot use this processor: export the model without it." : problem;
    }
  }
  return text;
}

class MaybeSingleThreaded {
 public:
  explicit MaybeSingleThreaded(bool single) {
    if (single) {
      guard_.emplace();
    }
  }

 private:
  std::optional<NoThreadPoolGuard> guard_;
};

}  // namespace

// The contents of a program that did not come from a file.
struct Program::Bytes {
  Py_buffer view{};
  bool held = false;
  Memory copy;

  ~Bytes() {
    if (held) {
      PyBuffer_Release(&view);
    }
  }
};

struct LoadedMethod {
  std::optional<threads::Lease> lease;  // of those that use the pool
  std::vector<Memory> memory;
  std::vector<Span<uint8_t>> spans;
  std::optional<HierarchicalAllocator> planned;
  MallocMemoryAllocator method_allocator;
  MallocMemoryAllocator temp_allocator;
  std::optional<MemoryManager> manager;
  std::optional<Method> method;
};

// Held while a program is in use; a second user is refused.
class Program::Use {
 public:
  explicit Use(Program& program, bool must_be_open = true) : program_(program) {
    if (program_.busy_.exchange(true, std::memory_order_acquire)) {
      raise_busy("the program '" + program_.name_ +
                 "' is in use by another thread; give every thread a Program of its own, or take turns");
    }
    if (must_be_open && program_.closed()) {
      program_.busy_.store(false, std::memory_order_release);
      raise_value_error("the program '" + program_.name_ + "' is closed");
    }
  }
  ~Use() { program_.busy_.store(false, std::memory_order_release); }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

 private:
  Program& program_;
};

Program::Program(nb::object source, std::optional<int> threads, bool trace, bool intermediates) : threads_(threads) {
  if (threads && *threads < 1) {
    raise_value_error("threads must be at least 1, got " + std::to_string(*threads));
  }
  open(std::move(source));
  parse();
  if (trace || intermediates) {
    tracer_ = std::make_unique<Tracer>(intermediates);
  }
  if (threads && *threads > 1) {
    bool resized = false;
    check(guarded_without_gil([&] {
            resized = threads::resize(static_cast<size_t>(*threads));
            return Error::Ok;
          }),
          "changing the pool of threads");
    if (!resized) {
      raise_busy("the pool of threads is in use by loaded programs at a size other than " + std::to_string(*threads) +
                 "; close them first");
    }
  }
}

Program::~Program() = default;

void Program::open(nb::object source) {
  if (!PyUnicode_Check(source.ptr()) && !nb::hasattr(source, "__fspath__")) {
    open_bytes(std::move(source));
    return;
  }
  PyObject* converted = nullptr;
  if (PyUnicode_FSConverter(source.ptr(), &converted) == 0) {
    throw nb::python_error();
  }
  const nb::bytes path = nb::steal<nb::bytes>(converted);
  name_ = path.c_str();
  int failure = ::access(path.c_str(), R_OK) != 0 ? errno : 0;
  // Not by stat(), which would tie the extension to glibc 2.33 and newer.
  const int folder = failure == 0 ? ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
  if (folder >= 0) {
    ::close(folder);
    failure = EISDIR;
  }
  if (failure != 0) {
    errno = failure;
    PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, source.ptr());
    throw nb::python_error();
  }
  const Outcome outcome = guarded_without_gil([&] {
    auto loader = MmapDataLoader::from(path.c_str(), MmapDataLoader::MlockConfig::NoMlock);
    if (!loader.ok()) {
      return loader.error();
    }
    loader_ = std::make_unique<MmapDataLoader>(std::move(*loader));
    return Error::Ok;
  });
  check(outcome, "opening '" + name_ + "'");
}

void Program::open_bytes(nb::object source) {
  name_ = "<bytes>";
  bytes_ = std::make_unique<Bytes>();
  if (PyObject_GetBuffer(source.ptr(), &bytes_->view, PyBUF_SIMPLE) != 0) {
    PyErr_Clear();
    PyErr_Format(PyExc_TypeError, "source must be a path or contiguous bytes, not %U",
                 nb::type_name(source.type()).ptr());
    throw nb::python_error();
  }
  bytes_->held = true;
  const void* data = bytes_->view.buf;
  const auto size = static_cast<size_t>(bytes_->view.len);
  // What could change behind the verification's back, or lies unaligned, is copied.
  if (bytes_->view.readonly == 0 || reinterpret_cast<uintptr_t>(data) % kSourceAlignment != 0) {
    uint8_t* aligned = nullptr;
    bytes_->copy = zeroed(size, aligned);
    std::memcpy(aligned, data, size);
    data = aligned;
    PyBuffer_Release(&bytes_->view);
    bytes_->held = false;
  }
  loader_ = std::make_unique<BufferDataLoader>(data, size);
}

void Program::parse() {
  std::string problem;
  const Outcome outcome = guarded_without_gil([&] {
    auto program = executorch::runtime::Program::load(loader_.get(),
                                                      executorch::runtime::Program::Verification::InternalConsistency);
    if (!program.ok()) {
      return program.error();
    }
    const Error error = read_methods(*loader_, methods_, problem);
    if (error == Error::Ok) {
      program_.emplace(std::move(*program));
    }
    return error;
  });
  if (!problem.empty()) {
    raise_invalid_program("opening '" + name_ + "'", problem);
  }
  check(outcome, "opening '" + name_ + "'");
  if (!has_readable_names()) {
    raise_invalid_program("opening '" + name_ + "'", "a name is not text");
  }
}

// Names that are not text would fail later, and elsewhere.
bool Program::has_readable_names() const {
  const auto readable = [](const std::string& text) {
    const nb::object decoded =
        nb::steal(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), nullptr));
    if (!decoded.is_valid()) {
      PyErr_Clear();
    }
    return decoded.is_valid();
  };
  for (const MethodInfo& info : methods_) {
    bool all = readable(info.name);
    for (const auto* names : {&info.operators, &info.backends}) {
      all = all && std::all_of(names->begin(), names->end(), readable);
    }
    for (const auto* values : {&info.inputs, &info.outputs}) {
      all = all && std::all_of(values->begin(), values->end(), [&](const ValueInfo& it) { return readable(it.name); });
    }
    if (!all) {
      return false;
    }
  }
  return true;
}

const MethodInfo& Program::find(const std::string& method) const {
  std::string known;
  for (const MethodInfo& info : methods_) {
    if (info.name == method) {
      return info;
    }
    known += (known.empty() ? "'" : ", '") + info.name + "'";
  }
  raise_value_error("the program '" + name_ + "' has no method '" + method + "'; it has " +
                    (known.empty() ? "none" : known));
}

Error Program::prepare(const MethodInfo& info, std::unique_ptr<LoadedMethod>& slot) const {
  slot = std::make_unique<LoadedMethod>();
  if (!single_threaded()) {
    slot->lease.emplace();
  }
  for (const int64_t size : info.buffer_sizes) {
    uint8_t* aligned = nullptr;
    slot->memory.push_back(zeroed(static_cast<size_t>(size), aligned));
    slot->spans.emplace_back(aligned, static_cast<size_t>(size));
  }
  slot->planned.emplace(Span<Span<uint8_t>>(slot->spans.data(), slot->spans.size()));
  slot->manager.emplace(&slot->method_allocator, &*slot->planned, &slot->temp_allocator);
  auto method =
      program_->load_method(info.name.c_str(), &*slot->manager, tracer_.get(), nullptr, nullptr, own_kernels());
  if (!method.ok()) {
    return method.error();
  }
  slot->method.emplace(std::move(*method));
  return Error::Ok;
}

LoadedMethod& Program::loaded(const MethodInfo& info) {
  const auto found = loaded_.find(info.name);
  if (found != loaded_.end()) {
    return *found->second;
  }
  std::unique_ptr<LoadedMethod> slot;
  std::string remedy;
  const Outcome outcome = guarded_without_gil([&] {
    const MaybeSingleThreaded threads(single_threaded());
    const Error error = prepare(info, slot);
    if (error != Error::Ok) {
      remedy = backends_remedy(info);
    }
    return error;
  });
  check(outcome, "loading method '" + info.name + "' of '" + name_ + "'", remedy);
  return *(loaded_[info.name] = std::move(slot));
}

void Program::load(std::optional<std::string> method) {
  const Use use(*this);
  if (method) {
    loaded(find(*method));
    return;
  }
  for (const MethodInfo& info : methods_) {
    loaded(info);
  }
}

nb::list Program::run(const std::string& method, nb::sequence values, nb::object arrays) {
  const Use use(*this);
  const MethodInfo& info = find(method);
  Inputs inputs(info, std::move(values));
  Outputs outputs(info, std::move(arrays), inputs);
  LoadedMethod& ready = loaded(info);
  if (tracer_) {
    tracer_->clear();
    traced_method_ = method;
  }
  const Outcome outcome = guarded_without_gil([&] {
    const MaybeSingleThreaded threads(single_threaded());
    Error error = inputs.set(*ready.method);
    if (error == Error::Ok) {
      error = outputs.bind(*ready.method);
    }
    return error == Error::Ok ? ready.method->execute() : error;
  });
  if (outcome.aborted) {
    loaded_.erase(method);  // stopped midway: the next run loads it anew
  }
  check(outcome, "running method '" + method + "' of '" + name_ + "'");
  return outputs.collect(*ready.method);
}

void Program::reset(std::optional<std::string> method) {
  const Use use(*this);
  std::vector<std::string> names;
  if (method) {
    names.push_back(find(*method).name);
  } else {
    for (const auto& [name, unused] : loaded_) {
      names.push_back(name);
    }
  }
  for (const std::string& name : names) {
    if (loaded_.erase(name) > 0) {
      loaded(find(name));
    }
  }
}

void Program::close() {
  const Use use(*this, /*must_be_open=*/false);
  loaded_.clear();
  program_.reset();
  loader_.reset();
  bytes_.reset();
}

const Instruction* Program::instruction(int32_t chain, int32_t index) const {
  for (const MethodInfo& info : methods_) {
    if (info.name != traced_method_ || chain < 0 || static_cast<size_t>(chain) >= info.chains.size()) {
      continue;
    }
    const auto& instructions = info.chains[static_cast<size_t>(chain)];
    return index < 0 || static_cast<size_t>(index) >= instructions.size() ? nullptr
                                                                          : &instructions[static_cast<size_t>(index)];
  }
  return nullptr;
}

nb::list Program::profile() {
  const Use use(*this, /*must_be_open=*/false);
  if (!tracer_) {
    raise_value_error("the program '" + name_ + "' was not opened with trace=True");
  }
  nb::object type = nb::module_::import_("fastserve_executorch._types").attr("ProfileEvent");
  nb::list events;
  for (const Event& event : tracer_->events()) {
    if (!event.finished) {
      continue;
    }
    const Instruction* called = instruction(event.chain, event.instruction);
    events.append(type(event.name, called == nullptr ? "" : called->op, called == nullptr ? "" : called->backend,
                       event.chain, event.instruction, event.in_delegate, event.delegate_index, event.start,
                       event.microseconds));
  }
  return events;
}

nb::list Program::intermediates() {
  const Use use(*this, /*must_be_open=*/false);
  if (!tracer_) {
    raise_value_error("the program '" + name_ + "' was not opened with intermediates=True");
  }
  nb::object type = nb::module_::import_("fastserve_executorch._types").attr("Intermediate");
  nb::list values;
  for (const Intermediate& found : tracer_->intermediates()) {
    const TensorCopy& tensor = found.tensor;
    if (!numpy_has(tensor.dtype) || tensor.data.empty() != (element_count(tensor.sizes) == 0)) {
      continue;
    }
    std::byte* data = nullptr;
    nb::object array = new_array(tensor.sizes, tensor.dim_order, tensor.dtype, data);
    std::memcpy(data, tensor.data.data(), tensor.data.size());
    const Instruction* called = instruction(found.chain, found.instruction);
    values.append(type(found.name, called == nullptr ? "" : called->op, called == nullptr ? "" : called->backend,
                       found.chain, found.instruction, found.in_delegate, found.delegate_index, array));
  }
  return values;
}

}  // namespace fastserve
