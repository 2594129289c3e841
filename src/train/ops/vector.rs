//! Vectors of numbers: AVX-512, AVX2, and plain arrays of eight for f64 and for processors without either.
//!
//! Kernels are written once over [`Lanes`] and instantiated for each kind; every lane is computed by itself, so the bits
//! are the same. Pairs of bf16 numbers are the exception: how a processor rounds inside a pair is its own.

use std::sync::atomic::{AtomicU8, Ordering};

/// # Safety
/// The processor has the features of the kind, and memory is valid for [`Lanes::N`] numbers.
#[expect(clippy::missing_safety_doc, reason = "said once, above")]
pub trait Lanes: Copy {
    type T: Copy;
    const N: usize;
    unsafe fn zero() -> Self;
    unsafe fn load(from: *const Self::T) -> Self;
    unsafe fn splat(value: Self::T) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    /// `self` plus the sum of products of two bf16 numbers each, which lie in the halves of every lane.
    unsafe fn fma_pairs(self, a: Self, b: Self) -> Self;
    unsafe fn store(self, to: *mut Self::T);
}

/// Two bf16 numbers in the place of one wider number.
pub trait Pair: Sized {
    /// Rounds to the nearest, ties to even.
    fn pair(low: Self, high: Self) -> Self;
    fn halves(self) -> (Self, Self);
}

impl Pair for f32 {
    #[inline(always)]
    fn pair(low: f32, high: f32) -> f32 {
        f32::from_bits(bf16(low) >> 16 | bf16(high) & 0xffff_0000)
    }

    #[inline(always)]
    fn halves(self) -> (f32, f32) {
        (f32::from_bits(self.to_bits() << 16), f32::from_bits(self.to_bits() & 0xffff_0000))
    }
}

/// The bits of the bf16 number in the upper half; a NaN stays one.
#[inline(always)]
fn bf16(value: f32) -> u32 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    if value.is_nan() { bits | 0x0040_0000 } else { rounded }
}

/// For gradient checks nothing is rounded, so nothing is paired.
impl Pair for f64 {
    fn pair(_low: f64, _high: f64) -> f64 {
        unreachable!("f64 is not rounded to bf16")
    }

    fn halves(self) -> (f64, f64) {
        unreachable!("f64 is not rounded to bf16")
    }
}

/// Whether the processor multiplies pairs of bf16 numbers itself (AVX512-BF16).
pub fn multiplies_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        vectors() == Vectors::Avx512 && is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// What the processor offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vectors {
    Avx512 = 1,
    Avx2 = 2,
    None = 3,
}

/// Looked up at the first call.
#[inline]
pub fn vectors() -> Vectors {
    static FOUND: AtomicU8 = AtomicU8::new(0);
    match FOUND.load(Ordering::Relaxed) {
        1 => Vectors::Avx512,
        2 => Vectors::Avx2,
        3 => Vectors::None,
        _ => {
            let found = detect();
            FOUND.store(found as u8, Ordering::Relaxed);
            found
        }
    }
}

/// Takes the vectors of lesser processors, to see what they make: `avx2` or `none`.
pub const VARIABLE: &str = "DISTILLERY_VECTORS";

#[cold]
fn detect() -> Vectors {
    let most = match std::env::var(VARIABLE).as_deref() {
        Ok("none") => return Vectors::None,
        Ok("avx2") => Vectors::Avx2,
        _ => Vectors::Avx512,
    };
    #[cfg(target_arch = "x86_64")]
    {
        if most == Vectors::Avx512
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("fma")
        {
            return Vectors::Avx512;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Vectors::Avx2;
        }
    }
    Vectors::None
}

/// Eight numbers without vector instructions: f64 for gradient checks, f32 on processors without AVX2.
#[derive(Clone, Copy)]
pub struct Plain<T>(pub [T; 8]);

macro_rules! plain {
    ($T:ty) => {
        impl Lanes for Plain<$T> {
            type T = $T;
            const N: usize = 8;
            #[inline(always)]
            unsafe fn zero() -> Self {
                Plain([0.0; 8])
            }
            #[inline(always)]
            unsafe fn load(from: *const $T) -> Self {
                Plain(std::array::from_fn(|i| unsafe { *from.add(i) }))
            }
            #[inline(always)]
            unsafe fn splat(value: $T) -> Self {
                Plain([value; 8])
            }
            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                Plain(std::array::from_fn(|i| self.0[i] + other.0[i]))
            }
            #[inline(always)]
            unsafe fn sub(self, other: Self) -> Self {
                Plain(std::array::from_fn(|i| self.0[i] - other.0[i]))
            }
            #[inline(always)]
            unsafe fn fma(self, a: Self, b: Self) -> Self {
                Plain(std::array::from_fn(|i| a.0[i].mul_add(b.0[i], self.0[i])))
            }
            #[inline(always)]
            unsafe fn fma_pairs(self, a: Self, b: Self) -> Self {
                let sum = |i: usize| {
                    let ((a0, a1), (b0, b1)) = (a.0[i].halves(), b.0[i].halves());
                    a1.mul_add(b1, a0.mul_add(b0, self.0[i]))
                };
                Plain(std::array::from_fn(sum))
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $T) {
                for (i, value) in self.0.into_iter().enumerate() {
                    unsafe { *to.add(i) = value }
                }
            }
        }
    };
}
plain!(f32);
plain!(f64);

#[cfg(target_arch = "x86_64")]
pub use x86::Pairs;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, __m512bh, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps,
        _mm256_sub_ps, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps,
        _mm512_storeu_ps, _mm512_sub_ps,
    };

    use super::Lanes;

    /// Sixteen sums of products of pairs of bf16 numbers.
    #[derive(Clone, Copy)]
    pub struct Pairs(__m512);

    impl Lanes for Pairs {
        type T = f32;
        const N: usize = 16;
        #[inline(always)]
        unsafe fn zero() -> Self {
            unsafe { Pairs(_mm512_set1_ps(0.0)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Pairs(_mm512_loadu_ps(from)) }
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            unsafe { Pairs(_mm512_set1_ps(value)) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Pairs(_mm512_add_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            unsafe { Pairs(_mm512_sub_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn fma(self, _a: Self, _b: Self) -> Self {
            unreachable!("single numbers have lanes of their own")
        }
        #[inline(always)]
        unsafe fn fma_pairs(self, a: Self, b: Self) -> Self {
            let pairs = |of: Pairs| unsafe { std::mem::transmute::<__m512, __m512bh>(of.0) };
            unsafe { Pairs(_mm512_dpbf16_ps(self.0, pairs(a), pairs(b))) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
    }

    macro_rules! lanes {
        ($lanes:ty, $n:literal, $set:ident, $load:ident, $add:ident, $sub:ident, $fma:ident, $store:ident) => {
            impl Lanes for $lanes {
                type T = f32;
                const N: usize = $n;
                #[inline(always)]
                unsafe fn zero() -> Self {
                    unsafe { $set(0.0) }
                }
                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    unsafe { $load(from) }
                }
                #[inline(always)]
                unsafe fn splat(value: f32) -> Self {
                    unsafe { $set(value) }
                }
                #[inline(always)]
                unsafe fn add(self, other: Self) -> Self {
                    unsafe { $add(self, other) }
                }
                #[inline(always)]
                unsafe fn sub(self, other: Self) -> Self {
                    unsafe { $sub(self, other) }
                }
                #[inline(always)]
                unsafe fn fma(self, a: Self, b: Self) -> Self {
                    unsafe { $fma(a, b, self) }
                }
                #[inline(always)]
                unsafe fn fma_pairs(self, _a: Self, _b: Self) -> Self {
                    unreachable!("pairs have lanes of their own")
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    unsafe { $store(to, self) }
                }
            }
        };
    }
    lanes!(
        __m512,
        16,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_fmadd_ps,
        _mm512_storeu_ps
    );
    lanes!(__m256, 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_add_ps, _mm256_sub_ps, _mm256_fmadd_ps, _mm256_storeu_ps);
}
