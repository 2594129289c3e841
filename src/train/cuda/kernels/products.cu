// Many products of f32 matrices in one launch, for optimisers whose matrices are many and small: neither TF32 nor a
// library's choice of algorithm. Every number is one sum in the order of its terms.

// to = by * (left right) + keep * plus, where `keep` is not zero: left [rows, inner], right [inner, columns], to and plus
// [rows, columns]. Numbers of an operand are `row` apart from row to row, `step` from column to column.
struct Product {
    const float *left, *right;
    float* to;
    const float* plus;
    const u32* gate;  // where it is given and not zero, nothing is done
    u32 rows, columns, inner;
    u32 left_row, left_step, right_row, right_step;
    u32 to_row;
    float by, keep;
};

// One block's share: the first row and column of at most PRODUCT_SIDE of each.
struct Tile {
    u32 product, row, column;
};

#define PRODUCT_SIDE 64
#define PRODUCT_DEPTH 16

// Grid over tiles, 16 x 16 threads, each of which takes 4 x 4 numbers.
KERNEL multiply_tiles(const Tile* tiles, const Product* products, const Status* status) {
    // Rows lie so that columns of them meet few times in one bank.
    __shared__ __align__(16) float left[PRODUCT_DEPTH][PRODUCT_SIDE + 4];
    __shared__ __align__(16) float right[PRODUCT_DEPTH][PRODUCT_SIDE + 4];
    if (status->failed) return;
    Tile tile = tiles[blockIdx.x];
    Product of = products[tile.product];
    if (of.gate && *of.gate) return;
    u32 y = threadIdx.x / 16 * 4, x = threadIdx.x % 16 * 4;
    u32 height = min(of.rows - tile.row, PRODUCT_SIDE), width = min(of.columns - tile.column, PRODUCT_SIDE);
    bool mine = y < height && x < width;
    float sums[4][4] = {};
    for (u32 first = 0; first < of.inner; first += PRODUCT_DEPTH) {
        u32 depth = min(of.inner - first, PRODUCT_DEPTH);
        // Neighbouring threads read neighbouring numbers, whichever way the matrix lies.
        for (u32 i = threadIdx.x; i < PRODUCT_SIDE * PRODUCT_DEPTH; i += blockDim.x) {
            bool plain = of.left_step == 1;
            u32 line = plain ? i / PRODUCT_DEPTH : i % PRODUCT_SIDE, k = plain ? i % PRODUCT_DEPTH : i / PRODUCT_SIDE;
            u64 at = (u64)(tile.row + line) * of.left_row + (u64)(first + k) * of.left_step;
            left[k][line] = line < height && k < depth ? of.left[at] : 0.f;
        }
        for (u32 i = threadIdx.x; i < PRODUCT_SIDE * PRODUCT_DEPTH; i += blockDim.x) {
            bool plain = of.right_step == 1;
            u32 line = plain ? i % PRODUCT_SIDE : i / PRODUCT_DEPTH, k = plain ? i / PRODUCT_SIDE : i % PRODUCT_DEPTH;
            u64 at = (u64)(first + k) * of.right_row + (u64)(tile.column + line) * of.right_step;
            right[k][line] = line < width && k < depth ? of.right[at] : 0.f;
        }
        __syncthreads();
        if (mine) {
#pragma unroll
            for (u32 k = 0; k < PRODUCT_DEPTH; k++) {
                float4 a = *(const float4*)&left[k][y], b = *(const float4*)&right[k][x];
                float lefts[4] = {a.x, a.y, a.z, a.w}, rights[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
                for (u32 i = 0; i < 4; i++)
#pragma unroll
                    for (u32 j = 0; j < 4; j++) sums[i][j] = fmaf(lefts[i], rights[j], sums[i][j]);
            }
        }
        __syncthreads();
    }
    if (!mine) return;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        u64 row = (u64)(tile.row + y + i) * of.to_row + tile.column + x;
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            if (y + i >= height || x + j >= width) continue;
            float value = of.by * sums[i][j];
            of.to[row + j] = of.keep == 0.f ? value : fmaf(of.keep, of.plus[row + j], value);
        }
    }
}
