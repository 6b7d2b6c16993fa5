// Checks of what XNNPACK's delegate takes on trust from the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace fastserve {

// Whether every constant of a delegate's graph has as much data as its shape says, and no tensor is absurdly large.
// XNNPACK packs weights without looking, so a damaged shape would make it read past the end. `named` has the sizes of
// the program's named data.
bool xnnpack_constants_fit(const uint8_t* blob, size_t bytes, const std::map<std::string, uint64_t>& named);

}  // namespace fastserve
