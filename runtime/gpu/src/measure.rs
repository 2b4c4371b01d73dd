//! What a probe asks of a GPU before it is used: is a product right, and how fast are weights read.

use std::time::{Duration, Instant};

use satchel_gguf::TensorType;

use crate::call::{Call, Extent, Product, Words};
use crate::{Gpu, GpuError, Grid, Kernel, Matrix};

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The largest difference from the right result, relative to it.
    pub error: f32,
    /// Bytes of weights per second, in products.
    pub bytes_per_second: f64,
}

/// Rows and columns of the matrix that is multiplied.
const COLUMNS: usize = 4096;
/// At least so long, so that clocks are up.
const LEAST: Duration = Duration::from_millis(150);

/// A product of a step of some tokens with a matrix of `rows` rows, in Q8_0 or plain, in F16.
struct Trial {
    calls: Vec<Call>,
    /// How many of them come before the product.
    before: usize,
    step: wgpu::Buffer,
    out: wgpu::Buffer,
    bytes: u64,
    rows: usize,
    of: Extent,
}

impl Trial {
    fn new(gpu: &Gpu, is_plain: bool, rows: usize, tokens: usize) -> Result<Self, GpuError> {
        let (ty, blocks) =
            if is_plain { (TensorType::F16, halves(rows)) } else { (TensorType::Q8_0, level_blocks(rows)) };
        let matrix = Matrix::upload(gpu, ty, rows, COLUMNS, &blocks)?;
        let step = gpu.buffer("a step", 64)?;
        // All rows are wanted.
        gpu.write(&step, 0, &header(tokens, tokens));
        let x = gpu.buffer("activations", 4 * (tokens * COLUMNS) as u64)?;
        let values: Vec<u8> = (0..tokens * COLUMNS).flat_map(|at| activation(at % COLUMNS).to_le_bytes()).collect();
        gpu.write(&x, 0, &values);
        let quantized = gpu.buffer("activations", 48 * (tokens * COLUMNS / 32) as u64)?;
        let out = gpu.buffer("a result", 4 * (tokens * rows) as u64)?;
        let mut calls = Vec::new();
        if !is_plain {
            let parameters = Words::default().flag(false).count(COLUMNS);
            let grid = Grid::Threads(COLUMNS / 4);
            calls.push(gpu.call(Kernel::Quantize, false, grid, &parameters, &step, &[&x], &[&quantized])?);
        }
        let product = Product {
            step: &step,
            x: if is_plain { &x } else { &quantized },
            bias: None,
            nothing: &x,
            out: &out,
            wanted_only: false,
            add: false,
            factor: 1.0,
            factor_covers_bias: false,
        };
        let before = calls.len();
        calls.extend(gpu.product(&matrix, &product)?);
        let of = Extent::rows(tokens, tokens);
        Ok(Self { calls, before, step, out, bytes: matrix.bytes(), rows, of })
    }

    /// Multiplies by cooperative matrices from now on.
    fn by_matrices(&mut self, gpu: &Gpu) {
        self.of.lanes = 0;
        gpu.write(&self.step, 0, &header(self.of.tokens, 0));
    }

    fn run(&self, gpu: &Gpu) -> Result<Vec<f32>, GpuError> {
        let bytes = gpu.run_step(self.calls.iter(), self.of, Some((&self.out, 4 * self.of.tokens * self.rows)))?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect())
    }

    /// Runs products one after the other, and reads the last.
    fn repeat(&self, gpu: &Gpu, times: usize) -> Result<Duration, GpuError> {
        let begun = Instant::now();
        let calls = self.calls.iter().chain((1..times).flat_map(|_| &self.calls[self.before..]));
        gpu.run_step(calls, self.of, Some((&self.out, 4)))?;
        Ok(begun.elapsed())
    }
}

/// The header of `Step` in `shaders/common.wgsl`, as far as products read it.
fn header(tokens: usize, lanes: usize) -> Vec<u8> {
    let words = [tokens, tokens, 0, 0, 0, 0, 0, 0, lanes];
    words.into_iter().flat_map(|word| (word as u32).to_le_bytes()).collect()
}

/// Level of a weight.
fn level(row: usize, column: usize) -> i8 {
    ((row * 31 + column * 17) % 255) as i8
}

/// Eighths up to 127: int8 holds them, so that the result is known exactly.
fn activation(column: usize) -> f32 {
    if column.is_multiple_of(16) { 127.0 / 8.0 } else { ((column * 29 % 255) as f32 - 127.0) / 8.0 }
}

fn level_blocks(rows: usize) -> Vec<u8> {
    let mut blocks = Vec::with_capacity(rows * COLUMNS / 32 * 34);
    for row in 0..rows {
        for group in 0..COLUMNS / 32 {
            blocks.extend(half::f16::from_f32(0.5).to_le_bytes());
            blocks.extend((0..32).map(|column| level(row, 32 * group + column) as u8));
        }
    }
    blocks
}

fn halves(rows: usize) -> Vec<u8> {
    let weights = (0..rows).flat_map(|row| (0..COLUMNS).map(move |column| 0.5 * f32::from(level(row, column))));
    weights.flat_map(|weight| half::f16::from_f32(weight).to_le_bytes()).collect()
}

/// Checks a product and measures how fast weights are read; up to about half a second, more on slow devices.
///
/// # Errors
/// If the GPU fails.
pub fn measure(gpu: &Gpu) -> Result<Measured, GpuError> {
    let small = Trial::new(gpu, false, 37, 1)?;
    let mut error = 0.0f32;
    for (row, found) in small.run(gpu)?.into_iter().enumerate() {
        let products = (0..COLUMNS).map(|column| f64::from(level(row, column)) * f64::from(activation(column)) * 0.5);
        let right = products.clone().sum::<f64>();
        let size = products.map(f64::abs).sum::<f64>();
        error = error.max(((f64::from(found) - right).abs() / size) as f32);
        if !found.is_finite() {
            error = f32::INFINITY;
        }
    }
    // Larger than a GPU's caches where the first products say that this does not take too long.
    let trial = Trial::new(gpu, false, 2048, 1)?;
    trial.repeat(gpu, 1)?;
    let once = trial.repeat(gpu, 2)?;
    let trial = if once < Duration::from_millis(20) { Trial::new(gpu, false, 32_768, 1)? } else { trial };
    trial.repeat(gpu, 1)?;
    let (mut times, mut took) = (2, Duration::ZERO);
    while took < LEAST && times < 1 << 12 {
        times *= 2;
        took = trial.repeat(gpu, times)?;
    }
    Ok(Measured { error, bytes_per_second: trial.bytes as f64 * times as f64 / took.as_secs_f64() })
}

/// Whether cooperative matrices multiply a prompt as tiles do, up to the order of sums, and in less time. Drivers that offer them may
/// crash here.
///
/// # Errors
/// If the GPU fails.
pub fn matrices_are_faster(gpu: &Gpu) -> Result<bool, GpuError> {
    /// What tiles may take at least, relative to matrices: less is not worth other bits.
    const GAIN: f64 = 1.2;
    if gpu.matrices().is_none() {
        return Ok(false);
    }
    for (is_plain, tokens) in [(false, 512), (false, 20), (true, 20)] {
        let mut trial = Trial::new(gpu, is_plain, 512, tokens)?;
        let right = trial.run(gpu)?;
        let by_tiles = fastest_of(gpu, &trial)?;
        trial.by_matrices(gpu);
        let found = trial.run(gpu)?;
        let size = right.iter().fold(0.0f32, |size, value| size.max(value.abs()));
        // Levels and scales of these are f16 as they are, so only the order of sums differs. NaN is not close.
        if !right.iter().zip(&found).all(|(right, found)| (right - found).abs() <= 1e-3 * size) {
            return Ok(false);
        }
        if tokens == 512 && by_tiles.as_secs_f64() < GAIN * fastest_of(gpu, &trial)?.as_secs_f64() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The least time of some runs.
fn fastest_of(gpu: &Gpu, trial: &Trial) -> Result<Duration, GpuError> {
    // The first compiles, and brings clocks up.
    trial.repeat(gpu, 1)?;
    let times = (0..3).map(|_| trial.repeat(gpu, 2)).collect::<Result<Vec<_>, _>>()?;
    Ok(times.into_iter().min().unwrap_or_default())
}

/// Chooses from how many tokens on products with block types, or plain ones, have a prompt's shape, by trying both; once for a GPU.
/// All shapes give the same bits, so what is chosen shows in nothing but time.
///
/// # Errors
/// If the GPU fails.
pub fn choose_shapes(gpu: &Gpu, is_plain: bool) -> Result<(), GpuError> {
    /// Numbers of tokens that are tried: whole tiles are worth it last of all where those who share one wait for each other.
    const TRIED: [usize; 3] = [12, 24, 48];
    if !gpu.choice.begin(is_plain) {
        return Ok(());
    }
    let fastest = |trial: &Trial, tile_from: usize| -> Result<Duration, GpuError> {
        gpu.choice.tile_from(is_plain, tile_from);
        fastest_of(gpu, trial)
    };
    let mut chosen = usize::MAX;
    for tokens in TRIED {
        let trial = Trial::new(gpu, is_plain, 512, tokens)?;
        if fastest(&trial, 1)? < fastest(&trial, usize::MAX)? {
            chosen = tokens;
            break;
        }
    }
    gpu.choice.tile_from(is_plain, chosen);
    Ok(())
}
