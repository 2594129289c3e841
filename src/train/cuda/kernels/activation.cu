// Activations, and what else looks at numbers one by one: rescaled pixels, shortcuts without parameters.

// `Activation` of `ops/activation.rs`.
#define RELU 1u
#define HARD_SWISH 2u

// clamp(u + 3, 0, 6) / 6. A NaN stays one, here and below.
__device__ __forceinline__ float hard_sigmoid(float u) {
    float value = (u + 3.f) * (1.f / 6.f);
    value = value < 0.f ? 0.f : value;
    return value > 1.f ? 1.f : value;
}

__device__ __forceinline__ float activated(float u, u32 activation) {
    if (activation == RELU) return u < 0.f ? 0.f : u;
    return activation == HARD_SWISH ? u * hard_sigmoid(u) : u;
}

// What of the gradient dy comes through an activation of u; at the corners as torch has it.
__device__ __forceinline__ float let_through(float dy, float u, u32 activation) {
    if (activation == RELU) return u > 0.f ? dy : 0.f;
    if (activation != HARD_SWISH) return dy;
    float slope = u >= 3.f ? 1.f : u * (1.f / 3.f) + 0.5f;
    return dy * (u <= -3.f ? 0.f : slope);
}

// Eight numbers a thread, or one.
template <int V> __device__ void activate(const NUMBER* x, NUMBER* y, u32 activation, u64 n) {
    EACH(i, n);
    Vector<V> value = load<V>(x + i * V);
#pragma unroll
    for (int j = 0; j < V; j++) value.at[j] = activated(value.at[j], activation);
    value.store(y + i * V);
}

BOTH(activate, (const NUMBER* x, NUMBER* y, u32 activation, u64 n), (x, y, activation, n))

template <int V>
__device__ void activate_gradient(const NUMBER* x, const NUMBER* dy, NUMBER* dx, u32 activation, u64 n, u32 add) {
    EACH(i, n);
    Vector<V> value = load<V>(x + i * V), slope = load<V>(dy + i * V);
#pragma unroll
    for (int j = 0; j < V; j++) slope.at[j] = let_through(slope.at[j], value.at[j], activation);
    write(slope, dx + i * V, add);
}

BOTH(activate_gradient, (const NUMBER* x, const NUMBER* dy, NUMBER* dx, u32 activation, u64 n, u32 add),
     (x, dy, dx, activation, n, add))

// Of at most four channels.
struct Channels {
    float scale[4], shift[4];
    u32 count;
};

// y (+)= x scale + shift, by channel.
KERNEL rescale(const NUMBER* x, NUMBER* y, Channels channels, u64 n, u32 add) {
    EACH(i, n);
    u32 channel = (u32)(i % channels.count);
    float scale = channels.scale[0], shift = channels.shift[0];
#pragma unroll
    for (u32 other = 1; other < 4; other++)
        if (channel == other) scale = channels.scale[other], shift = channels.shift[other];
    float value = widen(x[i]) * scale + shift;
    narrow(add ? widen(y[i]) + value : value, y[i]);
}

// y [N, oh, ow, co]: every stride-th pixel of x [N, H, W, C], `before` zeros before its channels and the rest after
// them. Grid over y.
KERNEL shortcut(const NUMBER* x, NUMBER* y, u32 h, u32 w, u32 c, u32 stride, u32 co, u32 before, u32 n) {
    EACH32(i, n);
    u32 ow = (w + stride - 1) / stride, oh = (h + stride - 1) / stride;
    u32 channel = i % co - before, pixel = i / co;
    u32 column = pixel % ow * stride, row = pixel / ow % oh * stride;
    u64 image = pixel / ow / oh;
    // Below `before` it has wrapped around.
    narrow(channel < c ? widen(x[((image * h + row) * w + column) * c + channel]) : 0.f, y[i]);
}

// Grid over dx.
KERNEL shortcut_gradient(const NUMBER* dy, NUMBER* dx, u32 h, u32 w, u32 c, u32 stride, u32 co, u32 before, u32 n,
                         u32 add) {
    EACH32(i, n);
    u32 ow = (w + stride - 1) / stride, oh = (h + stride - 1) / stride;
    u32 channel = i % c, pixel = i / c;
    u32 column = pixel % w, row = pixel / w % h;
    u64 image = pixel / w / h;
    float own = 0.f;
    if (column % stride == 0 && row % stride == 0)
        own = widen(dy[((image * oh + row / stride) * ow + column / stride) * co + before + channel]);
    narrow(add ? widen(dx[i]) + own : own, dx[i]);
}
