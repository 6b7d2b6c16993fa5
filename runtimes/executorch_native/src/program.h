// A program: its file or bytes, its loaded methods, and their state.
#pragma once

#include <executorch/runtime/core/data_loader.h>
#include <executorch/runtime/executor/program.h>
#include <nanobind/nanobind.h>

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "errors.h"
#include "schema.h"
#include "trace.h"

namespace fastserve {

struct LoadedMethod;

class Program {
 public:
  // `source` is a path (text or os.PathLike) or the file's contents. Raises ExecutorchError or OSError.
  Program(nanobind::object source, std::optional<int> threads, bool trace, bool intermediates);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  const std::vector<MethodInfo>& methods() const { return methods_; }
  std::optional<int> threads() const { return threads_; }
  bool closed() const { return !program_.has_value(); }

  void load(std::optional<std::string> method);
  nanobind::list run(const std::string& method, nanobind::sequence inputs, nanobind::object outputs);
  void reset(std::optional<std::string> method);
  void close();
  nanobind::list profile();
  nanobind::list intermediates();

 private:
  class Use;

  void open(nanobind::object source);
  void open_bytes(nanobind::object source);
  void parse();
  bool has_readable_names() const;
  const MethodInfo& find(const std::string& method) const;
  LoadedMethod& loaded(const MethodInfo& method);
  Error prepare(const MethodInfo& method, std::unique_ptr<LoadedMethod>& slot) const;
  bool single_threaded() const { return threads_ == 1; }
  const Instruction* instruction(int32_t chain, int32_t index) const;

  std::string name_;  // of the file, for messages
  std::optional<int> threads_;
  std::atomic<bool> busy_{false};

  // In the order in which they depend on each other.
  struct Bytes;
  std::unique_ptr<Bytes> bytes_;
  std::unique_ptr<executorch::runtime::DataLoader> loader_;
  std::optional<executorch::runtime::Program> program_;
  std::vector<MethodInfo> methods_;
  std::unique_ptr<Tracer> tracer_;
  std::string traced_method_;
  std::map<std::string, std::unique_ptr<LoadedMethod>> loaded_;
};

}  // namespace fastserve
