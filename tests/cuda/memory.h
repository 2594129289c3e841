// Device memory and pinned host memory.
#pragma once

#include <cstddef>

#include "stand_in.h"

namespace stand_in {

/// The device's memory, bytes (DISTILLERY_STAND_IN_MEMORY).
size_t memory_total();
size_t memory_in_use();
Result allocate(void** start, size_t bytes);
Result release(void* start);
Result allocate_pinned(void** start, size_t bytes);
Result release_pinned(void* start);
/// Where an address lies, for a message about a fault.
std::string describe(const void* address);

}  // namespace stand_in
