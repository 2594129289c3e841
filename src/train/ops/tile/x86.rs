//! Register tiles with AVX-512 and AVX2.

use std::arch::x86_64::{
    __m256, __m512, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps, _mm512_add_ps,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps,
};

use super::{Lanes, Raw, pick};

pick!(#[target_feature(enable = "avx512f")] pub(super) avx512_one, __m512, 1,
    [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28]);
pick!(#[target_feature(enable = "avx512f")] pub(super) avx512_two, __m512, 2, [1 2 3 4 5 6 7 8 9 10 11 12 13 14]);
pick!(#[target_feature(enable = "avx512f,avx512vl,fma")] pub(super) avx512_half, __m256, 1,
    [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28]);
pick!(#[target_feature(enable = "avx2,fma")] pub(super) avx2_half, __m256, 1, [1 2 3 4 5 6]);
pick!(#[target_feature(enable = "avx2,fma")] pub(super) avx2_one, __m256, 2, [1 2 3 4 5 6]);

macro_rules! lanes {
    ($lanes:ty, $n:literal, $set:ident, $load:ident, $add:ident, $fma:ident, $store:ident) => {
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
            unsafe fn fma(self, a: Self, b: Self) -> Self {
                unsafe { $fma(a, b, self) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                unsafe { $store(to, self) }
            }
        }
    };
}
lanes!(__m512, 16, _mm512_set1_ps, _mm512_loadu_ps, _mm512_add_ps, _mm512_fmadd_ps, _mm512_storeu_ps);
lanes!(__m256, 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_add_ps, _mm256_fmadd_ps, _mm256_storeu_ps);
