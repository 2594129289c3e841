// The CUDA C that selftest.cpp compiles and launches.
#pragma once

static const char* KERNELS = R"(
#define THREADS 128
#define KERNEL(name) extern "C" __global__ void name
typedef unsigned short bf16;

__device__ __forceinline__ float warp_sum(float v) {
    for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
}

extern "C" __global__ void __launch_bounds__(THREADS) row_sums(const float* __restrict__ x, float* out, const int n) {
    __shared__ float parts[THREADS / 32];
    float sum = 0.0f;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[(size_t)blockIdx.x * n + i];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x < 32) {
        sum = threadIdx.x < THREADS / 32 ? parts[threadIdx.x] : 0.0f;
        for (int d = 16; d > 0; d /= 2) sum += __shfl_down_sync(0xffffffffu, sum, d);
        if (threadIdx.x == 0) out[blockIdx.x] = sum;
    }
}

KERNEL(reverse)(float* x, unsigned long long n) {
    DYNAMIC_SHARED(float, all);
    const unsigned i = threadIdx.x + blockDim.x * threadIdx.y;
    if (i >= n) return;
    all[i] = x[blockIdx.x * n + i];
    __syncthreads();
    x[blockIdx.x * n + i] = all[n - 1 - i];
}

KERNEL(axpy)(float a, const float4* x, float4* y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float4 v = __ldg(x + i), w = y[i];
    y[i] = make_float4(fmaf(a, v.x, w.x), fmaf(a, v.y, w.y), fmaf(a, v.z, w.z), fmaf(a, v.w, w.w));
}

KERNEL(large_shared)(float* x) {
    __shared__ float all[48 * 256];
    for (int i = threadIdx.x; i < 48 * 256; i += blockDim.x) all[i] = i + blockIdx.x;
    __syncthreads();
    if (threadIdx.x == 0) x[blockIdx.x] = all[48 * 256 - 1];
}

KERNEL(unwritten_shared)(float* out) {
    DYNAMIC_SHARED(float, all);
    out[0] = all[0];
}

KERNEL(ballots)(unsigned* out) {
    const unsigned odd = __ballot_sync(0xffffffffu, threadIdx.x & 1);
    unsigned low = 0;
    if (threadIdx.x < 8) low = __shfl_up_sync(0xffu, threadIdx.x, 1);
    __syncwarp();
    out[threadIdx.x] = odd + low + (__any_sync(0xffffffffu, threadIdx.x == 3) ? 1000 : 0);
    if (threadIdx.x == 0) atomicAdd(out + 32, 5u);
}

KERNEL(lane_missing)(float* out) {
    if (threadIdx.x == 5) return;
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}

KERNEL(out_of_bounds)(float* out) { out[threadIdx.x + 64] = 1.0f; }

template <typename T> __global__ void a_template(T* x) { *x = T(FROM_OPTION); }
__global__ void not_extern_c(float* x) { *x = global_timer() > 0 ? min(1, 2) : __expf(0.0f) * rsqrtf(4.0f); }
)";
