//! The most likely tokens of rows of logits, so that a few bytes are read back instead of a vocabulary.
//!
//! The one idea: the GPU compares and computes nothing. It gives the first tokens of a row by likelihood, and the logits of single
//! tokens that are asked for; what those become by penalties, and the draw, is the caller's, in its own arithmetic.

use crate::call::{Call, Grid, Words};
use crate::kernel::{BLOCK, KEEPS, PickKernel};
use crate::{Gpu, GpuError, Kernel};

/// Single logits that a row may ask for.
pub const MOST_VALUES: usize = 256;

/// The most candidates of a row.
pub const MOST_CANDIDATES: usize = KEEPS[KEEPS.len() - 1] as usize;

/// What is asked of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// The tokens that take part, a bit each, lowest first; `None`: all.
    pub mask: Option<Vec<u32>>,
    /// Tokens whose logits are wanted.
    pub values: Vec<u32>,
}

/// What was found of a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Tokens and their logits, most likely first; none of negative infinity.
    pub candidates: Vec<(u32, f32)>,
    /// The logits that were asked for.
    pub values: Vec<f32>,
}

/// Calls behind those that compute logits, and their memory.
pub struct Picking {
    columns: usize,
    rows: usize,
    keep: u32,
    asks: wgpu::Buffer,
    found: wgpu::Buffer,
    calls: Vec<Call>,
}

impl Picking {
    /// Prepares to pick `candidates` of each of up to `rows` rows, all wanted ones, of a buffer of logits.
    ///
    /// # Errors
    /// If memory is out.
    ///
    /// # Panics
    /// If that is more than [`MOST_CANDIDATES`].
    pub fn new(
        gpu: &Gpu,
        step: &wgpu::Buffer,
        logits: &wgpu::Buffer,
        columns: usize,
        rows: usize,
        candidates: usize,
    ) -> Result<Self, GpuError> {
        let keep = KEEPS.into_iter().find(|keep| candidates <= *keep as usize).expect("not more than the most");
        let asks = gpu.buffer("what is asked of logits", 4 * ask_words(columns, rows) as u64)?;
        let found_bytes = rows * (8 * keep as usize + 4 * MOST_VALUES);
        let found = gpu.buffer("what was found in logits", found_bytes as u64)?;
        let mut blocks = columns.div_ceil(BLOCK);
        let list = |blocks: usize| gpu.buffer("what was found in logits", (8 * rows * blocks * keep as usize) as u64);
        let mut from = (blocks > 1).then(|| list(blocks)).transpose()?;
        let words = Words::default().count(columns).count(blocks);
        let kernel = Kernel::Pick(PickKernel::Logits { keep });
        let (grid, to) = (Grid::Workgroups(blocks), from.as_ref().unwrap_or(&found));
        let mut calls = vec![gpu.call(kernel, true, grid, &words, step, &[logits, &asks], &[to])?];
        while let Some(lists) = from {
            let candidates = blocks * keep as usize;
            blocks = candidates.div_ceil(BLOCK);
            let next = (blocks > 1).then(|| list(blocks)).transpose()?;
            let words = Words::default().count(candidates).count(blocks);
            let kernel = Kernel::Pick(PickKernel::Lists { keep });
            let (grid, to) = (Grid::Workgroups(blocks), next.as_ref().unwrap_or(&found));
            calls.push(gpu.call(kernel, true, grid, &words, step, &[&lists], &[to])?);
            from = next;
        }
        let words = Words::default().count(values_at(columns, rows));
        let (kernel, grid) = (Kernel::Pick(PickKernel::Gather), Grid::Threads(MOST_VALUES));
        calls.push(gpu.call(kernel, true, grid, &words, step, &[logits, &asks], &[&found])?);
        Ok(Self { columns, rows, keep, asks, found, calls })
    }

    /// Whether so many rows and candidates fit.
    pub fn fits(&self, rows: usize, candidates: usize) -> bool {
        // One token needs no sort: it has calls of its own.
        rows <= self.rows && candidates <= self.keep as usize && (candidates > 1 || self.keep == 1)
    }

    /// Says what is asked of each row; returns the calls, the buffer to read, and how many of its bytes.
    ///
    /// # Panics
    /// If a row asks for more than [`MOST_VALUES`].
    pub fn ask(&self, gpu: &Gpu, asks: &[Ask]) -> (impl Iterator<Item = &Call>, &wgpu::Buffer, usize) {
        let values: usize = asks.iter().map(|ask| ask.values.len()).sum();
        assert!(asks.iter().all(|ask| ask.values.len() <= MOST_VALUES), "{values} single logits");
        let (listed, mask_words) = (2 * asks.len() * self.keep as usize, self.columns.div_ceil(32));
        let mut words = vec![values as u32, listed as u32];
        let (masks_at, mut masks) = (2 + self.rows, Vec::new());
        for ask in asks {
            words.push(ask.mask.as_ref().map_or(u32::MAX, |_| (masks_at + masks.len()) as u32));
            if let Some(mask) = &ask.mask {
                // Tokens beyond a mask do not take part.
                let end = masks.len() + mask_words;
                masks.extend(mask.iter().take(mask_words));
                masks.resize(end, 0);
            }
        }
        gpu.write(&self.asks, 0, &bytes(&words));
        gpu.write(&self.asks, 4 * masks_at as u64, &bytes(&masks));
        let places = asks.iter().enumerate();
        let places = places.flat_map(|(row, ask)| ask.values.iter().map(move |token| (row, *token as usize)));
        let places: Vec<u32> = places.map(|(row, token)| (row * self.columns + token) as u32).collect();
        gpu.write(&self.asks, 4 * values_at(self.columns, self.rows) as u64, &bytes(&places));
        // Without single logits the last call has nothing to do.
        let calls = &self.calls[..self.calls.len() - usize::from(values == 0)];
        (calls.iter(), &self.found, 4 * (listed + values))
    }

    /// What was found, of bytes that were read: up to `counts` candidates a row. `None`: there is a logit that is no finite number.
    pub fn found(&self, bytes: &[u8], asks: &[Ask], counts: &[usize]) -> Option<Vec<Found>> {
        let words: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let (listed, mut values) = words.split_at(2 * asks.len() * self.keep as usize);
        let rows = listed.chunks_exact(2 * self.keep as usize).zip(asks).zip(counts);
        let rows = rows.map(|((row, ask), count)| {
            let own;
            (own, values) = values.split_at(ask.values.len());
            let candidates = row.as_chunks::<2>().0.iter().map(|[key, token]| (*token, logit_of(*key)));
            let some = candidates.take(*count).take_while(|(_, logit)| *logit != f32::NEG_INFINITY);
            Found { candidates: some.collect(), values: own.iter().map(|bits| f32::from_bits(*bits)).collect() }
        });
        let rows: Vec<Found> = rows.collect();
        let finite = |row: &Found| row.candidates.first().is_none_or(|(_, logit)| *logit < f32::INFINITY);
        rows.iter().all(finite).then_some(rows)
    }

    /// Copies the most likely token of each of so many rows, where one is picked of each.
    ///
    /// # Panics
    /// If more than one is.
    pub fn copy_tokens(&self, gpu: &Gpu, to: &wgpu::Buffer, rows: usize) {
        assert_eq!(self.keep, 1, "one token of each row");
        let copies: Vec<_> = (0..rows as u64).map(|row| (&self.found, 8 * row + 4, to, 4 * row, 4)).collect();
        gpu.copy(&copies);
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> u64 {
        self.asks.size() + self.found.size()
    }
}

/// The logit of a key of `pick_logits.wgsl`; that of none is negative infinity.
fn logit_of(key: u32) -> f32 {
    match key {
        0 => f32::NEG_INFINITY,
        0x8000_0000.. => f32::from_bits(key & 0x7fff_ffff),
        _ => f32::from_bits(!key),
    }
}

/// Where in `asks` the places of single logits begin, behind the masks of all rows.
fn values_at(columns: usize, rows: usize) -> usize {
    2 + rows * (1 + columns.div_ceil(32))
}

fn ask_words(columns: usize, rows: usize) -> usize {
    values_at(columns, rows) + rows * MOST_VALUES
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
