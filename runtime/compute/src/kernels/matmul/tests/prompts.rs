//! Tables that multiply the tokens of prompts by kernels of their own: correct, and independent of their company.

use super::*;

/// Tables with such kernels, and the types of the list that they have them for.
fn tables_with_prompts(test: &str) -> Vec<&'static Kernels> {
    tables_under_test(test).into_iter().filter(|table| table.matmul.prompts.is_some()).collect()
}

fn prompts(prompts: usize) -> Tokens {
    Tokens { answers: 0, prompts }
}

/// Against an f64 reference on what was rounded to BF16: activations and, but for F16, weights. A weight near the middle of two may
/// have been rounded to the other one.
#[test]
fn tiles_agree_with_what_they_round() {
    for table in tables_with_prompts("matmul prompts") {
        for scales in [Scales::Usual, Scales::Odd] {
            for_cases(scales, |noise, case| {
                if table.matmul.for_prompts(case.ty).is_none() {
                    return;
                }
                for tokens in [1, 2, 15, 16, 17, 33, 48, 65] {
                    let mut x = activations(noise, tokens, case.columns);
                    extremes(&mut x, tokens);
                    let reference = |case: &Case<'_>, x: &[f32]| (case.reference(x), case.largest(x));
                    let (expected, largest) = match case.ty {
                        TensorType::F16 => reference(case, &to_bf16(&x)),
                        _ => rounded(case, &x, reference),
                    };
                    let found = case.run_on(table, 1, &x, prompts(tokens), None);
                    for (index, (found, (expected, magnitude))) in found.iter().zip(&expected).enumerate() {
                        let bound = magnitude * 4e-6 + largest[index] * 9e-3 + 1e-30;
                        let off = (f64::from(*found) - expected).abs();
                        let (token, row) = (index / case.rows, index % case.rows);
                        assert!(
                            off <= bound,
                            "{} {} of {} x {} ({scales:?} scales), token {token} of {tokens}, row {row}: {found}, expected {expected}",
                            table.name,
                            case.ty,
                            case.rows,
                            case.columns
                        );
                    }
                }
            });
        }
    }
}

/// What rounding costs in all: activations to BF16, and weights.
#[test]
fn tiles_cost_what_rounding_should() {
    for table in tables_with_prompts("matmul prompts' accuracy") {
        for_cases(Scales::Usual, |noise, case| {
            if table.matmul.for_prompts(case.ty).is_none() {
                return;
            }
            let x = activations(noise, 5, case.columns);
            let (mut error, mut size) = (0.0, 0.0);
            for (value, (expected, magnitude)) in
                case.run_on(table, 1, &x, prompts(5), None).iter().zip(case.reference(&x))
            {
                error += (f64::from(*value) - expected).abs();
                size += magnitude;
            }
            let most = if case.ty == TensorType::F16 { 1.2e-3 } else { 2e-3 };
            assert!(error <= size * most, "{} {}: {error} of {size}", table.name, case.ty);
        });
    }
}

#[test]
fn a_prompt_does_not_depend_on_its_company() {
    for table in tables_with_prompts("matmul prompts' company") {
        for_cases(Scales::Usual, |noise, case| {
            let x = activations(noise, 50, case.columns);
            let alone = x.chunks_exact(case.columns).flat_map(|x| case.run_on(table, 1, x, prompts(1), None));
            let alone: Vec<u32> = alone.map(f32::to_bits).collect();
            let answers: Vec<u32> = case.run(table, 1, &x, None).into_iter().map(f32::to_bits).collect();
            for (before, tokens, threads) in [(0, 2, 1), (0, 17, 2), (1, 32, 3), (5, 45, 2), (16, 1, 1), (49, 1, 2)] {
                let part = &x[..(before + tokens) * case.columns];
                let of = Tokens { answers: before, prompts: tokens };
                let together = case.run_on(table, threads, part, of, None);
                let together: Vec<u32> = together.into_iter().map(f32::to_bits).collect();
                let (first, rest) = together.split_at(before * case.rows);
                let why = format!("{} {}: {of:?}, {threads} threads", table.name, case.ty);
                assert!(first == &answers[..first.len()], "answers, {why}");
                assert!(rest == &alone[first.len()..together.len()], "prompts, {why}");
            }
        });
    }
}

/// Parts of the columns, rows whose sums wait, more tokens than tiles at once, and several products of different types.
#[test]
fn wide_rows_and_many_products_leave_no_seams() {
    for table in tables_with_prompts("matmul prompts' seams") {
        let threads = Threads::new(2);
        for (first, second) in [(TensorType::Q4_K, TensorType::F32), (TensorType::F16, TensorType::IQ2_XS)] {
            let ((rows, columns), tokens) = ((301, 2304), Tokens { answers: 2, prompts: 67 });
            let mut noise = Noise(5);
            let buffers = [first, second].map(|ty| weights(&mut noise, ty, rows, columns, Scales::Usual));
            let case = |at: usize| Case { ty: [first, second][at], rows, columns, buffer: &buffers[at], skew: 0 };
            let cases = [case(0), case(1)];
            let x = activations(&mut noise, tokens.count(), columns);
            let bias: Vec<f32> = (0..rows).map(|_| noise.value()).collect();
            let mut input = Activations::new();
            input.set(table, &threads, &vec![7.0; 400 * 1056], prompts(400), 1056, &[TensorType::Q8_0]);
            input.set(table, &threads, &x, tokens, columns, &[first, second]);
            let mut outs = [vec![0.5; tokens.count() * rows], vec![f32::NAN; tokens.count() * rows]];
            let [a, b] = &mut outs;
            let mut products = [
                Product { weight: cases[0].matrix(), out: a, add: true, bias: Some(&bias) },
                Product { weight: cases[1].matrix(), out: b, add: false, bias: None },
            ];
            matmul(table, &threads, &mut products, &input);
            for token in [0, 1, 2, 17, 18, 33, 34, 65, 68] {
                let alone = if token < 2 { Tokens::from(1) } else { prompts(1) };
                for (at, out) in outs.iter().enumerate() {
                    let mut expected = cases[at].run_on(table, 1, &x[token * columns..][..columns], alone, None);
                    if at == 0 {
                        expected.iter_mut().zip(&bias).for_each(|(sum, bias)| *sum = 0.5 + (*sum + bias));
                    }
                    assert_eq!(expected, out[token * rows..][..rows], "{} {}, token {token}", table.name, cases[at].ty);
                }
            }
        }
    }
}

#[test]
fn a_nan_in_a_prompt_is_not_hidden() {
    for table in tables_with_prompts("matmul prompts' NaN") {
        for_cases(Scales::Usual, |noise, case| {
            let mut x = activations(noise, 18, case.columns);
            x[2 * case.columns] = f32::NAN;
            for (index, value) in case.run_on(table, 1, &x, prompts(18), None).iter().enumerate() {
                assert_eq!(value.is_nan(), index / case.rows == 2, "{} {}: {value}", table.name, case.ty);
            }
        });
    }
}
