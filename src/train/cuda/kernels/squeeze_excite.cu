// Squeeze and excite: y = x hard_sigmoid(raw) by image and channel, raw [N, C] made of the means [N, C] over pixels by
// way of hidden [N, R]: hidden = relu(reduce mean + b), raw = expand hidden + b'. All between x and y is f32.

// Images that a block takes, for which it reads the weights once.
#define TOGETHER 4

// means [N, C] of x [N, pixels, C]; or, where dy is given, the gradient of raw: sums of x dy where the gate is between its
// ends. Grid (ceil(C / 32), N), 32 x 8 threads.
KERNEL squeeze(const NUMBER* x, const NUMBER* dy, const float* raw, float* to, u32 pixels, u32 c) {
    __shared__ float room[8 * 32];
    u32 column = blockIdx.x * 32 + threadIdx.x % 32, line = threadIdx.x / 32;
    u64 image = (u64)blockIdx.y * pixels * c + column;
    float sum = 0.f;
    if (column < c)
        for (u32 pixel = line; pixel < pixels; pixel += 8) {
            u64 at = image + (u64)pixel * c;
            sum += dy ? widen(x[at]) * widen(dy[at]) : widen(x[at]);
        }
    room[threadIdx.x] = sum;
    sum_rows(room, 8, 32);
    if (line || column >= c) return;
    u64 at = (u64)blockIdx.y * c + column;
    if (dy) to[at] = raw[at] > -3.f && raw[at] < 3.f ? room[threadIdx.x] * (1.f / 6.f) : 0.f;
    else to[at] = room[threadIdx.x] / pixels;
}

// One warp: sums over i of row[i] times each image's numbers, for all its threads. Beyond the last image it is read again.
__device__ __forceinline__ void dots(const float* row, const float* x, u32 first, u32 images, u32 n,
                                     float sums[TOGETHER]) {
    for (u32 j = 0; j < TOGETHER; j++) sums[j] = 0.f;
    for (u32 i = threadIdx.x % 32; i < n; i += 32) {
        float weight = row[i];
#pragma unroll
        for (u32 j = 0; j < TOGETHER; j++) sums[j] += weight * x[(u64)min(first + j, images - 1) * n + i];
    }
#pragma unroll
    for (u32 j = 0; j < TOGETHER; j++) sums[j] = warp_sum(sums[j]);
}

// Grid ceil(N / TOGETHER), 256 threads; a warp takes a row of the weights.
KERNEL excite(const float* means, const float* reduce, const float* reduce_bias, const float* expand,
              const float* expand_bias, float* hidden, float* raw, u32 images, u32 c, u32 r) {
    u32 first = blockIdx.x * TOGETHER, warps = blockDim.x / 32;
    float sums[TOGETHER];
    for (u32 row = threadIdx.x / 32; row < r; row += warps) {
        dots(reduce + (u64)row * c, means, first, images, c, sums);
        for (u32 j = 0; j < TOGETHER; j++) {
            float value = sums[j] + reduce_bias[row];
            if (threadIdx.x % 32 == 0 && first + j < images)
                hidden[(u64)(first + j) * r + row] = value < 0.f ? 0.f : value;
        }
    }
    __syncthreads();
    for (u32 row = threadIdx.x / 32; row < c; row += warps) {
        dots(expand + (u64)row * r, hidden, first, images, r, sums);
        for (u32 j = 0; j < TOGETHER; j++)
            if (threadIdx.x % 32 == 0 && first + j < images)
                raw[(u64)(first + j) * c + row] = sums[j] + expand_bias[row];
    }
}

// to [N, columns] = x [N, rows] weights [rows, columns], of the block's images; body(image, column, sum) takes the results.
// Threads stand 32 columns by 8 lines.
template <class Body>
__device__ __forceinline__ void multiply_columns(const float* x, const float* weights, u32 images, u32 rows,
                                                 u32 columns, Body body) {
    __shared__ float room[TOGETHER][8 * 32];
    u32 first = blockIdx.x * TOGETHER, line = threadIdx.x / 32;
    for (u32 from = 0; from < columns; from += 32) {
        u32 column = from + threadIdx.x % 32;
        float sums[TOGETHER] = {};
        if (column < columns)
            for (u32 row = line; row < rows; row += 8) {
                float weight = weights[(u64)row * columns + column];
#pragma unroll
                for (u32 j = 0; j < TOGETHER; j++)
                    sums[j] += weight * x[(u64)min(first + j, images - 1) * rows + row];
            }
        for (u32 j = 0; j < TOGETHER; j++) room[j][threadIdx.x] = sums[j];
        for (u32 j = 0; j < TOGETHER; j++) {
            sum_rows(room[j], 8, 32);
            if (line == 0 && column < columns && first + j < images) body(first + j, column, room[j][threadIdx.x]);
        }
        __syncthreads();
    }
}

// From the gradient of raw to those of hidden, before its ReLU, and of the means, by pixel. Grid and block as of `excite`.
KERNEL excite_gradient(const float* d_raw, const float* hidden, const float* reduce, const float* expand,
                       float* d_hidden, float* d_mean, u32 images, u32 c, u32 r, u32 pixels) {
    multiply_columns(d_raw, expand, images, c, r, [&](u32 image, u32 column, float sum) {
        u64 at = (u64)image * r + column;
        d_hidden[at] = hidden[at] > 0.f ? sum : 0.f;
    });
    multiply_columns(d_hidden, reduce, images, r, c, [&](u32 image, u32 column, float sum) {
        d_mean[(u64)image * c + column] = sum / pixels;
    });
}

// to [A, B] (+)= sums over images of a [N, A] times b [N, B]; bias [A] (+)= sums of a. Grid over `to`.
KERNEL outer_sums(const float* a, const float* b, float* to, float* bias, u32 images, u32 of_a, u32 of_b, u32 add) {
    EACH32(i, of_a * of_b);
    u32 row = i / of_b, column = i % of_b;
    float sum = 0.f, own = 0.f;
    for (u32 image = 0; image < images; image++) {
        float value = a[(u64)image * of_a + row];
        sum += value * b[(u64)image * of_b + column];
        own += value;
    }
    to[i] = (add ? to[i] : 0.f) + sum;
    if (column == 0) bias[row] = (add ? bias[row] : 0.f) + own;
}

// y = x gate. Grid over all numbers / V.
template <int V> __device__ void gate(const NUMBER* x, const float* raw, NUMBER* y, u32 pixels, u32 c, u32 n) {
    EACH32(i, n);
    u32 lanes = c / V;
    raw += (u64)(i / lanes / pixels) * c + i % lanes * V;
    Vector<V> value = load<V>(x + (u64)i * V), gates = load<V>(raw);
#pragma unroll
    for (int j = 0; j < V; j++) value.at[j] *= hard_sigmoid(gates.at[j]);
    value.store(y + (u64)i * V);
}

BOTH(gate, (const NUMBER* x, const float* raw, NUMBER* y, u32 pixels, u32 c, u32 n), (x, raw, y, pixels, c, n))

// dx (+)= dy gate + the mean's gradient.
template <int V>
__device__ void gate_gradient(const NUMBER* dy, const float* raw, const float* d_mean, NUMBER* dx, u32 pixels, u32 c,
                              u32 n, u32 add) {
    EACH32(i, n);
    u32 lanes = c / V;
    u64 at = (u64)(i / lanes / pixels) * c + i % lanes * V;
    Vector<V> value = load<V>(dy + (u64)i * V), gates = load<V>(raw + at), offset = load<V>(d_mean + at);
#pragma unroll
    for (int j = 0; j < V; j++) value.at[j] = value.at[j] * hard_sigmoid(gates.at[j]) + offset.at[j];
    write(value, dx + (u64)i * V, add);
}

BOTH(gate_gradient, (const NUMBER* dy, const float* raw, const float* d_mean, NUMBER* dx, u32 pixels, u32 c, u32 n,
                     u32 add),
     (dy, raw, d_mean, dx, pixels, c, n, add))
