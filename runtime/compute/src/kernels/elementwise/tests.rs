//! Element-wise operations of every table against f64, against themselves cut otherwise, and rope against its definition.

use std::f64::consts::PI;

use super::*;
use crate::kernels::tables_under_test;

/// Lengths around every vector and block of vectors.
const LENGTHS: [usize; 15] = [1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 100, 576, 1023];

/// Values of every size and sign, a different stretch of them for each `seed`.
fn values(count: usize, seed: usize, factor: f32) -> Vec<f32> {
    (0..count).map(|i| (((i + seed) * 7919 % 2003) as f32 / 1001.0 - 1.0) * factor).collect()
}

/// |got - expected| within `ulps` units in the last place of `expected`, or within `floor`.
fn close(got: f32, expected: f64, ulps: f64, floor: f64) -> bool {
    let unit = (expected.abs() * f64::from(f32::EPSILON)).max(f64::from(f32::MIN_POSITIVE) * f64::from(f32::EPSILON));
    (f64::from(got) - expected).abs() <= (ulps * unit).max(floor)
}

#[test]
fn norms_agree_with_f64() {
    let threads = Threads::new(2);
    for kernels in tables_under_test("norms") {
        for length in LENGTHS {
            for (tokens, factor) in [(1, 1.0), (3, 1e-12), (2, 1e4)] {
                let x = values(tokens * length, length, factor);
                let (weight, bias) = (values(length, 5, 2.0), values(length, 9, 1.0));
                let mut out = vec![f32::NAN; x.len()];
                rms_norm(kernels, &threads, &x, &weight, 1e-5, &mut out);
                let mut normed = vec![f32::NAN; x.len()];
                layer_norm(kernels, &threads, &x, &weight, Some(&bias), 1e-5, &mut normed);
                for token in 0..tokens {
                    let row: Vec<f64> = x[token * length..][..length].iter().map(|x| f64::from(*x)).collect();
                    let mean = row.iter().sum::<f64>() / length as f64;
                    let rms = (row.iter().map(|x| x * x).sum::<f64>() / length as f64 + 1e-5).sqrt();
                    let deviation = (row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / length as f64 + 1e-5).sqrt();
                    for (column, x) in row.iter().enumerate() {
                        let (w, b) = (f64::from(weight[column]), f64::from(bias[column]));
                        let at = token * length + column;
                        let name = kernels.name;
                        assert!(close(out[at], x / rms * w, 8.0, 0.0), "{name} rms {length} {column}: {}", out[at]);
                        let expected = (x - mean) / deviation * w + b;
                        assert!(close(normed[at], expected, 8.0, 4e-6), "{name} {length} {column}: {}", normed[at]);
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_of_zeros_stays_finite() {
    let threads = Threads::new(1);
    for kernels in tables_under_test("norms of zeros") {
        let mut out = [f32::NAN; 20];
        rms_norm(kernels, &threads, &[0.0; 20], &[1.0; 20], 1e-6, &mut out);
        assert_eq!(out, [0.0; 20]);
        layer_norm(kernels, &threads, &[7.0; 20], &[1.0; 20], None, 1e-6, &mut out);
        assert_eq!(out, [0.0; 20]);
    }
}

#[test]
fn gates_agree_with_f64() {
    let threads = Threads::new(2);
    for kernels in tables_under_test("gates") {
        let mut gate: Vec<f32> = (-4000..4000).map(|i| i as f32 * 0.005).collect();
        gate.extend([0.0, -0.0, 1e-30, -1e-30, 87.0, -87.0, 300.0, -300.0, 1e20, -1e20, 1e30]);
        let up = values(gate.len(), 1, 3.0);
        let mut out = vec![f32::NAN; gate.len()];
        silu_mul(kernels, &threads, &gate, &up, &mut out);
        let mut out_gelu = vec![f32::NAN; gate.len()];
        gelu_mul(kernels, &threads, &gate, &up, &mut out_gelu);
        for (i, (&gate, &up)) in gate.iter().zip(&up).enumerate() {
            let (g, u) = (f64::from(gate), f64::from(up));
            let name = kernels.name;
            let silu = g / (1.0 + (-g).exp()) * u;
            assert!(close(out[i], silu, 4.0, 1e-35), "{name} silu({gate}) * {up}: {}, not {silu}", out[i]);
            // Where tanh is near -1 the form by tanh itself cancels; an absolute bound there.
            let gelu = g * 0.5 * (1.0 + ((2.0 / PI).sqrt() * (g + 0.044715 * g * g * g)).tanh()) * u;
            assert!(close(out_gelu[i], gelu, 6.0, 1e-6), "{name} gelu({gate}) * {up}: {}, not {gelu}", out_gelu[i]);
        }
        let mut out = [0.0; 2];
        silu_mul(kernels, &threads, &[f32::NAN, 1.0], &[1.0; 2], &mut out);
        assert!(out[0].is_nan() && !out[1].is_nan());
    }
}

#[test]
fn an_element_does_not_know_its_place() {
    let pools = [Threads::new(1), Threads::new(3)];
    for kernels in tables_under_test("element-wise, bit for bit") {
        let count = 40_003;
        let (gate, up) = (values(count, 3, 9.0), values(count, 4, 2.0));
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        for operation in [silu_mul, gelu_mul] {
            let mut all = vec![f32::NAN; count];
            operation(kernels, &pools[0], &gate, &up, &mut all);
            let mut threaded = vec![f32::NAN; count];
            operation(kernels, &pools[1], &gate, &up, &mut threaded);
            assert_eq!(bits(&all), bits(&threaded));
            for start in [1, 5, 17, 39_990] {
                let range = start..(start + 37).min(count);
                let mut some = vec![f32::NAN; range.len()];
                operation(kernels, &pools[0], &gate[range.clone()], &up[range.clone()], &mut some);
                assert_eq!(bits(&some), bits(&all[range]), "{}", kernels.name);
            }
        }
        let (columns, tokens) = (577, 60);
        let (x, weight) = (values(columns * tokens, 7, 5.0), values(columns, 8, 1.0));
        let mut all = vec![f32::NAN; x.len()];
        rms_norm(kernels, &pools[1], &x, &weight, 1e-5, &mut all);
        for token in [0, 1, 31, 59] {
            let row = token * columns..(token + 1) * columns;
            let mut one = vec![f32::NAN; columns];
            rms_norm(kernels, &pools[0], &x[row.clone()], &weight, 1e-5, &mut one);
            assert_eq!(bits(&one), bits(&all[row]), "{}: token {token}", kernels.name);
        }
    }
}

#[test]
fn sums_and_factors_are_exact() {
    let threads = Threads::new(2);
    for kernels in tables_under_test("add and scale") {
        for length in LENGTHS.into_iter().chain([30_001]) {
            let (mut x, y) = (values(length, 2, 3.0), values(length, 6, 1e3));
            let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| (x + y) * 0.7).collect();
            add(kernels, &threads, &mut x, &y);
            scale(kernels, &threads, &mut x, 0.7);
            assert_eq!(x, expected, "{}", kernels.name);
        }
    }
}

#[test]
fn rope_turns_pairs_and_leaves_the_rest() {
    let threads = Threads::new(2);
    for kernels in tables_under_test("rope") {
        for (heads, head_dim, n_rot, kind) in [
            (3, 64, 64, RopeKind::Normal),
            (3, 64, 64, RopeKind::Neox),
            (2, 80, 32, RopeKind::Neox),
            (2, 80, 20, RopeKind::Normal),
            (1, 10, 6, RopeKind::Normal),
            (1, 10, 10, RopeKind::Neox),
        ] {
            let positions: Vec<usize> = (0..40).map(|token| token * token * 3).collect();
            let angle =
                |position: usize, pair: usize| position as f64 * 10_000f64.powf(-2.0 * pair as f64 / n_rot as f64);
            let mut rows = Vec::new();
            for position in &positions {
                rows.extend((0..n_rot / 2).map(|pair| angle(*position, pair).cos() as f32));
                rows.extend((0..n_rot / 2).map(|pair| angle(*position, pair).sin() as f32));
            }
            let before = values(positions.len() * heads * head_dim, 11, 2.0);
            let mut x = before.clone();
            rope(kernels, &threads, kind, &mut x, heads, head_dim, n_rot, &rows);
            for (token, position) in positions.iter().enumerate() {
                for head in 0..heads {
                    let at = (token * heads + head) * head_dim;
                    let mut expected: Vec<f64> = before[at..at + head_dim].iter().map(|x| f64::from(*x)).collect();
                    for pair in 0..n_rot / 2 {
                        let angle = angle(*position, pair);
                        let (i, j) = match kind {
                            RopeKind::Normal => (2 * pair, 2 * pair + 1),
                            RopeKind::Neox => (pair, pair + n_rot / 2),
                        };
                        let (a, b) = (expected[i], expected[j]);
                        expected[i] = a * angle.cos() - b * angle.sin();
                        expected[j] = a * angle.sin() + b * angle.cos();
                    }
                    for (column, expected) in expected.iter().enumerate() {
                        let got = x[at + column];
                        assert!(close(got, *expected, 2.0, 1e-6), "{} {kind:?} {got} {expected}", kernels.name);
                    }
                }
            }
        }
    }
}
