//! Encode and decode: against llama.cpp's error on the same weights, and at the edges of each type.

use satchel_gguf::Gguf;

use super::*;
use crate::quant::{SUPPORTED, dequantize_row};

/// Σ (a − b)² / Σ a² of all matrices of stories260K in file order as one row of 292,096 weights (rounded down to whole blocks), from
/// `ggml_quantize_chunk` of llama.cpp (llama-cpp-python 0.3.36) without an importance matrix.
const LLAMA_CPP: [(TensorType, f64); 13] = [
    (TensorType::F16, 4.063523e-08),
    (TensorType::BF16, 2.949381e-06),
    (TensorType::Q8_0, 2.933520e-05),
    (TensorType::Q4_0, 7.351074e-03),
    (TensorType::Q4_1, 7.009678e-03),
    (TensorType::Q5_0, 1.886905e-03),
    (TensorType::Q5_1, 1.474448e-03),
    (TensorType::Q2_K, 1.037802e-01),
    (TensorType::Q3_K, 2.294508e-02),
    (TensorType::Q4_K, 5.615443e-03),
    (TensorType::Q5_K, 1.363876e-03),
    (TensorType::Q6_K, 3.047097e-04),
    (TensorType::F32, 0.0),
];

fn written_and_read(ty: TensorType, values: &[f32]) -> Vec<f32> {
    let mut blocks = vec![0xa5; ty.row_bytes(values.len() as u64).unwrap() as usize];
    encoder(ty).unwrap()(values, &mut blocks);
    let mut read = vec![f32::NAN; values.len()];
    dequantize_row(ty, &blocks, &mut read);
    read
}

fn relative_error(values: &[f32], read: &[f32]) -> f64 {
    let square = |value: f32| f64::from(value).powi(2);
    let error: f64 = values.iter().zip(read).map(|(a, b)| square(a - b)).sum();
    error / values.iter().map(|&value| square(value)).sum::<f64>()
}

/// The matrices of a small trained model, one after the other.
fn trained() -> Vec<f32> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/models/stories260K-f32.v3.gguf");
    let bytes = std::fs::read(path).unwrap();
    let matrices = Gguf::parse(&bytes).unwrap().tensors.into_iter().filter(|tensor| tensor.rows() > 1);
    let data = matrices.flat_map(|tensor| bytes[tensor.offset as usize..tensor.end() as usize].to_vec());
    let data: Vec<u8> = data.collect();
    let mut values: Vec<f32> = data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    values.truncate(values.len() / 256 * 256);
    values
}

#[test]
fn trained_weights_lose_no_more_than_with_llama_cpp() {
    let values = trained();
    assert_eq!(values.len(), 292_096);
    for (ty, theirs) in LLAMA_CPP {
        let ours = relative_error(&values, &written_and_read(ty, &values));
        println!("{ty}: {ours:.6e}, llama.cpp {theirs:.6e}, ratio {:.5}", ours / theirs);
        assert!(ours <= theirs * 1.001, "{ty}: {ours:e} is more than llama.cpp's {theirs:e}");
    }
}

#[test]
fn every_type_that_is_written_can_be_read() {
    for ty in SUPPORTED {
        let listed = LLAMA_CPP.iter().any(|row| row.0 == ty);
        assert_eq!(encoder(ty).is_some(), listed, "{ty}");
    }
}

/// Re-encoding is lossless: decoded values lie on levels, so the range finds them again. (Types that search may find other scales
/// that fit equally well.)
#[test]
fn values_on_levels_are_kept() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/quants");
    for ty in [TensorType::F32, TensorType::F16, TensorType::BF16, TensorType::Q8_0, TensorType::Q4_0, TensorType::Q5_0]
    {
        let blocks = std::fs::read(folder.join(format!("{ty}.blocks"))).unwrap();
        let mut values = vec![0.0; blocks.len() / ty.block_bytes() * ty.block_elements()];
        dequantize_row(ty, &blocks, &mut values);
        let error = relative_error(&values, &written_and_read(ty, &values));
        assert!(error < 1e-9, "{ty}: {error:e}");
    }
}

/// Rows that break searches: all zeros, one weight among zeros, one sign only, all equal, tiny, huge.
#[test]
fn odd_rows_come_back_finite_and_near() {
    let one = |at: usize, value: f32| (0..256).map(|index| if index == at { value } else { 0.0 }).collect();
    let wave = |scale: f32, offset: f32| (0..256).map(|index| scale * (index as f32 * 0.7).sin() + offset).collect();
    let rows: [(&str, Vec<f32>, f64); 10] = [
        ("zeros", vec![0.0; 256], 0.0),
        ("negative zeros", vec![-0.0; 256], 0.0),
        ("one weight", one(77, 3.0), 0.02),
        ("one negative weight", one(255, -3.0), 0.02),
        ("all the same", vec![0.25; 256], 0.01),
        ("all the same, negative", vec![-0.25; 256], 0.01),
        ("above zero", wave(1.0, 2.0), 0.02),
        ("below zero", wave(1.0, -2.0), 0.02),
        ("the largest", wave(LARGEST, 0.0), 0.2),
        ("small", wave(1e-3, 0.0), 0.2),
    ];
    for (ty, _) in LLAMA_CPP {
        for (name, row, most) in &rows {
            let read = written_and_read(ty, row);
            assert!(read.iter().all(|value| value.is_finite()), "{ty}, {name}: {read:?}");
            if *most == 0.0 {
                assert!(read.iter().all(|&value| value == 0.0), "{ty}, {name}: {read:?}");
                continue;
            }
            let error = relative_error(row, &read);
            assert!(error < *most, "{ty}, {name}: {error}");
        }
        let tiny: Vec<f32> = wave(1e-42, 0.0);
        assert!(written_and_read(ty, &tiny).iter().all(|value| value.abs() < 1e-6), "{ty}, denormals");
    }
}

/// A row's blocks depend on the row alone, so a file does not depend on how the work was split.
#[test]
fn blocks_do_not_depend_on_their_neighbours() {
    let values = &trained()[..2048];
    for (ty, _) in LLAMA_CPP {
        let encode = encoder(ty).unwrap();
        let (row, part) = (ty.row_bytes(2048).unwrap() as usize, ty.row_bytes(256).unwrap() as usize);
        let (mut whole, mut parts) = (vec![0; row], vec![0; row]);
        encode(values, &mut whole);
        for (values, blocks) in values.chunks(256).zip(parts.chunks_mut(part)) {
            encode(values, blocks);
        }
        assert_eq!(whole, parts, "{ty}");
    }
}
