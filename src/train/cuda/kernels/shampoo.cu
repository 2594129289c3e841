// Shampoo's direction beside its products (`optimizer/shampoo.rs`, `optimizer/root.rs`): what the gradient is, inverse
// fourth roots of the statistics, the graft, and the lengths that it gives.

// to = clip gradient + coupled weight. Grid over rows, 128 threads.
KERNEL slope_rows(const Row* rows, const float* gradient, const float* weights, float* to, const Control* control,
                  const Status* status) {
    if (status->failed) return;
    Row row = rows[blockIdx.x];
    float clip = (float)status->clip, coupled = row.decays ? control->coupled : 0.f;
    for (u64 i = (u64)row.at + threadIdx.x; i < (u64)row.at + row.n; i += blockDim.x)
        to[i] = fmaf(coupled, weights[i], gradient[i] * clip);
}

// One side's statistic [n, n], n at most 8192, its root, and room for the iteration: M, T and the two places of X, which take turns.
struct Side {
    const float* of;
    float* root;
    float *m, *t;
    float* x[2];
    u32 n, nothing;
};

// Where a side's iteration stands.
struct Progress {
    u32 done;
    float error;  // how far M is from one
};

#define POWERS 100
#define CLOSE 2e-6f
#define NEAR 1e-2f
#define FAR 0.1f
#define NOTHING 1e-30f

// In all threads; what is not finite is infinite.
__device__ __forceinline__ float largest_of(float x, float* room) {
    return block_max(isfinite(x) ? x : LARGEST, room);
}

// T = (5 - M) / 4.
__device__ __forceinline__ float turned(float m, bool diagonal) { return fmaf(-0.25f, m, diagonal ? 1.25f : 0.f); }

__device__ __forceinline__ float length_of(const float* v, u32 n, double* room) {
    double sum = 0;
    for (u32 i = threadIdx.x; i < n; i += blockDim.x) sum += (double)v[i] * v[i];
    return (float)sqrt(block_sum(sum, room));
}

// The largest eigenvalue of `of`, by power iteration; `v` and `to` have room for n numbers each.
__device__ float largest_eigenvalue(const float* of, u32 n, float* v, float* to, float* room, double* wide) {
    float size = 0.f;
    for (u32 i = threadIdx.x; i < n * n; i += blockDim.x)
        size = fmaxf(size, isfinite(of[i]) ? fabsf(of[i]) : LARGEST);
    size = largest_of(size, room);
    if (!(size < LARGEST && size > 0.f)) return size;
    for (u32 i = threadIdx.x; i < n; i += blockDim.x)
        v[i] = (float)(i * 2654435761u >> 8) / 8388608.f - 1.f + 1e-3f;
    __syncthreads();
    float unit = 1.f / length_of(v, n, wide), largest = 0.f;
    for (u32 i = threadIdx.x; i < n; i += blockDim.x) v[i] *= unit;
    unit = 1.f / size;
    for (u32 power = 0; power < POWERS; power++) {
        __syncthreads();
        // A warp takes a row.
        for (u32 row = threadIdx.x / 32; row < n; row += blockDim.x / 32) {
            float sum = 0.f;
            for (u32 k = threadIdx.x % 32; k < n; k += 32) sum = fmaf(of[row * n + k], v[k], sum);
            sum = warp_sum(sum);
            if (threadIdx.x % 32 == 0) to[row] = unit * sum;
        }
        __syncthreads();
        float found = length_of(to, n, wide);
        if (!(found < LARGEST && found > 0.f)) return found;
        bool stands = fabsf(found - largest) <= 1e-6f * found;
        largest = found;
        if (stands) break;
        for (u32 i = threadIdx.x; i < n; i += blockDim.x) v[i] = to[i] * (1.f / found);
    }
    return size * largest;
}

// Begins every side's iteration, or ends it where there is no root to be found. Grid over sides, 256 threads.
KERNEL root_begin(const Side* sides, Progress* progress, float epsilon, const Status* status) {
    __shared__ float room[32];
    __shared__ double wide[32];
    if (status->failed) return;
    Side side = sides[blockIdx.x];
    u32 n = side.n, numbers = n * n;
    // The iteration's places are free until it begins.
    float largest = largest_eigenvalue(side.of, n, side.m, side.t, room, wide);
    __syncthreads();
    if (!isfinite(largest) || largest < NOTHING) {
        for (u32 i = threadIdx.x; i < numbers; i += blockDim.x)
            side.root[i] = !isfinite(largest) ? __uint_as_float(0x7fc00000u) : i % (n + 1) ? 0.f : 1.f;
        if (threadIdx.x == 0) progress[blockIdx.x].done = 1;
        return;
    }
    float factor = 2.5f / (largest * (1.f + epsilon)), start = sqrtf(sqrtf(factor)), error = 0.f;
    for (u32 i = threadIdx.x; i < numbers; i += blockDim.x) {
        bool diagonal = i % (n + 1) == 0;
        float m = (side.of[i] + (diagonal ? epsilon * largest : 0.f)) * factor;
        float distance = fabsf(m - (diagonal ? 1.f : 0.f));
        error = fmaxf(error, isfinite(distance) ? distance : LARGEST);
        side.m[i] = m;
        side.t[i] = turned(m, diagonal);
        side.x[0][i] = diagonal ? start : 0.f;
    }
    error = largest_of(error, room);
    bool done = error <= CLOSE;
    if (done)
        for (u32 i = threadIdx.x; i < numbers; i += blockDim.x) side.root[i] = i % (n + 1) ? 0.f : start;
    if (threadIdx.x == 0) progress[blockIdx.x] = {done, error};
}

// After an iteration from X at `from`, the next of which lies at the other place: whether it was the last, and then the
// root. Grid over sides, 256 threads.
KERNEL root_judge(const Side* sides, Progress* progress, u32 from, u32 last, const Status* status) {
    __shared__ float room[32];
    if (status->failed || progress[blockIdx.x].done) return;
    Side side = sides[blockIdx.x];
    u32 numbers = side.n * side.n;
    float before = progress[blockIdx.x].error, error = 0.f;
    for (u32 i = threadIdx.x; i < numbers; i += blockDim.x) {
        float distance = fabsf(side.m[i] - (i % (side.n + 1) ? 0.f : 1.f));
        error = fmaxf(error, isfinite(distance) ? distance : LARGEST);
    }
    error = largest_of(error, room);
    // Near its end each step squares the error; one that does not even halve it only adds roundings.
    bool worse = (before < NEAR && error >= 0.5f * before) || !(error < LARGEST);
    if (worse) error = before;
    bool done = worse || error <= CLOSE || last;
    const float* x = side.x[worse ? from : 1 - from];
    if (done && error < FAR)
        for (u32 i = threadIdx.x; i < numbers; i += blockDim.x) side.root[i] = x[i];
    if (!done)
        for (u32 i = threadIdx.x; i < numbers; i += blockDim.x) side.t[i] = turned(side.m[i], i % (side.n + 1) == 0);
    if (threadIdx.x == 0) progress[blockIdx.x] = {done, error};
}

// The graft's own direction, in place, where it has squares. Grid over rows, 128 threads.
KERNEL graft_rows(const Row* rows, float* direction, float* squares, float keep, float take, float epsilon,
                  const Control* control, const Status* status) {
    if (status->failed) return;
    Row row = rows[blockIdx.x];
    float correction = control->correction;
    for (u64 i = (u64)row.at + threadIdx.x; i < (u64)row.at + row.n; i += blockDim.x) {
        float g = direction[i], v = fmaf(keep, squares[i], take * g * g);
        squares[i] = v;
        direction[i] = g / (sqrtf(v * correction) + epsilon);
    }
}

// A part of a matrix: `rows` rows of `columns` numbers, `stride` apart in the flat vector, side by side where packed.
struct Block {
    u64 at, packed;
    u32 stride, rows, columns, matrix;
};

// Sums of squares of a block's numbers, as the graft has them and preconditioned. Grid over blocks, 256 threads.
KERNEL block_lengths(const Block* blocks, const float* direction, const float* preconditioned, double* lengths,
                     const Status* status) {
    __shared__ double room[32];
    if (status->failed) return;
    Block block = blocks[blockIdx.x];
    double wanted = 0, found = 0;
    for (u32 i = threadIdx.x; i < block.rows * block.columns; i += blockDim.x) {
        float a = direction[block.at + (u64)(i / block.columns) * block.stride + i % block.columns];
        float b = preconditioned[block.packed + i];
        wanted += (double)a * a;
        found += (double)b * b;
    }
    wanted = block_sum(wanted, room);
    found = block_sum(found, room);
    if (threadIdx.x == 0) {
        lengths[2 * blockIdx.x] = wanted;
        lengths[2 * blockIdx.x + 1] = found;
    }
}

// Neighbours in a table that make a matrix.
struct Span {
    u32 first, count;
};

// What a preconditioned matrix is multiplied by; negative where the graft stands alone. Grid over matrices, 256 threads.
KERNEL matrix_factors(const Span* spans, const double* lengths, float* factors, const Status* status) {
    __shared__ double room[32];
    if (status->failed) return;
    Span span = spans[blockIdx.x];
    double wanted = 0, found = 0;
    for (u32 i = threadIdx.x; i < span.count; i += blockDim.x) {
        wanted += lengths[2 * (u64)(span.first + i)];
        found += lengths[2 * (u64)(span.first + i) + 1];
    }
    wanted = sqrt(block_sum(wanted, room));
    found = sqrt(block_sum(found, room));
    if (threadIdx.x == 0) factors[blockIdx.x] = found != 0 ? (float)(wanted / found) : -1.f;
}

// Lays preconditioned blocks where they belong. Grid over blocks, 256 threads.
KERNEL lay_blocks(const Block* blocks, const float* preconditioned, const float* factors, float* direction,
                  const Status* status) {
    if (status->failed) return;
    Block block = blocks[blockIdx.x];
    float factor = factors[block.matrix];
    if (factor < 0.f) return;
    for (u32 i = threadIdx.x; i < block.rows * block.columns; i += blockDim.x)
        direction[block.at + (u64)(i / block.columns) * block.stride + i % block.columns] =
            preconditioned[block.packed + i] * factor;
}
