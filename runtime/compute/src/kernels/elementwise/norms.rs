//! Norms and softmax: operations with a sum over a row, or over groups of its columns.

use super::for_rows;
use crate::kernels::Kernels;
use crate::kernels::threads::Threads;

/// The divisor of a norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `x / sqrt(mean(x²) + eps)`
    Rms,
    /// `(x - mean(x)) / sqrt(variance(x) + eps)`
    Layer,
    /// `x / max(sqrt(sum(x²)), eps)`
    L2,
}

/// A norm over each group of `width` columns.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// The divisor.
    pub kind: NormKind,
    /// Columns normalised together: all of a token's, or those of one head.
    pub width: usize,
    /// Multiplied with the quotient: one group long and shared by all; or several groups long and repeating.
    pub weight: Option<&'a [f32]>,
    /// Added last; as long as `weight` if there is one.
    pub bias: Option<&'a [f32]>,
    /// Keeps the divisor above 0.
    pub eps: f32,
}

/// Normalises every group of columns of `x`, `(tokens, columns)`, into `out`.
///
/// # Panics
/// If lengths do not match, or an L2 norm has a weight or a bias.
pub fn norm(kernels: &Kernels, threads: &Threads, norm: &Norm<'_>, x: &[f32], out: &mut [f32]) {
    let Norm { kind, width, weight, bias, eps } = *norm;
    let period = weight.or(bias).map_or(width, <[f32]>::len);
    let fits = |values: Option<&[f32]>| values.is_none_or(|values| values.len() == period);
    assert!(fits(weight) && fits(bias), "weight and bias of a norm differ in length");
    assert!(
        x.is_empty() || width > 0 && period.is_multiple_of(width),
        "a norm of {width} columns, weights of {period}"
    );
    assert!(x.is_empty() || x.len().is_multiple_of(period), "{} elements are no rows of {period}", x.len());
    let kernel = match kind {
        NormKind::Rms => kernels.elementwise.rms_norm,
        NormKind::Layer => kernels.elementwise.layer_norm,
        NormKind::L2 => {
            assert!(weight.is_none() && bias.is_none(), "an L2 norm has neither weight nor bias");
            // SAFETY: tables are handed out only on processors that support them; `rows` gives slices of equal length.
            return rows(threads, x, width, out, |_, x, out| unsafe { (kernels.elementwise.l2_norm)(x, eps, out) });
        }
    };
    let groups = period / width.max(1);
    rows(threads, x, width, out, |row, x, out| {
        let group = row % groups * width;
        let [weight, bias] = [weight, bias].map(|values| values.map(|values| &values[group..group + width]));
        // SAFETY: as above.
        unsafe { kernel(x, weight, bias, eps, out) }
    });
}

/// RMS norm of every token: `x / sqrt(mean(x²) + eps) * weight`. `x` and `out` are `(tokens, weight.len())`.
///
/// # Panics
/// If lengths do not match.
pub fn rms_norm(kernels: &Kernels, threads: &Threads, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let kind = NormKind::Rms;
    norm(kernels, threads, &Norm { kind, width: weight.len(), weight: Some(weight), bias: None, eps }, x, out);
}

/// Layer norm of every token, `(x - mean) / sqrt(variance + eps) * weight + bias`. `x` and `out` are `(tokens, weight.len())`.
///
/// # Panics
/// If lengths do not match.
pub fn layer_norm(
    kernels: &Kernels,
    threads: &Threads,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
    out: &mut [f32],
) {
    let kind = NormKind::Layer;
    norm(kernels, threads, &Norm { kind, width: weight.len(), weight: Some(weight), bias, eps }, x, out);
}

/// `e^x / sum(e^x)` of every row of `width` elements, in place.
///
/// # Panics
/// If `x` is not a whole number of rows.
pub fn softmax(kernels: &Kernels, threads: &Threads, x: &mut [f32], width: usize) {
    for_rows(threads, x, width, 4 * width, &|_, x| {
        // SAFETY: as in `norm`.
        x.chunks_exact_mut(width).for_each(|row| unsafe { (kernels.elementwise.softmax)(row) });
    });
}

/// Calls `work(index, row of x, row of out)` for every row.
fn rows(
    threads: &Threads,
    x: &[f32],
    columns: usize,
    out: &mut [f32],
    work: impl Fn(usize, &[f32], &mut [f32]) + Sync,
) {
    assert!(x.len() == out.len(), "{} elements in, {} out", x.len(), out.len());
    for_rows(threads, out, columns, columns, &|range, out| {
        let x = x[range.start * columns..].chunks_exact(columns);
        range.zip(x).zip(out.chunks_exact_mut(columns)).for_each(|((index, x), out)| work(index, x, out));
    });
}
