//! Matrix products of GGUF weights, as mapped, with a batch of activations: shapes, chunks, and the form activations take.
//!
//! `out[token][row] = Σ_column weight[row][column] × x[token][column]`. Weights are never repacked for good. There are two families:
//!
//! - **Quantised weights** meet activations quantised to int8 in groups of 32 columns, with an f32 scale for the group and an integer
//!   multiplier for each half (`GroupFacts`). A group's product is an exact integer, so
//!   its lanes may be added in any order; the groups of a row are then added in f32, first to last, each as
//!   `sum = (scale_w × scale_x) × integer + sum` and, for types with an offset, `sum = offset_w × sum_x + sum`.
//!   Vector kernels put *rows* in the lanes of that f32 sum. With many tokens they unpack a strip of some 16 rows once, the columns
//!   four by four interleaved over the rows, into a scratch that stays in the first two caches, and run all tokens over it:
//!
//!   ```text
//!   mapped blocks, 16 rows        strip, one group of 32 columns              tile of 4 tokens
//!   row 0  [d m nibbles]…         rows 0-7        rows 8-15                  4 columns of a token, broadcast to all lanes,
//!   row 1  [d m nibbles]…   ->    c0-3 of each    c0-3 of each      ×        times a vector of 8 rows: 8 × 4 products
//!   …                             c4-7 …          c4-7 …                     at an instruction, no sum across lanes
//!   ```
//!
//!   With one token there is nothing to reuse: rows are read where they lie, and the integer sums turned into lanes.
//! - **F32, F16, BF16** meet f32 activations. Lanes are columns modulo the vector length, one vector a (row, token), summed once at
//!   the end in a fixed order; with many tokens a few rows are widened once and used for a block of tokens.
//!
//! Both give the same bits for one token and for many: that is the rule of `kernels`, and the tests here hold every table to it.

use std::ops::Range;

use satchel_gguf::TensorType;

use super::Kernels;
use super::threads::{Disjoint, Threads};
use crate::quant::GROUP;
pub use crate::quant::supports;

/// A weight matrix where the file system mapped it; no alignment is assumed.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// How the elements are stored.
    pub ty: TensorType,
    /// Outputs.
    pub rows: usize,
    /// Inputs, contiguous in memory.
    pub columns: usize,
    /// `rows` times the row's bytes.
    pub bytes: &'a [u8],
}

/// One matrix product of a batch that shares its activations.
pub struct Product<'a> {
    /// `(rows, columns)`.
    pub weight: Matrix<'a>,
    /// `(tokens, rows)`.
    pub out: &'a mut [f32],
    /// Add to `out` in place of overwriting it.
    pub add: bool,
    /// One value a row, added to every token's output.
    pub bias: Option<&'a [f32]>,
}

/// What a table gives for matrix products.
pub struct MatmulKernels {
    /// Quantises one token: `x` to as many groups of 32 as the slices hold.
    pub(crate) quantize: unsafe fn(x: &[f32], levels: &mut [Levels], facts: &mut [GroupFacts]),
    /// For each type the function that computes some rows of a product.
    pub(crate) rows: &'static [(TensorType, RowsKernel)],
}

/// Computes the rows of one [`Chunk`].
///
/// # Safety
/// The processor has what the table needs; the chunk's shapes were checked by [`matmul`].
pub(crate) type RowsKernel = unsafe fn(&Chunk<'_>);

/// The int8 values of 32 columns of a token.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(crate) struct Levels(pub(crate) [i8; GROUP]);

/// What belongs to 32 quantised columns of a token: column `i` is `scale × multiplier[i / 16] × level[i]`.
///
/// The second step of scaling halves the error that quantising adds to a model's answers (mean KL divergence of SmolLM2 Q4_1:
/// 0.0036 with one scale for 32 columns, 0.0018 with this), and costs nothing: kernels that widen sums from i16 to i32 multiply by
/// the multiplier where they would multiply by 1.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct GroupFacts {
    pub(crate) scale: f32,
    /// Sum of the columns as quantised: what the offset of a weight group is multiplied by.
    pub(crate) sum: f32,
    /// Sum of the levels of each half, before the multiplier.
    pub(crate) half_sums: [i16; 2],
    /// The multiplier of each half, 1 to [`MULTIPLIERS`], in the upper and the lower half of a word: a pair for `madd`.
    pub(crate) factors: [i32; 2],
}

/// The largest multiplier of a half. With it, the integers of a group stay below 2³¹ for all levels and integer scales of weights.
const MULTIPLIERS: i32 = 64;

/// How the two halves of a group are quantised: the rule that all tables share.
pub(crate) struct Scales {
    scale: f32,
    multipliers: [i32; 2],
    /// What a half's columns are multiplied by before they are rounded to levels.
    pub(crate) inverses: [f32; 2],
}

impl Scales {
    /// From the largest magnitude of each half, as the bits of an f32 without sign: as integers, magnitudes keep their order,
    /// and NaN and infinity come above every number. The largest column becomes ±127.
    ///
    /// A group below [`FAINT`] counts as zero; one with an infinity or a NaN gets a NaN scale, so that it shows in every output.
    #[inline]
    pub(crate) fn new(largest_bits: [u32; 2]) -> Self {
        let halves = largest_bits.map(f32::from_bits);
        let largest = f32::from_bits(largest_bits[0].max(largest_bits[1]));
        if !largest.is_finite() || largest < FAINT {
            let scale = if largest.is_finite() { 0.0 } else { f32::NAN };
            return Scales { scale, multipliers: [1; 2], inverses: [0.0; 2] };
        }
        let (all, up) = ((127 * MULTIPLIERS) as f32, MULTIPLIERS as f32 / largest);
        let multipliers = halves.map(|half| ((half * up) as i32 + 1).min(MULTIPLIERS));
        Scales {
            scale: largest / all,
            multipliers,
            inverses: multipliers.map(|multiplier| all / largest / multiplier as f32),
        }
    }

    /// With the sum of each half's levels.
    #[inline]
    pub(crate) fn facts(self, half_sums: [i32; 2]) -> GroupFacts {
        let [first, second] = self.multipliers;
        GroupFacts {
            scale: self.scale,
            sum: self.scale * (first * half_sums[0] + second * half_sums[1]) as f32,
            half_sums: half_sums.map(|sum| sum as i16),
            factors: self.multipliers.map(|multiplier| multiplier | multiplier << 16),
        }
    }
}

/// The smallest magnitude that is quantised: its inverse is far from overflow, and nothing near it matters to a sum.
const FAINT: f32 = 1e-30;

/// Activations of a batch in the forms its products need. Reusable: a later `set` keeps the memory.
#[derive(Default)]
pub struct Activations {
    tokens: usize,
    columns: usize,
    /// f32 form: columns of a token here, rounded up to whole groups, the rest 0. Empty when no product needs it.
    values: Vec<f32>,
    stride: usize,
    /// Quantised form, `(tokens, columns / 32)`. Empty when no product needs it.
    levels: Vec<Levels>,
    facts: Vec<GroupFacts>,
}

impl Activations {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the activations `x`, `(tokens, columns)`, for products with weights of these `types`.
    ///
    /// # Panics
    /// If `x` has another size, or a quantised type's columns are no whole number of groups.
    pub fn set(
        &mut self,
        kernels: &Kernels,
        threads: &Threads,
        x: &[f32],
        tokens: usize,
        columns: usize,
        types: &[TensorType],
    ) {
        assert_eq!(x.len(), tokens * columns, "activations of {tokens} tokens with {columns} columns");
        (self.tokens, self.columns) = (tokens, columns);
        self.values.clear();
        self.levels.clear();
        self.facts.clear();
        if columns == 0 || tokens == 0 {
            return;
        }
        if types.iter().any(|&ty| !is_quantised(ty)) {
            self.stride = columns.next_multiple_of(GROUP);
            self.values.resize(tokens * self.stride, 0.0);
            for (row, x) in self.values.chunks_exact_mut(self.stride).zip(x.chunks_exact(columns)) {
                row[..columns].copy_from_slice(x);
            }
        }
        if types.iter().any(|&ty| is_quantised(ty)) {
            assert!(columns.is_multiple_of(GROUP), "{columns} columns are not whole groups of {GROUP}");
            self.quantize(kernels, threads, x);
        }
    }

    fn quantize(&mut self, kernels: &Kernels, threads: &Threads, x: &[f32]) {
        /// Tokens a chunk: some 10 µs of work, so that few tokens stay on one thread.
        const TOKENS: usize = 16;
        let (tokens, columns, groups) = (self.tokens, self.columns, self.columns / GROUP);
        self.levels.resize(tokens * groups, Levels([0; GROUP]));
        self.facts.resize(tokens * groups, GroupFacts::default());
        let (levels, facts) = (Disjoint::new(&mut self.levels), Disjoint::new(&mut self.facts));
        let quantize = kernels.matmul.quantize;
        threads.run(tokens.div_ceil(TOKENS), &|chunk| {
            for token in chunk * TOKENS..(chunk * TOKENS + TOKENS).min(tokens) {
                let range = token * groups..(token + 1) * groups;
                // SAFETY: every token is in one chunk, so its parts are borrowed once; the table was checked against the processor.
                unsafe { quantize(&x[token * columns..][..columns], levels.part(range.clone()), facts.part(range)) };
            }
        });
    }

    /// The number of tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The f32 columns of a token, padded with zeros to a multiple of 32.
    pub(crate) fn values(&self, token: usize) -> &[f32] {
        &self.values[token * self.stride..][..self.stride]
    }

    /// The quantised groups of a token.
    pub(crate) fn groups(&self, token: usize) -> (&[Levels], &[GroupFacts]) {
        let groups = self.columns / GROUP;
        let range = token * groups..(token + 1) * groups;
        (&self.levels[range.clone()], &self.facts[range])
    }
}

/// Whether products with this type run on quantised activations.
fn is_quantised(ty: TensorType) -> bool {
    ty.block_elements() > 1
}

/// Rows of one product that one thread computes, for every token.
pub(crate) struct Chunk<'a> {
    pub(crate) weight: Matrix<'a>,
    pub(crate) rows: Range<usize>,
    pub(crate) x: &'a Activations,
    pub(crate) out: &'a Output<'a>,
}

impl<'a> Chunk<'a> {
    /// The bytes of a row.
    pub(crate) fn row(&self, row: usize) -> &'a [u8] {
        let row_bytes = self.weight.bytes.len() / self.weight.rows;
        &self.weight.bytes[row * row_bytes..][..row_bytes]
    }
}

/// Where results go, and what is done to them on the way.
pub(crate) struct Output<'a> {
    out: Disjoint<'a, f32>,
    rows: usize,
    add: bool,
    bias: Option<&'a [f32]>,
}

impl Output<'_> {
    /// Puts the sums of rows `row ..` of a token where they belong.
    ///
    /// # Safety
    /// Those rows belong to the caller's chunk.
    #[inline]
    pub(crate) unsafe fn store(&self, token: usize, row: usize, sums: &[f32]) {
        let start = token * self.rows + row;
        // SAFETY: chunks have disjoint rows, and a chunk is computed by one thread.
        let out = unsafe { self.out.part(start..start + sums.len()) };
        match (self.bias, self.add) {
            (None, false) => out.copy_from_slice(sums),
            (None, true) => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum),
            (Some(bias), add) => {
                for ((out, sum), bias) in out.iter_mut().zip(sums).zip(&bias[row..]) {
                    *out = if add { *out + (sum + bias) } else { sum + bias };
                }
            }
        }
    }
}

/// Computes all products in one parallel region.
///
/// # Panics
/// If a shape does not fit the bytes, the output, the bias or the activations, or if `x` was not set for a product's type.
pub fn matmul(kernels: &Kernels, threads: &Threads, products: &mut [Product<'_>], x: &Activations) {
    if x.tokens == 0 {
        return;
    }
    let plans: Vec<Plan<'_>> = products.iter_mut().map(|product| Plan::new(kernels, product, x)).collect();
    let total: usize = plans.iter().map(|plan| plan.row_cost * plan.weight.rows).sum();
    let target = (total / (threads.count() * CHUNKS_A_THREAD)).max(CHUNK_COST);
    // Cumulated number of chunks, product by product.
    let mut ends = Vec::with_capacity(plans.len());
    let mut chunks = 0;
    for plan in &plans {
        chunks += plan.weight.rows.div_ceil(plan.chunk_rows(target));
        ends.push(chunks);
    }
    threads.run(chunks, &|chunk| {
        let product = ends.partition_point(|&end| end <= chunk);
        let plan = &plans[product];
        let index = chunk - if product == 0 { 0 } else { ends[product - 1] };
        let rows = plan.chunk_rows(target);
        let range = index * rows..(index * rows + rows).min(plan.weight.rows);
        // SAFETY: `Plan::new` checked the shapes, and the table was checked against the processor before anyone got it.
        unsafe { (plan.kernel)(&Chunk { weight: plan.weight, rows: range, x, out: &plan.output }) };
    });
}

/// Rows in a chunk are a multiple of this (but for the last): whole strips, and whole cache lines of output.
const ROWS: usize = 16;
/// Multiply-adds below which a chunk is not worth handing out: one to two microseconds.
const CHUNK_COST: usize = 1 << 16;
/// Chunks a thread on average: enough that one that is pre-empted holds back little.
const CHUNKS_A_THREAD: usize = 8;

/// A checked product.
struct Plan<'a> {
    weight: Matrix<'a>,
    output: Output<'a>,
    kernel: RowsKernel,
    /// Multiply-adds of a row.
    row_cost: usize,
}

impl<'a> Plan<'a> {
    fn new(kernels: &Kernels, product: &'a mut Product<'_>, x: &Activations) -> Self {
        let Matrix { ty, rows, columns, bytes } = product.weight;
        let row_bytes = ty.row_bytes(columns as u64).and_then(|bytes| usize::try_from(bytes).ok());
        let expected = row_bytes.and_then(|bytes| bytes.checked_mul(rows));
        assert_eq!(Some(bytes.len()), expected, "{ty} weights of {rows} x {columns}");
        assert_eq!(columns, x.columns, "columns of weights and activations");
        assert!(columns > 0, "{ty} weights without columns");
        assert_eq!(product.out.len(), x.tokens * rows, "output of {} tokens x {rows} rows", x.tokens);
        assert!(product.bias.is_none_or(|bias| bias.len() == rows), "a bias of {rows} values");
        let set = if is_quantised(ty) { x.levels.len() } else { x.values.len() };
        assert!(set > 0, "activations were not set for {ty} weights");
        let kernel = kernels.matmul.rows.iter().find(|entry| entry.0 == ty);
        Plan {
            weight: product.weight,
            output: Output { out: Disjoint::new(product.out), rows, add: product.add, bias: product.bias },
            kernel: kernel.unwrap_or_else(|| panic!("{} has no kernel for {ty}", kernels.name)).1,
            row_cost: columns * x.tokens,
        }
    }

    fn chunk_rows(&self, target: usize) -> usize {
        target.div_ceil(self.row_cost.max(1)).next_multiple_of(ROWS)
    }
}

#[cfg(test)]
mod tests;
