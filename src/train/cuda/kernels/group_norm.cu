// GroupNorm with an activation, or with a residual added. x, y [N, pixels, C]; a block takes `chunk` channels (whole groups) of one image: grid (C / chunk, N),
// (chunk / V) * rows threads, rows a power of two, 2 * rows * chunk floats of shared memory. `kept` is [N, C / each, 2]:
// mean and 1 / standard deviation of every group. `each` is the number of channels of a group.
template <int V>
__device__ void group_norm(const NUMBER* x, const float* weight, const float* bias, float* kept,
                           const NUMBER* residual, NUMBER* y, u32 c, u32 chunk, u32 each, u32 pixels, float eps,
                           u32 activation) {
    DYNAMIC_SHARED(float, room);
    u32 lanes = chunk / V, rows = blockDim.x / lanes, lane = threadIdx.x % lanes, row = threadIdx.x / lanes;
    u32 first = blockIdx.x * chunk;
    u64 image = (u64)blockIdx.y * pixels * c;
    x += image + first + lane * V;
    y += image + first + lane * V;
    residual += residual ? image + first + lane * V : 0;
    // Moments about the chunk's first pixel: squares of a far-off mean would swallow the variance.
    Vector<V> sum, square, origin = load<V>(x);
    sum.fill(0.f);
    square.fill(0.f);
    for (u32 pixel = row; pixel < pixels; pixel += rows) {
        Vector<V> here = load<V>(x + (u64)pixel * c);
#pragma unroll
        for (int i = 0; i < V; i++) {
            float d = here.at[i] - origin.at[i];
            sum.at[i] += d;
            square.at[i] += d * d;
        }
    }
    float *sums = room, *squares = room + rows * chunk;
    for (int i = 0; i < V; i++) {
        sums[row * chunk + lane * V + i] = sum.at[i];
        squares[row * chunk + lane * V + i] = square.at[i];
    }
    sum_rows(sums, rows, chunk);
    sum_rows(squares, rows, chunk);
    // To the groups' mean and deviation, which take the place of the first channel's sums.
    float mean = 0.f, rstd = 0.f;
    u32 groups = chunk / each;
    if (threadIdx.x < groups) {
        u32 at = threadIdx.x * each;
        double total = 0, spread = 0;
        for (u32 i = at; i < at + each; i++)
            total += (double)sums[i] + (double)pixels * widen(x[(int)i - (int)(lane * V)]);
        double count = (double)pixels * each, middle = total / count;
        for (u32 i = at; i < at + each; i++) {
            double shift = middle - (double)widen(x[(int)i - (int)(lane * V)]);
            spread += (double)squares[i] - 2.0 * shift * sums[i] + (double)pixels * shift * shift;
        }
        mean = (float)middle;
        rstd = (float)(1.0 / sqrt(fmax(spread / count, 0.0) + (double)eps));
        u64 to = ((u64)blockIdx.y * (c / each) + first / each + threadIdx.x) * 2;
        kept[to] = mean;
        kept[to + 1] = rstd;
    }
    __syncthreads();
    if (threadIdx.x < groups) {
        sums[threadIdx.x] = mean;
        squares[threadIdx.x] = rstd;
    }
    __syncthreads();
    Vector<V> scale, shift;
#pragma unroll
    for (int i = 0; i < V; i++) {
        u32 channel = lane * V + i;
        scale.at[i] = squares[channel / each] * weight[first + channel];
        shift.at[i] = bias[first + channel] - sums[channel / each] * scale.at[i];
    }
    for (u32 pixel = row; pixel < pixels; pixel += rows) {
        Vector<V> here = load<V>(x + (u64)pixel * c);
#pragma unroll
        for (int i = 0; i < V; i++) here.at[i] = activated(here.at[i] * scale.at[i] + shift.at[i], activation);
        if (residual) {
            Vector<V> other = load<V>(residual + (u64)pixel * c);
#pragma unroll
            for (int i = 0; i < V; i++) here.at[i] += other.at[i];
        }
        here.store(y + (u64)pixel * c);
    }
}

BOTH(group_norm, (const NUMBER* x, const float* weight, const float* bias, float* kept, const NUMBER* residual,
                  NUMBER* y, u32 c, u32 chunk, u32 each, u32 pixels, float eps, u32 activation),
     (x, weight, bias, kept, residual, y, c, chunk, each, pixels, eps, activation))

// What is known when it is compiled costs nothing.
BOTH_OF(group_norm_relu, group_norm,
        (const NUMBER* x, const float* weight, const float* bias, float* kept, NUMBER* y, u32 c, u32 chunk, u32 each,
         u32 pixels, float eps),
        (x, weight, bias, kept, (const NUMBER*)0, y, c, chunk, each, pixels, eps, RELU))

// dx (+)= rstd (g w - mean(g w) - xhat mean(g xhat w)), g the gradient that the activation lets through;
// partial [N, 2, C]: the image's share of the gradients of weight and bias. Grid and block as above.
template <int V>
__device__ void group_norm_gradient(const NUMBER* x, const float* weight, const float* bias, const float* kept,
                                    const NUMBER* dy, NUMBER* dx, float* partial, u32 c, u32 chunk, u32 each,
                                    u32 pixels, u32 activation, u32 add) {
    DYNAMIC_SHARED(float, room);
    u32 lanes = chunk / V, rows = blockDim.x / lanes, lane = threadIdx.x % lanes, row = threadIdx.x / lanes;
    u32 first = blockIdx.x * chunk;
    u64 image = (u64)blockIdx.y * pixels * c + first + lane * V;
    x += image;
    dy += image;
    dx += image;
    kept += ((u64)blockIdx.y * (c / each) + first / each) * 2;
    Vector<V> mean, rstd, scale, shift, sum, product;
#pragma unroll
    for (int i = 0; i < V; i++) {
        u32 channel = lane * V + i;
        mean.at[i] = kept[channel / each * 2];
        rstd.at[i] = kept[channel / each * 2 + 1];
        scale.at[i] = rstd.at[i] * weight[first + channel];
        shift.at[i] = bias[first + channel] - mean.at[i] * scale.at[i];
    }
    sum.fill(0.f);
    product.fill(0.f);
    for (u32 pixel = row; pixel < pixels; pixel += rows) {
        Vector<V> here = load<V>(x + (u64)pixel * c), slope = load<V>(dy + (u64)pixel * c);
#pragma unroll
        for (int i = 0; i < V; i++) {
            float g = let_through(slope.at[i], here.at[i] * scale.at[i] + shift.at[i], activation);
            sum.at[i] += g;
            product.at[i] += g * (here.at[i] - mean.at[i]);
        }
    }
    float *sums = room, *products = room + rows * chunk;
    for (int i = 0; i < V; i++) {
        sums[row * chunk + lane * V + i] = sum.at[i];
        products[row * chunk + lane * V + i] = product.at[i] * rstd.at[i];
    }
    sum_rows(sums, rows, chunk);
    sum_rows(products, rows, chunk);
    for (u32 i = threadIdx.x; i < chunk; i += blockDim.x) {
        partial[(u64)blockIdx.y * 2 * c + first + i] = products[i];
        partial[(u64)blockIdx.y * 2 * c + c + first + i] = sums[i];
    }
    float of_sum = 0.f, of_product = 0.f;
    u32 groups = chunk / each;
    if (threadIdx.x < groups) {
        for (u32 i = threadIdx.x * each; i < (threadIdx.x + 1) * each; i++) {
            of_sum += sums[i] * weight[first + i];
            of_product += products[i] * weight[first + i];
        }
        float count = (float)pixels * each;
        of_sum /= count;
        of_product /= count;
    }
    __syncthreads();
    if (threadIdx.x < groups) {
        sums[threadIdx.x] = of_sum;
        products[threadIdx.x] = of_product;
    }
    __syncthreads();
    // With a = -rstd mean(g w) - k mean and k = -rstd^2 mean(g w xhat): dx = scale g + k x + a.
    Vector<V> k, a;
#pragma unroll
    for (int i = 0; i < V; i++) {
        u32 group = (lane * V + i) / each;
        k.at[i] = -rstd.at[i] * rstd.at[i] * products[group];
        a.at[i] = -rstd.at[i] * sums[group];
    }
    for (u32 pixel = row; pixel < pixels; pixel += rows) {
        Vector<V> here = load<V>(x + (u64)pixel * c), slope = load<V>(dy + (u64)pixel * c);
#pragma unroll
        for (int i = 0; i < V; i++) {
            float g = let_through(slope.at[i], here.at[i] * scale.at[i] + shift.at[i], activation);
            here.at[i] = scale.at[i] * g + k.at[i] * (here.at[i] - mean.at[i]) + a.at[i];
        }
        write(here, dx + (u64)pixel * c, add);
    }
}

BOTH(group_norm_gradient,
     (const NUMBER* x, const float* weight, const float* bias, const float* kept, const NUMBER* dy, NUMBER* dx,
      float* partial, u32 c, u32 chunk, u32 each, u32 pixels, u32 activation, u32 add),
     (x, weight, bias, kept, dy, dx, partial, c, chunk, each, pixels, activation, add))

BOTH_OF(group_norm_relu_gradient, group_norm_gradient,
        (const NUMBER* x, const float* weight, const float* bias, const float* kept, const NUMBER* dy, NUMBER* dx,
         float* partial, u32 c, u32 chunk, u32 each, u32 pixels, u32 add),
        (x, weight, bias, kept, dy, dx, partial, c, chunk, each, pixels, RELU, add))
