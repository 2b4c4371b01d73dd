//! Experts against a plain loop over tokens and slots with one-row products: bit-identical on every table.

use super::*;
use crate::kernels::elementwise;
use crate::kernels::matmul::tests::noise::{Noise, Scales, weights};
use crate::kernels::matmul::{Activations, matmul};
use crate::kernels::tables_under_test;

const COLUMNS: usize = 256;
const INNER: usize = 512;
const ROWS: usize = 35;
const EXPERTS: usize = 6;

/// A layer's weights: gate and up in one tensor, expert by expert; biases and factors.
struct Layer {
    ty: TensorType,
    gate_up: Vec<u8>,
    down: Vec<u8>,
    inner_bias: Vec<f32>,
    rows_bias: Vec<f32>,
    factors: Vec<f32>,
    activation: ExpertActivation,
    weigh: Weigh,
    extras: bool,
}

impl Layer {
    fn new(ty: TensorType, activation: ExpertActivation, weigh: Weigh, extras: bool) -> Self {
        let mut noise = Noise(0xE4);
        let gate_up = weights(&mut noise, ty, EXPERTS * 2 * INNER, COLUMNS, Scales::Usual);
        let down = weights(&mut noise, ty, EXPERTS * ROWS, INNER, Scales::Usual);
        let mut values = |count: usize| (0..count).map(|_| noise.value()).collect::<Vec<_>>();
        let (inner_bias, rows_bias, factors) = (values(EXPERTS * INNER), values(EXPERTS * ROWS), values(EXPERTS));
        Layer { ty, gate_up, down, inner_bias, rows_bias, factors, activation, weigh, extras }
    }

    fn call<'a>(&'a self, x: &'a [f32], routes: &'a [Route], used: usize) -> ExpertsCall<'a> {
        let plain = matches!(self.activation, ExpertActivation::Plain(_));
        let half = self.gate_up.len() / EXPERTS / 2;
        let stack = |bytes, rows, columns| ExpertStack::whole(self.ty, rows, columns, EXPERTS, bytes);
        let mut gate = stack(&self.gate_up, INNER, COLUMNS);
        let mut up = ExpertStack { bytes: &self.gate_up[half..], ..gate };
        let mut down = stack(&self.down, ROWS, INNER);
        if self.extras {
            (gate.bias, up.factors) = (Some(&self.inner_bias[..]), Some(&self.factors[..]));
            (down.bias, down.factors) = (Some(&self.rows_bias[..]), Some(&self.factors[..]));
        }
        let gate = (!plain).then_some(gate);
        ExpertsCall { x, routes, used, gate, up, down, activation: self.activation, weigh: self.weigh, adapters: &[] }
    }

    fn run(&self, kernels: &Kernels, threads: usize, x: &[f32], routes: &[Route], used: usize) -> Vec<u32> {
        let mut out = vec![f32::NAN; routes.len() / used * ROWS];
        let (threads, mut buffers) = (Threads::new(threads), ExpertsBuffers::new());
        // Buffers with a previous batch's contents.
        for tokens in [1, out.len() / ROWS] {
            let call = self.call(&x[..tokens * COLUMNS], &routes[..tokens * used], used);
            experts(kernels, &threads, &mut buffers, &call, &mut out[..tokens * ROWS]);
        }
        let call = self.call(x, routes, used);
        assert!(buffers.bytes() <= 2 * ExpertsBuffers::bytes_for(&call, out.len() / ROWS) + 4096);
        out.into_iter().map(f32::to_bits).collect()
    }

    /// Token by token, slot by slot, product by product.
    fn plainly(&self, kernels: &Kernels, x: &[f32], routes: &[Route], used: usize) -> Vec<u32> {
        let threads = Threads::new(1);
        let call = self.call(x, routes, used);
        let product = |stack: &ExpertStack<'_>, expert: usize, x: &[f32]| {
            let mut input = Activations::new();
            input.set(kernels, &threads, x, 1, stack.columns, &[stack.ty]);
            let mut out = vec![f32::NAN; stack.rows];
            let weight = stack.matrix(expert);
            matmul(kernels, &threads, &mut [Product { weight, out: &mut out, add: false, bias: None }], &input);
            out.iter_mut().for_each(|value| *value *= stack.factors.map_or(1.0, |factors| factors[expert]));
            if let Some(bias) = stack.bias {
                out.iter_mut().zip(&bias[expert * stack.rows..]).for_each(|(value, bias)| *value += bias);
            }
            out
        };
        let mut out = Vec::new();
        for (x, routes) in x.chunks_exact(COLUMNS).zip(routes.chunks_exact(used)) {
            let mut sum = vec![0.0; ROWS];
            for route in routes {
                let [before, after] = match self.weigh {
                    Weigh::Output => [1.0, route.weight],
                    Weigh::Input => [route.weight, 1.0],
                };
                let x: Vec<f32> = x.iter().map(|x| x * before).collect();
                let up = product(&call.up, route.expert as usize, &x);
                let mut hidden = vec![f32::NAN; INNER];
                let gate = call.gate.map(|gate| product(&gate, route.expert as usize, &x));
                match (self.activation, gate) {
                    (ExpertActivation::Plain(activation), _) => {
                        activate(kernels, &threads, activation, &up, &mut hidden);
                    }
                    (ExpertActivation::Gated(activation), Some(gate)) => {
                        elementwise::gate(kernels, &threads, activation, &gate, &up, &mut hidden);
                    }
                    (ExpertActivation::SwigluOai { alpha, limit }, Some(gate)) => {
                        swiglu_oai(kernels, &threads, &gate, &up, alpha, limit, &mut hidden);
                    }
                    _ => panic!("no gate"),
                }
                let output = product(&call.down, route.expert as usize, &hidden);
                sum.iter_mut().zip(output).for_each(|(sum, output)| *sum += output * after);
            }
            out.extend(sum.into_iter().map(f32::to_bits));
        }
        out
    }
}

fn inputs(tokens: usize) -> Vec<f32> {
    let mut noise = Noise(3);
    (0..tokens * COLUMNS).map(|_| noise.value() * 2.0).collect()
}

/// Weighted routes; `expert(token, slot)`.
fn routes(tokens: usize, used: usize, expert: impl Fn(usize, usize) -> usize) -> Vec<Route> {
    (0..tokens * used)
        .map(|at| Route { expert: expert(at / used, at % used) as u32, weight: 0.1 + (at % 7) as f32 * 0.13 })
        .collect()
}

#[test]
fn agrees_with_a_plain_loop() {
    let gated = ExpertActivation::Gated(Activation::Silu);
    let oai = ExpertActivation::SwigluOai { alpha: 1.702, limit: 7.0 };
    let layers = [
        Layer::new(TensorType::Q4_K, gated, Weigh::Output, false),
        Layer::new(TensorType::MXFP4, oai, Weigh::Output, true),
        Layer::new(TensorType::Q8_0, ExpertActivation::Plain(Activation::ReluSquared), Weigh::Output, true),
        Layer::new(TensorType::Q6_K, gated, Weigh::Input, false),
        Layer::new(TensorType::F16, ExpertActivation::Gated(Activation::Gelu), Weigh::Output, false),
    ];
    for kernels in tables_under_test("experts") {
        for layer in &layers {
            for (tokens, used) in [(1, 2), (1, 1), (9, 2), (3, EXPERTS), (20, 1)] {
                let x = inputs(tokens);
                // Neither ordered nor balanced: expert 4 has no token where one is used.
                let routes = routes(tokens, used, |token, slot| match used {
                    1 => token * token % 4,
                    _ => (token * token + slot * 5) % EXPERTS,
                });
                let expected = layer.plainly(kernels, &x, &routes, used);
                for threads in [1, 3] {
                    let got = layer.run(kernels, threads, &x, &routes, used);
                    assert!(got == expected, "{} {}: {tokens} tokens, {used} used", kernels.name, layer.ty);
                }
            }
        }
    }
}

/// All tokens to one expert; the same expert twice; and a token alone as in a batch.
#[test]
fn the_choice_of_others_does_not_show() {
    let layer = Layer::new(TensorType::Q5_K, ExpertActivation::Gated(Activation::GeluErf), Weigh::Output, true);
    for kernels in tables_under_test("experts, company") {
        let x = inputs(12);
        let all_at_one = routes(12, 1, |_, _| 3);
        assert_eq!(layer.run(kernels, 2, &x, &all_at_one, 1), layer.plainly(kernels, &x, &all_at_one, 1));
        let twice = routes(1, 2, |_, _| 5);
        let one = &x[..COLUMNS];
        assert_eq!(layer.run(kernels, 1, one, &twice, 2), layer.plainly(kernels, one, &twice, 2));
        let mixed = routes(12, 2, |token, slot| (token + 3 * slot) % EXPERTS);
        let together = layer.run(kernels, 2, &x, &mixed, 2);
        for token in [0, 7, 11] {
            let x = &x[token * COLUMNS..(token + 1) * COLUMNS];
            let alone = layer.run(kernels, 1, x, &mixed[2 * token..2 * token + 2], 2);
            assert_eq!(alone, together[token * ROWS..(token + 1) * ROWS], "{}", kernels.name);
        }
    }
}

/// Weights of unused experts are not read: the last expert's may even be missing.
#[test]
fn only_chosen_experts_are_read() {
    let layer = Layer::new(TensorType::Q8_0, ExpertActivation::Gated(Activation::Silu), Weigh::Output, false);
    let x = inputs(2);
    let routes = routes(2, 2, |token, slot| token + slot);
    for kernels in tables_under_test("experts, chosen") {
        let (threads, mut out) = (Threads::new(1), vec![f32::NAN; 2 * ROWS]);
        let mut call = layer.call(&x, &routes, 2);
        let cut = |stack: &mut ExpertStack<'_>| stack.bytes = &stack.bytes[..3 * stack.stride_bytes];
        [call.gate.as_mut().expect("a gate"), &mut call.up, &mut call.down].into_iter().for_each(cut);
        experts(kernels, &threads, &mut ExpertsBuffers::new(), &call, &mut out);
        let bits: Vec<u32> = out.into_iter().map(f32::to_bits).collect();
        assert_eq!(bits, layer.run(kernels, 1, &x, &routes, 2));
    }
}

#[test]
#[should_panic(expected = "a route to none of 6 experts")]
fn a_route_to_nowhere_is_refused() {
    let layer = Layer::new(TensorType::Q8_0, ExpertActivation::Gated(Activation::Silu), Weigh::Output, false);
    layer.run(crate::kernels::best(), 1, &inputs(1), &[Route { expert: 6, weight: 1.0 }], 1);
}

/// Values as the bytes of a file.
fn as_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Factors of a stack of experts.
struct Factors {
    a: Vec<f32>,
    b: Vec<f32>,
    rows: usize,
    columns: usize,
}

impl Factors {
    const RANK: usize = 3;
    const SCALE: f32 = 0.75;

    fn new(noise: &mut Noise, rows: usize, columns: usize) -> Self {
        let mut values = |count: usize| (0..count).map(|_| noise.value() * 0.1).collect();
        let (a, b) = (values(EXPERTS * Self::RANK * columns), values(EXPERTS * rows * Self::RANK));
        Factors { a, b, rows, columns }
    }

    /// Adds `scale · B · A` to the matrices of a stack, which lie `stride` rows apart from row `first` on.
    fn merge(&self, weights: &mut [f32], first: usize, stride: usize) {
        for at in 0..EXPERTS * self.rows * self.columns {
            let (row, column) = (at / self.columns, at % self.columns);
            let expert = row / self.rows;
            let product = |r| self.b[row * Self::RANK + r] * self.a[(expert * Self::RANK + r) * self.columns + column];
            let target = (first + expert * stride + row % self.rows) * self.columns + column;
            weights[target] += Self::SCALE * (0..Self::RANK).map(product).sum::<f32>();
        }
    }

    fn bytes(&self) -> [Vec<u8>; 2] {
        [as_bytes(&self.a), as_bytes(&self.b)]
    }

    fn low_rank<'a>(&self, [a, b]: &'a [Vec<u8>; 2]) -> LowRank<'a> {
        let stack = |rows, columns, bytes| ExpertStack::whole(TensorType::F32, rows, columns, EXPERTS, bytes);
        LowRank { a: stack(Self::RANK, self.columns, a), b: stack(self.rows, Self::RANK, b), scale: Self::SCALE }
    }
}

#[test]
fn adapters_change_only_tokens_that_use_them_as_merged_weights_would() {
    let mut noise = Noise(0xAD);
    let gated = ExpertActivation::Gated(Activation::Silu);
    let mut layer = Layer::new(TensorType::Q8_0, gated, Weigh::Output, false);
    layer.ty = TensorType::F32;
    let mut values = |count: usize| (0..count).map(|_| noise.value() * 0.1).collect::<Vec<f32>>();
    let (gate_up, down) = (values(EXPERTS * 2 * INNER * COLUMNS), values(EXPERTS * ROWS * INNER));
    let factors = [(INNER, COLUMNS), (INNER, COLUMNS), (ROWS, INNER)]
        .map(|(rows, columns)| Factors::new(&mut noise, rows, columns));
    let (mut merged_gate_up, mut merged_down) = (gate_up.clone(), down.clone());
    factors[0].merge(&mut merged_gate_up, 0, 2 * INNER);
    factors[1].merge(&mut merged_gate_up, INNER, 2 * INNER);
    factors[2].merge(&mut merged_down, 0, ROWS);
    let bytes: Vec<[Vec<u8>; 2]> = factors.iter().map(Factors::bytes).collect();
    let low = |at: usize| Some(factors[at].low_rank(&bytes[at]));
    for kernels in tables_under_test("experts, adapters") {
        for uses in [&[true][..], &[true, false, true, false, false]] {
            (layer.gate_up, layer.down) = (as_bytes(&gate_up), as_bytes(&down));
            let x = inputs(uses.len());
            let routes = routes(uses.len(), 2, |token, slot| (2 * token + 3 * slot) % EXPERTS);
            let without = layer.run(kernels, 2, &x, &routes, 2);
            let adapters = [ExpertsAdapter { tokens: uses, gate: low(0), up: low(1), down: low(2) }];
            let call = ExpertsCall { adapters: &adapters, ..layer.call(&x, &routes, 2) };
            let (mut buffers, mut found) = (ExpertsBuffers::new(), vec![f32::NAN; uses.len() * ROWS]);
            experts(kernels, &Threads::new(2), &mut buffers, &call, &mut found);
            assert!(buffers.bytes() <= 2 * ExpertsBuffers::bytes_for(&call, uses.len()) + 4096);
            (layer.gate_up, layer.down) = (as_bytes(&merged_gate_up), as_bytes(&merged_down));
            let merged = layer.run(kernels, 2, &x, &routes, 2);
            for (at, &uses) in uses.iter().enumerate() {
                let row = at * ROWS..(at + 1) * ROWS;
                let (found, without) = (&found[row.clone()], &without[row.clone()]);
                if !uses {
                    assert!(found.iter().zip(without).all(|(a, b)| a.to_bits() == *b), "{} token {at}", kernels.name);
                    continue;
                }
                let error = |of: &[u32]| {
                    let pairs = found.iter().zip(of).map(|(a, b)| (*a, f32::from_bits(*b)));
                    pairs.clone().map(|(a, b)| (a - b).powi(2)).sum::<f32>() / pairs.map(|(_, b)| b * b).sum::<f32>()
                };
                let (off, apart) = (error(&merged[row]), error(without));
                assert!(off < 1e-9 && apart > 1e-3, "{} token {at}: {off:e}, {apart:e}", kernels.name);
            }
        }
    }
}
