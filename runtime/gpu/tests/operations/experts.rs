//! Experts: routing against a plain sort, products and what is between them against the scalar kernel.

use satchel_compute::kernels::elementwise::{self, Activation};
use satchel_compute::kernels::experts::{
    ExpertActivation, ExpertStack, ExpertsBuffers, ExpertsCall, Route, Weigh, experts,
};
use satchel_compute::kernels::threads::Threads;
use satchel_gguf::TensorType;
use satchel_gpu::call::Words;
use satchel_gpu::{ExpertsKernel, Gpu, Grid, Kernel, Stack, StackProduct, StackShape, Tiling};

use super::{blocks, close, everything, filled, floats, gpu, numbers, rows_only, run, scalar};

/// What a test of routing varies.
#[derive(Clone, Copy, Debug)]
struct Routing {
    experts: usize,
    used: usize,
    gating: usize,
    biased: bool,
    by_score: bool,
    groups: (usize, usize),
    normalise: bool,
    scale: f32,
}

/// By value, descending; ties by index.
fn best_first(values: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order
}

fn softmax(values: &[f32]) -> Vec<f32> {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = values.iter().map(|value| (value - largest).exp()).collect();
    let sum: f32 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

/// The chosen experts, then their weights.
fn routed(routing: &Routing, scores: &[f32], bias: &[f32]) -> Vec<f32> {
    let gated = match routing.gating {
        0 => softmax(scores),
        1 => scores.iter().map(|score| 1.0 / (1.0 + (-score).exp())).collect(),
        _ => scores.to_vec(),
    };
    let mut by = if routing.by_score { scores.to_vec() } else { gated.clone() };
    if routing.biased {
        by.iter_mut().zip(bias).for_each(|(by, bias)| *by += bias);
    }
    let (groups, kept) = routing.groups;
    let size = routing.experts / groups;
    let sums = by.chunks_exact(size).map(|group| {
        let order = best_first(group);
        group[order[0]] + group[*order.get(1).unwrap_or(&order[0])]
    });
    let sums: Vec<f32> = sums.collect();
    for &group in &best_first(&sums)[kept..] {
        by[group * size..(group + 1) * size].fill(f32::NEG_INFINITY);
    }
    let chosen = &best_first(&by)[..routing.used];
    let mut weights: Vec<f32> = chosen.iter().map(|&expert| gated[expert]).collect();
    if routing.gating == 2 {
        weights = softmax(&weights);
    }
    if routing.normalise {
        let sum = weights.iter().sum::<f32>().max(6.103_515_6e-5);
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }
    let weights = weights.iter().map(|weight| weight * routing.scale);
    chosen.iter().map(|&expert| expert as f32).chain(weights).collect()
}

#[test]
fn routes_are_those_of_a_sort() {
    let Some(gpu) = gpu() else { return };
    let plain = Routing {
        experts: 77,
        used: 5,
        gating: 0,
        biased: false,
        by_score: false,
        groups: (1, 1),
        normalise: false,
        scale: 1.0,
    };
    let variants = [
        plain,
        Routing { gating: 0, normalise: true, scale: 2.5, ..plain },
        Routing { gating: 1, biased: true, normalise: true, ..plain },
        Routing { gating: 1, experts: 48, groups: (6, 2), biased: true, scale: 1.5, ..plain },
        Routing { gating: 1, by_score: true, used: 1, ..plain },
        Routing { gating: 2, used: 4, experts: 4, ..plain },
        Routing { gating: 2, used: 8, experts: 512, biased: true, ..plain },
    ];
    let rows = 5;
    for (at, routing) in variants.iter().enumerate() {
        let mut scores = numbers(at as u64 + 1, rows * routing.experts);
        // Equals: the first is the better one.
        scores[1] = scores[0];
        let bias = numbers(90, routing.experts);
        let words = Words::default()
            .flag(false)
            .count(routing.experts)
            .count(routing.used)
            .count(routing.gating)
            .flag(routing.biased)
            .flag(routing.by_score)
            .count(routing.groups.0)
            .count(routing.groups.1)
            .flag(routing.normalise)
            .number(routing.scale);
        let kernel = Kernel::Experts(ExpertsKernel::Route);
        let nothing = vec![9.0; 2 * rows * routing.used];
        let found = run(&gpu, kernel, Grid::Workgroups(1), &words, rows, &[&scores, &bias], &nothing);
        for (row, found) in found.chunks_exact(2 * routing.used).enumerate() {
            let own = &scores[row * routing.experts..(row + 1) * routing.experts];
            let right = routed(routing, own, &bias);
            let (ids, weights) = found.split_at(routing.used);
            assert_eq!(ids, &right[..routing.used], "{routing:?}, row {row}");
            close(&format!("{routing:?}"), weights, &right[routing.used..], 3e-6);
        }
    }
}

/// One product of every pair on the GPU.
fn product(gpu: &Gpu, stack: &Stack, x: &[f32], routes: &[f32], tokens: usize, of_pairs: bool) -> Vec<f32> {
    let used = routes.len() / tokens / 2;
    let tiling = Tiling { used, experts: stack.count };
    let (step, x, routes) = (rows_only(gpu, tokens), filled(gpu, x), filled(gpu, routes));
    let rows = if of_pairs { tokens * used } else { tokens };
    let quantized = gpu.buffer("activations", (48 * rows * stack.columns.div_ceil(32)) as u64).expect("memory");
    let shares = gpu.buffer("shares", 4 * tiling.words(tokens) as u64).expect("memory");
    let out = filled(gpu, &vec![7.0; tokens * used * stack.rows]);
    let mut calls = Vec::new();
    if !stack.form.is_plain() {
        let columns = stack.columns * rows / tokens;
        let (grid, words) = (Grid::Threads(columns / 4), Words::default().flag(false).count(columns));
        calls.push(gpu.call(Kernel::Quantize, false, grid, &words, &step, &[&x], &[&quantized]).expect("a call"));
    }
    let words = Words::default().flag(false).flag(true).count(stack.count).count(used);
    let assign = Kernel::Experts(ExpertsKernel::Assign { tokens: 1 });
    let call = gpu.call(assign, false, Grid::Shares(tiling), &words, &step, &[&routes], &[&shares]);
    calls.push(call.expect("a call"));
    let of = StackProduct {
        step: &step,
        x: if stack.form.is_plain() { &x } else { &quantized },
        x_of_pairs: of_pairs,
        shares: &shares,
        factors: None,
        bias: None,
        out: &out,
        wanted_only: false,
        add: false,
        tiling,
    };
    calls.extend(gpu.stack_product(stack, &of).expect("a product"));
    let bytes = 4 * tokens * used * stack.rows;
    floats(&gpu.run(calls.iter(), tokens, tokens, Some((&out, bytes))).expect("it runs"))
}

/// Routes that use some experts often and some never: numbers, then weights.
fn some_routes(tokens: usize, used: usize, experts: usize) -> Vec<f32> {
    let row = |token: usize| {
        let ids = (0..used).map(move |slot| ((token * token + 3 * slot * slot + slot) % experts) as f32);
        ids.chain((0..used).map(move |slot| 0.25 + 0.125 * (slot + token % 3) as f32))
    };
    (0..tokens).flat_map(row).collect()
}

#[test]
fn experts_are_the_scalar_kernels_at_any_number_of_rows() {
    let Some(mut gpu) = gpu() else { return };
    let (count, columns, inner, rows, used) = (5, 256, 64, 35, 2);
    let threads = Threads::new(1);
    let mut types = vec![(TensorType::Q4_K, TensorType::Q8_0), (TensorType::F16, TensorType::MXFP4)];
    if everything() {
        types.extend([(TensorType::Q6_K, TensorType::Q5_0), (TensorType::IQ2_XS, TensorType::IQ4_NL)]);
    }
    for (ty, down_ty) in types {
        let up = blocks(ty, count * inner, columns);
        let down = blocks(down_ty, count * rows, inner);
        let send = |gpu: &Gpu, ty, rows, columns, bytes: &[u8]| {
            let stride = bytes.len() / count;
            Stack::upload(gpu, StackShape { ty, rows, columns, count, stride }, bytes).expect("it fits")
        };
        let sent = (send(&gpu, ty, inner, columns, &up), send(&gpu, down_ty, rows, inner, &down));
        for tokens in [1, 3, 23] {
            let (x, routes) = (numbers(3, tokens * columns), some_routes(tokens, used, count));
            let hidden = product(&gpu, &sent.0, &x, &routes, tokens, false);
            let mut active = vec![0.0; hidden.len()];
            elementwise::activate(scalar(), &threads, Activation::Silu, &hidden, &mut active);
            let outputs = product(&gpu, &sent.1, &active, &routes, tokens, true);
            let words = Words::default().flag(false).count(rows).count(used).flag(true);
            let mix = Kernel::Experts(ExpertsKernel::Mix);
            let nothing = vec![0.0; tokens * rows];
            let found = run(&gpu, mix, Grid::Threads(rows), &words, tokens, &[&outputs, &routes], &nothing);
            let chosen = routes.chunks_exact(2 * used).flat_map(|row| {
                let pairs = row[..used].iter().zip(&row[used..]);
                pairs.map(|(&id, &weight)| Route { expert: id as u32, weight })
            });
            let call = ExpertsCall {
                x: &x,
                routes: &chosen.collect::<Vec<_>>(),
                used,
                gate: None,
                up: ExpertStack::whole(ty, inner, columns, count, &up),
                down: ExpertStack::whole(down_ty, rows, inner, count, &down),
                activation: ExpertActivation::Plain(Activation::Silu),
                weigh: Weigh::Output,
                adapters: &[],
            };
            let mut right = vec![0.0; tokens * rows];
            experts(scalar(), &threads, &mut ExpertsBuffers::new(), &call, &mut right);
            close(&format!("{ty} and {down_ty}, {tokens} tokens"), &found, &right, 1e-4);
        }
        // Two experts in a buffer, one in the last.
        let (x, routes) = (numbers(3, 9 * columns), some_routes(9, used, count));
        let whole = product(&gpu, &sent.0, &x, &routes, 9, false);
        let before = gpu.binding_bytes();
        gpu.limit_buffers(sent.0.bytes() / count as u64 * 2);
        let split = send(&gpu, ty, inner, columns, &up);
        gpu.limit_buffers(before);
        assert!(product(&gpu, &split, &x, &routes, 9, false) == whole, "{ty} in three buffers");
    }
}

#[test]
fn what_is_between_the_products_is_the_scalar_kernels() {
    let Some(gpu) = gpu() else { return };
    let (tokens, columns, used) = (3, 45, 3);
    let (gate, up) = (numbers(1, tokens * columns), numbers(2, tokens * columns));
    let mut right = vec![0.0; gate.len()];
    elementwise::swiglu_oai(scalar(), &Threads::new(1), &gate, &up, 1.702, 7.0, &mut right);
    let words = Words::default().flag(false).count(columns).number(1.702).number(7.0);
    let kernel = Kernel::Experts(ExpertsKernel::SwigluOai);
    let found = run(&gpu, kernel, Grid::Threads(columns), &words, tokens, &[&gate, &up], &vec![9.0; gate.len()]);
    close("swiglu_oai", &found, &right, 2e-6);
    let routes = some_routes(tokens, used, 4);
    let wide = used * columns;
    let words = Words::default().flag(false).count(wide).count(used);
    let kernel = Kernel::Experts(ExpertsKernel::Weigh);
    let found = run(&gpu, kernel, Grid::Threads(wide), &words, tokens, &[&gate, &routes], &vec![9.0; tokens * wide]);
    let weighed = (0..tokens * wide).map(|at| {
        let (token, column) = (at / wide, at % wide);
        routes[(2 * token + 1) * used + column / columns] * gate[token * columns + column % columns]
    });
    assert_eq!(found, weighed.collect::<Vec<f32>>());
}
