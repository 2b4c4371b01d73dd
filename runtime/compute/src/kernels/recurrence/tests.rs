//! Recurrences of every table against f64, and bit-identical however a prompt is split and whatever shares the step.

use super::*;
use crate::kernels::{Kernels, tables_under_test};

/// Values within ±`factor`, a different sequence for each `seed`.
fn values(count: usize, seed: usize, factor: f32) -> Vec<f32> {
    (0..count).map(|i| (((i + 31 * seed) * 7919 % 2003) as f32 / 1001.0 - 1.0) * factor).collect()
}

/// An operation with data for some rows.
trait Operation {
    fn state_len(&self) -> usize;
    /// Columns of the output.
    fn columns(&self) -> usize;
    fn run(&self, kernels: &Kernels, threads: &Threads, runs: &mut [SequenceRun<'_>], out: &mut [f32]);
    /// The outputs of these rows, for a sequence that starts with them.
    fn reference(&self, rows: Range<usize>) -> Vec<f64>;
}

const ROWS: usize = 23;

/// Rows of a step that belong to three sequences, and one row that belongs to none.
const SEQUENCES: [Range<usize>; 3] = [0..15, 15..16, 17..ROWS];

/// All outputs and states with each sequence's rows split into chunks of this size; a step has a chunk of every sequence.
fn in_chunks(operation: &dyn Operation, kernels: &Kernels, threads: usize, chunk: usize) -> (Vec<u32>, Vec<u32>) {
    let threads = Threads::new(threads);
    let mut out = vec![7.5; ROWS * operation.columns()];
    let mut states = vec![vec![0.0; operation.state_len()]; SEQUENCES.len()];
    for step in 0..ROWS.div_ceil(chunk) {
        let mut runs: Vec<_> = SEQUENCES
            .iter()
            .zip(&mut states)
            .map(|(rows, state)| {
                let cut = |at: usize| (rows.start + at * chunk).min(rows.end);
                SequenceRun { rows: cut(step)..cut(step + 1), state }
            })
            .collect();
        runs.reverse();
        operation.run(kernels, &threads, &mut runs, &mut out);
    }
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    (bits(out), bits(states.concat()))
}

/// Every table against f64 within `bound` of the largest output, and against itself.
fn check(name: &str, operation: &dyn Operation, bound: f64) {
    for kernels in tables_under_test(name) {
        let expected = in_chunks(operation, kernels, 1, ROWS);
        for (threads, chunk) in [(3, ROWS), (1, 1), (2, 2), (1, 7)] {
            assert!(in_chunks(operation, kernels, threads, chunk) == expected, "{} {name} by {chunk}", kernels.name);
        }
        let columns = operation.columns();
        for rows in SEQUENCES {
            let reference = operation.reference(rows.clone());
            let largest = reference.iter().fold(0f64, |largest, value| largest.max(value.abs()));
            assert!(largest > 1e-3, "{name}: nothing to see");
            let got = &expected.0[rows.start * columns..rows.end * columns];
            for (at, (got, reference)) in got.iter().zip(&reference).enumerate() {
                let (got, name) = (f32::from_bits(*got), format!("{} {name} element {at}", kernels.name));
                assert!((f64::from(got) - reference).abs() <= bound * largest, "{name}: {got}, not {reference}");
            }
        }
        let nobody = &expected.0[16 * columns..17 * columns];
        assert!(nobody.iter().all(|value| *value == 7.5f32.to_bits()), "a row of no sequence was written");
    }
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

struct Convolving {
    channels: usize,
    taps: usize,
    plain: bool,
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Convolving {
    fn call(&self) -> Convolution<'_> {
        let &Convolving { channels, taps, plain, .. } = self;
        let bias = (!plain).then_some(&self.bias[..]);
        // Part of a wider row.
        let x = Columns::new(&self.x, channels + 5, 3);
        Convolution { x, channels, taps, weight: &self.weight, bias, silu: !plain }
    }
}

impl Operation for Convolving {
    fn state_len(&self) -> usize {
        self.call().state_len()
    }

    fn columns(&self) -> usize {
        self.channels
    }

    fn run(&self, kernels: &Kernels, threads: &Threads, runs: &mut [SequenceRun<'_>], out: &mut [f32]) {
        convolve(kernels, threads, &self.call(), runs, out);
    }

    fn reference(&self, rows: Range<usize>) -> Vec<f64> {
        let (call, mut out) = (self.call(), Vec::new());
        for row in rows.clone() {
            for c in 0..self.channels {
                let taps = (0..self.taps).filter(|tap| row + tap >= rows.start + self.taps - 1).map(|tap| {
                    let x = call.x.row(row + tap + 1 - self.taps, c..c + 1)[0];
                    f64::from(self.weight[c * self.taps + tap]) * f64::from(x)
                });
                let sum = taps.sum::<f64>() + if self.plain { 0.0 } else { f64::from(self.bias[c]) };
                out.push(if self.plain { sum } else { sum / (1.0 + (-sum).exp()) });
            }
        }
        out
    }
}

#[test]
fn convolutions() {
    for (channels, taps, plain) in [(200, 4, false), (64, 3, true), (9, 4, true), (70, 2, false), (3, 1, false)] {
        let (x, weight) = (values(ROWS * (channels + 5), 1, 2.0), values(channels * taps, 2, 1.0));
        let operation = Convolving { channels, taps, plain, x, weight, bias: values(channels, 3, 1.0) };
        check("convolve", &operation, 1e-6);
    }
}

/// Mamba, or Mamba-2 with heads of several channels.
struct Scanning {
    /// For Mamba-2; channels for Mamba.
    heads: usize,
    /// 0 for Mamba.
    head_dim: usize,
    groups: usize,
    states: usize,
    extras: bool,
    /// `x`, `B` and `C` side by side, as a convolution leaves them.
    xbc: Vec<f32>,
    dt: Vec<f32>,
    a: Vec<f32>,
    d: Vec<f32>,
    bias: Vec<f32>,
}

impl Scanning {
    fn new(heads: usize, head_dim: usize, groups: usize, states: usize, extras: bool) -> Self {
        let (width, a) = (heads * head_dim.max(1) + 2 * groups * states, if head_dim == 0 { states } else { 1 });
        Scanning {
            heads,
            head_dim,
            groups,
            states,
            extras,
            xbc: values(ROWS * width, 1, 1.5),
            // Some values above 20, where softplus is the identity in f32.
            dt: values(ROWS * heads, 2, 4.0).iter().map(|dt| if *dt > 3.9 { 25.0 } else { *dt }).collect(),
            a: values(heads * a, 3, 2.0).iter().map(|a| -a.abs() - 0.01).collect(),
            d: values(heads, 4, 1.0),
            bias: values(heads, 5, 1.0),
        }
    }

    fn parts(&self) -> [Columns<'_>; 4] {
        let (channels, states) = (self.columns(), self.groups * self.states);
        let part = |first| Columns::new(&self.xbc, channels + 2 * states, first);
        [part(0), part(channels), part(channels + states), Columns::new(&self.dt, self.heads, 0)]
    }

    fn extra<'a>(&self, values: &'a [f32]) -> Option<&'a [f32]> {
        self.extras.then_some(values)
    }
}

impl Operation for Scanning {
    fn state_len(&self) -> usize {
        self.columns() * self.states
    }

    fn columns(&self) -> usize {
        self.heads * self.head_dim.max(1)
    }

    fn run(&self, kernels: &Kernels, threads: &Threads, runs: &mut [SequenceRun<'_>], out: &mut [f32]) {
        let &Scanning { heads, head_dim, groups, states, .. } = self;
        let [x, b, c, dt] = self.parts();
        let (a, d, dt_bias) = (&self.a[..], self.extra(&self.d), self.extra(&self.bias));
        if head_dim == 0 {
            let call = Mamba1 { x, dt, dt_bias, b, c, a, d, channels: heads, states };
            assert_eq!(call.state_len(), self.state_len());
            mamba1(kernels, threads, &call, runs, out);
        } else {
            let call = Mamba2 { x, dt, dt_bias, b, c, a, d, heads, head_dim, groups, states };
            assert_eq!(call.state_len(), self.state_len());
            mamba2(kernels, threads, &call, runs, out);
        }
    }

    fn reference(&self, rows: Range<usize>) -> Vec<f64> {
        let [x, b, c, dt] = self.parts();
        let (mut state, mut out) = (vec![0.0; self.state_len()], Vec::new());
        let (per_head, all) = (self.head_dim.max(1), self.groups * self.states);
        let extra = |values: &[f32], at: usize| if self.extras { f64::from(values[at]) } else { 0.0 };
        for row in rows {
            for channel in 0..self.columns() {
                let head = channel / per_head;
                let group = head / (self.heads / self.groups) * self.states;
                let x = f64::from(x.row(row, channel..channel + 1)[0]);
                let dt = softplus(f64::from(dt.row(row, head..head + 1)[0]) + extra(&self.bias, head));
                let mut y = extra(&self.d, head) * x;
                for n in 0..self.states {
                    let a = if self.head_dim == 0 { self.a[head * self.states + n] } else { self.a[head] };
                    let (b, c) = (b.row(row, 0..all)[group + n], c.row(row, 0..all)[group + n]);
                    let h: &mut f64 = &mut state[channel * self.states + n];
                    *h = *h * (dt * f64::from(a)).exp() + f64::from(b) * x * dt;
                    y += *h * f64::from(c);
                }
                out.push(y);
            }
        }
        out
    }
}

#[test]
fn mambas() {
    for (channels, states, extras) in [(150, 16, true), (64, 16, false), (5, 7, true), (3, 21, false)] {
        check("mamba1", &Scanning::new(channels, 0, 1, states, extras), 3e-6);
    }
}

#[test]
fn mambas_of_the_second_kind() {
    for (heads, head_dim, groups, states, extras) in
        [(6, 64, 2, 128, true), (4, 10, 1, 16, false), (3, 7, 3, 13, true), (2, 1, 1, 3, false)]
    {
        check("mamba2", &Scanning::new(heads, head_dim, groups, states, extras), 3e-6);
    }
}

struct Remembering {
    key_heads: usize,
    value_heads: usize,
    key_dim: usize,
    value_dim: usize,
    mapping: KeyHeads,
    /// `q`, `k` and `v` side by side.
    qkv: Vec<f32>,
    g: Vec<f32>,
    beta: Vec<f32>,
}

impl Remembering {
    fn new(key_heads: usize, value_heads: usize, key_dim: usize, value_dim: usize, mapping: KeyHeads) -> Self {
        let width = 2 * key_heads * key_dim + value_heads * value_dim;
        let mut qkv = values(ROWS * width, 1, 1.0);
        // Unit-length keys and queries, as in a model; others would make the state grow.
        for row in qkv.chunks_exact_mut(width) {
            for head in row[..2 * key_heads * key_dim].chunks_exact_mut(key_dim) {
                let length = head.iter().map(|x| x * x).sum::<f32>().sqrt();
                head.iter_mut().for_each(|x| *x /= length);
            }
        }
        let g = values(ROWS * value_heads, 2, 1.0).iter().map(|g| -g.abs()).collect();
        let beta = values(ROWS * value_heads, 3, 1.0).iter().map(|beta| beta.abs()).collect();
        Remembering { key_heads, value_heads, key_dim, value_dim, mapping, qkv, g, beta }
    }

    fn call(&self) -> GatedDelta<'_> {
        let &Remembering { key_heads, value_heads, key_dim, value_dim, mapping, .. } = self;
        let (keys, values) = (key_heads * key_dim, value_heads * value_dim);
        let part = |first| Columns::new(&self.qkv, 2 * keys + values, first);
        let (q, k, v) = (part(0), part(keys), part(2 * keys));
        let (g, beta) = (Columns::new(&self.g, value_heads, 0), Columns::new(&self.beta, value_heads, 0));
        GatedDelta { q, k, v, g, beta, key_heads, value_heads, key_dim, value_dim, mapping }
    }
}

impl Operation for Remembering {
    fn state_len(&self) -> usize {
        self.call().state_len()
    }

    fn columns(&self) -> usize {
        self.value_heads * self.value_dim
    }

    fn run(&self, kernels: &Kernels, threads: &Threads, runs: &mut [SequenceRun<'_>], out: &mut [f32]) {
        gated_delta(kernels, threads, &self.call(), runs, out);
    }

    fn reference(&self, rows: Range<usize>) -> Vec<f64> {
        let &Remembering { key_heads, value_heads, key_dim, value_dim, mapping, .. } = self;
        let (call, mut out) = (self.call(), Vec::new());
        let mut states = vec![vec![0f64; key_dim * value_dim]; value_heads];
        for row in rows {
            for (head, state) in states.iter_mut().enumerate() {
                let key = match mapping {
                    KeyHeads::Grouped => head * key_heads / value_heads,
                    KeyHeads::Tiled => head % key_heads,
                };
                let wide = |values: &[f32]| values.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
                let q = wide(call.q.row(row, key * key_dim..(key + 1) * key_dim));
                let k = wide(call.k.row(row, key * key_dim..(key + 1) * key_dim));
                let v = wide(call.v.row(row, head * value_dim..(head + 1) * value_dim));
                let at = row * value_heads + head;
                let (decay, beta) = (f64::from(self.g[at]).exp(), f64::from(self.beta[at]));
                state.iter_mut().for_each(|x| *x *= decay);
                for (column, v) in v.iter().enumerate() {
                    let found: f64 = (0..key_dim).map(|i| state[i * value_dim + column] * k[i]).sum();
                    (0..key_dim).for_each(|i| state[i * value_dim + column] += k[i] * (v - found) * beta);
                    out.push((0..key_dim).map(|i| state[i * value_dim + column] * q[i]).sum());
                }
            }
        }
        out
    }
}

#[test]
fn gated_deltas() {
    for (key_heads, value_heads, key_dim, value_dim, mapping) in [
        (2, 4, 128, 128, KeyHeads::Grouped),
        (2, 4, 32, 48, KeyHeads::Tiled),
        (3, 3, 16, 77, KeyHeads::Tiled),
        (1, 2, 5, 3, KeyHeads::Grouped),
    ] {
        check("gated_delta", &Remembering::new(key_heads, value_heads, key_dim, value_dim, mapping), 3e-6);
    }
}

#[test]
#[should_panic(expected = "two sequences share rows")]
fn shared_rows_are_refused() {
    let operation = Remembering::new(1, 1, 4, 4, KeyHeads::Tiled);
    let (mut one, mut other) = ([0.0; 16], [0.0; 16]);
    let mut runs = [SequenceRun { rows: 0..3, state: &mut one }, SequenceRun { rows: 2..4, state: &mut other }];
    operation.run(crate::kernels::best(), &Threads::new(1), &mut runs, &mut [0.0; 4 * ROWS]);
}
