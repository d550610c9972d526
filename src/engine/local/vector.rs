//! Row arithmetic on slices, the same bits wherever it runs.
//!
//! Reductions over a row use eight lanes fixed by the element's index, added in
//! one fixed tree; everything else is element by element. Every multiply-add is a
//! fused one, which IEEE 754 defines to the bit, so a machine without the
//! instruction computes the same numbers more slowly. A result therefore depends
//! on the row alone: not on its batch, its place in it, or the number of threads.
//!
//! [`fast`] compiles a closure for the best instruction set of the machine; the
//! functions here are inlined into it and become vector code there.

use pulp::{Arch, WithSimd};

/// Runs `work` compiled for the widest instruction set this machine has.
pub(crate) fn fast<R>(work: impl FnOnce() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: FnOnce() -> R> WithSimd for Work<F> {
        type Output = R;
        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _: S) -> R {
            (self.0)()
        }
    }
    Arch::new().dispatch(Work(work))
}

/// Lanes of a reduction; part of the definition of every sum here.
const LANES: usize = 8;

/// Adds eight lanes in a fixed tree.
#[inline(always)]
fn tree(lanes: [f32; LANES]) -> f32 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// Sum over `x` of `map(x[i])`, lane `i mod 8` first.
#[inline(always)]
fn sum_by(x: &[f32], map: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let mut chunks = x.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = map(*value, *lane);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = map(*value, *lane);
    }
    tree(lanes)
}

/// The largest element; -inf for an empty slice, NaN nowhere wins.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = x.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *lane < *value { *value } else { *lane };
        }
    }
    let rest = chunks.remainder().iter().copied();
    lanes
        .into_iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |a, b| if a < b { b } else { a })
}

/// `exp(x)` to a relative 2.5e-7, about 2 ulp; 0 below -87.3, where the true value is under 1.2e-38.
///
/// Cody–Waite reduction to `|r| <= ln(2)/2` and the degree-6 polynomial of Cephes'
/// `expf`. Defined for `x <= 88.7`; larger arguments do not occur in a softmax
/// (arguments are at most 0) and saturate in an activation.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5 · 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.3, 88.3);
    let n = clamped.mul_add(std::f32::consts::LOG2_E, ROUND) - ROUND;
    let r = n.mul_add(-LN2_LO, n.mul_add(-LN2_HI, clamped));
    let mut p = 1.987_569_1e-4f32;
    p = p.mul_add(r, 1.398_2e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_5e-1);
    p = p.mul_add(r, 5e-1);
    let y = p.mul_add(r * r, r) + 1.0;
    let scale = f32::from_bits(((n as i32 + 127) << 23) as u32);
    if x < -87.3 { 0.0 } else { y * scale }
}

/// `tanh(x)` through [`exp`]; absolute error about 1e-7.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    // Past 10 the result is 1 to the last bit; the clamp keeps exp in range.
    let e = exp(2.0 * x.clamp(-10.0, 10.0));
    1.0 - 2.0 / (e + 1.0)
}

/// `x · sigmoid(x)`.
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// The tanh form of gelu, `gelu_new` of GPT-2.
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    let inner = SQRT_2_OVER_PI * (0.044_715 * x * x).mul_add(x, x);
    0.5 * x * (1.0 + tanh(inner))
}

/// `y = x / sqrt(mean(x²) + eps) · w`.
#[inline(always)]
pub(crate) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let mean_square = sum_by(x, |value, lane| value.mul_add(value, lane)) / x.len() as f32;
    let scale = 1.0 / (mean_square + eps).sqrt();
    for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
        *y = x * scale * w;
    }
}

/// `y = (x − mean) / sqrt(var + eps) · w + b`, variance in a second pass.
///
/// The one-pass form E[x²] − E[x]² loses digits on GPT-2's large residuals.
#[inline(always)]
pub(crate) fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32]) {
    let n = x.len() as f32;
    let mean = sum_by(x, |value, lane| lane + value) / n;
    let variance = sum_by(x, |value, lane| (value - mean).mul_add(value - mean, lane)) / n;
    let scale = 1.0 / (variance + eps).sqrt();
    for (((y, x), w), b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
        *y = ((x - mean) * scale).mul_add(*w, *b);
    }
}

/// Replaces `x` by `exp(scale · x − max(scale · x))` and returns the sum of the new values.
#[inline(always)]
pub(crate) fn exp_scaled(x: &mut [f32], scale: f32) -> f32 {
    for value in x.iter_mut() {
        *value *= scale;
    }
    let max = max(x);
    for value in x.iter_mut() {
        *value = exp(*value - max);
    }
    sum_by(x, |value, lane| lane + value)
}

/// `sum(exp(x − max(x)))` with that maximum: one block of a log-sum-exp.
///
/// (-inf, 0) if no element is above -inf; a sum that is not finite if one is NaN or +inf.
#[inline(always)]
pub(crate) fn exp_sum(x: &[f32]) -> (f32, f32) {
    let max = max(x);
    if max == f32::NEG_INFINITY {
        let is_nan = x.iter().any(|it| it.is_nan());
        return (max, if is_nan { f32::NAN } else { 0.0 });
    }
    // NaN, and +inf less itself, stay NaN to the end.
    (max, sum_by(x, |value, lane| lane + exp(value - max)))
}

/// Where the first element equal to `value` is.
#[inline(always)]
pub(crate) fn position(x: &[f32], value: f32) -> Option<usize> {
    // Chunks are looked at whole, without a branch for each element.
    let is_in = |chunk: &[f32]| 0 < chunk.iter().filter(|it| **it == value).count();
    let chunk = x.chunks(2 * LANES).position(is_in)?;
    let first = chunk * 2 * LANES;
    let within = x[first..].iter().position(|it| *it == value)?;
    Some(first + within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_two_ulp() {
        let mut x = -87.0f32;
        while x < 88.0 {
            let (got, want) = (exp(x), f64::from(x).exp());
            let relative = (f64::from(got) / want - 1.0).abs();
            assert!(relative < 2.5e-7, "exp({x}) = {got}, want {want}");
            x += 0.0371;
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-88.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn activations_match_their_definitions() {
        let mut x = -20.0f64;
        while x < 20.0 {
            let x32 = x as f32;
            assert!(
                (f64::from(tanh(x32)) - f64::from(x32).tanh()).abs() < 3e-7,
                "tanh({x})"
            );
            let silu_want = x / (1.0 + (-x).exp());
            assert!((f64::from(silu(x32)) - silu_want).abs() < 3e-6, "silu({x})");
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            assert!((f64::from(gelu(x32)) - 0.5 * x * (1.0 + inner.tanh())).abs() < 5e-6);
            x += 0.013;
        }
    }

    #[inline(always)]
    fn run(x: &[f32], weight: &[f32]) -> (Vec<f32>, Vec<f32>, f32, f32) {
        let mut y = vec![0.0; x.len()];
        layer_norm(x, weight, weight, 1e-5, &mut y);
        let mut z = vec![0.0; x.len()];
        rms_norm(&y, weight, 1e-5, &mut z);
        let (max, part) = exp_sum(&z);
        let sum = exp_scaled(&mut z, 1.0);
        for it in &mut y {
            *it = silu(*it) + gelu(*it);
        }
        (y, z, sum, max + part)
    }

    /// The promise of the header: vector code computes what scalar code computes.
    #[test]
    fn the_instruction_set_does_not_change_a_bit() {
        let x: Vec<f32> = (0..1000)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0)
            .collect();
        let weight: Vec<f32> = (0..1000).map(|i| (i % 13) as f32 / 5.0).collect();
        let bits = |(y, z, sum, parts): (Vec<f32>, Vec<f32>, f32, f32)| {
            let all: Vec<u32> = y.iter().chain(&z).map(|it| it.to_bits()).collect();
            (all, sum.to_bits(), parts.to_bits())
        };
        let wide = fast(
            #[inline(always)]
            || run(&x, &weight),
        );
        assert_eq!(bits(wide), bits(run(&x, &weight)));
    }
}
