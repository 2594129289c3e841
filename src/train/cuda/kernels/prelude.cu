// What all kernels share: the element type, vectors of it, and sums over a block.
//
// The program is compiled for each element type with -DNUMBER=float or -DNUMBER=bf16. Sums are taken in f32 or f64, in
// an order that depends on shapes alone; no kernel uses atomics, so equal inputs give equal bits.
typedef unsigned long long u64;
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;

#ifndef DISTILLERY_STAND_IN
// Aligned for vectors.
#define DYNAMIC_SHARED(type, name) extern __shared__ __align__(16) type name[]
// Nanoseconds.
__device__ __forceinline__ u64 global_timer() {
    u64 now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
    return now;
}
#endif

// Infinity, which has no name without headers.
#define LARGEST __uint_as_float(0x7f800000u)

struct bf16 {
    u16 bits;
};

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(bf16 x) { return __uint_as_float((u32)x.bits << 16); }

// To nearest, ties to even.
__device__ __forceinline__ u16 round_to_bf16(float x) {
#ifdef DISTILLERY_STAND_IN
    if (x != x) return 0x7fc0;
    u32 bits = __float_as_uint(x);
    return (u16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
#else
    u16 bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
#endif
}

__device__ __forceinline__ void narrow(float x, float& to) { to = x; }
__device__ __forceinline__ void narrow(float x, bf16& to) { to.bits = round_to_bf16(x); }

// V neighbouring numbers, widened. For V = 8 the address is a multiple of 8 numbers.
template <int V> struct Vector {
    float at[V];

    __device__ __forceinline__ void fill(float x) {
#pragma unroll
        for (int i = 0; i < V; i++) at[i] = x;
    }
    template <class T> __device__ __forceinline__ void load(const T* from) {
#pragma unroll
        for (int i = 0; i < V; i++) at[i] = widen(from[i]);
    }
    template <class T> __device__ __forceinline__ void store(T* to) const {
#pragma unroll
        for (int i = 0; i < V; i++) narrow(at[i], to[i]);
    }
};

template <> template <> __device__ __forceinline__ void Vector<8>::load<float>(const float* from) {
    float4 a = ((const float4*)from)[0], b = ((const float4*)from)[1];
    at[0] = a.x, at[1] = a.y, at[2] = a.z, at[3] = a.w;
    at[4] = b.x, at[5] = b.y, at[6] = b.z, at[7] = b.w;
}

template <> template <> __device__ __forceinline__ void Vector<8>::store<float>(float* to) const {
    ((float4*)to)[0] = make_float4(at[0], at[1], at[2], at[3]);
    ((float4*)to)[1] = make_float4(at[4], at[5], at[6], at[7]);
}

template <> template <> __device__ __forceinline__ void Vector<8>::load<bf16>(const bf16* from) {
    uint4 pairs = *(const uint4*)from;
    u32 each[4] = {pairs.x, pairs.y, pairs.z, pairs.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        at[2 * i] = __uint_as_float(each[i] << 16);
        at[2 * i + 1] = __uint_as_float(each[i] & 0xffff0000u);
    }
}

template <> template <> __device__ __forceinline__ void Vector<8>::store<bf16>(bf16* to) const {
    u32 each[4];
#pragma unroll
    for (int i = 0; i < 4; i++) each[i] = (u32)round_to_bf16(at[2 * i]) | ((u32)round_to_bf16(at[2 * i + 1]) << 16);
    *(uint4*)to = make_uint4(each[0], each[1], each[2], each[3]);
}

template <int V, class T> __device__ __forceinline__ Vector<V> load(const T* from) {
    Vector<V> vector;
    vector.load(from);
    return vector;
}

// Sets or adds.
template <int V, class T> __device__ __forceinline__ void write(Vector<V> value, T* to, u32 add) {
    if (add) {
        Vector<V> old = load<V>((const T*)to);
#pragma unroll
        for (int i = 0; i < V; i++) value.at[i] += old.at[i];
    }
    value.store(to);
}

__device__ __forceinline__ float warp_sum(float x) {
    for (int distance = 16; distance; distance >>= 1) x += __shfl_xor_sync(0xffffffffu, x, distance);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
    for (int distance = 16; distance; distance >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, distance));
    return x;
}

__device__ __forceinline__ double warp_sum(double x) {
    for (int distance = 16; distance; distance >>= 1) x += __shfl_xor_sync(0xffffffffu, x, distance);
    return x;
}

// The sum over a block of whole warps, for all its threads. `room` holds 32.
template <class T> __device__ T block_sum(T x, T* room) {
    x = warp_sum(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
    __syncthreads();
    return warp_sum(threadIdx.x % 32 < blockDim.x / 32 ? room[threadIdx.x % 32] : T(0));
}

__device__ float block_max(float x, float* room) {
    x = warp_max(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
    __syncthreads();
    return warp_max(threadIdx.x % 32 < blockDim.x / 32 ? room[threadIdx.x % 32] : room[0]);
}

// Sums columns of `room`, `rows` (a power of two) rows of `width` numbers, into its first row. Every thread of the block
// comes here after writing.
template <class T> __device__ __forceinline__ void sum_rows(T* room, u32 rows, u32 width) {
    for (u32 half = rows / 2; half; half /= 2) {
        __syncthreads();
        for (u32 i = threadIdx.x; i < half * width; i += blockDim.x) room[i] += room[i + half * width];
    }
    __syncthreads();
}

#define KERNEL extern "C" __global__ void
// The same kernel for vectors of eight numbers and for single ones.
#define BOTH_OF(name, body, parameters, arguments)         \
    KERNEL name##_8 parameters { body<8> arguments; }      \
    KERNEL name##_1 parameters { body<1> arguments; }
#define BOTH(name, parameters, arguments) BOTH_OF(name, name, parameters, arguments)
