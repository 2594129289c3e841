// What looks at windows of an image: columns of a convolution, pooling, depthwise convolution. Images are [N, H, W, C].
struct Window {
    u32 h, w, c;     // input
    u32 oh, ow;      // output
    u32 kh, kw;      // window
    u32 stride, padding;
};

// The pixels under the window of output (oy, ox): body(row, column, place in the window).
template <class Body> __device__ __forceinline__ void pixels_under(const Window& s, u32 oy, u32 ox, Body body) {
    int top = (int)(oy * s.stride) - (int)s.padding, left = (int)(ox * s.stride) - (int)s.padding;
    for (u32 ky = 0; ky < s.kh; ky++)
        for (u32 kx = 0; kx < s.kw; kx++) {
            int row = top + (int)ky, column = left + (int)kx;
            if (row >= 0 && row < (int)s.h && column >= 0 && column < (int)s.w) body(row, column, ky * s.kw + kx);
        }
}

// The windows over pixel (y, x): body(output row, output column, the pixel's place in the window).
template <class Body> __device__ __forceinline__ void windows_over(const Window& s, u32 y, u32 x, Body body) {
    for (u32 ky = 0; ky < s.kh; ky++) {
        int top = (int)(y + s.padding) - (int)ky;
        if (top < 0 || top % (int)s.stride || top / (int)s.stride >= (int)s.oh) continue;
        for (u32 kx = 0; kx < s.kw; kx++) {
            int left = (int)(x + s.padding) - (int)kx;
            if (left < 0 || left % (int)s.stride || left / (int)s.stride >= (int)s.ow) continue;
            body((u32)top / s.stride, (u32)left / s.stride, ky * s.kw + kx);
        }
    }
}

// columns [images * oh * ow, kh * kw * each]: channels `from .. from + each` under every place of the window; zeros
// beyond the image. 256 threads a block, grid over all numbers / V.
template <int V>
__device__ void gather_columns(const NUMBER* x, NUMBER* columns, Window s, u32 from, u32 each, u32 n) {
    EACH32(i, n);
    u32 lanes = each / V, lane = i % lanes, tap = i / lanes % (s.kh * s.kw);
    u32 pixel = i / lanes / (s.kh * s.kw);
    u32 ox = pixel % s.ow, oy = pixel / s.ow % s.oh;
    u64 image = pixel / s.ow / s.oh;
    int y = (int)(oy * s.stride + tap / s.kw) - (int)s.padding, x0 = (int)(ox * s.stride + tap % s.kw) - (int)s.padding;
    Vector<V> value;
    value.fill(0.f);
    if (y >= 0 && y < (int)s.h && x0 >= 0 && x0 < (int)s.w)
        value = load<V>(x + ((image * s.h + y) * s.w + x0) * s.c + from + lane * V);
    value.store(columns + (u64)i * V);
}

BOTH(gather_columns, (const NUMBER* x, NUMBER* columns, Window s, u32 from, u32 each, u32 n),
     (x, columns, s, from, each, n))

// The other way: dx [images, H, W, C], channels `from .. from + each`, (+)= what all windows over a pixel say of it.
template <int V>
__device__ void scatter_columns(const NUMBER* columns, NUMBER* dx, Window s, u32 from, u32 each, u32 n, u32 add) {
    EACH32(i, n);
    u32 lanes = each / V, lane = i % lanes;
    u32 pixel = i / lanes;
    u32 x = pixel % s.w, y = pixel / s.w % s.h;
    u64 image = pixel / s.w / s.h;
    Vector<V> sum;
    sum.fill(0.f);
    windows_over(s, y, x, [&](u32 oy, u32 ox, u32 tap) {
        u64 row = (image * s.oh + oy) * s.ow + ox;
        Vector<V> value = load<V>(columns + (row * s.kh * s.kw + tap) * each + lane * V);
#pragma unroll
        for (int j = 0; j < V; j++) sum.at[j] += value.at[j];
    });
    write(sum, dx + (u64)pixel * s.c + from + lane * V, add);
}

BOTH(scatter_columns, (const NUMBER* columns, NUMBER* dx, Window s, u32 from, u32 each, u32 n, u32 add),
     (columns, dx, s, from, each, n, add))

// Numbers of a window that lie in the image; zeros beyond it are counted too where `zeros`.
__device__ __forceinline__ float divisor(Window s, u32 oy, u32 ox, u32 zeros) {
    if (zeros) return (float)(s.kh * s.kw);
    int top = (int)(oy * s.stride) - (int)s.padding, left = (int)(ox * s.stride) - (int)s.padding;
    int rows = min(top + (int)s.kh, (int)s.h) - max(top, 0), columns = min(left + (int)s.kw, (int)s.w) - max(left, 0);
    return (float)(rows * columns);
}

#define NOWHERE 255

// y [N, oh, ow, C]: maxima, with the first place of each in `place` (NOWHERE for a zero beyond the image), or means.
// `zeros` says that a window sees zeros beyond the image. 256 threads a block, grid over y.
KERNEL pool(const NUMBER* x, NUMBER* y, u8* place, Window s, u32 zeros, u32 mean, u32 n) {
    EACH32(i, n);
    u32 channel = i % s.c;
    u32 pixel = i / s.c;
    u32 ox = pixel % s.ow, oy = pixel / s.ow % s.oh;
    u64 image = pixel / s.ow / s.oh;
    int top = (int)(oy * s.stride) - (int)s.padding, left = (int)(ox * s.stride) - (int)s.padding;
    bool beyond = top < 0 || left < 0 || top + (int)s.kh > (int)s.h || left + (int)s.kw > (int)s.w;
    bool any = beyond && zeros;
    float best = 0.f, sum = 0.f;
    u8 at = NOWHERE;
    pixels_under(s, oy, ox, [&](int row, int column, u32 tap) {
        float value = widen(x[((image * s.h + row) * s.w + column) * s.c + channel]);
        sum += value;
        if (!any || value > best || value != value) {
            best = value;
            at = (u8)tap;
            any = true;
        }
    });
    if (mean) {
        narrow(sum / divisor(s, oy, ox, zeros), y[i]);
    } else {
        narrow(best, y[i]);
        place[i] = at;
    }
}

// Every input asks the windows over it. Grid over dx.
KERNEL pool_gradient(const NUMBER* dy, const u8* place, NUMBER* dx, Window s, u32 zeros, u32 mean, u32 n, u32 add) {
    EACH32(i, n);
    u32 channel = i % s.c;
    u32 pixel = i / s.c;
    u32 x = pixel % s.w, y = pixel / s.w % s.h;
    u64 image = pixel / s.w / s.h;
    float sum = 0.f;
    windows_over(s, y, x, [&](u32 oy, u32 ox, u32 tap) {
        u64 at = ((image * s.oh + oy) * s.ow + ox) * s.c + channel;
        if (mean) sum += widen(dy[at]) / divisor(s, oy, ox, zeros);
        else if (place[at] == tap) sum += widen(dy[at]);
    });
    narrow(add ? widen(dx[i]) + sum : sum, dx[i]);
}

// y [N, C]: the mean over all pixels of x [N, pixels, C]. Grid (ceil(C / 32), N), 32 x 8 threads.
KERNEL global_mean(const NUMBER* x, NUMBER* y, u32 pixels, u32 c) {
    __shared__ float room[8 * 32];
    u32 column = blockIdx.x * 32 + threadIdx.x % 32, line = threadIdx.x / 32;
    float sum = 0.f;
    if (column < c)
        for (u32 pixel = line; pixel < pixels; pixel += 8)
            sum += widen(x[((u64)blockIdx.y * pixels + pixel) * c + column]);
    room[threadIdx.x] = sum;
    sum_rows(room, 8, 32);
    if (line == 0 && column < c) narrow(room[threadIdx.x] / pixels, y[(u64)blockIdx.y * c + column]);
}

// Grid over dx.
KERNEL global_mean_gradient(const NUMBER* dy, NUMBER* dx, u32 pixels, u32 c, u32 n, u32 add) {
    EACH32(i, n);
    float own = widen(dy[(u64)(i / c / pixels) * c + i % c]) / pixels;
    narrow(add ? widen(dx[i]) + own : own, dx[i]);
}

// y = x convolved with w [C, kh * kw], each channel by itself, + bias where there is one. Grid over y.
KERNEL depthwise(const NUMBER* x, const NUMBER* w, const float* bias, NUMBER* y, Window s, u32 n) {
    EACH32(i, n);
    u32 channel = i % s.c;
    u32 pixel = i / s.c;
    u32 ox = pixel % s.ow, oy = pixel / s.ow % s.oh;
    u64 image = pixel / s.ow / s.oh;
    float sum = bias ? bias[channel] : 0.f;
    pixels_under(s, oy, ox, [&](int row, int column, u32 tap) {
        sum += widen(x[((image * s.h + row) * s.w + column) * s.c + channel]) * widen(w[channel * s.kh * s.kw + tap]);
    });
    narrow(sum, y[i]);
}

// Grid over dx.
KERNEL depthwise_gradient(const NUMBER* dy, const NUMBER* w, NUMBER* dx, Window s, u32 n, u32 add) {
    EACH32(i, n);
    u32 channel = i % s.c;
    u32 pixel = i / s.c;
    u32 x = pixel % s.w, y = pixel / s.w % s.h;
    u64 image = pixel / s.w / s.h;
    float sum = 0.f;
    windows_over(s, y, x, [&](u32 oy, u32 ox, u32 tap) {
        u64 at = (image * s.oh + oy) * s.ow + ox;
        sum += widen(dy[at * s.c + channel]) * widen(w[channel * s.kh * s.kw + tap]);
    });
    narrow(add ? widen(dx[i]) + sum : sum, dx[i]);
}

// partial [slices, C, kh * kw]. Grid (ceil(C / 32), kh * kw, slices), 32 x 8 threads; a block takes `rows_each` of all
// images' output pixels.
KERNEL depthwise_weights(const NUMBER* x, const NUMBER* dy, float* partial, Window s, u32 rows, u32 rows_each) {
    __shared__ float room[8 * 32];
    u32 channel = blockIdx.x * 32 + threadIdx.x % 32, line = threadIdx.x / 32, tap = blockIdx.y;
    u32 first = blockIdx.z * rows_each, end = min(first + rows_each, rows);
    float sum = 0.f;
    if (channel < s.c)
        for (u32 pixel = first + line; pixel < end; pixel += 8) {
            u32 ox = pixel % s.ow, oy = pixel / s.ow % s.oh, image = pixel / s.ow / s.oh;
            int row = (int)(oy * s.stride + tap / s.kw) - (int)s.padding;
            int column = (int)(ox * s.stride + tap % s.kw) - (int)s.padding;
            if (row < 0 || row >= (int)s.h || column < 0 || column >= (int)s.w) continue;
            sum += widen(x[(((u64)image * s.h + row) * s.w + column) * s.c + channel]) *
                   widen(dy[(u64)pixel * s.c + channel]);
        }
    room[threadIdx.x] = sum;
    sum_rows(room, 8, 32);
    if (line == 0 && channel < s.c)
        partial[((u64)blockIdx.z * s.c + channel) * gridDim.y + tap] = room[threadIdx.x];
}
