//! Kernel micro-benchmarks: `cargo bench -p satchel-compute --bench kernels -- [NAME…]`.
//!
//! Plain timing loops that print the median of many short runs; no framework, no comparisons, no assertions.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints what it measured")]

use std::hint::black_box;
use std::time::Instant;

use half::f16;
use satchel_compute::kernels::attention::{AttentionShape, CacheType, CacheTypes, PAGE_TOKENS, Query, attention};
use satchel_compute::kernels::experts::{
    ExpertActivation, ExpertStack, ExpertsBuffers, ExpertsCall, Route, Weigh, experts,
};
use satchel_compute::kernels::recurrence::{
    Columns, Convolution, GatedDelta, KeyHeads, Mamba1, Mamba2, SequenceRun, convolve, gated_delta, mamba1, mamba2,
};
use satchel_compute::kernels::threads::Threads;
use satchel_compute::kernels::{Kernels, elementwise, tables};
use satchel_compute::quant::random::RandomWeights;
use satchel_gguf::TensorType;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let benches: [(&str, fn()); 5] = [
        ("threads", threads),
        ("attention", attention_of_a_token),
        ("elementwise", elementwise_rows),
        ("experts", experts_of_a_layer),
        ("recurrence", recurrences),
    ];
    for (name, bench) in benches {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            bench();
        }
    }
}

/// Median nanoseconds of `work`, over `runs` runs.
fn median_ns(runs: usize, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_nanos() as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// A dependent chain of additions, about one nanosecond for three.
fn busy(steps: usize) {
    let mut sum = 0u64;
    for step in 0..steps {
        sum = black_box(sum + step as u64);
    }
}

/// Dispatch and join of one job, and how a stream of small jobs, as in decoding, scales.
fn threads() {
    for count in 1..=4 {
        let threads = Threads::new(count);
        for chunks in [2, 8] {
            let batch = 1000;
            let ns = median_ns(200, || {
                (0..batch).for_each(|_| {
                    threads.run(chunks, &|chunk| {
                        black_box(chunk);
                    })
                })
            }) / batch as f64;
            println!("threads {count}: an empty job of {chunks} chunks {ns:.0} ns");
        }
        // 150 jobs of 8 chunks with a little serial work between them: the shape of one decoded token.
        let token = |serial: usize, chunk: usize| {
            for _ in 0..150 {
                threads.run(8, &|_| busy(chunk));
                busy(serial);
            }
        };
        for chunk in [1_000, 10_000] {
            let start = Instant::now();
            let ns = median_ns(2000 * 1000 / chunk / 2, || token(1000, chunk));
            let mean = start.elapsed().as_nanos() as f64 / (2000 * 1000 / chunk / 2) as f64;
            println!(
                "threads {count}: 150 jobs of 8 x {chunk} steps: median {:.0} us, mean {:.0} us",
                ns / 1e3,
                mean / 1e3
            );
        }
    }
}

/// Attention of SmolLM2-135M (30 layers, 9 heads, 3 KV heads of 64): a 512-token prompt, then one token after a context.
fn attention_of_a_token() {
    for ty in CacheType::ALL {
        attention_with_cache(CacheTypes::both(ty));
    }
}

fn attention_with_cache(cache: CacheTypes) {
    const LAYERS: usize = 30;
    let shape = AttentionShape {
        heads: 9,
        kv_heads: 3,
        key_dim: 64,
        value_dim: 64,
        scale: 0.125,
        softcap: None,
        alibi: None,
        cache,
    };
    let page = shape.page();
    for kernels in tables() {
        for count in [1, 2] {
            let threads = Threads::new(count);
            for (tokens, context) in [(512, 512), (1, 128), (1, 512), (1, 4096)] {
                // Each layer reads its own pages, as in a model: a long context does not fit the caches.
                let layers: Vec<Vec<Vec<f16>>> = (0..LAYERS)
                    .map(|layer| {
                        let pages = context / PAGE_TOKENS;
                        (0..pages).map(|at| vec![f16::from_f32(0.01 * (at + layer) as f32); page]).collect()
                    })
                    .collect();
                let layers: Vec<Vec<&[f16]>> =
                    layers.iter().map(|pages| pages.iter().map(Vec::as_slice).collect()).collect();
                let q: Vec<f32> = (0..tokens * 576).map(|i| (i % 17) as f32 * 0.1 - 0.8).collect();
                let mut out = vec![0.0; q.len()];
                // Sum of each layer's best time: what an idle machine would give, even when measured on a busy one.
                let runs = if kernels.name == "scalar" { 2 } else { 15 };
                let best = |pages: &Vec<&[f16]>| {
                    let query = |position| Query { pages, positions: 0..position + 1, position };
                    let queries: Vec<_> = (context - tokens..context).map(query).collect();
                    (0..runs)
                        .map(|_| {
                            let start = Instant::now();
                            attention(kernels, &threads, &shape, None, &q, &queries, &mut out);
                            start.elapsed().as_nanos() as f64
                        })
                        .fold(f64::INFINITY, f64::min)
                };
                let ns: f64 = layers.iter().map(best).sum();
                let name = kernels.name;
                println!(
                    "attention {name} {cache} {count} threads: {tokens} tokens at {context}, 30 layers: {:.2} ms",
                    ns / 1e6
                );
            }
        }
    }
}

/// Norm and gate over the widths of SmolLM2-135M.
fn elementwise_rows() {
    let threads = Threads::new(1);
    let bench = |name: &str, kernels: &Kernels, elements: usize, work: &mut dyn FnMut()| {
        let ns = median_ns(200, work);
        println!("elementwise {} {name}: {:.3} ns an element", kernels.name, ns / elements as f64);
    };
    for kernels in tables() {
        let (x, weight) = (vec![0.5f32; 64 * 576], vec![1.5f32; 576]);
        let mut out = vec![0.0; x.len()];
        bench("rms_norm", kernels, x.len(), &mut || {
            elementwise::rms_norm(kernels, &threads, &x, &weight, 1e-5, &mut out);
        });
        bench("silu_mul", kernels, x.len(), &mut || elementwise::silu_mul(kernels, &threads, &x, &x, &mut out));
        let cos_sin = vec![0.7f32; 64 * 64];
        bench("rope", kernels, x.len(), &mut || {
            let kind = elementwise::RopeKind::Normal;
            elementwise::rope(kernels, &threads, kind, &mut out, 9, 64, 64, &cos_sin);
        });
    }
}

/// Experts shaped like Qwen3-30B-A3B's in Q4_K: 128 of 768 x 2048, 8 used per token. Cycles through several layers so that decode
/// reads weights from memory.
fn experts_of_a_layer() {
    const LAYERS: usize = 3;
    let (ty, count, used, columns, inner) = (TensorType::Q4_K, 128, 8, 2048, 768);
    let one = ty.row_bytes(columns as u64).expect("whole blocks") as usize * inner;
    let mut weights = vec![0; LAYERS * 3 * count * one];
    RandomWeights::new(ty, 0.02, 1).fill(&mut weights);
    let layers: Vec<Vec<&[u8]>> =
        weights.chunks_exact(3 * count * one).map(|layer| layer.chunks_exact(count * one).collect()).collect();
    for kernels in tables().into_iter().skip(1) {
        let threads = Threads::new(2);
        for tokens in [1, 512] {
            let x: Vec<f32> = (0..tokens * columns).map(|index| (index as f32 * 0.7).sin()).collect();
            let (mut out, mut buffers, mut run) = (vec![0.0; x.len()], ExpertsBuffers::new(), 0);
            let runs = if tokens == 1 { 300 } else { 6 };
            let ns = median_ns(runs, || {
                run += 1;
                let route = |at: usize| (at * 37 + at / used + run * 11) % count;
                let routes: Vec<Route> =
                    (0..tokens * used).map(|at| Route { expert: route(at) as u32, weight: 0.1 }).collect();
                let layer = &layers[run % LAYERS];
                let call = ExpertsCall {
                    x: &x,
                    routes: &routes,
                    used,
                    gate: Some(ExpertStack::whole(ty, inner, columns, count, layer[0])),
                    up: ExpertStack::whole(ty, inner, columns, count, layer[1]),
                    down: ExpertStack::whole(ty, columns, inner, count, layer[2]),
                    activation: ExpertActivation::Gated(elementwise::Activation::Silu),
                    weigh: Weigh::Output,
                    adapters: &[],
                };
                experts(kernels, &threads, &mut buffers, &call, &mut out);
            });
            let (bytes, products) = (3.0 * (used * one) as f64, 6.0 * (tokens * used * inner * columns) as f64);
            let name = kernels.name;
            match tokens {
                1 => println!("experts {name}: a token {:.0} us, {:.1} GB/s", ns / 1e3, bytes / ns),
                _ => println!("experts {name}: {tokens} tokens {:.1} ms, {:.0} GOP/s", ns / 1e6, products / ns),
            }
        }
    }
}

/// One layer of each recurrence, sized like Qwen3-Next (convolution and delta rule), Falcon-Mamba and Granite 4, for decode and
/// for a prompt chunk.
fn recurrences() {
    let values = |count: usize| -> Vec<f32> { (0..count).map(|i| (i as f32 * 0.7).sin() * 0.1).collect() };
    let negative = |count: usize| -> Vec<f32> { values(count).iter().map(|x| -x.abs()).collect() };
    let (inner, states, heads) = (8192, 128, 48);
    let (kernel, a1, a2) = (values(inner * 4), negative(inner * 16), negative(heads));
    for kernels in tables() {
        let threads = Threads::new(2);
        for rows in [1, 256] {
            let (x, small, g) = (values(rows * inner), values(rows * 256), negative(rows * 64));
            let [x, small, g] = [(&x, inner), (&small, 256), (&g, 64)].map(|(x, stride)| Columns::new(x, stride, 0));
            let mut out = vec![0.0; rows * inner];
            let bench = |name: &str, state: usize, work: &mut dyn FnMut(&mut [SequenceRun<'_>])| {
                let mut state = vec![0.0; state];
                let ns = median_ns(if rows == 1 { 200 } else { 5 }, || {
                    work(&mut [SequenceRun { rows: 0..rows, state: &mut state }]);
                });
                println!("recurrence {} {name}: {rows} rows {:.1} us", kernels.name, ns / 1e3);
            };
            let call = Convolution { x, channels: inner, taps: 4, weight: &kernel, bias: None, silu: true };
            bench("convolve", call.state_len(), &mut |runs| convolve(kernels, &threads, &call, runs, &mut out));
            let (dt_bias, d) = (None, None);
            let call = Mamba1 { x, dt: x, dt_bias, b: small, c: small, a: &a1, d, channels: inner, states: 16 };
            bench("mamba1", call.state_len(), &mut |runs| mamba1(kernels, &threads, &call, runs, &mut out));
            let (head_dim, groups) = (64, 1);
            let call = Mamba2 { x, dt: g, dt_bias, b: small, c: small, a: &a2, d, heads, head_dim, groups, states };
            bench("mamba2", call.state_len(), &mut |runs| mamba2(kernels, &threads, &call, runs, &mut out));
            let (key_heads, value_heads, key_dim, value_dim) = (16, 32, 128, 128);
            let mapping = KeyHeads::Grouped;
            let call = GatedDelta { q: x, k: x, v: x, g, beta: g, key_heads, value_heads, key_dim, value_dim, mapping };
            bench("gated_delta", call.state_len(), &mut |runs| gated_delta(kernels, &threads, &call, runs, &mut out));
        }
    }
}
