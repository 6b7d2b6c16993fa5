#include "errors.h"

#include <nanobind/stl/string.h>

#include <cstring>

namespace nb = nanobind;

namespace fastserve {
namespace {

constexpr size_t kMostLinesInMessage = 20;

std::string code_name(Error error) {
  const char* name = executorch::runtime::to_string(error);
  constexpr const char* kPrefix = "Error::";
  return std::strncmp(name, kPrefix, std::strlen(kPrefix)) == 0 ? name + std::strlen(kPrefix) : name;
}

std::string details(const std::vector<LogLine>& lines) {
  std::string text;
  size_t used = 0;
  for (const LogLine& line : lines) {
    if ((line.level != 'E' && line.level != 'F') || used == kMostLinesInMessage) {
      continue;
    }
    text += used++ == 0 ? ": " : "; ";
    text += line.message;
  }
  return text;
}

nb::object text_object(const std::string& text) {
  return nb::bytes(text.data(), text.size()).attr("decode")("utf-8", "replace");
}

nb::object exception_class(const char* name) { return nb::module_::import_("fastserve_executorch._errors").attr(name); }

[[noreturn]] void raise_object(const nb::object& type, const nb::object& value) {
  PyErr_SetObject(type.ptr(), value.ptr());
  throw nb::python_error();
}

[[noreturn]] void raise_code(const std::string& what, Error error, const std::string& reason) {
  nb::object type = exception_class("ExecutorchError");
  const std::string name = code_name(error);
  raise_object(type, type(text_object(what + ": " + name + reason), static_cast<uint32_t>(error), name));
}

}  // namespace

void raise_executorch_error(const std::string& what, const Outcome& outcome, const std::string& remedy) {
  std::string reason = details(outcome.lines);
  if (!remedy.empty()) {
    reason += (!reason.empty() && reason.back() == '.' ? " " : ". ") + remedy;
  }
  raise_code(what, outcome.error, reason);
}

void raise_invalid_program(const std::string& what, const std::string& reason) {
  raise_code(what, Error::InvalidProgram, ": " + reason);
}

void raise_busy(const std::string& message) {
  nb::object type = exception_class("BusyError");
  raise_object(type, type(text_object(message)));
}

void raise_value_error(const std::string& message) {
  raise_object(nb::borrow<nb::object>(PyExc_ValueError), text_object(message));
}

}  // namespace fastserve
