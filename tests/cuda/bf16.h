// Numbers as the device stores them.
#pragma once

#include <stdint.h>
#include <string.h>

namespace stand_in {

/// The upper half of a float.
struct Bf16 {
    uint16_t bits;
};

inline float load(float value) { return value; }

inline float load(Bf16 value) {
    const uint32_t bits = uint32_t(value.bits) << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

inline void store(float* at, float value) { *at = value; }

/// Rounds to the nearest, ties to even.
inline void store(Bf16* at, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const bool is_nan = (bits & 0x7fffffff) > 0x7f800000;
    at->bits = is_nan ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

}  // namespace stand_in
