// LayerNorm over the channels of every token: x, y [rows, C]; a warp takes a row. `kept` [rows, 2]: mean and
// 1 / standard deviation.
KERNEL layer_norm(const NUMBER* x, const float* weight, const float* bias, float* kept, NUMBER* y, u32 rows, u32 c,
                  float eps) {
    u32 row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    x += (u64)row * c;
    y += (u64)row * c;
    float sum = 0.f;
    for (u32 i = lane; i < c; i += 32) sum += widen(x[i]);
    float mean = warp_sum(sum) / c, square = 0.f;
    for (u32 i = lane; i < c; i += 32) {
        float d = widen(x[i]) - mean;
        square += d * d;
    }
    float rstd = 1.f / sqrtf(warp_sum(square) / c + eps);
    for (u32 i = lane; i < c; i += 32) narrow((widen(x[i]) - mean) * rstd * weight[i] + bias[i], y[i]);
    if (lane == 0) {
        kept[2 * (u64)row] = mean;
        kept[2 * (u64)row + 1] = rstd;
    }
}

// dx (+)= rstd (g - mean(g) - xhat mean(g xhat)), g = dy weight.
KERNEL layer_norm_gradient(const NUMBER* x, const float* weight, const float* kept, const NUMBER* dy, NUMBER* dx,
                           u32 rows, u32 c, u32 add) {
    u32 row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    x += (u64)row * c;
    dy += (u64)row * c;
    dx += (u64)row * c;
    float mean = kept[2 * (u64)row], rstd = kept[2 * (u64)row + 1], sum = 0.f, product = 0.f;
    for (u32 i = lane; i < c; i += 32) {
        float g = widen(dy[i]) * weight[i];
        sum += g;
        product += g * (widen(x[i]) - mean) * rstd;
    }
    sum = warp_sum(sum) / c;
    product = warp_sum(product) / c;
    for (u32 i = lane; i < c; i += 32) {
        float own = rstd * (widen(dy[i]) * weight[i] - sum - (widen(x[i]) - mean) * rstd * product);
        narrow(add ? widen(dx[i]) + own : own, dx[i]);
    }
}

// partial [slices, 2, C]: shares of the gradients of weight and bias. Grid (ceil(C / 32), slices), 32 x 8 threads;
// a block takes `rows_each` rows.
KERNEL layer_norm_parameters(const NUMBER* x, const float* kept, const NUMBER* dy, float* partial, u32 rows,
                             u32 rows_each, u32 c) {
    __shared__ float room[2][8 * 32];
    u32 column = blockIdx.x * 32 + threadIdx.x % 32, line = threadIdx.x / 32;
    u32 first = blockIdx.y * rows_each, end = min(first + rows_each, rows);
    float weight = 0.f, bias = 0.f;
    if (column < c)
        for (u32 row = first + line; row < end; row += 8) {
            float g = widen(dy[(u64)row * c + column]);
            weight += g * (widen(x[(u64)row * c + column]) - kept[2 * (u64)row]) * kept[2 * (u64)row + 1];
            bias += g;
        }
    room[0][threadIdx.x] = weight;
    room[1][threadIdx.x] = bias;
    sum_rows(room[0], 8, 32);
    sum_rows(room[1], 8, 32);
    if (line == 0 && column < c) {
        partial[(u64)blockIdx.y * 2 * c + column] = room[0][threadIdx.x];
        partial[(u64)blockIdx.y * 2 * c + c + column] = room[1][threadIdx.x];
    }
}
