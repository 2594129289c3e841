// BatchNorm with an activation, or with a residual added: x, y [rows, C], rows the pixels of all images.
//
// What reads x has one layout: grid (channels / (lanes V), slices), a block takes `rows_each` rows of `lanes` vectors of
// V channels; lanes * lines threads, lines a power of two; where there are sums, two floats of shared memory for every
// number of a thread. `kept` is [2, C]: mean and 1 / standard deviation.
struct Part {
    u32 lanes, lines, lane, line, channel, first, end;
};

template <int V> __device__ __forceinline__ Part part_of(u32 rows, u32 rows_each, u32 lanes) {
    Part part;
    part.lanes = lanes;
    part.lines = blockDim.x / lanes;
    part.lane = threadIdx.x % lanes;
    part.line = threadIdx.x / lanes;
    part.channel = (blockIdx.x * lanes + part.lane) * V;
    part.first = blockIdx.y * rows_each;
    part.end = min(part.first + rows_each, rows);
    return part;
}

// partial [slices, 2, C]: sums over the slice's rows of what each thread brings.
template <int V>
__device__ __forceinline__ void put_sums(Part part, Vector<V> a, Vector<V> b, float* room, float* partial, u32 c) {
    u32 width = part.lanes * V, at = part.line * width + part.lane * V;
    float* second = room + part.lines * width;
    a.store(room + at);
    b.store(second + at);
    sum_rows(room, part.lines, width);
    sum_rows(second, part.lines, width);
    if (part.line || part.channel >= c) return;
    partial += (u64)blockIdx.y * 2 * c + part.channel;
    load<V>((const float*)room + at).store(partial);
    load<V>((const float*)second + at).store(partial + c);
}

// Sums of d and of d^2, d the distance from the first row: squares of a far-off mean would swallow the variance.
template <int V>
__device__ void batch_moments(const NUMBER* x, float* partial, u32 rows, u32 rows_each, u32 c, u32 lanes) {
    DYNAMIC_SHARED(float, room);
    Part part = part_of<V>(rows, rows_each, lanes);
    Vector<V> sum, square;
    sum.fill(0.f);
    square.fill(0.f);
    if (part.channel < c) {
        x += part.channel;
        Vector<V> origin = load<V>(x);
        for (u32 row = part.first + part.line; row < part.end; row += part.lines) {
            Vector<V> here = load<V>(x + (u64)row * c);
#pragma unroll
            for (int i = 0; i < V; i++) {
                float d = here.at[i] - origin.at[i];
                sum.at[i] += d;
                square.at[i] += d * d;
            }
        }
    }
    put_sums(part, sum, square, room, partial, c);
}

BOTH(batch_moments, (const NUMBER* x, float* partial, u32 rows, u32 rows_each, u32 c, u32 lanes),
     (x, partial, rows, rows_each, c, lanes))

// Sums of two columns of partial [parts, 2, C], for all threads of a column. 32 x 16 threads, grid ceil(C / 32).
__device__ __forceinline__ void sum_both(const float* partial, u32 parts, u32 c, double& first, double& second) {
    __shared__ double room[2][16 * 32];
    u32 column = blockIdx.x * 32 + threadIdx.x % 32, line = threadIdx.x / 32;
    double a = 0, b = 0;
    if (column < c)
        for (u32 part = line; part < parts; part += 16) {
            a += partial[(u64)part * 2 * c + column];
            b += partial[((u64)part * 2 + 1) * c + column];
        }
    room[0][threadIdx.x] = a;
    room[1][threadIdx.x] = b;
    sum_rows(room[0], 16, 32);
    sum_rows(room[1], 16, 32);
    first = room[0][threadIdx.x % 32];
    second = room[1][threadIdx.x % 32];
}

// From sums about the first row of x to `kept`, and to what running statistics take in, moments [2, C]: mean and unbiased
// variance.
KERNEL batch_moments_end(const NUMBER* x, const float* partial, float* kept, float* moments, u32 parts, u32 rows, u32 c,
                         float eps) {
    double sum, square;
    sum_both(partial, parts, c, sum, square);
    u32 channel = blockIdx.x * 32 + threadIdx.x;
    if (threadIdx.x >= 32 || channel >= c) return;
    double shift = sum / rows, mean = shift + (double)widen(x[channel]);
    double variance = fmax(square / rows - shift * shift, 0.0);
    // A NaN stays one.
    if (square != square) variance = square;
    kept[channel] = (float)mean;
    kept[c + channel] = (float)(1.0 / sqrt(variance + (double)eps));
    moments[channel] = (float)mean;
    moments[c + channel] = (float)(variance * rows / (rows > 1 ? rows - 1 : 1));
}

// `kept` from running statistics.
KERNEL batch_running(const float* mean, const float* variance, float* kept, u32 c, float eps) {
    EACH32(i, c);
    kept[i] = mean[i];
    kept[c + i] = (float)(1.0 / sqrt((double)variance[i] + (double)eps));
}

// Of V channels: (x - mean) / deviation * weight + bias = x scale + shift.
template <int V> struct Affine {
    Vector<V> scale, shift, mean;

    __device__ __forceinline__ Affine(const float* kept, const float* weight, const float* bias, u32 c, u32 channel) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            mean.at[i] = kept[channel + i];
            scale.at[i] = kept[c + channel + i] * weight[channel + i];
            shift.at[i] = bias[channel + i] - mean.at[i] * scale.at[i];
        }
    }
};

template <int V>
__device__ void batch_norm(const NUMBER* x, const float* weight, const float* bias, const float* kept,
                           const NUMBER* residual, NUMBER* y, u32 rows, u32 rows_each, u32 c, u32 lanes,
                           u32 activation) {
    Part part = part_of<V>(rows, rows_each, lanes);
    if (part.channel >= c) return;
    Affine<V> affine(kept, weight, bias, c, part.channel);
    for (u32 row = part.first + part.line; row < part.end; row += part.lines) {
        u64 at = (u64)row * c + part.channel;
        Vector<V> here = load<V>(x + at);
#pragma unroll
        for (int i = 0; i < V; i++)
            here.at[i] = activated(here.at[i] * affine.scale.at[i] + affine.shift.at[i], activation);
        if (residual) {
            Vector<V> other = load<V>(residual + at);
#pragma unroll
            for (int i = 0; i < V; i++) here.at[i] += other.at[i];
        }
        here.store(y + at);
    }
}

BOTH(batch_norm, (const NUMBER* x, const float* weight, const float* bias, const float* kept, const NUMBER* residual,
                  NUMBER* y, u32 rows, u32 rows_each, u32 c, u32 lanes, u32 activation),
     (x, weight, bias, kept, residual, y, rows, rows_each, c, lanes, activation))

// With g the gradient that the activation lets through: sums of g xhat and of g.
template <int V>
__device__ void batch_norm_sums(const NUMBER* x, const float* weight, const float* bias, const float* kept,
                                const NUMBER* dy, float* partial, u32 rows, u32 rows_each, u32 c, u32 lanes,
                                u32 activation) {
    DYNAMIC_SHARED(float, room);
    Part part = part_of<V>(rows, rows_each, lanes);
    Vector<V> product, sum;
    product.fill(0.f);
    sum.fill(0.f);
    if (part.channel < c) {
        Affine<V> affine(kept, weight, bias, c, part.channel);
        for (u32 row = part.first + part.line; row < part.end; row += part.lines) {
            u64 at = (u64)row * c + part.channel;
            Vector<V> here = load<V>(x + at), slope = load<V>(dy + at);
#pragma unroll
            for (int i = 0; i < V; i++) {
                float u = here.at[i] * affine.scale.at[i] + affine.shift.at[i];
                float g = let_through(slope.at[i], u, activation);
                sum.at[i] += g;
                product.at[i] += g * (here.at[i] - affine.mean.at[i]);
            }
        }
#pragma unroll
        for (int i = 0; i < V; i++) product.at[i] *= kept[c + part.channel + i];
    }
    put_sums(part, product, sum, room, partial, c);
}

BOTH(batch_norm_sums, (const NUMBER* x, const float* weight, const float* bias, const float* kept, const NUMBER* dy,
                       float* partial, u32 rows, u32 rows_each, u32 c, u32 lanes, u32 activation),
     (x, weight, bias, kept, dy, partial, rows, rows_each, c, lanes, activation))

// Gradients of weight and bias, and for dx slopes [2, C]: k = -rstd^2 mean(g w xhat), a = -rstd mean(g w).
KERNEL batch_norm_parameters(const float* partial, const float* kept, const float* weight, float* slopes,
                             float* dweight, float* dbias, u32 parts, u32 rows, u32 c, u32 add) {
    double product, sum;
    sum_both(partial, parts, c, product, sum);
    u32 channel = blockIdx.x * 32 + threadIdx.x;
    if (threadIdx.x >= 32 || channel >= c) return;
    double rstd = kept[c + channel], share = (double)weight[channel] / rows;
    slopes[channel] = (float)(-rstd * rstd * product * share);
    slopes[c + channel] = (float)(-rstd * sum * share);
    dweight[channel] = (add ? dweight[channel] : 0.f) + (float)product;
    dbias[channel] = (add ? dbias[channel] : 0.f) + (float)sum;
}

// dx (+)= scale g + k (x - mean) + a.
template <int V>
__device__ void batch_norm_gradient(const NUMBER* x, const float* weight, const float* bias, const float* kept,
                                    const float* slopes, const NUMBER* dy, NUMBER* dx, u32 rows, u32 rows_each, u32 c,
                                    u32 lanes, u32 activation, u32 add) {
    Part part = part_of<V>(rows, rows_each, lanes);
    if (part.channel >= c) return;
    Affine<V> affine(kept, weight, bias, c, part.channel);
    Vector<V> k = load<V>(slopes + part.channel), a = load<V>(slopes + c + part.channel);
    for (u32 row = part.first + part.line; row < part.end; row += part.lines) {
        u64 at = (u64)row * c + part.channel;
        Vector<V> here = load<V>(x + at), slope = load<V>(dy + at);
#pragma unroll
        for (int i = 0; i < V; i++) {
            float u = here.at[i] * affine.scale.at[i] + affine.shift.at[i];
            float g = let_through(slope.at[i], u, activation);
            here.at[i] = affine.scale.at[i] * g + k.at[i] * (here.at[i] - affine.mean.at[i]) + a.at[i];
        }
        write(here, dx + at, add);
    }
}

BOTH(batch_norm_gradient, (const NUMBER* x, const float* weight, const float* bias, const float* kept,
                           const float* slopes, const NUMBER* dy, NUMBER* dx, u32 rows, u32 rows_each, u32 c,
                           u32 lanes, u32 activation, u32 add),
     (x, weight, bias, kept, slopes, dy, dx, rows, rows_each, c, lanes, activation, add))
