//! Needs AVX-512 with BF16, but no AMX.

use half::{bf16, f16};
use satchel_gguf::TensorType;

use super::*;
use crate::kernels::avx512::runs_here_with_bf16;
use crate::kernels::matmul::tests::noise::{Noise, Scales, weights};
use crate::quant::dequantize_row;

const COLUMNS: usize = 1536;

/// Whether this processor can run these tests; says so if not.
fn runs_here() -> bool {
    let here = runs_here_with_bf16();
    if !here {
        println!("SKIPPED: this processor has no BF16");
    }
    here
}

/// The groups `groups` of eight rows: the sum of a group's tiles, and the weights in f32.
fn unpacked<T: Tiled>(ty: TensorType, columns: usize, groups: Range<usize>, row: usize) -> (Vec<f32>, Vec<f32>) {
    let mut noise = Noise(9);
    let bytes = weights(&mut noise, ty, 8, columns, Scales::Usual);
    let each = bytes.len() / 8;
    let rows = std::array::from_fn(|row| bytes[row * each..].as_ptr());
    let mut tiles = vec![Tile([[0x7fc0; GROUP]; ROWS]); groups.len() * T::PLANES];
    // SAFETY: the rows have these columns; the caller asked the processor.
    unsafe { T::unpack(&rows, columns, groups.clone(), &mut tiles, row) };
    let mut wide = vec![0.0; 8 * columns];
    dequantize_row(ty, &bytes, &mut wide);
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    for (lane, wide) in wide.chunks_exact(columns).enumerate() {
        for (group, tiles) in groups.clone().zip(tiles.chunks_exact(T::PLANES)) {
            for column in 0..GROUP {
                let plane = |tile: &Tile| bf16::from_bits(tile.0[row + lane][column]).to_f32();
                found.push(tiles.iter().map(plane).sum());
                expected.push(wide.get(group * GROUP + column).copied().unwrap_or(0.0));
            }
        }
    }
    (found, expected)
}

/// The nearest BF16, but for values that f32 rounds to the middle of two.
fn are_rounded<T: Tiled>(ty: TensorType) {
    for (groups, row) in [(0..COLUMNS / GROUP, 0), (8..16, 8)] {
        let (found, expected) = unpacked::<T>(ty, COLUMNS, groups, row);
        let mut others = 0;
        for (found, expected) in found.iter().zip(&expected) {
            let off = (found - expected).abs();
            assert!(off <= expected.abs() * 0.502 / 128.0 + 1e-30, "{ty}: {found}, expected {expected}");
            others += usize::from(bf16::from_f32(*expected).to_f32() != *found);
        }
        assert!(others * 1000 <= found.len(), "{ty}: {others} of {} are not the nearest", found.len());
    }
}

#[test]
fn quantised_weights_are_rounded_to_bf16() {
    if !runs_here() {
        return;
    }
    are_rounded::<quant::Q8_0>(TensorType::Q8_0);
    are_rounded::<quant::Q4_0>(TensorType::Q4_0);
    are_rounded::<quant::Q4_1>(TensorType::Q4_1);
    are_rounded::<quant::Q5_0>(TensorType::Q5_0);
    are_rounded::<quant::Q5_1>(TensorType::Q5_1);
    are_rounded::<quant::Q2K>(TensorType::Q2_K);
    are_rounded::<quant::Q3K>(TensorType::Q3_K);
    are_rounded::<quant::Q4K>(TensorType::Q4_K);
    are_rounded::<quant::Q5K>(TensorType::Q5_K);
    are_rounded::<quant::Q6K>(TensorType::Q6_K);
    are_rounded::<quant::IQ4NL>(TensorType::IQ4_NL);
    are_rounded::<quant::IQ4XS>(TensorType::IQ4_XS);
    are_rounded::<quant::MXFP4>(TensorType::MXFP4);
}

#[test]
fn plain_weights_lose_nothing() {
    if !runs_here() {
        return;
    }
    for (columns, groups) in [(COLUMNS, 3..7), (77, 0..3)] {
        let (found, expected) = unpacked::<BF16>(TensorType::BF16, columns, groups.clone(), 0);
        assert_eq!(found, expected);
        let (found, expected) = unpacked::<F16>(TensorType::F16, columns, groups, 8);
        assert!(expected.iter().any(|&weight| f16::from_f32(weight).to_f32() != bf16::from_f32(weight).to_f32()));
        assert_eq!(found, expected);
    }
}

#[test]
fn tokens_lie_in_pairs_of_columns() {
    if !runs_here() {
        return;
    }
    for (tokens, columns) in [(16_usize, 64_usize), (5, 77), (1, 3)] {
        let mut noise = Noise(2);
        let x: Vec<f32> = (0..tokens * columns).map(|_| noise.value()).collect();
        let mut tiles = vec![TokenTile([[7; TILE_TOKENS]; GROUP / 2]); columns.div_ceil(GROUP)];
        // SAFETY: there is a tile for each group; the processor has BF16.
        unsafe { lay_out(&x, columns, &mut tiles) };
        for (group, tile) in tiles.iter().enumerate() {
            for (pair, line) in tile.0.iter().enumerate() {
                for (token, &word) in line.iter().enumerate() {
                    let [low, high] = [0, 1].map(|odd| {
                        let column = group * GROUP + 2 * pair + odd;
                        let there = token < tokens && column < columns;
                        u32::from(if there { bf16::from_f32(x[token * columns + column]).to_bits() } else { 0 })
                    });
                    assert_eq!(word, low | high << 16, "token {token}, pair {pair} of group {group}");
                }
            }
        }
    }
}
