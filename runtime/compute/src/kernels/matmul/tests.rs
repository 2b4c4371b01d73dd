//! One body over every table: correct against an f64 reference, and bit-identical however a product is split.

use half::bf16;
use satchel_gguf::TensorType;

use super::*;
use crate::kernels::{self, tables_under_test};
use crate::quant::{GROUP, SUPPORTED, dequantize_row};

pub(crate) mod noise;
mod prompts;
mod readers;

use noise::{Noise, Scales, weights};

struct Case<'a> {
    ty: TensorType,
    rows: usize,
    columns: usize,
    /// Weights start `skew` bytes into the buffer, so that nothing is aligned.
    buffer: &'a [u8],
    skew: usize,
}

impl Case<'_> {
    fn matrix(&self) -> Matrix<'_> {
        Matrix { ty: self.ty, rows: self.rows, columns: self.columns, bytes: &self.buffer[self.skew..] }
    }

    /// Runs the product on a table; the output starts as NaN.
    fn run(&self, table: &Kernels, threads: usize, x: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        self.run_on(table, threads, x, Tokens::from(x.len() / self.columns), bias)
    }

    fn run_on(&self, table: &Kernels, threads: usize, x: &[f32], tokens: Tokens, bias: Option<&[f32]>) -> Vec<f32> {
        let threads = Threads::new(threads);
        let mut activations = Activations::new();
        activations.set(table, &threads, x, tokens, self.columns, &[self.ty]);
        let mut out = vec![f32::NAN; tokens.count() * self.rows];
        let product = Product { weight: self.matrix(), out: &mut out, add: false, bias };
        matmul(table, &threads, &mut [product], &activations);
        out
    }

    /// The weights in f32.
    fn widened(&self) -> Vec<f32> {
        let row_bytes = self.matrix().bytes.len() / self.rows;
        let mut weights = vec![0.0; self.rows * self.columns];
        for (bytes, row) in self.matrix().bytes.chunks_exact(row_bytes).zip(weights.chunks_exact_mut(self.columns)) {
            dequantize_row(self.ty, bytes, row);
        }
        weights
    }

    /// In f64 on unquantised activations, with each output's sum of magnitudes, which errors are relative to.
    fn reference(&self, x: &[f32]) -> Vec<(f64, f64)> {
        let weights = self.widened();
        let mut out = Vec::new();
        for x in x.chunks_exact(self.columns) {
            for row in weights.chunks_exact(self.columns) {
                let products = row.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x));
                out.push(products.fold((0.0, 0.0), |(sum, size), product| (sum + product, size + product.abs())));
            }
        }
        out
    }

    /// The largest magnitude of each output's products.
    fn largest(&self, x: &[f32]) -> Vec<f64> {
        let weights = self.widened();
        let mut out = Vec::new();
        for x in x.chunks_exact(self.columns) {
            for row in weights.chunks_exact(self.columns) {
                let products = row.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x));
                out.push(products.fold(0.0, |largest: f64, product| largest.max(product.abs())));
            }
        }
        out
    }
}

/// Runs `body` on cases of every type: odd row counts, one to many blocks, aligned and unaligned.
fn for_cases(scales: Scales, mut body: impl FnMut(&mut Noise, &Case<'_>)) {
    let mut noise = Noise(0x5EED);
    for ty in SUPPORTED {
        let unit = ty.block_elements();
        let widths = match unit {
            1 => vec![1, 7, 32, 45, 576],
            32 => vec![32, 64, 96, 576, 1536],
            64 => vec![64, 128, 192, 576, 1536],
            _ => vec![256, 512, 1536],
        };
        for (index, columns) in widths.into_iter().enumerate() {
            let (rows, skew) = ([1, 7, 16, 19, 33][index], [0, 2, 1, 2, 0][index]);
            let mut buffer = vec![0xA5; skew];
            buffer.extend(weights(&mut noise, ty, rows, columns, scales));
            body(&mut noise, &Case { ty, rows, columns, buffer: &buffer, skew });
        }
    }
}

fn activations(noise: &mut Noise, tokens: usize, columns: usize) -> Vec<f32> {
    (0..tokens * columns).map(|_| noise.value() * 3.0).collect()
}

/// A case and its activations as tables that multiply in BF16 see them.
fn rounded<R>(case: &Case<'_>, x: &[f32], body: impl FnOnce(&Case<'_>, &[f32]) -> R) -> R {
    let weights = to_bf16(&case.widened());
    let buffer: Vec<u8> = weights.into_iter().flat_map(|weight| bf16::from_f32(weight).to_le_bytes()).collect();
    body(&Case { ty: TensorType::BF16, buffer: &buffer, skew: 0, ..*case }, &to_bf16(x))
}

/// To nearest, as processors round: numbers below 2⁻¹²⁶ are taken for 0.
fn to_bf16(x: &[f32]) -> Vec<f32> {
    let round = |x: &f32| if x.is_subnormal() { 0.0 } else { bf16::from_f32(*x).to_f32() };
    x.iter().map(round).collect()
}

/// Quantising a group moves each activation by at most half a level, 1/254 of the largest; the rest is f32 rounding.
#[test]
fn scalar_is_close_to_f64() {
    let scalar = kernels::by_name("scalar").expect("always there");
    for_cases(Scales::Usual, |noise, case| {
        let x = activations(noise, 3, case.columns);
        let (mut error, mut size) = (0.0, 0.0);
        for (value, (expected, magnitude)) in case.run(scalar, 1, &x, None).iter().zip(case.reference(&x)) {
            let bound = magnitude * if is_quantised(case.ty) { 0.05 } else { 1e-6 };
            let off = (f64::from(*value) - expected).abs();
            assert!(off <= bound, "{} {} columns: {value}, expected {expected} ± {bound}", case.ty, case.columns);
            error += off;
            size += magnitude;
        }
        // Errors of single activations cancel: the bound on the mean is much tighter.
        assert!(error <= size * if is_quantised(case.ty) { 0.01 } else { 1e-6 }, "{}: {error} of {size}", case.ty);
    });
}

/// Only f32 rounding may differ between tables, and that of factors to BF16.
#[test]
fn every_table_agrees_with_scalar() {
    let scalar = kernels::by_name("scalar").expect("always there");
    let tables = tables_under_test("matmul");
    for scales in [Scales::Usual, Scales::Odd] {
        for_cases(scales, |noise, case| {
            for tokens in [1, 2, 3, 4, 5, 6, 7, 8, 9, 33] {
                let mut x = activations(noise, tokens, case.columns);
                extremes(&mut x, tokens);
                let defined = |case: &Case<'_>, x: &[f32]| (case.run(scalar, 1, x, None), case.reference(x));
                let usual = defined(case, &x);
                for table in &tables {
                    let (expected, reference) = match table.matmul.form(case.ty) {
                        Form::Rounded => &rounded(case, &x, defined),
                        _ => &usual,
                    };
                    let found = case.run(table, 1, &x, None);
                    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
                        let bound = reference[index].1 * 2e-6 + 1e-30;
                        let off = (f64::from(*found) - f64::from(*expected)).abs();
                        let (token, row) = (index / case.rows, index % case.rows);
                        assert!(
                            off <= bound,
                            "{} {} of {} x {} ({scales:?} scales), token {token} of {tokens}, row {row}: {found}, scalar {expected}",
                            table.name,
                            case.ty,
                            case.rows,
                            case.columns
                        );
                    }
                }
            }
        });
    }
}

/// A model with quantised weights gives the same bits on every vector table of an architecture: their sums are of exact integers,
/// group by group.
#[test]
fn quantised_products_are_the_same_bits_on_every_vector_table() {
    let all = kernels::tables();
    let Some(first) = all.get(1) else { return println!("SKIPPED: this processor has no vector table") };
    let tables = tables_under_test("matmul bits");
    for_cases(Scales::Usual, |noise, case| {
        if !is_quantised(case.ty) {
            return;
        }
        for tokens in [1, 2, 5, 33] {
            let x = activations(noise, tokens, case.columns);
            let bits = |table| case.run(table, 1, &x, None).into_iter().map(f32::to_bits).collect::<Vec<_>>();
            let expected = bits(first);
            for table in tables.iter().filter(|table| table.name != "scalar") {
                assert!(bits(table) == expected, "{} {}, {tokens} tokens", table.name, case.ty);
            }
        }
    });
}

/// Products in BF16 are as near to those in f32 as the rounding of two factors is: 2⁻⁹ of each at most, a fifth of that on average.
#[test]
fn rounding_to_bf16_costs_what_it_should() {
    for table in tables_under_test("matmul BF16") {
        for_cases(Scales::Usual, |noise, case| {
            if table.matmul.form(case.ty) != Form::Rounded {
                return;
            }
            let x = activations(noise, 5, case.columns);
            let (mut error, mut size) = (0.0, 0.0);
            for (value, (expected, magnitude)) in case.run(table, 1, &x, None).iter().zip(case.reference(&x)) {
                let off = (f64::from(*value) - expected).abs();
                assert!(off <= magnitude * 4.1e-3, "{} {}: {value}, expected {expected}", table.name, case.ty);
                error += off;
                size += magnitude;
            }
            assert!(error <= size * 2e-3, "{} {}: {error} of {size}", table.name, case.ty);
        });
    }
}

/// Groups of ±largest (every level ±127), of zeros, and of denormals among ordinary ones.
fn extremes(x: &mut [f32], tokens: usize) {
    let groups = x.len().div_ceil(GROUP);
    for (index, group) in x.chunks_mut(GROUP).enumerate() {
        match (index + tokens) % 7 {
            0 => group.fill(1.5),
            1 if groups > 1 => group.fill(-0.75),
            2 if groups > 2 => group.fill(0.0),
            3 if groups > 3 => group.iter_mut().for_each(|value| *value *= 1e-39),
            4 => group.iter_mut().for_each(|value| *value = value.signum()),
            _ => {}
        }
    }
}

/// The rule of `kernels`: a token's outputs have the same bits alone, in a batch, and on any number of threads.
#[test]
fn a_result_does_not_depend_on_its_company() {
    for table in tables_under_test("matmul company") {
        for_cases(Scales::Usual, |noise, case| {
            let x = activations(noise, 33, case.columns);
            let alone: Vec<u32> =
                x.chunks_exact(case.columns).flat_map(|x| case.run(table, 1, x, None)).map(f32::to_bits).collect();
            for (tokens, threads) in [(1, 2), (2, 1), (3, 1), (4, 2), (5, 1), (6, 1), (7, 3), (8, 1), (9, 2), (33, 3)] {
                let together = case.run(table, threads, &x[..tokens * case.columns], None);
                let together: Vec<u32> = together.into_iter().map(f32::to_bits).collect();
                assert!(
                    together == alone[..tokens * case.rows],
                    "{} {}: {tokens} tokens, {threads} threads",
                    table.name,
                    case.ty
                );
            }
        });
    }
}

/// More tokens than a block, columns of several panels or parts and of whole pages, more rows than partial sums are kept for, and
/// an input object that held others before.
#[test]
fn many_tokens_and_wide_rows_leave_no_seams() {
    let (plain, quantised) = (
        [TensorType::F32, TensorType::F16, TensorType::BF16, TensorType::Q8_0],
        [TensorType::Q8_0, TensorType::Q4_1, TensorType::Q6_K],
    );
    for table in tables_under_test("matmul seams") {
        leaves_no_seams(table, &plain, (19, 1024), 300, 2);
        leaves_no_seams(table, &[TensorType::F16], (1100, 1160), 33, 1);
        leaves_no_seams(table, &[TensorType::F16], (35, 1160), 3, 1);
        leaves_no_seams(table, &quantised, (1100, 2304), 33, 1);
    }
}

fn leaves_no_seams(
    table: &Kernels,
    types: &[TensorType],
    (rows, columns): (usize, usize),
    tokens: usize,
    threads: usize,
) {
    let threads = Threads::new(threads);
    for &ty in types {
        let mut noise = Noise(31);
        let buffer = weights(&mut noise, ty, rows, columns, Scales::Usual);
        let case = Case { ty, rows, columns, buffer: &buffer, skew: 0 };
        let x = activations(&mut noise, tokens, columns);
        let mut input = Activations::new();
        input.set(table, &threads, &vec![7.0; 400 * 1056], 400, 1056, &[TensorType::F32, TensorType::Q8_0]);
        input.set(table, &threads, &x, tokens, columns, &[ty]);
        let mut out = vec![f32::NAN; tokens * rows];
        let product = Product { weight: case.matrix(), out: &mut out, add: false, bias: None };
        matmul(table, &threads, &mut [product], &input);
        for token in
            [0, 15, 101, 102, 191, 203, 204, 255, 257, 258, tokens - 1].into_iter().filter(|&token| token < tokens)
        {
            let alone = case.run(table, 1, &x[token * columns..][..columns], None);
            assert_eq!(alone, out[token * rows..][..rows], "{} {ty}, token {token}", table.name);
        }
    }
}

/// Several products share a call; `add` and `bias` have no other effect.
#[test]
fn add_and_bias_work_on_several_products() {
    for table in tables_under_test("matmul add") {
        for_cases(Scales::Usual, |noise, case| {
            let tokens = 5;
            let x = activations(noise, tokens, case.columns);
            let bias: Vec<f32> = (0..case.rows).map(|_| noise.value()).collect();
            let plain = case.run(table, 1, &x, None);
            let threads = Threads::new(2);
            let mut input = Activations::new();
            input.set(table, &threads, &x, tokens, case.columns, &[case.ty]);
            let (mut with_bias, mut added, mut both) =
                (vec![f32::NAN; plain.len()], vec![0.5; plain.len()], vec![0.25; plain.len()]);
            let weight = case.matrix();
            let mut products = [
                Product { weight, out: &mut with_bias, add: false, bias: Some(&bias) },
                Product { weight, out: &mut added, add: true, bias: None },
                Product { weight, out: &mut both, add: true, bias: Some(&bias) },
            ];
            matmul(table, &threads, &mut products, &input);
            for (index, plain) in plain.iter().enumerate() {
                let bias = bias[index % case.rows];
                let expected = [plain + bias, 0.5 + plain, 0.25 + (plain + bias)];
                assert_eq!([with_bias[index], added[index], both[index]], expected, "{} {}", table.name, case.ty);
            }
        });
    }
}

/// Quantising is bit-identical on every table, even for hostile input.
#[test]
fn every_table_quantises_alike() {
    let scalar = kernels::by_name("scalar").expect("always there");
    let mut noise = Noise(7);
    let mut x: Vec<f32> = (0..40 * GROUP).map(|_| noise.value() * 10.0).collect();
    extremes(&mut x, 0);
    x[5 * GROUP..6 * GROUP].fill(2.5 / 127.0);
    x[5 * GROUP] = 1.0;
    x[10 * GROUP + 3] = f32::NAN;
    x[11 * GROUP + 31] = f32::INFINITY;
    x[12 * GROUP + 1] = f32::MAX;
    let quantise = |table: &Kernels| {
        let mut groups = vec![ActivationGroup::ZERO; 40];
        groups.iter_mut().for_each(|group| group.levels.0 = [99; GROUP]);
        // SAFETY: the table came from `tables`.
        unsafe { (table.matmul.quantize)(&x, &mut groups) };
        groups.into_iter().map(|group| (group.levels, group.facts)).unzip::<_, _, Vec<_>, Vec<_>>()
    };
    let (expected_levels, expected_facts) = quantise(scalar);
    assert!(expected_facts[10].scale.is_nan() && expected_facts[11].scale.is_nan());
    for table in tables_under_test("quantise") {
        let (levels, facts) = quantise(table);
        for group in 0..40 {
            if expected_facts[group].scale.is_nan() {
                assert!(facts[group].scale.is_nan() && facts[group].sum.is_nan(), "{} group {group}", table.name);
                continue;
            }
            assert_eq!(levels[group].0, expected_levels[group].0, "{} group {group}", table.name);
            assert_eq!(
                facts[group].scale.to_bits(),
                expected_facts[group].scale.to_bits(),
                "{} group {group}",
                table.name
            );
            assert_eq!(facts[group].sum, expected_facts[group].sum, "{} group {group}", table.name);
            assert_eq!(facts[group].raised, expected_facts[group].raised, "{} group {group}", table.name);
            assert_eq!(facts[group].factors, expected_facts[group].factors, "{} group {group}", table.name);
        }
    }
}

/// A NaN among the activations reaches every output of its token and no other.
#[test]
fn a_nan_is_not_hidden() {
    for table in tables_under_test("matmul NaN") {
        for_cases(Scales::Usual, |noise, case| {
            let mut x = activations(noise, 5, case.columns);
            x[2 * case.columns] = f32::NAN;
            for (index, value) in case.run(table, 1, &x, None).iter().enumerate() {
                assert_eq!(value.is_nan(), index / case.rows == 2, "{} {}: {value}", table.name, case.ty);
            }
        });
    }
}

/// A product of few rows for many threads is cut smaller, a large one into no more than are worth it.
#[test]
fn every_thread_gets_as_many_chunks() {
    for (total, threads, chunks) in
        [(331_776_usize, 2, 4), (331_776, 8, 8), (331_776, 16, 16), (884_736, 8, 8), (1 << 24, 16, 128)]
    {
        assert_eq!(total.div_ceil(chunk_cost(total, threads)), chunks, "{total} on {threads} threads");
    }
    assert_eq!(chunk_cost(1 << 15, 16), LEAST_COST);
}

/// Rows that cannot be shared evenly are cut by tokens, too, unless that costs more than it gains.
#[test]
fn blocks_of_tokens_even_out_threads() {
    for (strips, tokens, threads, unpacking, expected) in [
        (36, 512, 2, 16, 1),
        (3, 512, 2, 16, 2),
        (36, 512, 16, 16, 4),
        (36, 127, 16, 16, 1),
        (128, 512, 16, 16, 1),
        (18, 512, 16, 120, 2),
        (18, 256, 16, 120, 1),
        (1, 4096, 1, 16, 1),
    ] {
        let found = blocks(strips, tokens, threads, unpacking);
        assert_eq!(found, expected, "{strips} strips, {tokens} tokens, {threads} threads, {unpacking} to unpack");
    }
}

#[test]
fn blocks_of_tokens_leave_no_seams() {
    const TOKENS: usize = 500;
    let mut noise = Noise(11);
    for table in tables_under_test("matmul, blocks of tokens") {
        for ty in [TensorType::Q4_0, TensorType::Q6_K, TensorType::F32, TensorType::F16, TensorType::BF16] {
            // Three strips, of sixteen rows or of 32, for two threads.
            for rows in [48, 90] {
                let columns = 256;
                let buffer = weights(&mut noise, ty, rows, columns, Scales::Usual);
                let case = Case { ty, rows, columns, buffer: &buffer, skew: 0 };
                let x = activations(&mut noise, TOKENS, columns);
                let bias: Vec<f32> = (0..rows).map(|_| noise.value()).collect();
                for tokens in [Tokens::from(TOKENS), Tokens { answers: 3, prompts: TOKENS - 3 }] {
                    let bits = |threads: usize| -> Vec<u32> {
                        let found = case.run_on(table, threads, &x, tokens, Some(&bias));
                        found.into_iter().map(f32::to_bits).collect()
                    };
                    assert!(bits(2) == bits(1), "{} {ty}: {rows} rows, {tokens:?}", table.name);
                }
            }
        }
    }
}

#[test]
fn every_table_covers_every_type() {
    for table in tables_under_test("matmul types") {
        assert!(SUPPORTED.iter().all(|ty| table.matmul.rows.iter().any(|row| row.0 == *ty)), "{}", table.name);
    }
}

#[test]
#[should_panic(expected = "columns of weights and activations")]
fn a_wrong_width_is_refused() {
    let case = Case { ty: TensorType::Q4_0, rows: 1, columns: 64, buffer: &[0; 36], skew: 0 };
    let threads = Threads::new(1);
    let mut input = Activations::new();
    input.set(kernels::best(), &threads, &[0.0; 32], 1, 32, &[case.ty]);
    matmul(
        kernels::best(),
        &threads,
        &mut [Product { weight: case.matrix(), out: &mut [0.0], add: false, bias: None }],
        &input,
    );
}
