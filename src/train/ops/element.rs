//! What operations compute in: f32, and f64 so that gradients can be checked by finite differences.

use std::fmt::Debug;
use std::ops::{Div, Mul, MulAssign, Neg, Sub, SubAssign};

use super::tile::Float;
use super::vector::Pair;
use super::winograd::Transforms;

pub trait Element:
    Float
    + Transforms
    + Pair
    + Debug
    + PartialOrd
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + SubAssign
    + MulAssign
{
    const ZERO: Self;
    /// Whether there are pairs of it ([`Pair`]).
    const PAIRS: bool;
    const ONE: Self;

    fn from_f64(value: f64) -> Self;
    fn to_f64(self) -> f64;
    /// `self * a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    fn square_root(self) -> Self;
    /// e to the power of `self`, for `self <= 0`. In f32 to 2 units in the last place, in loops of vectors.
    fn exp_negative(self) -> Self;
    /// The cumulative distribution and the density of a standard normal.
    fn normal(self) -> (Self, Self);
}

impl Element for f32 {
    const ZERO: f32 = 0.0;
    const PAIRS: bool = true;
    const ONE: f32 = 1.0;

    #[inline(always)]
    fn from_f64(value: f64) -> f32 {
        value as f32
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn mul_add(self, a: f32, b: f32) -> f32 {
        f32::mul_add(self, a, b)
    }

    #[inline(always)]
    fn square_root(self) -> f32 {
        self.sqrt()
    }

    /// By `2^n e^r` with `|r| <= ln 2 / 2`, e^r as its Taylor polynomial of degree 7, all without a branch.
    #[inline(always)]
    fn exp_negative(self) -> f32 {
        // A NaN must come through, so it is compared away from the clamp.
        let x = if self < -87.0 { -87.0 } else { self };
        // Adding and taking off 1.5 * 2^23 rounds to the nearest whole number.
        const ROUND: f32 = 12_582_912.0;
        let n = f32::mul_add(x, std::f32::consts::LOG2_E, ROUND) - ROUND;
        let r = f32::mul_add(n, -0.693_359_4, x);
        let r = f32::mul_add(n, 2.121_944_4e-4, r);
        let mut e = 1.0 / 5040.0;
        for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            e = f32::mul_add(e, r, c);
        }
        // 2^n, n in -126..=0; the cast of a NaN is zero, and NaN times anything stays.
        let power = f32::from_bits((((n as i32) + 127) << 23) as u32);
        let value = e * power;
        if self < -87.0 { 0.0 } else { value }
    }

    /// By Abramowitz and Stegun 7.1.26: the distribution is right to 2e-7.
    #[inline(always)]
    fn normal(self) -> (f32, f32) {
        let z = self.abs() * std::f32::consts::FRAC_1_SQRT_2;
        let density = (-z * z).exp_negative();
        let t = 1.0 / f32::mul_add(z, 0.327_591_1, 1.0);
        let mut p = 1.061_405_4f32;
        for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
            p = f32::mul_add(p, t, c);
        }
        // The tail on one side.
        let tail = 0.5 * p * t * density;
        let distribution = if self < 0.0 { tail } else { 1.0 - tail };
        (distribution, density * 0.398_942_3)
    }
}

impl Element for f64 {
    const ZERO: f64 = 0.0;
    const PAIRS: bool = false;
    const ONE: f64 = 1.0;

    #[inline(always)]
    fn from_f64(value: f64) -> f64 {
        value
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn mul_add(self, a: f64, b: f64) -> f64 {
        f64::mul_add(self, a, b)
    }

    #[inline(always)]
    fn square_root(self) -> f64 {
        self.sqrt()
    }

    #[inline(always)]
    fn exp_negative(self) -> f64 {
        self.exp()
    }

    #[inline(always)]
    fn normal(self) -> (f64, f64) {
        let density = (-0.5 * self * self).exp() / (2.0 * std::f64::consts::PI).sqrt();
        (0.5 * libm::erfc(-self * std::f64::consts::FRAC_1_SQRT_2), density)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_and_normal_are_right() {
        for i in 0..20_000 {
            let x = -(i as f64) * 0.005;
            let (ours, true_value) = (f64::from((x as f32).exp_negative()), f64::from(x as f32).exp());
            assert!((ours - true_value).abs() <= 2.5e-7 * true_value + 2e-38, "exp({x}) = {ours}, not {true_value}");
        }
        for i in -800..800 {
            let x = f64::from(i) * 0.01;
            let ((p, d), (true_p, true_d)) = ((x as f32).normal(), f64::from(x as f32).normal());
            assert!((f64::from(p) - true_p).abs() < 2.5e-7, "distribution at {x}: {p}, not {true_p}");
            assert!((f64::from(d) - true_d).abs() < 1e-7, "density at {x}: {d}, not {true_d}");
        }
        assert!(f32::NAN.exp_negative().is_nan() && f32::NAN.normal().0.is_nan());
    }
}
