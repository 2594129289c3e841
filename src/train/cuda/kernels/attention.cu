// Between the matrix products of attention, and around them. A warp takes a row; rows of scores lie `pitch` apart.

// p = softmax(scale * s) over the first t numbers; zeros after them.
KERNEL softmax(const float* s, NUMBER* p, u32 rows, u32 t, u32 pitch, float scale) {
    u32 row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    s += (u64)row * pitch;
    p += (u64)row * pitch;
    float most = -LARGEST;
    for (u32 i = lane; i < t; i += 32) most = fmaxf(most, s[i]);
    most = warp_max(most);
    float sum = 0.f;
    for (u32 i = lane; i < t; i += 32) sum += expf((s[i] - most) * scale);
    float inverse = 1.f / warp_sum(sum);
    for (u32 i = lane; i < pitch; i += 32) narrow(i < t ? expf((s[i] - most) * scale) * inverse : 0.f, p[i]);
}

// ds = scale p (dp - sum(dp p)); zeros after t.
KERNEL softmax_gradient(const NUMBER* p, const float* dp, NUMBER* ds, u32 rows, u32 t, u32 pitch, float scale) {
    u32 row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    p += (u64)row * pitch;
    dp += (u64)row * pitch;
    ds += (u64)row * pitch;
    float dot = 0.f;
    for (u32 i = lane; i < t; i += 32) dot += widen(p[i]) * dp[i];
    dot = warp_sum(dot);
    for (u32 i = lane; i < pitch; i += 32) narrow(i < t ? scale * widen(p[i]) * (dp[i] - dot) : 0.f, ds[i]);
}

// y [N, before + T, C] = class token (where `before` is 1) and x [N, T, C], plus positions. Grid over y.
KERNEL tokens(const NUMBER* x, const float* first, const float* positions, NUMBER* y, u32 t, u32 c, u32 before, u32 n) {
    EACH32(i, n);
    u32 length = (before + t) * c, at = i % length, image = i / length;
    float value = at < before * c ? first[at] : widen(x[(u64)image * t * c + at - before * c]);
    narrow(value + positions[at], y[i]);
}

// dx [N, T, C] (+)= dy [N, before + T, C] without what is before. Grid over dx.
KERNEL tokens_gradient(const NUMBER* dy, NUMBER* dx, u32 t, u32 c, u32 before, u32 n, u32 add) {
    EACH32(i, n);
    u32 image = i / (t * c);
    float own = widen(dy[i + (u64)(image + 1) * before * c]);
    narrow(add ? widen(dx[i]) + own : own, dx[i]);
}

// y [N, C] = the first token of x [N, T, C]. Grid over y.
KERNEL first_token(const NUMBER* x, NUMBER* y, u32 t, u32 c, u32 n) {
    EACH32(i, n);
    y[i] = x[(u64)(i / c) * t * c + i % c];
}

// Grid over dx [N, T, C].
KERNEL first_token_gradient(const NUMBER* dy, NUMBER* dx, u32 t, u32 c, u32 n, u32 add) {
    EACH32(i, n);
    u32 image = i / (t * c), at = i % (t * c);
    float own = at < c ? widen(dy[(u64)image * c + at]) : 0.f;
    narrow(add ? widen(dx[i]) + own : own, dx[i]);
}
