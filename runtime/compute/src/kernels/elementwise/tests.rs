//! Element-wise operations of every table against f64, against themselves split differently, and rope against its definition.

use std::f64::consts::PI;

use super::*;
use crate::kernels::tables_under_test;

/// Lengths around every vector width and multiple.
const LENGTHS: [usize; 15] = [1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 100, 576, 1023];

/// Values of all magnitudes and both signs, a different sequence for each `seed`.
fn values(count: usize, seed: usize, factor: f32) -> Vec<f32> {
    (0..count).map(|i| (((i + seed) * 7919 % 2003) as f32 / 1001.0 - 1.0) * factor).collect()
}

/// |got - expected| within `ulps` ULP of `expected`, or within `floor`.
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
            // Where tanh is near -1 the tanh form itself cancels, hence an absolute bound.
            let gelu = g * 0.5 * (1.0 + ((2.0 / PI).sqrt() * (g + 0.044715 * g * g * g)).tanh()) * u;
            assert!(close(out_gelu[i], gelu, 6.0, 1e-6), "{name} gelu({gate}) * {up}: {}, not {gelu}", out_gelu[i]);
        }
        let mut out = [0.0; 2];
        silu_mul(kernels, &threads, &[f32::NAN, 1.0], &[1.0; 2], &mut out);
        assert!(out[0].is_nan() && !out[1].is_nan());
    }
}

/// `erfc(z) = 2 / √π ∫ e^-t² dt` from `z` on, by Simpson's rule: shares nothing with the tables.
fn erfc(z: f64) -> f64 {
    const STEPS: usize = 4000;
    let step = 8.0 / STEPS as f64;
    let weight = |i: usize| if i == 0 || i == STEPS { 1.0 } else { 2.0 + 2.0 * (i % 2) as f64 };
    // With e^-z² factored out, so that small results are as accurate as large ones.
    let sum: f64 = (0..=STEPS).map(|i| (i as f64 * step, weight(i))).map(|(t, w)| w * (-t * (t + 2.0 * z)).exp()).sum();
    2.0 / PI.sqrt() * (-z * z).exp() * sum * step / 3.0
}

/// Each activation in f64.
fn expected(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Gelu => x * 0.5 * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044715 * x * x * x)).tanh()),
        Activation::GeluErf if x < 0.0 => x * 0.5 * erfc(-x / 2f64.sqrt()),
        Activation::GeluErf => x - x * 0.5 * erfc(x / 2f64.sqrt()),
        Activation::GeluQuick => x / (1.0 + (-1.702 * x).exp()),
        Activation::Relu => x.max(0.0),
        Activation::ReluSquared => x.max(0.0).powi(2),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
        Activation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
    }
}

#[test]
fn activations_agree_with_f64() {
    let threads = Threads::new(2);
    let mut x: Vec<f32> = (-4000..4000).map(|i| i as f32 * 0.005).collect();
    x.extend([0.0, -0.0, 1e-30, -1e-30, 1e-3, -1e-5, 86.0, -86.0, 300.0, -300.0, 1e18, -1e18]);
    let up = values(x.len(), 1, 3.0);
    let tables = tables_under_test("activations");
    for activation in Activation::ALL {
        let exact: Vec<f64> = x.iter().map(|x| expected(activation, f64::from(*x))).collect();
        for kernels in &tables {
            let (mut out, mut gated) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
            activate(kernels, &threads, activation, &x, &mut out);
            gate(kernels, &threads, activation, &x, &up, &mut gated);
            // Scalar GELU cancels where tanh is near -1; elsewhere results are accurate to a few ULP, however small.
            let floor = if activation == Activation::Gelu { 1e-6 } else { 1e-35 };
            for (i, &x) in x.iter().enumerate() {
                let exact = exact[i];
                let what = format!("{} {activation:?}({x})", kernels.name);
                // The rounding error of an exponent grows with its magnitude.
                let ulps = 8.0 + f64::from(x.abs().min(100.0)) * 2.0;
                assert!(close(out[i], exact, ulps, floor), "{what}: {}, not {exact}", out[i]);
                assert_eq!(gated[i].to_bits(), (out[i] * up[i]).to_bits(), "{what} as a gate");
            }
            let mut out = [0.0; 2];
            activate(kernels, &threads, activation, &[f32::NAN, 1.0], &mut out);
            assert!(out[0].is_nan() && !out[1].is_nan(), "{} {activation:?} of NaN", kernels.name);
        }
    }
}

#[test]
fn the_gate_of_gpt_oss_agrees_with_f64() {
    let threads = Threads::new(1);
    let (gates, ups) = (values(3001, 1, 20.0), values(3001, 8, 20.0));
    for kernels in tables_under_test("swiglu_oai") {
        let mut out = vec![f32::NAN; gates.len()];
        swiglu_oai(kernels, &threads, &gates, &ups, 1.702, 7.0, &mut out);
        for ((&gate, &up), &out) in gates.iter().zip(&ups).zip(&out) {
            let (g, u) = (f64::from(gate).min(7.0), f64::from(up).clamp(-7.0, 7.0));
            let expected = g / (1.0 + (-1.702 * g).exp()) * (u + 1.0);
            assert!(close(out, expected, 50.0, 1e-12), "{} {gate} {up}: {out}, not {expected}", kernels.name);
        }
        let mut out = [0.0; 2];
        swiglu_oai(kernels, &threads, &[f32::NAN, 1.0], &[1.0, f32::NAN], 1.702, 7.0, &mut out);
        assert!(out.iter().all(|out| out.is_nan()), "{}", kernels.name);
    }
}

#[test]
fn norms_of_groups_are_norms_of_rows() {
    let threads = Threads::new(2);
    let (width, groups, tokens) = (77, 3, 5);
    let x = values(tokens * groups * width, 2, 3.0);
    let (weight, bias) = (values(groups * width, 5, 2.0), values(groups * width, 9, 1.0));
    for kernels in tables_under_test("norms of groups") {
        for kind in [NormKind::Rms, NormKind::Layer] {
            // Weights for all groups, for one group, and none.
            for period in [groups * width, width, 0] {
                let [weight, bias] = [&weight, &bias].map(|values| (period > 0).then_some(&values[..period]));
                let mut out = vec![f32::NAN; x.len()];
                norm(kernels, &threads, &Norm { kind, width, weight, bias, eps: 1e-5 }, &x, &mut out);
                for (row, (x, out)) in x.chunks_exact(width).zip(out.chunks_exact(width)).enumerate() {
                    let at = if period == 0 { 0 } else { row * width % period };
                    let ones = vec![1.0; width];
                    let mut expected = vec![f32::NAN; width];
                    let weight = weight.map_or(&ones[..], |weight| &weight[at..at + width]);
                    match kind {
                        NormKind::Rms => rms_norm(kernels, &threads, x, weight, 1e-5, &mut expected),
                        _ => layer_norm(kernels, &threads, x, weight, None, 1e-5, &mut expected),
                    }
                    if let Some(bias) = bias {
                        add(kernels, &threads, &mut expected, &bias[at..at + width]);
                    }
                    assert_eq!(out, expected, "{} {kind:?} group {row}, {period} weights", kernels.name);
                }
            }
        }
    }
}

#[test]
fn l2_norm_and_softmax_agree_with_f64() {
    let threads = Threads::new(2);
    for kernels in tables_under_test("l2_norm and softmax") {
        for width in LENGTHS {
            for factor in [1.0, 40.0, 1e-9] {
                let x = values(3 * width, width, factor);
                let mut normed = vec![f32::NAN; x.len()];
                let kind = NormKind::L2;
                norm(kernels, &threads, &Norm { kind, width, weight: None, bias: None, eps: 1e-6 }, &x, &mut normed);
                let mut soft = x.clone();
                softmax(kernels, &threads, &mut soft, width);
                for (row, x) in x.chunks_exact(width).enumerate() {
                    let length = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().max(1e-6);
                    let largest = x.iter().fold(f64::NEG_INFINITY, |largest, x| largest.max(f64::from(*x)));
                    let total: f64 = x.iter().map(|x| (f64::from(*x) - largest).exp()).sum();
                    for (column, x) in x.iter().map(|x| f64::from(*x)).enumerate() {
                        let (l2, soft) = (normed[row * width + column], soft[row * width + column]);
                        assert!(close(l2, x / length, 8.0, 0.0), "{} l2 {width}: {l2}", kernels.name);
                        let expected = (x - largest).exp() / total;
                        assert!(close(soft, expected, 80.0, 1e-35), "{} softmax {width}: {soft}", kernels.name);
                    }
                }
            }
        }
        let mut masked = [f32::NEG_INFINITY, 1.0, 1.0];
        softmax(kernels, &threads, &mut masked, 3);
        assert_eq!(masked, [0.0, 0.5, 0.5]);
    }
}

#[test]
fn caps_bounds_and_factors() {
    let threads = Threads::new(2);
    for kernels in tables_under_test("softcap, clamp, multiply") {
        for length in LENGTHS.into_iter().chain([30_001]) {
            let (x, y) = (values(length, 2, 90.0), values(length, 6, 3.0));
            let mut capped = x.clone();
            softcap(kernels, &threads, &mut capped, 30.0);
            for (x, capped) in x.iter().zip(&capped) {
                let expected = 30.0 * (f64::from(*x) / 30.0).tanh();
                assert!(close(*capped, expected, 6.0, 0.0), "{}: {x} capped is {capped}", kernels.name);
            }
            let mut product = x.clone();
            multiply(kernels, &threads, &mut product, &y);
            clamp(kernels, &threads, &mut product, -50.0, 60.0);
            assert!(product.iter().zip(x.iter().zip(&y)).all(|(p, (x, y))| *p == (x * y).clamp(-50.0, 60.0)));
            let (factors, mut scaled) = (values(7, 1, 2.0), [&x[..]; 7].concat());
            multiply_rows(kernels, &threads, &mut scaled, &factors, length);
            for (row, factor) in scaled.chunks_exact(length).zip(&factors) {
                assert!(row.iter().zip(&x).all(|(got, x)| *got == x * factor), "{}", kernels.name);
            }
        }
        let mut none = [f32::NAN];
        clamp(kernels, &threads, &mut none, 0.0, 1.0);
        assert!(none[0].is_nan());
    }
}

#[test]
fn an_element_does_not_know_its_place() {
    let pools = [Threads::new(1), Threads::new(3)];
    for kernels in tables_under_test("element-wise, bit for bit") {
        let count = 40_003;
        let (gate, up) = (values(count, 3, 9.0), values(count, 4, 2.0));
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        for activation in Activation::ALL {
            let operation = |pool: &Threads, gates: &[f32], ups: &[f32], out: &mut [f32]| {
                super::gate(kernels, pool, activation, gates, ups, out);
            };
            let mut all = vec![f32::NAN; count];
            operation(&pools[0], &gate, &up, &mut all);
            let mut threaded = vec![f32::NAN; count];
            operation(&pools[1], &gate, &up, &mut threaded);
            assert_eq!(bits(&all), bits(&threaded));
            for start in [1, 5, 17, 39_990] {
                let range = start..(start + 37).min(count);
                let mut some = vec![f32::NAN; range.len()];
                operation(&pools[0], &gate[range.clone()], &up[range.clone()], &mut some);
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

/// The last part of heads that start after other columns: same as those parts as heads of their own.
#[test]
fn rope_turns_a_part_of_a_head() {
    let threads = Threads::new(2);
    let (heads, tokens, n_rot) = (Heads { columns: 100, count: 3, stride: 30, first: 5 + 18 }, 9, 12);
    let angles = values(tokens * n_rot, 3, 1.0);
    for kernels in tables_under_test("rope of parts") {
        for kind in [RopeKind::Normal, RopeKind::Neox] {
            let before = values(tokens * heads.columns, 4, 2.0);
            let mut x = before.clone();
            rope_heads(kernels, &threads, kind, &mut x, heads, n_rot, &angles);
            let mut expected = before;
            for (row, angles) in expected.chunks_exact_mut(heads.columns).zip(angles.chunks_exact(n_rot)) {
                for head in 0..heads.count {
                    let part = &mut row[heads.first + head * heads.stride..][..n_rot];
                    rope(kernels, &threads, kind, part, 1, n_rot, n_rot, angles);
                }
            }
            assert_eq!(x, expected, "{} {kind:?}", kernels.name);
        }
    }
}
