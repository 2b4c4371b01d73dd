//! Operations on so many rows that the threads share them: every row gets the bits that it gets alone.

use std::io::Write;

use satchel_gguf::TensorType;

use super::*;
use crate::kernels::tables_under_test;
use crate::mapping::MappedFile;
use crate::plan::{
    AdapterSet, Gating, Head, Op, PlanBuilder, Pooling, Role, Rope, RopePairs, RopeScaling, Router, RowInput, Slot,
    Step, Weight, WeightUse,
};

/// Columns of what is looked up: four heads of 24.
const COLUMNS: usize = 96;
const ROWS: usize = 700;
const VOCABULARY: usize = 50;

/// The weights of every test: the same numbers, whatever their shape.
fn weight(plan: &mut PlanBuilder, role: Role, stack: usize, rows: usize, columns: usize) -> Weight {
    let (name, part, offset, ty, first_row) = ("test".to_owned(), 0, 0, TensorType::F32, 0);
    let stack_bytes = (rows * columns * size_of::<f32>()) as u64;
    plan.weight(WeightUse { name, role, part, offset, ty, rows, first_row, columns, stack, stack_bytes })
}

fn weights() -> (tempfile::NamedTempFile, MappedPart) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    for at in 0..ROWS * COLUMNS {
        let value = ((at * 7919 + 13) % 1009) as f32 / 500.0 - 0.9 + at as f32 * 1e-6;
        file.write_all(&value.to_le_bytes()).expect("it is written");
    }
    let mapped = MappedFile::open(file.path()).expect("it is mapped");
    let part = MappedPart { start: 0, length: ROWS * COLUMNS * size_of::<f32>(), file: mapped };
    (file, part)
}

/// Rows of two sequences, the first of which uses adapter 0; in the second an embedding stands for every ninth token.
fn step(rows: impl Iterator<Item = usize>) -> Step {
    let mut step = Step { states: vec![Vec::new(); 2], adapters: vec![AdapterSet::one(0)], ..Step::default() };
    for row in rows {
        let sequence = usize::from(row >= ROWS / 3);
        step.push((row * 31 % VOCABULARY) as u32, row, sequence);
        if sequence == 1 && row % 9 == 0 {
            let embedding = (0..COLUMNS).map(|column| (row * column) as f32 * 1e-3).collect();
            *step.inputs.last_mut().expect("it was pushed") = RowInput::Embedding(embedding);
        }
    }
    step.outputs = (0..step.len()).collect();
    step
}

/// Bits of the operation's result for a step.
fn run(program: &mut dyn Program, step: &Step) -> Vec<u32> {
    program.run(step).expect("it runs");
    program.output().iter().map(|value| value.to_bits()).collect()
}

/// Checks what `build` makes of looked-up rows.
fn check(name: &str, build: impl Fn(&mut PlanBuilder, Slot) -> Slot) {
    let (_file, part) = weights();
    let mut plan = PlanBuilder::new();
    let table = weight(&mut plan, Role::Table, 1, VOCABULARY, COLUMNS);
    let x = plan.embed(table, 1.5);
    let out = build(&mut plan, x);
    let wanted = plan.select(out);
    let columns = plan.columns(wanted);
    let plan = plan.finish("test", VOCABULARY, ROWS, Head::Embeddings(wanted));
    for kernels in tables_under_test(name) {
        let load = |threads: usize| {
            let device = Cpu::new(kernels, threads, CacheTypes::default());
            device.load(&plan, 0..plan.ops.len(), std::slice::from_ref(&part)).expect("it is loaded")
        };
        let together = run(&mut *load(3), &step(0..ROWS));
        let mut alone = load(1);
        for (row, found) in together.chunks_exact(columns).enumerate() {
            assert!(found == run(&mut *alone, &step(row..row + 1)), "{name} on {}: row {row}", kernels.name);
        }
    }
}

#[test]
fn rows_are_looked_up() {
    check("embed", |_, x| x);
    check("positions", |plan, x| {
        let table = weight(plan, Role::Table, 1, ROWS, COLUMNS);
        plan.apply(Op::Position { table, x });
        x
    });
}

#[test]
fn rows_are_scaled_and_moved() {
    let vector = |plan: &mut PlanBuilder, columns: usize| weight(plan, Role::Vector, 1, 1, columns);
    check("bias", |plan, x| {
        let vector = vector(plan, COLUMNS);
        plan.apply(Op::Bias { vector, x });
        x
    });
    for width in [1, 8] {
        check("factors", |plan, x| {
            let vector = vector(plan, COLUMNS / width);
            plan.apply(Op::MultiplyVector { vector, to: x, width });
            x
        });
    }
    check("divisors", |plan, x| {
        let vector = vector(plan, COLUMNS);
        plan.apply(Op::DivideVector { vector, to: x });
        x
    });
    check("temperature", |plan, x| {
        plan.apply(Op::Temperature { x, scale: 0.3, length: 50, offset: 1.0 });
        x
    });
    check("adapter", |plan, x| {
        plan.apply(Op::Adapt { x, adapter: 0, scale: 0.7 });
        x
    });
    check("rotation", |plan, x| {
        let (dimensions, base, scaling) = (16, 10_000.0, RopeScaling::None);
        let rope = Rope { pairs: RopePairs::Halves, dimensions, base, scaling, factors: None, magnitude: 1.0 };
        plan.rope(x, &rope, 4, 8);
        x
    });
}

#[test]
fn heads_are_split_joined_and_multiplied() {
    check("split", |plan, x| plan.split(x, 4, 18, 24));
    check("slice", |plan, x| plan.slice(x, 5, 40));
    check("join", |plan, x| {
        let (first, second) = (plan.split(x, 0, 20, 24), plan.split(x, 2, 16, 24));
        plan.join(first, second, 4, 16)
    });
    check("join with one for all heads", |plan, x| {
        let (first, second) = (plan.split(x, 0, 20, 24), plan.slice(x, 7, 16));
        plan.join(first, second, 4, 16)
    });
    check("a matrix for each head", |plan, x| {
        let stack = weight(plan, Role::Matrix, 4, 20, 24);
        plan.linear_heads(x, stack)
    });
}

#[test]
fn experts_are_chosen_for_every_row() {
    check("route", |plan, x| {
        let (experts, used, gating, bias) =
            (COLUMNS, 3, Gating::Sigmoid, Some(weight(plan, Role::Vector, 1, 1, COLUMNS)));
        let (by_score, groups, groups_used, normalise, scale) = (false, 8, 4, true, 2.0);
        plan.route(x, Router { experts, used, gating, bias, by_score, groups, groups_used, normalise, scale })
    });
}

#[test]
fn sequences_are_pooled_on_their_own() {
    let (_file, part) = weights();
    for pooling in [Pooling::First, Pooling::Last, Pooling::Mean] {
        let mut plan = PlanBuilder::new();
        let table = weight(&mut plan, Role::Table, 1, VOCABULARY, COLUMNS);
        let x = plan.embed(table, 1.0);
        let pooled = plan.pool(pooling, x);
        let plan = plan.finish("test", VOCABULARY, ROWS, Head::Embeddings(pooled));
        for kernels in tables_under_test("pool") {
            let pooled = |threads: usize, rows: Range<usize>, outputs: Vec<usize>| {
                let device = Cpu::new(kernels, threads, CacheTypes::default());
                let mut program =
                    device.load(&plan, 0..plan.ops.len(), std::slice::from_ref(&part)).expect("it is loaded");
                run(&mut *program, &Step { outputs, ..step(rows) })
            };
            let both = pooled(3, 0..ROWS, vec![0, ROWS - 1]);
            let (first, second) = both.split_at(COLUMNS);
            assert!(first == pooled(1, 0..ROWS / 3, vec![5]), "{pooling:?} on {}", kernels.name);
            let alone = pooled(1, ROWS / 3..ROWS, vec![0]);
            assert!(second == alone, "{pooling:?} on {}", kernels.name);
        }
    }
}
