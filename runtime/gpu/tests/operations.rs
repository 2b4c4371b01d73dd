//! Operations on a software adapter (llvmpipe, of Debian's mesa-vulkan-drivers) against the CPU's scalar kernels, at sizes that
//! fill no workgroup. A short set; with `SATCHEL_TEST_GPU=all` more sizes, and with `SATCHEL_TEST_GPU_NAME` on another adapter.
#![allow(missing_docs)]

use std::io::Write;

use satchel_compute::kernels::elementwise::{self, NormKind};
use satchel_compute::kernels::matmul::{self, Activations, Matrix as CpuMatrix};
use satchel_compute::kernels::threads::Threads;
use satchel_compute::kernels::{self, Kernels};
use satchel_compute::quant::random::RandomWeights;
use satchel_compute::quant::{SUPPORTED, dequantize_row};
use satchel_gguf::TensorType;
use satchel_gpu::call::{Product, Words};
use satchel_gpu::{Embedding, Extent, Form, Function, Gpu, GpuError, Grid, Kernel, Matrix, Norm};

#[path = "operations/experts.rs"]
mod experts;
#[path = "operations/matrices.rs"]
mod matrices;
#[path = "operations/picking.rs"]
mod picking;
#[path = "operations/recurrent.rs"]
mod recurrent;

/// The adapter under test; without it the tests are skipped, which CI does not allow.
fn gpu() -> Option<Gpu> {
    opened(false)
}

fn opened(matrices: bool) -> Option<Gpu> {
    let name = std::env::var("SATCHEL_TEST_GPU_NAME").unwrap_or_else(|_| "llvmpipe".to_owned());
    match Gpu::open_named(&name, matrices) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "GPU tests cannot be skipped in CI: {error}");
            let line =
                format!("SKIPPED operations on a GPU: {error}; apt-get install mesa-vulkan-drivers has llvmpipe\n");
            std::io::stderr().write_all(line.as_bytes()).expect("stderr can be written");
            None
        }
    }
}

fn everything() -> bool {
    std::env::var("SATCHEL_TEST_GPU").is_ok_and(|set| set == "all")
}

fn scalar() -> &'static Kernels {
    kernels::by_name("scalar").expect("scalar runs everywhere")
}

/// Numbers around 0, the same in every run, a few of them large.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let numbers = (0..count).map(|at| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = (state >> 40) as f32 / 8_388_608.0 - 1.0;
        if at % 97 == 13 { 20.0 * number } else { number }
    });
    numbers.collect()
}

/// A matrix of random blocks.
fn blocks(ty: TensorType, rows: usize, columns: usize) -> Vec<u8> {
    let row_bytes = ty.row_bytes(columns as u64).expect("whole blocks") as usize;
    let mut blocks = vec![0; rows * row_bytes];
    RandomWeights::new(ty, 0.1, 3).fill(&mut blocks);
    blocks
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

/// A step's buffer: rows, wanted rows, and what follows the header. Lanes or tiles multiply all rows.
fn step(gpu: &Gpu, header: [u32; 8], data: &[u32]) -> satchel_gpu::Buffer {
    step_of(gpu, header, header[0], data)
}

/// The same, in which they multiply the first `lanes`.
fn step_of(gpu: &Gpu, header: [u32; 8], lanes: u32, data: &[u32]) -> satchel_gpu::Buffer {
    let words: Vec<u8> = header.iter().chain([&lanes]).chain(data).flat_map(|word| word.to_le_bytes()).collect();
    let buffer = gpu.buffer("a step", words.len() as u64).expect("memory");
    gpu.write(&buffer, 0, &words);
    buffer
}

fn rows_only(gpu: &Gpu, tokens: usize) -> satchel_gpu::Buffer {
    step(gpu, [tokens as u32, tokens as u32, 0, 0, 0, 0, 0, 0], &[0; 4])
}

fn filled(gpu: &Gpu, values: &[f32]) -> satchel_gpu::Buffer {
    let buffer = gpu.buffer("values", 4 * values.len() as u64).expect("memory");
    gpu.write(&buffer, 0, &bytes(values));
    buffer
}

/// Asserts that results differ by no more than `most` of the largest.
fn close(what: &str, found: &[f32], expected: &[f32], most: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(0.0f32, |size, value| size.max(value.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(error <= most * size, "{what}, element {at}: {found} instead of {expected}");
    }
}

/// A product on the GPU: `x (tokens, columns)` with a matrix that is there.
fn product(
    gpu: &Gpu,
    matrix: &Matrix,
    x: &[f32],
    tokens: usize,
    bias: Option<&[f32]>,
    add: Option<&[f32]>,
) -> Vec<f32> {
    product_of(gpu, matrix, x, (tokens, tokens), bias, add)
}

/// The same with lanes or tiles for the first `lanes` tokens, and cooperative matrices for the others.
fn product_of(
    gpu: &Gpu,
    matrix: &Matrix,
    x: &[f32],
    (tokens, lanes): (usize, usize),
    bias: Option<&[f32]>,
    add: Option<&[f32]>,
) -> Vec<f32> {
    let rows = tokens as u32;
    let (step, x) = (step_of(gpu, [rows, rows, 0, 0, 0, 0, 0, 0], lanes as u32, &[0; 4]), filled(gpu, x));
    let quantized = gpu.buffer("activations", (48 * tokens * matrix.columns.div_ceil(32)) as u64).expect("memory");
    let out = filled(gpu, add.unwrap_or(&vec![7.0; tokens * matrix.rows]));
    let bias = bias.map(|bias| filled(gpu, bias));
    let mut calls = Vec::new();
    if !matrix.form.is_plain() {
        let (grid, parameters) =
            (Grid::Threads(matrix.columns / 4), Words::default().flag(false).count(matrix.columns));
        calls.push(gpu.call(Kernel::Quantize, false, grid, &parameters, &step, &[&x], &[&quantized]).expect("a call"));
    }
    let of = Product {
        step: &step,
        x: if matrix.form.is_plain() { &x } else { &quantized },
        bias: bias.as_ref(),
        nothing: &x,
        out: &out,
        wanted_only: false,
        add: add.is_some(),
        factor: 1.0,
        factor_covers_bias: false,
    };
    calls.extend(gpu.product(matrix, &of).expect("a product"));
    let count = tokens * matrix.rows;
    let extent = Extent { lanes, ..Extent::rows(tokens, tokens) };
    floats(&gpu.run_step(calls.iter(), extent, Some((&out, 4 * count))).expect("it runs"))
}

/// The same on the CPU.
fn expected(ty: TensorType, rows: usize, columns: usize, blocks: &[u8], x: &[f32], tokens: usize) -> Vec<f32> {
    let threads = Threads::new(1);
    let mut activations = Activations::new();
    activations.set(scalar(), &threads, x, tokens, columns, &[ty]);
    let mut out = vec![0.0; tokens * rows];
    let weight = CpuMatrix { ty, rows, columns, bytes: blocks };
    let product = matmul::Product { weight, out: &mut out, add: false, bias: None };
    matmul::matmul(scalar(), &threads, &mut [product], &activations);
    out
}

#[test]
fn products_of_every_block_type_are_the_scalar_kernels() {
    let Some(gpu) = gpu() else { return };
    let mut converted = Vec::new();
    for ty in SUPPORTED {
        let plain = Form::of(ty).is_plain();
        let block = ty.block_elements().max(32);
        let mut shapes = vec![(37, block, 3)];
        if plain {
            shapes = vec![(37, 99, 3)];
        }
        if everything() {
            shapes.extend([(5, 3 * block, 1), (130, 4 * 256, 9), (67, 2560, 8), (3, 2 * block, 17)]);
        }
        if Form::of(ty) == Form::Wide {
            converted.push(ty.name());
        }
        for (rows, columns, tokens) in shapes {
            let blocks = blocks(ty, rows, columns);
            let x = numbers(5, tokens * columns);
            let matrix = Matrix::upload(&gpu, ty, rows, columns, &blocks).expect("it fits");
            let found = product(&gpu, &matrix, &x, tokens, None, None);
            let right = expected(ty, rows, columns, &blocks, &x, tokens);
            close(&format!("{ty} {rows} x {columns}, {tokens} tokens"), &found, &right, 2e-5);
        }
    }
    assert_eq!(
        converted.join(" "),
        "IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S TQ1_0 TQ2_0 NVFP4",
        "these are kept in levels of a byte"
    );
}

#[test]
fn rows_of_tables_of_every_block_type_are_the_scalar_readers() {
    let Some(gpu) = gpu() else { return };
    for ty in SUPPORTED {
        let columns = if Form::of(ty).is_plain() { 99 } else { 2 * ty.block_elements().max(32) };
        let (rows, tokens) = (9, [3u32, 8, u32::MAX, 0, 3]);
        let blocks = blocks(ty, rows, columns);
        let table = Matrix::upload(&gpu, ty, rows, columns, &blocks).expect("it fits");
        let (step, out) = (rows_only(&gpu, tokens.len()), filled(&gpu, &vec![7.0; tokens.len() * columns]));
        let asked = gpu.buffer("tokens", 64).expect("memory");
        gpu.write(&asked, 0, &tokens.iter().flat_map(|token| token.to_le_bytes()).collect::<Vec<u8>>());
        let of = Embedding { step: &step, tokens: &asked, scale: 0.5, out: &out };
        let calls = gpu.embed(&table, &of).expect("calls");
        let read = gpu.run(calls.iter(), tokens.len(), 0, Some((&out, 4 * tokens.len() * columns))).expect("it runs");
        let row = |token: u32| {
            let mut row = vec![14.0; columns];
            let bytes = blocks.len() / rows;
            if let Some(blocks) = blocks.chunks_exact(bytes).nth(token as usize) {
                dequantize_row(ty, blocks, &mut row);
            }
            row.into_iter().map(|value| 0.5 * value)
        };
        let right: Vec<f32> = tokens.into_iter().flat_map(row).collect();
        close(&format!("{ty}"), &floats(&read), &right, 1e-6);
    }
}

#[test]
fn a_products_bits_do_not_depend_on_the_number_of_tokens() {
    let Some(gpu) = gpu() else { return };
    let mut types = vec![TensorType::Q4_1, TensorType::Q6_K, TensorType::F16];
    if everything() {
        types = SUPPORTED.to_vec();
    }
    let shapes = types.into_iter().map(|ty| (ty, 1280)).chain([(TensorType::F16, 597), (TensorType::F32, 37)]);
    for (ty, columns) in shapes {
        let rows = 21;
        let blocks = blocks(ty, rows, columns);
        let matrix = Matrix::upload(&gpu, ty, rows, columns, &blocks).expect("it fits");
        let x = numbers(11, 13 * columns);
        let one: Vec<f32> = x.chunks_exact(columns).flat_map(|x| product(&gpu, &matrix, x, 1, None, None)).collect();
        for tokens in [2, 3, 7, 13] {
            let found = product(&gpu, &matrix, &x[..tokens * columns], tokens, None, None);
            assert!(found == one[..tokens * rows], "{ty}: {tokens} tokens together");
        }
        // In the shape that prompts have.
        gpu.tile_from(1);
        let tile = product(&gpu, &matrix, &x, 13, None, None);
        gpu.tile_from(1000);
        assert!(tile == one, "{ty}: a tile");
    }
}

#[test]
fn tiles_are_the_scalar_kernels() {
    let Some(gpu) = gpu() else { return };
    gpu.tile_from(1);
    let (rows, tokens) = (67, 70);
    let types = [TensorType::Q8_0, TensorType::Q4_K, TensorType::Q6_K, TensorType::Q2_K, TensorType::F16];
    let shapes = types.map(|ty| (ty, 1280)).into_iter().chain([(TensorType::F32, 99), (TensorType::BF16, 601)]);
    for (ty, columns) in shapes {
        let (blocks, x) = (blocks(ty, rows, columns), numbers(5, tokens * columns));
        let matrix = Matrix::upload(&gpu, ty, rows, columns, &blocks).expect("it fits");
        let found = product(&gpu, &matrix, &x, tokens, None, None);
        close(&format!("{ty} in tiles"), &found, &expected(ty, rows, columns, &blocks, &x, tokens), 2e-5);
    }
}

#[test]
fn products_together_give_the_bits_of_each_alone() {
    let Some(gpu) = gpu() else { return };
    let (types, rows) = ([TensorType::Q4_K, TensorType::Q4_K, TensorType::Q6_K, TensorType::F16], [70, 9, 33, 5]);
    for (columns, tokens) in [(512, 1), (512, 19)] {
        let (step, x) = (rows_only(&gpu, tokens), numbers(5, tokens * columns));
        let matrices: Vec<Matrix> = types
            .iter()
            .zip(rows)
            .map(|(ty, rows)| Matrix::upload(&gpu, *ty, rows, columns, &blocks(*ty, rows, columns)).expect("it fits"))
            .collect();
        let activations = filled(&gpu, &x);
        let quantized = gpu.buffer("activations", (48 * tokens * columns / 32) as u64).expect("memory");
        let words = Words::default().flag(false).count(columns);
        let (grid, reads) = (Grid::Threads(columns / 4), [&activations]);
        let mut calls =
            vec![gpu.call(Kernel::Quantize, false, grid, &words, &step, &reads, &[&quantized]).expect("a call")];
        let outs: Vec<_> = rows.iter().map(|rows| filled(&gpu, &vec![7.0; tokens * rows])).collect();
        let of: Vec<_> = matrices
            .iter()
            .zip(&outs)
            .map(|(matrix, out)| Product {
                step: &step,
                x: if matrix.form.is_plain() { &activations } else { &quantized },
                bias: None,
                nothing: &activations,
                out,
                wanted_only: false,
                add: false,
                factor: 1.0,
                factor_covers_bias: false,
            })
            .collect();
        calls.extend(gpu.products(&matrices.iter().zip(&of).collect::<Vec<_>>()).expect("products"));
        assert_eq!(calls.len(), 3, "activations, block types, plain ones");
        for ((matrix, out), rows) in matrices.iter().zip(&outs).zip(rows) {
            let together =
                floats(&gpu.run(calls.iter(), tokens, tokens, Some((out, 4 * tokens * rows))).expect("it runs"));
            assert!(together == product(&gpu, matrix, &x, tokens, None, None), "{:?} of {tokens} tokens", matrix.form);
        }
    }
}

#[test]
fn a_product_adds_bias_and_what_is_there() {
    let Some(gpu) = gpu() else { return };
    let (ty, rows, columns, tokens) = (TensorType::Q8_0, 11, 96, 2);
    let blocks = blocks(ty, rows, columns);
    let matrix = Matrix::upload(&gpu, ty, rows, columns, &blocks).expect("it fits");
    let (x, bias, before) = (numbers(1, tokens * columns), numbers(2, rows), numbers(3, tokens * rows));
    let plain = product(&gpu, &matrix, &x, tokens, None, None);
    let found = product(&gpu, &matrix, &x, tokens, Some(&bias), Some(&before));
    let right: Vec<f32> = plain.iter().zip(&before).enumerate().map(|(at, (x, y))| x + bias[at % rows] + y).collect();
    close("bias and sum", &found, &right, 1e-6);
}

#[test]
fn a_matrix_larger_than_a_buffer_is_split_and_gives_the_same_bits() {
    let Some(mut gpu) = gpu() else { return };
    let (ty, rows, columns, tokens) = (TensorType::Q4_K, 93, 512, 3);
    let blocks = blocks(ty, rows, columns);
    let x = numbers(4, tokens * columns);
    let upload = |gpu: &Gpu| Matrix::upload(gpu, ty, rows, columns, &blocks).expect("it fits");
    let whole = product(&gpu, &upload(&gpu), &x, tokens, None, None);
    // 40 rows of two blocks.
    gpu.limit_buffers(40 * 2 * 144);
    let split = upload(&gpu);
    assert_eq!(split.parts.iter().map(|part| part.rows).collect::<Vec<_>>(), [40, 40, 13]);
    assert!(product(&gpu, &split, &x, tokens, None, None) == whole);
    gpu.limit_buffers(100);
    assert!(matches!(Matrix::upload(&gpu, ty, rows, columns, &blocks), Err(GpuError::Unusable(_))));
    assert!(matches!(gpu.buffer("a test", 1 << 20), Err(GpuError::NoMemory { bytes: 1_048_576, .. })));
}

/// Runs a call over buffers and reads the last.
fn run(gpu: &Gpu, kernel: Kernel, grid: Grid, words: &Words, tokens: usize, reads: &[&[f32]], out: &[f32]) -> Vec<f32> {
    let step = rows_only(gpu, tokens);
    let buffers: Vec<_> = reads.iter().map(|values| filled(gpu, values)).collect();
    let target = filled(gpu, out);
    let reads: Vec<_> = buffers.iter().collect();
    let call = gpu.call(kernel, false, grid, words, &step, &reads, &[&target]).expect("a call");
    floats(&gpu.run([&call].into_iter(), tokens, tokens, Some((&target, 4 * out.len()))).expect("it runs"))
}

#[test]
fn norms_are_the_scalar_kernels() {
    let Some(gpu) = gpu() else { return };
    let (tokens, columns) = (3, 150);
    let x = numbers(1, tokens * columns);
    for (kind, own) in [(NormKind::Rms, Norm::Rms), (NormKind::Layer, Norm::Layer), (NormKind::L2, Norm::L2)] {
        for width in [150, 50] {
            let affine = kind != NormKind::L2;
            let (weight, bias) = (numbers(2, width), numbers(3, width));
            let norm = elementwise::Norm {
                kind,
                width,
                weight: affine.then_some(&weight[..]),
                bias: (kind == NormKind::Layer).then_some(&bias[..]),
                eps: 1e-5,
            };
            let mut right = vec![0.0; x.len()];
            elementwise::norm(scalar(), &Threads::new(1), &norm, &x, &mut right);
            let words = Words::default()
                .flag(false)
                .count(columns)
                .count(width)
                .count(if affine { width } else { 0 })
                .count(if norm.bias.is_some() { width } else { 0 })
                .number(1e-5);
            let grid = Grid::Workgroups(columns / width);
            let found = run(&gpu, Kernel::Norm(own), grid, &words, tokens, &[&x, &weight, &bias], &right.clone());
            close(&format!("{own:?} of {width}"), &found, &right, 1e-6);
        }
    }
}

#[test]
fn activations_and_gates_are_the_scalar_kernels() {
    let Some(gpu) = gpu() else { return };
    let (tokens, columns) = (2, 77);
    let (x, up) = (numbers(1, tokens * columns), numbers(2, tokens * columns));
    let (words, threads) = (Words::default().flag(false).count(columns), Threads::new(1));
    for activation in Function::ALL {
        let mut right = vec![0.0; x.len()];
        elementwise::activate(scalar(), &threads, activation, &x, &mut right);
        let kernel = Kernel::Activate(Function::of(activation));
        let found = run(&gpu, kernel, Grid::Threads(columns), &words, tokens, &[&x], &vec![9.0; x.len()]);
        close(&format!("{activation:?}"), &found, &right, 2e-6);
        elementwise::gate(scalar(), &threads, activation, &x, &up, &mut right);
        let kernel = Kernel::Gate(Function::of(activation));
        let found = run(&gpu, kernel, Grid::Threads(columns), &words, tokens, &[&x, &up], &vec![9.0; x.len()]);
        close(&format!("gate {activation:?}"), &found, &right, 2e-6);
    }
}

#[test]
fn the_rest_is_what_their_comments_say() {
    let Some(gpu) = gpu() else { return };
    let (tokens, columns) = (3, 42);
    let (x, y, row) = (numbers(1, tokens * columns), numbers(2, tokens * columns), numbers(3, columns));
    let words = || Words::default().flag(false).count(columns);
    let each = Grid::Threads(columns);
    let zip = |f: &dyn Fn(usize) -> f32| (0..x.len()).map(f).collect::<Vec<f32>>();
    let found = run(&gpu, Kernel::Add, each, &words(), tokens, &[&x], &y);
    assert_eq!(found, zip(&|at| y[at] + x[at]));
    let found = run(&gpu, Kernel::Bias, each, &words(), tokens, &[&row], &y);
    assert_eq!(found, zip(&|at| y[at] + row[at % columns]));
    let found = run(&gpu, Kernel::MultiplyVector, each, &words().count(1), tokens, &[&row], &y);
    assert_eq!(found, zip(&|at| y[at] * row[at % columns]));
    let found = run(&gpu, Kernel::Multiply, each, &words().count(14), tokens, &[&x], &y);
    assert_eq!(found, zip(&|at| y[at] * x[at / 14]));
    let found = run(&gpu, Kernel::Scale, each, &words().number(0.75), tokens, &[], &y);
    assert_eq!(found, zip(&|at| y[at] * 0.75));
    let found = run(&gpu, Kernel::Softcap, each, &words().number(5.0), tokens, &[], &y);
    close("softcap", &found, &zip(&|at| 5.0 * (y[at] / 5.0).tanh()), 1e-6);
    let found = run(&gpu, Kernel::DivideVector, each, &words(), tokens, &[&row], &y);
    close("division", &found, &zip(&|at| y[at] / row[at % columns]), 1e-6);
    let found = run(&gpu, Kernel::Clamp, each, &words().number(0.25), tokens, &[], &y);
    assert_eq!(found, zip(&|at| y[at].clamp(-0.25, 0.25)));
    let parts = Words::default().flag(false).count(15).count(4).count(5).count(14);
    let found = run(&gpu, Kernel::Split, Grid::Threads(15), &parts, tokens, &[&x], &[0.0; 45]);
    let right: Vec<f32> = x.chunks_exact(14).flat_map(|part| part[4..9].to_vec()).collect();
    assert_eq!(found, right);
}

#[test]
fn heads_are_joined_with_parts_of_their_own_or_one_of_all() {
    let Some(gpu) = gpu() else { return };
    let (tokens, heads, x_width, y_width) = (2, 3, 5, 4);
    let x = numbers(1, tokens * heads * x_width);
    for shared in [false, true] {
        let y = numbers(2, tokens * y_width * if shared { 1 } else { heads });
        let columns = heads * (x_width + y_width);
        let words = Words::default().flag(false).count(columns).count(heads).count(x_width).count(y_width).flag(shared);
        let nothing = vec![9.0; tokens * columns];
        let found = run(&gpu, Kernel::Join, Grid::Threads(columns), &words, tokens, &[&x, &y], &nothing);
        let heads_of = (0..tokens * heads).flat_map(|head| {
            let part = if shared { head / heads } else { head };
            [&x[head * x_width..(head + 1) * x_width], &y[part * y_width..(part + 1) * y_width]].concat()
        });
        assert_eq!(found, heads_of.collect::<Vec<f32>>());
    }
}

#[test]
fn rows_are_scaled_by_their_position_and_cleared_without_their_adapter() {
    let Some(gpu) = gpu() else { return };
    let columns = 10;
    // Three rows of two sequences, of which the second uses adapter 33; the first and the last row are wanted.
    let data = [5, 9000, 4, 0, 1, 1, 0, 2, 0, 0, 0, 2];
    let step = step(&gpu, [3, 2, 0, 3, 6, 0, 2, 8], &data);
    let x = numbers(1, 3 * columns);
    let run = |kernel, wanted_only: bool, words: Words| {
        let target = filled(&gpu, &x);
        let call = gpu.call(kernel, wanted_only, Grid::Threads(columns), &words, &step, &[], &[&target]);
        let read = Some((&target, 4 * x.len()));
        floats(&gpu.run([&call.expect("a call")].into_iter(), 3, 2, read).expect("it runs"))
    };
    let words = Words::default().flag(false).count(columns);
    let found = run(Kernel::Temperature, false, words.clone().number(0.1).number(4096.0).number(1.0));
    let factor = |position: f32| 1.0 + 0.1 * ((position + 1.0) / 4096.0).floor().ln_1p();
    let right: Vec<f32> = (0..x.len()).map(|at| x[at] * factor(data[at / columns] as f32)).collect();
    close("temperature", &found, &right, 1e-6);
    let found = run(Kernel::Adapt, false, words.count(33).number(0.5));
    let right = (0..x.len()).map(|at| if at < columns { 0.0 } else { 0.5 * x[at] });
    assert_eq!(found, right.collect::<Vec<f32>>());
    let words = Words::default().flag(true).count(columns);
    let found = run(Kernel::Adapt, true, words.count(33).number(0.5));
    let right = (0..2 * columns).map(|at| if at < columns { 0.0 } else { 0.5 * x[at] });
    assert_eq!(found[..2 * columns], right.collect::<Vec<f32>>());
}

#[test]
fn a_lost_device_is_an_error() {
    let Some(gpu) = gpu() else { return };
    let (x, step) = (filled(&gpu, &[1.0; 64]), rows_only(&gpu, 1));
    let words = Words::default().flag(false).count(64).number(2.0);
    let call = gpu.call(Kernel::Scale, false, Grid::Threads(64), &words, &step, &[], &[&x]).expect("a call");
    gpu.run([&call].into_iter(), 1, 1, Some((&x, 4))).expect("it runs");
    gpu.destroy();
    let error = gpu.run([&call].into_iter(), 1, 1, Some((&x, 4))).expect_err("it is gone");
    println!("{error}");
}

#[test]
fn a_probe_finds_a_right_device_right() {
    let Some(gpu) = gpu() else { return };
    let measured = satchel_gpu::measure::measure(&gpu).expect("it runs");
    println!("{measured:?}");
    assert!(measured.error < 1e-6 && measured.bytes_per_second > 1e6, "{measured:?}");
}

#[test]
fn steps_are_one_pass_and_what_is_read_back_is_counted() {
    let Some(gpu) = gpu() else { return };
    let (x, step) = (filled(&gpu, &[1.0; 64]), rows_only(&gpu, 1));
    let words = Words::default().flag(false).count(64).number(2.0);
    let call = gpu.call(Kernel::Scale, false, Grid::Threads(64), &words, &step, &[], &[&x]).expect("a call");
    let before = gpu.counts();
    let found = floats(&gpu.run(std::iter::repeat_n(&call, 10), 1, 1, Some((&x, 8))).expect("it runs"));
    assert_eq!(found, [1024.0, 1024.0]);
    let after = gpu.counts();
    assert_eq!((after.dispatches - before.dispatches, after.passes - before.passes), (10, 1));
    assert_eq!(after.read_bytes - before.read_bytes, 8);
}
