// Checks of what XNNPACK's delegate takes on trust from the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace fastserve {

// Whether every node of a delegate's graph is there as a whole, every constant has as much data as its shape says, and
// no tensor is absurdly large. The delegate follows the nodes' offsets unchecked, and XNNPACK packs weights without
// looking, so a damaged shape would make it read past the end. `named` has the sizes of the program's named data.
bool xnnpack_graph_is_sound(const uint8_t* blob, size_t bytes, const std::map<std::string, uint64_t>& named);

}  // namespace fastserve
