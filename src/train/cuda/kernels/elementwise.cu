// Number by number: 256 threads a block, grid over n.
#define EACH(i, n) u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; if (i >= (n)) return

// For what is divided by: 32 bits are enough for a batch, and several times faster.
#define EACH32(i, n) u32 i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= (n)) return

// y [n] from f32.
KERNEL convert(const float* x, NUMBER* y, u64 n) {
    EACH(i, n);
    narrow(x[i], y[i]);
}

// to [n] (+)= x, for gradients that are made in the element type.
KERNEL accumulate(const NUMBER* x, float* to, u64 n, u32 add) {
    EACH(i, n);
    to[i] = (add ? to[i] : 0.f) + widen(x[i]);
}

// y [rows, c] += bias [c], f32.
KERNEL add_bias(const float* bias, float* y, u32 c, u64 n) {
    EACH(i, n);
    y[i] += bias[i % c];
}

// to [n] += x, eight numbers a thread.
KERNEL add(const NUMBER* x, NUMBER* to, u64 n) {
    u64 at = ((u64)blockIdx.x * blockDim.x + threadIdx.x) * 8;
    if (at + 8 <= n) {
        write(load<8>(x + at), to + at, 1);
    } else {
        for (; at < n; at++) narrow(widen(x[at]) + widen(to[at]), to[at]);
    }
}

// y = x times the standard normal's distribution at x.
KERNEL gelu(const NUMBER* x, NUMBER* y, u64 n) {
    EACH(i, n);
    float value = widen(x[i]);
    narrow(value * 0.5f * (1.f + erff(value * 0.70710678f)), y[i]);
}

KERNEL gelu_gradient(const NUMBER* x, const NUMBER* dy, NUMBER* dx, u64 n, u32 add) {
    EACH(i, n);
    float value = widen(x[i]);
    float distribution = 0.5f * (1.f + erff(value * 0.70710678f));
    float density = 0.39894228f * expf(-0.5f * value * value);
    float own = widen(dy[i]) * (distribution + value * density);
    narrow(add ? widen(dx[i]) + own : own, dx[i]);
}

// images [batch, size] in [-1, 1] from pixels of 8 bits, each mixed with the one before it (the first with the last):
// share of its own, 1 - share of the other. Where the share is 1, all of the other's inside a box, which may be empty: of
// each row of `row` numbers those from left to right, in the rows from top to bottom.
KERNEL show(const u8* pixels, NUMBER* images, u32 batch, u32 size, float share, u32 row, u32 left, u32 top, u32 right,
            u32 bottom) {
    EACH(i, (u64)batch * size);
    u64 other = i >= size ? i - size : i + (u64)(batch - 1) * size;
    float value = (float)pixels[i] / 127.5f - 1.f;
    if (share < 1.f) {
        value = value * share + ((float)pixels[other] / 127.5f - 1.f) * (1.f - share);
    } else if (left < right) {
        u32 at = (u32)(i % size), x = at % row, y = at / row;
        if (x >= left && x < right && y >= top && y < bottom) value = (float)pixels[other] / 127.5f - 1.f;
    }
    narrow(value, images[i]);
}

// Answers of teachers [n, classes], taken together one by one: `place` counts from 0 to `count - 1`, `total` is the sum of
// the weights. Means of logits.
KERNEL mean_logits(const float* logits, float* to, u64 n, u32 place, u32 count, float weight, float total) {
    EACH(i, n);
    float sum = (place ? to[i] : 0.f) + weight * logits[i];
    to[i] = place + 1 == count ? sum / total : sum;
}

// Side by side: to [n, count, classes], of n numbers of logits in all.
KERNEL each_logits(const float* logits, float* to, u64 n, u32 classes, u32 place, u32 count) {
    EACH(i, n);
    to[(i / classes * count + place) * classes + i % classes] = logits[i];
}

// The logarithm of the mean of probabilities: logits again. A block of 128 takes a row.
KERNEL mean_probabilities(const float* logits, float* to, u32 classes, u32 place, u32 count, float weight, float total) {
    __shared__ float room[32];
    logits += (u64)blockIdx.x * classes;
    to += (u64)blockIdx.x * classes;
    float most = -LARGEST;
    for (u32 i = threadIdx.x; i < classes; i += blockDim.x) most = fmaxf(most, logits[i]);
    most = block_max(most, room);
    float sum = 0.f;
    for (u32 i = threadIdx.x; i < classes; i += blockDim.x) sum += expf(logits[i] - most);
    sum = block_sum(sum, room);
    for (u32 i = threadIdx.x; i < classes; i += blockDim.x) {
        float value = (place ? to[i] : 0.f) + weight * (expf(logits[i] - most) / sum);
        // A probability below what f32 can tell from zero stays finite as a logit.
        to[i] = place + 1 == count ? logf(fmaxf(value / total, 1e-30f)) : value;
    }
}
