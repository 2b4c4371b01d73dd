//! Every reader and product against the definition in `quant`, bit for bit.

use satchel_gguf::TensorType;

use super::*;
use crate::kernels::matmul::tests::noise::{Noise, Scales as Drawn, weights};
use crate::kernels::matmul::{Activations, Matrix, Product, matmul};
use crate::kernels::tables_under_test;
use crate::kernels::threads::Threads;
use crate::quant::{self, Form, SUPPORTED, for_block};

/// Levels and scales of four rows, with all kinds of scales.
fn check_reader<B: Block>() {
    let bytes = weights(&mut Noise(11), B::TYPE, 1, 400 * B::TYPE.block_elements(), Drawn::Odd);
    for rows in bytes.chunks_exact(4 * B::BYTES) {
        let rows: [&[u8]; 4] = std::array::from_fn(|row| &rows[row * B::BYTES..][..B::BYTES]);
        // SAFETY: NEON is in every aarch64 target; four whole blocks.
        let header = unsafe {
            let mut header = blocks::Header::new();
            B::header(&rows.map(<[u8]>::as_ptr), &mut header);
            header
        };
        for group in 0..B::GROUPS {
            let defined = rows.map(|row| B::group(row, group));
            for half in 0..2 {
                let (floats, integers) = lanes(&header[group], half);
                for (row, defined) in defined.iter().enumerate() {
                    let what = format!("{} row {row}, group {group}, half {half}", B::TYPE);
                    if half == 0 || B::Form::APART {
                        assert_eq!(floats[0][row].to_bits(), defined.scale[half].to_bits(), "{what}");
                        if B::Form::OFFSET {
                            assert_eq!(floats[1][row].to_bits(), defined.offset[half].to_bits(), "{what}");
                        }
                    }
                    if B::Form::HALVES {
                        assert_eq!(integers[row], defined.multipliers[half], "{what}");
                    }
                    assert!(B::Form::OFFSET || defined.offset == [0.0; 2], "{what}");
                    assert!(B::Form::HALVES || defined.multipliers == [1; 2], "{what}");
                    let most = if B::Form::LARGE { 128 } else { 64 };
                    assert!(defined.levels.iter().all(|level| i32::from(*level).abs() <= most), "{what}");
                }
            }
            for (row, defined) in rows.iter().zip(&defined) {
                let mut levels = [0i8; GROUP];
                // SAFETY: a whole block, and room for 32 bytes.
                unsafe {
                    let halves = B::levels(row.as_ptr(), group);
                    vst1q_s8(levels.as_mut_ptr(), halves[0]);
                    vst1q_s8(levels.as_mut_ptr().add(16), halves[1]);
                }
                assert_eq!(levels, defined.levels, "{} group {group}", B::TYPE);
            }
        }
    }
}

/// Scale and offset, and the multiplier, of four rows.
fn lanes(weights: &blocks::Weights, half: usize) -> ([[f32; 4]; 2], [i32; 4]) {
    let (mut floats, mut integers) = ([[0.0; 4]; 2], [0; 4]);
    // SAFETY: room for four lanes each.
    unsafe {
        vst1q_f32(floats[0].as_mut_ptr(), weights.scale[half]);
        vst1q_f32(floats[1].as_mut_ptr(), weights.offset[half]);
        vst1q_s32(integers.as_mut_ptr(), weights.multipliers[half]);
    }
    (floats, integers)
}

#[test]
fn every_reader_gives_what_quant_defines() {
    let checks = by_type!(Option<fn()>: plain P => None, B: Block => Some(check_reader::<B> as fn()), else None);
    checks.into_iter().filter_map(|(_, check)| check).for_each(|check| check());
}

/// A row times a token: one exact integer per group (two if halves have separate scales) and one rounding.
fn defined<Q: quant::Block>(row: &[u8], x: &[ActivationGroup]) -> f32 {
    let mut sum = 0.0f32;
    for (index, ActivationGroup { levels, facts }) in x.iter().enumerate() {
        let group = Q::group(&row[index / Q::GROUPS * Q::BYTES..][..Q::BYTES], index % Q::GROUPS);
        let product = |half: usize| {
            let columns = group.levels.iter().zip(&levels.0).skip(16 * half).take(16);
            let dot: i32 = columns.map(|(w, x)| i32::from(*w) * i32::from(*x)).sum();
            dot * group.multipliers[half] * facts.multiplier(half)
        };
        if Q::Form::APART {
            for half in 0..2 {
                sum = (group.scale[half] * facts.scale).mul_add(product(half) as f32, sum);
                sum = group.offset[half].mul_add(facts.half_sum(half), sum);
            }
        } else {
            sum = (group.scale[0] * facts.scale).mul_add((product(0) + product(1)) as f32, sum);
            sum = group.offset[0].mul_add(facts.sum, sum);
        }
    }
    sum
}

#[test]
fn products_are_those_of_the_definition_to_the_bit() {
    let threads = Threads::new(1);
    let mut noise = Noise(23);
    let tables: Vec<_> = tables_under_test("neon matmul").into_iter().filter(|table| table.name != "scalar").collect();
    for ty in SUPPORTED.into_iter().filter(|ty| ty.block_elements() > 1) {
        for (rows, tokens) in [(1, 1), (9, 1), (21, 2), (6, 3), (16, 7)] {
            let columns = 2 * ty.block_elements().max(128);
            let bytes = weights(&mut noise, ty, rows, columns, Drawn::Usual);
            // In every third group all levels are ±127, so that sums reach their maximum.
            let x: Vec<f32> = (0..tokens * columns)
                .map(|at| if (at / GROUP).is_multiple_of(3) { noise.value().signum() } else { noise.value() })
                .collect();
            for table in &tables {
                let mut input = Activations::new();
                input.set(table, &threads, &x, tokens, columns, &[ty]);
                let mut out = vec![f32::NAN; tokens * rows];
                let weight = Matrix { ty, rows, columns, bytes: &bytes };
                matmul(table, &threads, &mut [Product { weight, out: &mut out, add: false, bias: None }], &input);
                for (index, found) in out.iter().enumerate() {
                    let (token, row) = (index / rows, index % rows);
                    let row_bytes = &bytes[row * (bytes.len() / rows)..][..bytes.len() / rows];
                    let expected: f32 = for_block!(ty, Q => defined::<Q>(row_bytes, input.all().groups(token)),
                        plain P => <P as quant::Plain>::BYTES as f32, else panic!("no reader for {ty}"));
                    assert_eq!(found.to_bits(), expected.to_bits(), "{} {ty}: {found} {expected}", table.name);
                }
            }
        }
    }
}

/// The largest levels, all of one sign: the maximum an i16 must hold.
#[test]
fn the_largest_products_do_not_overflow() {
    let threads = Threads::new(1);
    let mut bytes = vec![0x80; 4 * 34];
    bytes.chunks_exact_mut(34).for_each(|block| block[..2].copy_from_slice(&half::f16::ONE.to_le_bytes()));
    for table in tables_under_test("neon largest products") {
        for tokens in [1, 4] {
            let mut input = Activations::new();
            input.set(table, &threads, &vec![-127.0; tokens * 32], tokens, 32, &[TensorType::Q8_0]);
            let mut out = vec![0.0; 4 * tokens];
            let weight = Matrix { ty: TensorType::Q8_0, rows: 4, columns: 32, bytes: &bytes };
            matmul(table, &threads, &mut [Product { weight, out: &mut out, add: false, bias: None }], &input);
            for found in out {
                assert!((found - 32.0 * 128.0 * 127.0).abs() < 1.0, "{}: {found}", table.name);
            }
        }
    }
}
