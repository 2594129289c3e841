// CUDA C for the host compiler: what kernels use of it, in terms of the stand-in's executor. Included before every
// kernel source; DISTILLERY_STAND_IN is defined while it is. With STAND_IN_SCAN, kernels keep a mark by which the
// stand-in finds their names in the preprocessed text.
#pragma once

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "device_thread.h"

#ifdef STAND_IN_SCAN
#define __global__ stand_in_global
#define __launch_bounds__(...) stand_in_bounds(__VA_ARGS__)
#else
#define __global__
#define __launch_bounds__(...)
#endif
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
/// One block runs at a time on an OS thread.
#define __shared__ static thread_local
/// Under CUDA: extern __shared__ T name[];
#define DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(stand_in_now->shared)

#define threadIdx (stand_in_now->thread)
#define blockIdx (stand_in_now->block)
#define blockDim (stand_in_now->block_dim)
#define gridDim (stand_in_now->grid_dim)
#define warpSize 32

// Registration: for each kernel, a call with packed parameters, and their sizes.

template <int... I> struct StandInPositions {};
template <typename... P, int... I>
__forceinline__ void stand_in_apply(void (*kernel)(P...), [[maybe_unused]] void** parameters, StandInPositions<I...>) {
    kernel(*static_cast<P*>(parameters[I])...);
}
template <typename... P> __forceinline__ void stand_in_call(void (*kernel)(P...), void** parameters) {
    stand_in_apply(kernel, parameters, StandInPositions<__integer_pack(sizeof...(P))...>());
}
template <typename... P> inline long stand_in_sizes(void (*)(P...), long* sizes) {
    const long all[] = {static_cast<long>(sizeof(P))..., 0};
    for (unsigned i = 0; sizes && i < sizeof...(P); i++) sizes[i] = all[i];
    return sizeof...(P);
}
#define STAND_IN_KERNEL(NAME, BOUNDS)                                                                       \
    extern "C" void stand_in_call_##NAME(void** parameters) { stand_in_call(NAME, parameters); }            \
    extern "C" long stand_in_sizes_##NAME(long* sizes) { return stand_in_sizes(NAME, sizes); }              \
    extern "C" int stand_in_bounds_##NAME() { return BOUNDS; }

// Vector types.

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
#define STAND_IN_VECTORS(T, N)                                                                              \
    struct alignas(2 * sizeof(T)) N##2 { T x, y; };                                                         \
    struct N##3 { T x, y, z; };                                                                             \
    struct alignas(sizeof(T) * 4 > 16 ? 16 : sizeof(T) * 4) N##4 { T x, y, z, w; };                         \
    static inline N##2 make_##N##2(T x, T y) { return {x, y}; }                                             \
    static inline N##3 make_##N##3(T x, T y, T z) { return {x, y, z}; }                                     \
    static inline N##4 make_##N##4(T x, T y, T z, T w) { return {x, y, z, w}; }
STAND_IN_VECTORS(unsigned, uint)
STAND_IN_VECTORS(int, int)
STAND_IN_VECTORS(float, float)
STAND_IN_VECTORS(double, double)
STAND_IN_VECTORS(short, short)
STAND_IN_VECTORS(unsigned short, ushort)
STAND_IN_VECTORS(signed char, char)
STAND_IN_VECTORS(unsigned char, uchar)
STAND_IN_VECTORS(long long, longlong)
STAND_IN_VECTORS(unsigned long long, ulonglong)

// Waiting for other threads.

static inline void __syncthreads() { stand_in_now->block_barrier(); }
static inline void __syncwarp(unsigned mask = 0xffffffffu) { stand_in_now->warp_exchange(STAND_IN_SYNC, mask, 0, 0); }
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __trap() { stand_in_now->fail("__trap"); }

static inline unsigned __ballot_sync(unsigned mask, int predicate) {
    return static_cast<unsigned>(stand_in_now->warp_exchange(STAND_IN_BALLOT, mask, predicate != 0, 0));
}
static inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
static inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }

template <typename T> inline T stand_in_shuffle(unsigned mask, T value, unsigned source) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    unsigned long long bits = 0;
    memcpy(&bits, &value, sizeof(T));
    bits = stand_in_now->warp_exchange(STAND_IN_SHUFFLE, mask, bits, source);
    memcpy(&value, &bits, sizeof(T));
    return value;
}
template <typename T> inline T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    const unsigned first = stand_in_now->lane & ~(width - 1u);
    return stand_in_shuffle(mask, value, first | (source & (width - 1u)));
}
template <typename T> inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
    const unsigned lane = stand_in_now->lane, source = lane ^ bits, end = (lane & ~(width - 1u)) + width;
    return stand_in_shuffle(mask, value, source < end ? source : lane);
}
template <typename T> inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
    const unsigned lane = stand_in_now->lane;
    return stand_in_shuffle(mask, value, (lane & (width - 1u)) + by < unsigned(width) ? lane + by : lane);
}
template <typename T> inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
    const unsigned lane = stand_in_now->lane;
    return stand_in_shuffle(mask, value, (lane & (width - 1u)) >= by ? lane - by : lane);
}

// Atomics: blocks run on several OS threads.

template <typename T, typename F> inline T stand_in_update(T* at, F next) {
    T old = *at, value;
    do value = next(old);
    while (!__atomic_compare_exchange(at, &old, &value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
}
#define STAND_IN_ATOMICS(T)                                                                                 \
    static inline T atomicAdd(T* at, T by) { return stand_in_update(at, [=](T v) { return static_cast<T>(v + by); }); }  \
    static inline T atomicMax(T* at, T by) { return stand_in_update(at, [=](T v) { return v > by ? v : by; }); } \
    static inline T atomicMin(T* at, T by) { return stand_in_update(at, [=](T v) { return v < by ? v : by; }); } \
    static inline T atomicExch(T* at, T by) { return stand_in_update(at, [=](T) { return by; }); }
STAND_IN_ATOMICS(int)
STAND_IN_ATOMICS(unsigned)
STAND_IN_ATOMICS(unsigned long long)
STAND_IN_ATOMICS(float)
STAND_IN_ATOMICS(double)
template <typename T> inline T atomicCAS(T* at, T expected, T value) {
    __atomic_compare_exchange(at, &expected, &value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return expected;
}

// Bits and numbers.

template <typename To, typename From> inline To stand_in_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "the same number of bits");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
static inline unsigned __float_as_uint(float x) { return stand_in_bits<unsigned>(x); }
static inline float __uint_as_float(unsigned x) { return stand_in_bits<float>(x); }
static inline int __float_as_int(float x) { return stand_in_bits<int>(x); }
static inline float __int_as_float(int x) { return stand_in_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return stand_in_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return stand_in_bits<double>(x); }
static inline int __float2int_rn(float x) { return static_cast<int>(rintf(x)); }
static inline int __float2int_rz(float x) { return static_cast<int>(x); }
static inline int __float2int_rd(float x) { return static_cast<int>(floorf(x)); }
static inline float __int2float_rn(int x) { return static_cast<float>(x); }
static inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (static_cast<unsigned long long>(a) * b) >> 32; }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (static_cast<unsigned __int128>(a) * b) >> 64;
}
template <typename T> inline T __ldg(const T* at) { return *at; }
template <typename T> inline T __ldcs(const T* at) { return *at; }
template <typename T> inline void __stcs(T* at, T value) { *at = value; }

template <typename T> inline T stand_in_least(T a, T b) { return b < a ? b : a; }
template <typename T> inline T stand_in_most(T a, T b) { return a < b ? b : a; }
#define STAND_IN_ORDER(T, A, B)                                                                             \
    static inline T min(A a, B b) { return stand_in_least<T>(a, b); }                                       \
    static inline T max(A a, B b) { return stand_in_most<T>(a, b); }
STAND_IN_ORDER(int, int, int)
STAND_IN_ORDER(unsigned, unsigned, unsigned)
STAND_IN_ORDER(unsigned, int, unsigned)
STAND_IN_ORDER(unsigned, unsigned, int)
STAND_IN_ORDER(long, long, long)
STAND_IN_ORDER(unsigned long, unsigned long, unsigned long)
STAND_IN_ORDER(long long, long long, long long)
STAND_IN_ORDER(unsigned long long, unsigned long long, unsigned long long)
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

// Mathematics that the host's library lacks, and the fast forms (here no faster, and exact).

static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
static inline float sinpif(float x) { return static_cast<float>(sin(3.14159265358979323846 * x)); }
static inline float cospif(float x) { return static_cast<float>(cos(3.14159265358979323846 * x)); }
static inline void sincospif(float x, float* s, float* c) { *s = sinpif(x), *c = cospif(x); }
static inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
#define __expf(x) expf(x)
#define __exp10f(x) exp10f(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __log10f(x) log10f(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __tanf(x) tanf(x)
#define __sincosf(x, s, c) sincosf(x, s, c)
#define __powf(x, y) powf(x, y)
#define __fdividef(x, y) ((x) / (y))
#define fdividef(x, y) ((x) / (y))
#define __fsqrt_rn(x) sqrtf(x)
#define __frsqrt_rn(x) rsqrtf(x)
#define __frcp_rn(x) (1.0f / (x))
#define __fadd_rn(x, y) ((x) + (y))
#define __fsub_rn(x, y) ((x) - (y))
#define __fmul_rn(x, y) ((x) * (y))
#define __fdiv_rn(x, y) ((x) / (y))
#define __fmaf_rn(x, y, z) fmaf(x, y, z)

/// The device's clock, nanoseconds; kernels define it themselves for CUDA.
static inline unsigned long long global_timer() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ull + now.tv_nsec;
}
