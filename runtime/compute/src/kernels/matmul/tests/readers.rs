//! A table that reads only some types itself.

use super::*;
use crate::kernels::scalar;
use crate::quant::{Block, Q4K, by_type};

/// What [`mark`] stores.
const MARK: f32 = 0.5;

/// A table's own reader, of one type.
trait Reader: Block {}
impl Reader for Q4K {}

/// Stores a mark instead of the products of a type with a reader.
///
/// # Safety
/// See [`RowsKernel`].
unsafe fn mark<B: Reader>(chunk: &Chunk<'_>) {
    assert_eq!(chunk.weight.ty, B::TYPE);
    for (token, row) in (0..chunk.x.tokens()).flat_map(|token| chunk.rows.clone().map(move |row| (token, row))) {
        // SAFETY: the row belongs to this chunk.
        unsafe { chunk.store(token, row, &[MARK]) };
    }
}

/// # Safety
/// See [`RowsKernel`].
unsafe fn no_product(_: &Chunk<'_>) {}

#[test]
fn types_without_a_reader_take_the_kernel_of_a_slower_table() {
    let slower = &scalar::matmul::KERNELS;
    let rows = const {
        by_type!(RowsKernel: plain P => no_product, B: Reader => mark::<B>,
            else kernel_of(&scalar::matmul::KERNELS, B::TYPE))
    };
    assert_eq!(rows.map(|row| row.0), SUPPORTED);
    assert!(SUPPORTED.iter().all(|ty| slower.rows.iter().any(|row| row.0 == *ty)));
    let threads = Threads::new(1);
    for_cases(Scales::Usual, |noise, case| {
        if !is_quantised(case.ty) {
            return;
        }
        let x = activations(noise, 2, case.columns);
        let mut input = Activations::new();
        input.set(&scalar::TABLE, &threads, &x, 2, case.columns, &[case.ty]);
        let mut out = vec![f32::NAN; 2 * case.rows];
        let output = Output { out: Disjoint::new(&mut out), rows: case.rows, add: false, bias: None };
        let kernel = rows.iter().find(|row| row.0 == case.ty).expect("every type").1;
        // SAFETY: the shapes are those of the case; this table runs everywhere.
        unsafe { kernel(&Chunk { weight: case.matrix(), rows: 0..case.rows, x: input.all(), out: &output }) };
        let expected =
            if case.ty == Q4K::TYPE { vec![MARK; 2 * case.rows] } else { case.run(&scalar::TABLE, 1, &x, None) };
        assert_eq!(out, expected, "{}", case.ty);
    });
}
