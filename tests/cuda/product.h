// The blocked product of two matrices in single precision, which products and convolutions share. What the matrices
// hold, and where the result goes, is up to functions of the position.
#pragma once

#include <stddef.h>

#include <algorithm>
#include <memory>

#include "stand_in.h"

namespace stand_in {

namespace tile {

constexpr size_t ROWS = 16;
#ifdef __AVX512F__
constexpr size_t COLUMNS = 12;
#else
constexpr size_t COLUMNS = 6;
#endif
/// Terms that are added up before they are added to the sum.
constexpr size_t TERMS = 256;

typedef float Lanes __attribute__((vector_size(ROWS * sizeof(float))));

/// One tile of the product: a[k][ROWS] times b[k][COLUMNS].
inline void multiply(size_t k, const float* a, const float* b, Lanes (&sum)[COLUMNS]) {
    for (Lanes& column : sum) column = Lanes{};
    for (size_t first = 0; first < k; first += TERMS) {
        const size_t end = std::min(k, first + TERMS);
        Lanes part[COLUMNS] = {};
        for (size_t t = first; t < end; t++) {
            const Lanes left = *reinterpret_cast<const Lanes*>(a + t * ROWS);
            const float* right = b + t * COLUMNS;
#pragma GCC unroll 12
            for (size_t c = 0; c < COLUMNS; c++) part[c] += left * right[c];
        }
        for (size_t c = 0; c < COLUMNS; c++) sum[c] += part[c];
    }
}

struct Free {
    void operator()(float* at) const { free(at); }
};
using Buffer = std::unique_ptr<float, Free>;

inline Buffer buffer(size_t floats) {
    return Buffer(static_cast<float*>(aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64 + 64)));
}

}  // namespace tile

/// For all i < m and j < n, calls put(i, j, sum over t < k of a(i, t) * b(t, j)).
template <typename A, typename B, typename Put>
void product(size_t m, size_t n, size_t k, const A& a, const B& b, const Put& put) {
    using namespace tile;
    const size_t row_tiles = (m + ROWS - 1) / ROWS, column_tiles = (n + COLUMNS - 1) / COLUMNS;
    const Buffer left = buffer(row_tiles * k * ROWS);
    parallel(row_tiles, [&](size_t tile) {
        const size_t first = tile * ROWS, rows = std::min(ROWS, m - first);
        float* to = left.get() + tile * k * ROWS;
        for (size_t t = 0; t < k; t++)
            for (size_t r = 0; r < ROWS; r++) *to++ = r < rows ? a(first + r, t) : 0.0f;
    });

    // A piece of work is a strip of columns, and when there are few strips, a part of its rows.
    constexpr size_t STRIP = 4, ENOUGH = 8;
    const size_t strips = (column_tiles + STRIP - 1) / STRIP;
    const size_t parts = std::max<size_t>(1, std::min(row_tiles, ENOUGH / strips));
    parallel(strips * parts, [&](size_t piece) {
        const size_t strip = piece / parts, part = piece % parts;
        const size_t first_tile = strip * STRIP, end_tile = std::min(column_tiles, first_tile + STRIP);
        const Buffer right = buffer((end_tile - first_tile) * k * COLUMNS);
        float* to = right.get();
        for (size_t tile = first_tile; tile < end_tile; tile++) {
            const size_t first = tile * COLUMNS, columns = std::min(COLUMNS, n - first);
            for (size_t t = 0; t < k; t++)
                for (size_t c = 0; c < COLUMNS; c++) *to++ = c < columns ? b(t, first + c) : 0.0f;
        }
        for (size_t row = row_tiles * part / parts; row < row_tiles * (part + 1) / parts; row++)
            for (size_t tile = first_tile; tile < end_tile; tile++) {
                Lanes sum[COLUMNS];
                multiply(k, left.get() + row * k * ROWS, right.get() + (tile - first_tile) * k * COLUMNS, sum);
                const size_t i = row * ROWS, j = tile * COLUMNS;
                for (size_t c = 0; c < std::min(COLUMNS, n - j); c++)
                    for (size_t r = 0; r < std::min(ROWS, m - i); r++) put(i + r, j + c, sum[c][r]);
            }
    });
}

}  // namespace stand_in
