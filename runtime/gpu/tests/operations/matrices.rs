//! Products by cooperative matrices, on adapters that have them: llvmpipe from Mesa 25 on, which Debian 12 has not.

use super::*;

/// An adapter with cooperative matrices, or a line that there is none. CI's has none.
fn with_matrices() -> Option<Gpu> {
    let gpu = opened(true)?;
    if gpu.matrices().is_none() {
        let line = format!("SKIPPED cooperative matrices: {} has none of f16 with sums in f32\n", gpu.facts().name);
        std::io::stderr().write_all(line.as_bytes()).expect("stderr can be written");
        return None;
    }
    Some(gpu)
}

#[test]
fn products_by_matrices_are_the_scalar_kernels_up_to_f16() {
    let Some(gpu) = with_matrices() else { return };
    let types =
        [TensorType::Q8_0, TensorType::Q4_K, TensorType::Q6_K, TensorType::Q2_K, TensorType::IQ4_NL, TensorType::F16];
    let types = if everything() { SUPPORTED.to_vec() } else { types.to_vec() };
    let mut shapes: Vec<_> = types.into_iter().map(|ty| (ty, 131, 2 * ty.block_elements().max(32), 37)).collect();
    shapes.extend([
        (TensorType::BF16, 9, 99, 5),
        (TensorType::Q8_0, 200, 5 * 32, 150),
        (TensorType::Q4_K, 130, 1280, 1),
    ]);
    for (ty, rows, columns, tokens) in shapes {
        let (blocks, x) = (blocks(ty, rows, columns), numbers(5, tokens * columns));
        let matrix = Matrix::upload(&gpu, ty, rows, columns, &blocks).expect("it fits");
        let (bias, add) = (numbers(7, rows), numbers(9, tokens * rows));
        let found = product_of(&gpu, &matrix, &x, (tokens, 0), Some(&bias), Some(&add));
        let mut right = expected(ty, rows, columns, &blocks, &x, tokens);
        for (at, value) in right.iter_mut().enumerate() {
            *value += bias[at % rows] + add[at];
        }
        close(&format!("{ty} {rows} x {columns}, {tokens} tokens"), &found, &right, 1e-3);
    }
}

#[test]
fn bits_by_matrices_do_not_depend_on_neighbours() {
    let Some(gpu) = with_matrices() else { return };
    for ty in [TensorType::Q4_K, TensorType::F16] {
        let (rows, columns) = (21, 1280);
        let matrix = Matrix::upload(&gpu, ty, rows, columns, &blocks(ty, rows, columns)).expect("it fits");
        let x = numbers(11, 140 * columns);
        let whole = product_of(&gpu, &matrix, &x, (140, 0), None, None);
        for (start, tokens) in [(0, 1), (3, 1), (60, 33), (100, 40)] {
            let found = product_of(&gpu, &matrix, &x[start * columns..][..tokens * columns], (tokens, 0), None, None);
            assert!(found == whole[start * rows..][..tokens * rows], "{ty}: {tokens} tokens from {start}");
        }
        // Behind rows that lanes multiply, which keep their own bits.
        let lanes = product(&gpu, &matrix, &x[..9 * columns], 9, None, None);
        let mixed = product_of(&gpu, &matrix, &x[..50 * columns], (50, 9), None, None);
        assert!(mixed[..9 * rows] == lanes, "{ty}: lanes");
        assert!(mixed[9 * rows..] == whole[9 * rows..50 * rows], "{ty}: the others");
    }
}

#[test]
fn a_probe_finds_out_whether_matrices_are_of_use() {
    let Some(gpu) = with_matrices() else { return };
    let faster = satchel_gpu::measure::matrices_are_faster(&gpu).expect("they are tried");
    println!("{:?}, faster: {faster}", gpu.matrices());
    let without = opened(false).expect("it is there");
    assert!(without.offers_matrices() && without.matrices().is_none());
    assert!(!satchel_gpu::measure::matrices_are_faster(&without).expect("there are none"));
}
