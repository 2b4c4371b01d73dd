//! Matrix products of memory-mapped GGUF weights with a batch of activations: shapes, chunks, and the form of activations.
//!
//! `out[token][row] = Σ_column weight[row][column] × x[token][column]`. Weights are never repacked permanently. There are two
//! families:
//!
//! - **Quantised weights** are multiplied by activations quantised to int8 in groups of 32 columns, with an f32 scale per group
//!   and an integer multiplier per half (`GroupFacts`). A group's product is an exact integer, so its lanes may be added in any
//!   order; the groups of a row are then added in f32, in order, each as `sum = (scale_w × scale_x) × integer + sum` and, for
//!   types with an offset, `sum = offset_w × sum_x + sum`. Types with separate scales per half (`quant::Form::APART`) do so for
//!   each half in turn. Vector kernels put *rows* in the lanes of that f32 sum; ARCHITECTURE.md, "Matrix products", draws how
//!   they get there.
//! - **F32, F16, BF16** are multiplied by f32 activations; BF16, in a table that says so, by activations rounded to BF16.
//!   Lanes are columns modulo the vector length, one vector per (row, token), summed once at the end in a fixed order
//!   (AVX2: at the end of each part of the columns; AVX-512: columns modulo 4 of four rows); with many tokens a few rows
//!   are widened once and reused for a block of tokens.
//!
//! Both give the same bits for one token and for many: that is the rule of `kernels`, and the tests here check every table for
//! it. A table may multiply the tokens of prompts by other kernels (`PromptKernels`), whose sums differ from those of answers, but
//! likewise do not depend on a token's company.

mod activations;

use std::ops::Range;

use satchel_gguf::TensorType;

use super::Kernels;
use super::threads::{Disjoint, Threads};
pub use crate::quant::supports;
pub(crate) use activations::{ActivationGroup, GroupFacts, Scales};
pub use activations::{Activations, Rows, Tokens};
pub(crate) use activations::{TILE_TOKENS, TokenTile};

/// A weight matrix, used where it is mapped; unaligned.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// How the elements are stored.
    pub ty: TensorType,
    /// Outputs.
    pub rows: usize,
    /// Inputs, contiguous in memory.
    pub columns: usize,
    /// `rows` times the bytes per row.
    pub bytes: &'a [u8],
}

/// One matrix product of a batch with shared activations.
pub struct Product<'a> {
    /// `(rows, columns)`.
    pub weight: Matrix<'a>,
    /// `(tokens, rows)`.
    pub out: &'a mut [f32],
    /// Add to `out` instead of overwriting it.
    pub add: bool,
    /// One value per row, added to every token's output.
    pub bias: Option<&'a [f32]>,
}

/// A table's entries for matrix products.
pub struct MatmulKernels {
    /// Quantises one token: `x` to as many groups of 32 as it fills.
    pub(crate) quantize: unsafe fn(x: &[f32], groups: &mut [ActivationGroup]),
    /// Rounds one token to BF16, two columns a word, zero past the last, for BF16 weights; `None` if the table multiplies
    /// those in f32.
    pub(crate) round: Option<RoundKernel>,
    /// Per type, the function that computes some rows of a product.
    pub(crate) rows: &'static [(TensorType, RowsKernel)],
    /// How the tokens of prompts are multiplied, if not like those of answers.
    pub(crate) prompts: Option<&'static PromptKernels>,
}

/// Products for the tokens of prompts only. Prompts come in hundreds of tokens, so that weights may be unpacked to a form whose
/// products are fast; answers come token by token, and are bound by reading weights as they are.
pub(crate) struct PromptKernels {
    /// Rounds some tokens to BF16 and lays them out as a row of tiles.
    pub(crate) lay_out: LayOutKernel,
    /// Per type, the function that computes some rows of a product in tiles. Types that are left out are multiplied as in answers.
    pub(crate) rows: &'static [(TensorType, RowsKernel)],
    /// Rows that are unpacked together: chunks are multiples of it.
    pub(crate) strip: usize,
    /// Tokens whose products take as long as unpacking their weights.
    pub(crate) unpacking: usize,
}

/// Rounds up to sixteen tokens, `(tokens, columns)`, to BF16, and writes tiles for groups of 32 columns, zero where there is no token
/// or column.
///
/// # Safety
/// The processor supports the table; there is a tile for each group of columns.
pub(crate) type LayOutKernel = unsafe fn(x: &[f32], columns: usize, tiles: &mut [TokenTile]);

/// Rounds a token's columns to BF16, two a word.
///
/// # Safety
/// The processor supports the table; there is a word for every two columns.
pub(crate) type RoundKernel = unsafe fn(x: &[f32], pairs: &mut [u32]);

/// How a product may be cut.
#[derive(Clone, Copy)]
pub(crate) struct Grain {
    /// Chunks are multiples of so many rows, except the last: whole strips, and whole cache lines of output.
    strip: usize,
    /// Tokens whose products take as long as unpacking their weights, which each block of tokens has done anew.
    unpacking: usize,
}

/// Kernels that may be called with one token, as well.
const USUAL: Grain = Grain { strip: 16, unpacking: 16 };

/// What weights are multiplied by.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Form {
    /// f32.
    Plain,
    /// BF16.
    Rounded,
    /// int8 in groups.
    Quantised,
}

impl MatmulKernels {
    /// The form of activations for weights of this type.
    pub(crate) fn form(&self, ty: TensorType) -> Form {
        match ty {
            _ if is_quantised(ty) => Form::Quantised,
            TensorType::BF16 if self.round.is_some() => Form::Rounded,
            _ => Form::Plain,
        }
    }

    /// The function that computes some rows of a product with tokens of prompts, if it is another one than for answers, and how it
    /// may be cut.
    pub(crate) fn for_prompts(&self, ty: TensorType) -> Option<(RowsKernel, Grain)> {
        let prompts = self.prompts?;
        let grain = Grain { strip: prompts.strip, unpacking: prompts.unpacking };
        prompts.rows.iter().find(|entry| entry.0 == ty).map(|entry| (entry.1, grain))
    }
}

/// Computes the rows of one [`Chunk`].
///
/// # Safety
/// The processor supports the table; [`matmul`] checked the chunk's shapes.
pub(crate) type RowsKernel = unsafe fn(&Chunk<'_>);

/// A table's function for a type of the list: what a faster table takes for a type that it does not read itself.
#[cfg(any(test, target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) const fn kernel_of(table: &MatmulKernels, ty: TensorType) -> RowsKernel {
    let mut at = 0;
    while table.rows[at].0 as u32 != ty as u32 {
        at += 1;
    }
    table.rows[at].1
}

/// Whether products with this type use quantised activations.
pub fn is_quantised(ty: TensorType) -> bool {
    ty.block_elements() > 1
}

/// Approximate bytes that a thread keeps for products of this many tokens with quantised weights of this many columns: sixteen
/// unpacked rows with their scales, 24 bytes per column (on x86 at most one part of the columns, plus partial sums); or the few
/// rows of a plain type that are widened at once, plus the sums of a block of tokens. `in_tiles`: the table multiplies prompts in
/// tiles, for which rows are unpacked to BF16.
pub fn thread_bytes(columns: usize, tokens: usize, in_tiles: bool) -> usize {
    const PLAIN: usize = 90 << 10;
    #[cfg(target_arch = "x86_64")]
    let quantised = match in_tiles {
        true => super::avx512::tiles_thread_bytes(columns, tokens),
        false => super::avx2::matmul::strip::thread_bytes(columns, tokens),
    };
    #[cfg(not(target_arch = "x86_64"))]
    let quantised = {
        let _ = (tokens, in_tiles);
        24 * columns
    };
    quantised.max(PLAIN)
}

/// Rows of one product that one thread computes for every token.
pub(crate) struct Chunk<'a> {
    pub(crate) weight: Matrix<'a>,
    pub(crate) rows: Range<usize>,
    pub(crate) x: Rows<'a>,
    pub(crate) out: &'a Output<'a>,
}

impl<'a> Chunk<'a> {
    /// The bytes of a row.
    pub(crate) fn row(&self, row: usize) -> &'a [u8] {
        &self.weight.bytes[row * self.row_bytes()..][..self.row_bytes()]
    }

    /// Pointers to rows `first ..`; past the chunk's last row, that row again.
    ///
    /// Never inlined: if the compiler sees the constant stride, it recomputes pointers from each other in the innermost loop (one
    /// token 20 % slower).
    #[inline(never)]
    #[cfg_attr(
        not(any(target_arch = "x86_64", target_arch = "aarch64")),
        allow(dead_code, reason = "for vector tables")
    )]
    pub(crate) fn pointers<const R: usize>(&self, first: usize) -> [*const u8; R] {
        let (start, row_bytes, last) = (self.weight.bytes.as_ptr(), self.row_bytes(), self.rows.end - 1);
        std::array::from_fn(|row| start.wrapping_add((first + row).min(last) * row_bytes))
    }

    /// Bytes per row.
    pub(crate) fn row_bytes(&self) -> usize {
        self.weight.bytes.len() / self.weight.rows
    }

    /// Stores a token's sums for rows `first ..`, as many as the chunk has, possibly none.
    ///
    /// # Safety
    /// No other thread owns these rows.
    #[inline]
    pub(crate) unsafe fn store<const N: usize>(&self, token: usize, first: usize, sums: &[f32; N]) {
        let left = self.rows.end.saturating_sub(first);
        // SAFETY: upheld by the caller.
        unsafe {
            if left >= N {
                self.out.store(token, first, sums);
            } else if left > 0 {
                self.store_some(token, first, &sums[..left]);
            }
        }
    }

    /// Split off, or the compiler merges both into one copy of variable length: a call for each.
    #[cold]
    #[inline(never)]
    unsafe fn store_some(&self, token: usize, first: usize, sums: &[f32]) {
        // SAFETY: upheld by the caller.
        unsafe { self.out.store(token, first, sums) };
    }
}

/// Where results go, and how they are finished.
pub(crate) struct Output<'a> {
    out: Disjoint<'a, f32>,
    rows: usize,
    add: bool,
    bias: Option<&'a [f32]>,
}

impl Output<'_> {
    /// Prefetches the cache line of a token's outputs from `row` on, for writing.
    #[inline]
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn fetch(&self, token: usize, row: usize) {
        self.out.fetch(token * self.rows + row);
    }

    /// Stores a token's sums for rows `row ..`.
    ///
    /// # Safety
    /// Those rows belong to the caller's chunk.
    #[inline]
    unsafe fn store(&self, token: usize, row: usize, sums: &[f32]) {
        let start = token * self.rows + row;
        // SAFETY: chunks have disjoint rows, and each chunk is computed by one thread.
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

/// A product with its own activations.
pub struct Work<'a> {
    /// `out` is `(x.tokens(), rows)`.
    pub product: Product<'a>,
    /// Activations prepared for the product's type.
    pub x: Rows<'a>,
}

/// Computes all products in one parallel region.
///
/// # Panics
/// If a shape does not match the bytes, the output, the bias or the activations, or if `x` was not set for a product's type.
pub fn matmul(kernels: &Kernels, threads: &Threads, products: &mut [Product<'_>], x: &Activations) {
    if x.tokens() == 0 {
        return;
    }
    let plans: Vec<_> = products.iter_mut().flat_map(|product| Plan::of(kernels, product, x)).collect();
    run(threads, in_blocks(plans, threads.count()), 0);
}

/// The same for products that each have their own activations.
///
/// # Panics
/// See [`matmul`].
pub fn matmul_each(kernels: &Kernels, threads: &Threads, work: &mut [Work<'_>]) {
    /// The cost of reading a weight, in multiply-adds.
    const READING: usize = 4;
    let same = work.windows(2).all(|pair| pair[0].x.tokens() == pair[1].x.tokens());
    let plans: Vec<_> =
        work.iter_mut().map(|work| Plan::like_answers(kernels, Part::whole(&mut work.product), work.x)).collect();
    run(threads, plans, if same { 0 } else { READING });
}

/// Runs products; per weight the cost is one multiply-add per token, plus `reading`.
fn run(threads: &Threads, plans: Vec<Plan<'_>>, reading: usize) {
    let row_cost =
        |plan: &Plan<'_>| if plan.x.tokens() == 0 { 0 } else { plan.x.columns * (plan.x.tokens() + reading) };
    let total: usize = plans.iter().map(|plan| row_cost(plan) * plan.part.weight.rows).sum();
    if total == 0 {
        return;
    }
    let target = chunk_cost(total, threads.count());
    let mut chunks = 0;
    let in_chunks: Vec<_> = plans
        .into_iter()
        .map(|plan| {
            let rows = target.div_ceil(row_cost(&plan).max(1)).next_multiple_of(plan.grain.strip);
            let first = chunks;
            chunks += if plan.x.tokens() == 0 { 0 } else { plan.part.weight.rows.div_ceil(rows) };
            InChunks {
                weight: plan.part.weight,
                x: plan.x,
                kernel: plan.kernel,
                output: plan.part.output(),
                rows,
                first,
            }
        })
        .collect();
    threads.run(chunks, &|chunk| {
        let plan = &in_chunks[in_chunks.partition_point(|plan| plan.first <= chunk) - 1];
        let start = (chunk - plan.first) * plan.rows;
        let rows = start..(start + plan.rows).min(plan.weight.rows);
        // SAFETY: `Plan::new` checked the shapes; tables are handed out only on processors that support them.
        unsafe { (plan.kernel)(&Chunk { weight: plan.weight, rows, x: plan.x, out: &plan.output }) };
    });
}

/// A plan, cut into chunks.
struct InChunks<'a> {
    weight: Matrix<'a>,
    x: Rows<'a>,
    kernel: RowsKernel,
    output: Output<'a>,
    /// Of a chunk.
    rows: usize,
    /// The first chunk's number.
    first: usize,
}

/// Multiply-adds that are worth a chunk of its own: one to two microseconds.
const CHUNK_COST: usize = 1 << 16;
/// The fewest, where there would be none for some threads otherwise.
const LEAST_COST: usize = 1 << 14;
/// Average chunks per thread: enough that a pre-empted one delays little.
const CHUNKS_A_THREAD: usize = 8;

/// Multiply-adds of a chunk: every thread gets as many chunks, or the last ones would wait for a few.
fn chunk_cost(total: usize, threads: usize) -> usize {
    let rounds = (total / (threads * CHUNK_COST)).clamp(1, CHUNKS_A_THREAD);
    total.div_ceil(threads * rounds).max(LEAST_COST)
}

/// Cuts products of many tokens into blocks of tokens, where their rows alone would leave some threads waiting for others.
fn in_blocks(plans: Vec<Plan<'_>>, threads: usize) -> Vec<Plan<'_>> {
    let Some(largest) = plans.iter().max_by_key(|plan| plan.x.tokens()) else { return plans };
    let (tokens, grain) = (largest.x.tokens(), largest.grain);
    if tokens < 2 * LEAST_BLOCK {
        return plans;
    }
    let strips =
        plans.iter().filter(|plan| plan.x.tokens() == tokens).map(|plan| plan.part.weight.rows.div_ceil(grain.strip));
    let block = tokens.div_ceil(blocks(strips.sum(), tokens, threads, grain.unpacking)).next_multiple_of(TILE_TOKENS);
    plans.into_iter().flat_map(|plan| plan.cut(block)).collect()
}

/// The fewest tokens of a block: enough to be worth unpacking strips for.
const LEAST_BLOCK: usize = 64;

/// The number of blocks of tokens with which so many strips of rows take the least time; unless it gains a sixteenth, one.
fn blocks(strips: usize, tokens: usize, threads: usize, unpacking: usize) -> usize {
    /// More would gain little, and each reads the weights anew.
    const MOST: usize = 8;
    let time = |blocks: usize| {
        let block = tokens.div_ceil(blocks).next_multiple_of(TILE_TOKENS);
        (strips * blocks).div_ceil(threads) * (block + unpacking)
    };
    let best = (1..=(tokens / LEAST_BLOCK).clamp(1, MOST)).min_by_key(|&blocks| time(blocks)).unwrap_or(1);
    if 16 * time(best) <= 15 * time(1) { best } else { 1 }
}

/// A product's results for some of the tokens.
struct Part<'a> {
    weight: Matrix<'a>,
    out: &'a mut [f32],
    add: bool,
    bias: Option<&'a [f32]>,
}

impl<'a> Part<'a> {
    fn whole(product: &'a mut Product<'_>) -> Self {
        Part { weight: product.weight, out: product.out, add: product.add, bias: product.bias }
    }

    /// The first tokens, and the rest.
    fn split(self, tokens: usize) -> (Self, Self) {
        let Part { weight, out, add, bias } = self;
        let (first, rest) = out.split_at_mut((tokens * weight.rows).min(out.len()));
        (Part { weight, out: first, add, bias }, Part { weight, out: rest, add, bias })
    }

    fn output(self) -> Output<'a> {
        Output { out: Disjoint::new(self.out), rows: self.weight.rows, add: self.add, bias: self.bias }
    }
}

/// A checked product.
struct Plan<'a> {
    part: Part<'a>,
    x: Rows<'a>,
    kernel: RowsKernel,
    grain: Grain,
}

impl<'a> Plan<'a> {
    /// A product of all tokens: one of answers and one of prompts, where their kernels differ and there are both.
    fn of(kernels: &Kernels, product: &'a mut Product<'_>, x: &'a Activations) -> impl Iterator<Item = Self> + use<'a> {
        let part = Part::whole(product);
        let prompts = kernels.matmul.for_prompts(part.weight.ty).filter(|_| x.prompts() > 0);
        let Some((kernel, grain)) = prompts else {
            return [Some(Self::like_answers(kernels, part, x.all())), None].into_iter().flatten();
        };
        let answers = x.tokens() - x.prompts();
        let (first, rest) = part.split(answers);
        let first = (answers > 0).then(|| Self::like_answers(kernels, first, x.rows(0..answers)));
        let x = x.in_tiles();
        assert!(x.has_tiles(), "tiles were not set for {} weights", rest.weight.ty);
        [first, Some(Self::new(rest, x, kernel, grain))].into_iter().flatten()
    }

    /// A product with the kernel for answers.
    fn like_answers(kernels: &Kernels, part: Part<'a>, x: Rows<'a>) -> Self {
        let ty = part.weight.ty;
        assert!(x.has(kernels.matmul.form(ty)), "activations were not set for {ty} weights");
        let kernel = kernels.matmul.rows.iter().find(|entry| entry.0 == ty);
        let kernel = kernel.unwrap_or_else(|| panic!("{} has no kernel for {ty}", kernels.name)).1;
        Self::new(part, x, kernel, USUAL)
    }

    fn new(part: Part<'a>, x: Rows<'a>, kernel: RowsKernel, grain: Grain) -> Self {
        let Matrix { ty, rows, columns, bytes } = part.weight;
        let row_bytes = ty.row_bytes(columns as u64).and_then(|bytes| usize::try_from(bytes).ok());
        let expected = row_bytes.and_then(|bytes| bytes.checked_mul(rows));
        assert_eq!(Some(bytes.len()), expected, "{ty} weights of {rows} x {columns}");
        assert_eq!(columns, x.columns, "columns of weights and activations");
        assert!(columns > 0, "{ty} weights without columns");
        assert_eq!(part.out.len(), x.tokens * rows, "output of {} tokens x {rows} rows", x.tokens);
        assert!(part.bias.is_none_or(|bias| bias.len() == rows), "a bias of {rows} values");
        Plan { part, x, kernel, grain }
    }

    /// The same product in blocks of so many tokens, whole tiles.
    fn cut(self, block: usize) -> impl Iterator<Item = Self> + use<'a> {
        let Plan { part, x, kernel, grain } = self;
        let blocks = x.tokens().div_ceil(block);
        let mut rest = Some(part);
        (0..blocks).filter_map(move |at| {
            let (part, others) = rest.take()?.split(block);
            rest = Some(others);
            let tokens = at * block..((at + 1) * block).min(x.tokens());
            Some(Plan { part, x: x.part(tokens), kernel, grain })
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
