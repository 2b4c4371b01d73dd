//! Recurrences against the scalar kernels: two sequences in a step, in pieces, so that states go from step to step.

use satchel_compute::kernels::elementwise::{self, Activation};
use satchel_compute::kernels::recurrence::{
    Columns, Convolution, GatedDelta, KeyHeads, Mamba1, Mamba2, SequenceRun, convolve, gated_delta, mamba1, mamba2,
};
use satchel_compute::kernels::threads::Threads;
use satchel_gpu::call::Words;
use satchel_gpu::{Function, Gpu, Grid, Kernel, RecurrentKernel};

use super::{close, filled, floats, gpu, numbers, scalar, step};

/// The rows of two sequences in three steps.
const STEPS: [[usize; 2]; 3] = [[1, 7], [5, 2], [1, 1]];
/// Where their states are, of three places.
const PAGES: [usize; 2] = [2, 0];

/// Inputs of so many columns, a result, and a state for each sequence.
struct Case<'a> {
    name: &'a str,
    kernel: RecurrentKernel,
    words: Words,
    /// Columns of each input.
    inputs: &'a [usize],
    vectors: &'a [&'a [f32]],
    columns: usize,
    state: usize,
    grid: Grid,
}

/// A step of two sequences, one page each in group 0.
fn two_sequences(gpu: &Gpu, rows: [usize; 2]) -> satchel_gpu::Buffer {
    let all = rows[0] + rows[1];
    let mut data: Vec<u32> = vec![0; all];
    data.extend((0..all).map(|row| u32::from(row >= rows[0])));
    let tables = 2 * all as u32;
    data.extend([tables + 2, tables + 3]);
    data.extend(PAGES.map(|page| page as u32));
    step(gpu, [all as u32, 0, 0, all as u32, 0, tables, 2, 0], &data)
}

/// A step on the CPU: inputs, sequences, results.
type RightStep<'a> = &'a dyn Fn(&[Vec<f32>], &mut [SequenceRun<'_>], &mut [f32]);

/// Runs the steps on both and compares results and states.
fn compare(gpu: &Gpu, case: &Case<'_>, right: RightStep<'_>) {
    let state = filled(gpu, &vec![0.0; 3 * case.state.max(1)]);
    let vectors: Vec<_> = case.vectors.iter().map(|vector| filled(gpu, vector)).collect();
    let mut states = [vec![0.0; case.state], vec![0.0; case.state]];
    for (at, rows) in STEPS.into_iter().enumerate() {
        let all = rows[0] + rows[1];
        let made = case.inputs.iter().enumerate().map(|(input, columns)| {
            let values = numbers((10 * at + input) as u64 + 1, all * columns);
            values.iter().map(|value| value.clamp(-1.0, 1.0)).collect::<Vec<f32>>()
        });
        let inputs: Vec<Vec<f32>> = made.collect();
        let mut expected = vec![0.0; all * case.columns];
        let [one, other] = &mut states;
        let mut runs = [SequenceRun { rows: 0..rows[0], state: one }, SequenceRun { rows: rows[0]..all, state: other }];
        right(&inputs, &mut runs, &mut expected);
        let sent: Vec<_> = inputs.iter().map(|input| filled(gpu, input)).collect();
        let reads: Vec<_> = sent.iter().chain(&vectors).collect();
        let (step, out) = (two_sequences(gpu, rows), filled(gpu, &vec![9.0; expected.len()]));
        let kernel = Kernel::Recurrent(case.kernel);
        let call = gpu.call(kernel, false, case.grid, &case.words, &step, &reads, &[&state, &out]).expect("a call");
        let found = gpu.run([&call].into_iter(), all, 0, Some((&out, 4 * expected.len()))).expect("it runs");
        close(&format!("{}, step {at}", case.name), &floats(&found), &expected, 1e-5);
        if case.state > 0 {
            let bytes = gpu.run(std::iter::empty(), 0, 0, Some((&state, 12 * case.state))).expect("it is read");
            let found = floats(&bytes);
            for (page, own) in PAGES.into_iter().zip(&states) {
                let found = &found[page * case.state..(page + 1) * case.state];
                close(&format!("{}, state after step {at}", case.name), found, own, 1e-5);
            }
        }
    }
}

#[test]
fn convolutions_are_the_scalar_kernels() {
    let Some(gpu) = gpu() else { return };
    let channels = 70;
    let bias = numbers(7, channels);
    for (taps, activation) in [(4, Some(Activation::Silu)), (3, None), (1, None), (8, Some(Activation::Relu))] {
        let weight = numbers(8, channels * taps);
        let case = Case {
            name: "a convolution",
            kernel: RecurrentKernel::Convolve { taps: taps as u32, activation: activation.map(Function::of) },
            words: Words::default().count(channels).count(0).flag(true),
            inputs: &[channels],
            vectors: &[&weight, &bias],
            columns: channels,
            state: (taps - 1) * channels,
            grid: Grid::Threads(channels),
        };
        compare(&gpu, &case, &|inputs, runs, out| {
            let call = Convolution {
                x: Columns::new(&inputs[0], channels, 0),
                channels,
                taps,
                weight: &weight,
                bias: Some(&bias),
                silu: false,
            };
            convolve(scalar(), &Threads::new(1), &call, runs, out);
            if let Some(activation) = activation {
                let before = out.to_vec();
                elementwise::activate(scalar(), &Threads::new(1), activation, &before, out);
            }
        });
    }
}

#[test]
fn selective_scans_are_the_scalar_kernels() {
    let Some(gpu) = gpu() else { return };
    let (channels, states) = (38, 20);
    let a: Vec<f32> = numbers(5, channels * states).iter().map(|value| -value.abs()).collect();
    let d = numbers(6, channels);
    let both = [&a[..], &d[..]].concat();
    let kernel = RecurrentKernel::Mamba { states: states as u32, each: true };
    let case = Case {
        name: "Mamba",
        kernel,
        words: Words::default().count(0).count(channels).count(1).count(channels).count(1),
        inputs: &[channels, channels, states, states],
        vectors: &[&both],
        columns: channels,
        state: channels * states,
        grid: Grid::Workgroups(channels.div_ceil(kernel.together())),
    };
    compare(&gpu, &case, &|inputs, runs, out| {
        let of = |input: usize, columns| Columns::new(&inputs[input], columns, 0);
        let (x, dt, b, c) = (of(0, channels), of(1, channels), of(2, states), of(3, states));
        let call = Mamba1 { x, dt, dt_bias: None, b, c, a: &a, d: Some(&d), channels, states };
        mamba1(scalar(), &Threads::new(1), &call, runs, out);
    });
    let (heads, head_dim, groups) = (6, 7, 2);
    let columns = heads * head_dim;
    let (a, d) = (&a[..heads], &d[..heads]);
    let both = [a, d].concat();
    let kernel = RecurrentKernel::Mamba { states: states as u32, each: false };
    let case = Case {
        name: "Mamba-2",
        kernel,
        words: Words::default().count(0).count(columns).count(head_dim).count(heads / groups).count(groups),
        inputs: &[columns, heads, groups * states, groups * states],
        vectors: &[&both],
        columns,
        state: columns * states,
        grid: Grid::Workgroups(columns.div_ceil(kernel.together())),
    };
    compare(&gpu, &case, &|inputs, runs, out| {
        let of = |input: usize, columns| Columns::new(&inputs[input], columns, 0);
        let (x, dt, b, c) = (of(0, columns), of(1, heads), of(2, groups * states), of(3, groups * states));
        let call = Mamba2 { x, dt, dt_bias: None, b, c, a, d: Some(d), heads, head_dim, groups, states };
        mamba2(scalar(), &Threads::new(1), &call, runs, out);
    });
}

#[test]
fn the_gated_delta_rule_is_the_scalar_kernels() {
    let Some(gpu) = gpu() else { return };
    let (key_heads, value_heads, key_dim, value_dim) = (2, 4, 12, 9);
    let (keys, columns) = (key_heads * key_dim, value_heads * value_dim);
    let kernel = RecurrentKernel::GatedDelta { key_dim: key_dim as u32 };
    for (interleaved, mapping) in [(true, KeyHeads::Grouped), (false, KeyHeads::Tiled)] {
        let words = Words::default().count(0).count(key_heads).count(value_heads).count(value_dim).flag(interleaved);
        let case = Case {
            name: "the gated delta rule",
            kernel,
            words,
            inputs: &[keys, keys, columns, value_heads, value_heads],
            vectors: &[],
            columns,
            state: value_heads * key_dim * value_dim,
            grid: Grid::Workgroups(columns.div_ceil(kernel.together())),
        };
        compare(&gpu, &case, &|inputs, runs, out| {
            let of = |input: usize, columns| Columns::new(&inputs[input], columns, 0);
            let call = GatedDelta {
                q: of(0, keys),
                k: of(1, keys),
                v: of(2, columns),
                g: of(3, value_heads),
                beta: of(4, value_heads),
                key_heads,
                value_heads,
                key_dim,
                value_dim,
                mapping,
            };
            gated_delta(scalar(), &Threads::new(1), &call, runs, out);
        });
    }
}
