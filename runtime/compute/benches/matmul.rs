//! Speed of matrix products, by table, block type, shape and number of tokens:
//! `cargo bench -p satchel-compute --bench matmul -- [--threads N] [--isa NAME] [--type TYPE] [--shape ROWSxCOLUMNS] [--tokens N]`.
//!
//! Weights walk through a pool larger than the caches when there are few tokens, as in decode; a multiply-add counts as two
//! operations. The machine's quietest of several runs is printed, kernels are compared, not conditions; but with few tokens the
//! median.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints what it measured")]

use std::time::Instant;

use satchel_compute::kernels::matmul::{Activations, Matrix, Product, matmul};
use satchel_compute::kernels::threads::Threads;
use satchel_compute::kernels::{self, Kernels};
use satchel_compute::quant::SUPPORTED;
use satchel_compute::quant::random::RandomWeights;
use satchel_gguf::TensorType;

/// Tokens that are measured as in decode.
const FEW: usize = 8;

/// Bytes of weights for so few tokens: beyond the last cache of servers, too.
const POOL_BYTES: usize = 640 << 20;

/// Bytes of weights between two looks at the clock.
const SPELL_BYTES: usize = 4 << 20;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        Some(args.get(at + 1).unwrap_or_else(|| panic!("{name} needs a value")).clone())
    };
    let threads = Threads::new(option("--threads").map_or(2, |value| value.parse().expect("a number of threads")));
    let shapes: Vec<(usize, usize)> = match option("--shape") {
        Some(shape) => {
            let (rows, columns) = shape.split_once('x').expect("ROWSxCOLUMNS");
            vec![(rows.parse().expect("rows"), columns.parse().expect("columns"))]
        }
        None => vec![(576, 576), (1536, 576), (576, 1536), (2048, 2048)],
    };
    let tokens: Vec<usize> = match option("--tokens") {
        Some(tokens) => vec![tokens.parse().expect("a number of tokens")],
        None => vec![1, 4, 512],
    };
    println!("{} threads", threads.count());
    println!("{:8} {:7} {:>11} {:>6} {:>9} {:>8} {:>9}", "table", "type", "shape", "tokens", "us", "GOP/s", "GB/s");
    for table in kernels::tables() {
        if option("--isa").is_some_and(|name| name != table.name) {
            continue;
        }
        for ty in SUPPORTED {
            if option("--type").is_some_and(|name| name != ty.name()) {
                continue;
            }
            for &(rows, columns) in &shapes {
                for &tokens in &tokens {
                    if columns.is_multiple_of(ty.block_elements()) {
                        measure(table, &threads, ty, rows, columns, tokens);
                    }
                }
            }
        }
    }
}

fn measure(table: &Kernels, threads: &Threads, ty: TensorType, rows: usize, columns: usize, tokens: usize) {
    let bytes = ty.row_bytes(columns as u64).expect("whole blocks") as usize * rows;
    let count =
        if tokens <= FEW && !std::env::args().any(|arg| arg == "--cached") { POOL_BYTES.div_ceil(bytes) } else { 1 };
    let mut weights = vec![0; bytes * count];
    RandomWeights::new(ty, 0.02, 1).fill(&mut weights);
    let x: Vec<f32> = (0..tokens * columns).map(|index| (index as f32 * 0.7).sin()).collect();
    let mut out = vec![0.0; tokens * rows];
    let mut input = Activations::new();
    input.set(table, threads, &x, tokens, columns, &[ty]);
    let mut run = |matrix: usize| {
        let weight = Matrix { ty, rows, columns, bytes: &weights[matrix * bytes..][..bytes] };
        matmul(table, threads, &mut [Product { weight, out: &mut out, add: false, bias: None }], &input);
    };
    // Short spells, so that some fall between the turns of other processes.
    let spell = (SPELL_BYTES / bytes).clamp(1, count);
    let mut spells = Vec::new();
    let begin = Instant::now();
    for first in (0..count).step_by(spell).cycle() {
        let matrices = first..(first + spell).min(count);
        let (start, done) = (Instant::now(), matrices.len() as f64);
        matrices.for_each(&mut run);
        spells.push(start.elapsed().as_secs_f64() / done);
        if begin.elapsed().as_millis() > 600 {
            break;
        }
    }
    spells.sort_by(f64::total_cmp);
    // Out of memory the quickest spells are those whose weights were in a cache after all.
    let best = if count > 1 { spells[spells.len() / 2] } else { spells[0] };
    let operations = 2.0 * (rows * columns * tokens) as f64;
    println!(
        "{:8} {:7} {:>11} {:>6} {:>9.1} {:>8.1} {:>9.2}",
        table.name,
        ty.name(),
        format!("{rows}x{columns}"),
        tokens,
        best * 1e6,
        operations / best / 1e9,
        bytes as f64 / best / 1e9
    );
}
