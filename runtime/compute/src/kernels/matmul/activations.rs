//! The forms of activations: plain f32, BF16 in pairs or in tiles, and int8 in groups of 32 columns.
//!
//! A group has one f32 scale and an integer multiplier per half; [`Scales`] is the rule, which every table follows bit for bit.

use std::ops::{Deref, DerefMut, Range};

use satchel_gguf::TensorType;

use super::{Form, LayOutKernel, RoundKernel};
use crate::kernels::Kernels;
use crate::kernels::threads::{Disjoint, Threads};
use crate::quant::GROUP;

/// The int8 values of 32 columns of a token.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(crate) struct Levels(pub(crate) [i8; GROUP]);

/// 32 quantised columns of a token: one cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct ActivationGroup {
    pub(crate) levels: Levels,
    pub(crate) facts: GroupFacts,
}

impl ActivationGroup {
    /// A group of zeros.
    pub(crate) const ZERO: Self = {
        let facts = GroupFacts { scale: 0.0, sum: 0.0, raised: [0; 2], factors: [0; 2], multipliers: [0.0; 2] };
        ActivationGroup { levels: Levels([0; GROUP]), facts }
    };
}

/// Scale, multipliers and sums of 32 quantised columns of a token: column `i` is `scale × multiplier[i / 16] × level[i]`.
///
/// The second level of scaling halves the error that quantising activations adds (mean KL divergence of SmolLM2 Q4_1: 0.0036 with
/// one scale per 32 columns, 0.0018 with this) at no cost: kernels that widen sums from i16 to i32 multiply by the multiplier
/// instead of 1.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct GroupFacts {
    pub(crate) scale: f32,
    /// Sum of the columns as quantised: the factor of a weight group's offset.
    pub(crate) sum: f32,
    /// Sum of each half's levels, before the multiplier, times -128: the initial value of a sum of products whose weights had 128
    /// added to make them unsigned. Stored, because broadcasting a loaded value is a load, a computed one a shuffle.
    pub(crate) raised: [i32; 2],
    /// Each half's multiplier, 1 to [`MULTIPLIERS`], in both the upper and the lower half of a word: a pair for `madd`.
    pub(crate) factors: [i32; 2],
    /// The same multipliers as f32.
    ///
    /// Times a half's sum of products (below 2¹⁸) it is exact, so `sum[0] × multiplier[0] + sum[1] × multiplier[1]` as a product
    /// and a fused multiply-add is the f32 nearest to the integer: the same as converting the integer, in fewer steps.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "read by kernels with VNNI"))]
    pub(crate) multipliers: [f32; 2],
}

impl GroupFacts {
    /// The multiplier of a half.
    #[inline]
    pub(crate) fn multiplier(&self, half: usize) -> i32 {
        self.factors[half] & 0xffff
    }

    /// Sum of the levels, each times its half's multiplier; below 2¹⁸.
    #[inline]
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn levels_sum(&self) -> i32 {
        self.multiplier(0) * self.half_levels(0) + self.multiplier(1) * self.half_levels(1)
    }

    /// Sum of the levels of a half, before the multiplier.
    #[inline]
    pub(crate) fn half_levels(&self, half: usize) -> i32 {
        -(self.raised[half] >> 7)
    }

    /// Sum of a half's columns as quantised, for types with separate scales per half.
    #[inline]
    pub(crate) fn half_sum(&self, half: usize) -> f32 {
        self.scale * (self.multiplier(half) * self.half_levels(half)) as f32
    }
}

/// Maximum multiplier of a half. It keeps a group's integers below 2³¹ for all levels and integer scales of weights, and those of
/// a half, before such scales, below 2²⁴ ([`GroupFacts::multipliers`]).
const MULTIPLIERS: i32 = 64;

/// How the two halves of a group are quantised, on every table.
pub(crate) struct Scales {
    scale: f32,
    multipliers: [i32; 2],
    /// Per half, the factor applied to columns before rounding to levels.
    pub(crate) inverses: [f32; 2],
}

impl Scales {
    /// From the largest magnitude of each half, as the bits of an unsigned f32: compared as integers, magnitudes keep their
    /// order, with NaN and infinity above every number. The largest column becomes ±127.
    ///
    /// A group below [`FAINT`] counts as zero; one with an infinity or a NaN gets a NaN scale, which propagates to every output.
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
            raised: half_sums.map(|sum| -128 * sum),
            factors: self.multipliers.map(|multiplier| multiplier | multiplier << 16),
            multipliers: self.multipliers.map(|multiplier| multiplier as f32),
        }
    }
}

/// The smallest magnitude that is quantised: its inverse is far from overflow, and anything near it is negligible in a sum.
const FAINT: f32 = 1e-30;

/// Words from one token to the next, of as many columns each: whole groups, but not whole pages, or the columns used together by
/// several tokens would all map to one L1 set.
fn stride(columns: usize, columns_a_word: usize) -> usize {
    const PAGE: usize = 4096 / size_of::<f32>();
    let stride = columns.next_multiple_of(GROUP) / columns_a_word;
    if stride > 0 && stride.is_multiple_of(PAGE) { stride + GROUP } else { stride }
}

/// Groups from one token to the next: one more than needed if those were whole pages, for the same reason.
fn group_stride(columns: usize) -> usize {
    const PAGE: usize = 4096 / size_of::<ActivationGroup>();
    let groups = columns / GROUP;
    if groups > 0 && groups.is_multiple_of(PAGE) { groups + 1 } else { groups }
}

/// 32 columns of sixteen tokens in BF16, as a product of tiles takes its second operand: a line holds a pair of columns, the first in
/// the lower half of a word, of each token.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct TokenTile(pub(crate) [[u32; TILE_TOKENS]; GROUP / 2]);

/// Tokens of a [`TokenTile`].
pub(crate) const TILE_TOKENS: usize = 16;

impl TokenTile {
    const ZERO: Self = TokenTile([[0; TILE_TOKENS]; GROUP / 2]);
}

/// The tokens of a batch: those of answers come first, then those of prompts, which a table may multiply by other kernels
/// (`PromptKernels`). A number stands for so many of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Of answers.
    pub answers: usize,
    /// Of prompts.
    pub prompts: usize,
}

impl Tokens {
    /// All of them.
    pub fn count(self) -> usize {
        self.answers + self.prompts
    }
}

impl From<usize> for Tokens {
    fn from(answers: usize) -> Self {
        Self { answers, prompts: 0 }
    }
}

/// Memory that is kept from batch to batch, and only grows: products alternate between few and many columns, and clearing what
/// they overwrite anyway would be work for one thread.
struct Kept<T> {
    memory: Vec<T>,
    used: usize,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { memory: Vec::new(), used: 0 }
    }
}

impl<T: Copy> Kept<T> {
    /// From here on it has `count` elements: some of what was there, and `new` ones.
    fn size(&mut self, count: usize, new: T) {
        if self.memory.len() < count {
            self.memory.resize(count, new);
        }
        self.used = count;
    }

    fn bytes(&self) -> usize {
        self.memory.capacity() * size_of::<T>()
    }
}

impl<T> Deref for Kept<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.memory[..self.used]
    }
}

impl<T> DerefMut for Kept<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[..self.used]
    }
}

/// A batch's activations in the forms its products need. Reusable: a later `set` keeps the memory.
#[derive(Default)]
pub struct Activations {
    tokens: usize,
    /// How many of them, the last ones, are of prompts.
    prompts: usize,
    columns: usize,
    /// f32 form: padded columns per token, a multiple of whole groups, the rest 0. Empty if no product needs it.
    values: Kept<f32>,
    stride: usize,
    /// BF16 form: words of two columns, padded like `values`. Empty if no product needs it.
    rounded: Kept<u32>,
    words: usize,
    /// Quantised form, `(tokens, columns / 32)`. Empty if no product needs it.
    groups: Kept<ActivationGroup>,
    /// In tiles, `(prompts / 16, columns / 32)`, zero where there is no token or column. Empty if no product needs it.
    tiles: Kept<TokenTile>,
}

impl Activations {
    /// Empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.values.bytes() + self.rounded.bytes() + self.groups.bytes() + self.tiles.bytes()
    }

    /// Bytes for `tokens` tokens ahead of products with quantised weights of `quantised` columns and plain ones of `plain`
    /// columns, in f32.
    pub fn bytes_for(tokens: usize, quantised: usize, plain: usize) -> usize {
        let quantised = group_stride(quantised.next_multiple_of(GROUP)) * size_of::<ActivationGroup>();
        tokens * (quantised + stride(plain, 1) * size_of::<f32>())
    }

    /// Bytes for `tokens` tokens ahead of products in BF16 with weights of `columns` columns.
    pub fn bytes_for_rounded(tokens: usize, columns: usize) -> usize {
        tokens * stride(columns, 2) * size_of::<u32>()
    }

    /// Bytes for `tokens` tokens of prompts ahead of products in tiles with weights of `columns` columns.
    pub fn bytes_for_tiles(tokens: usize, columns: usize) -> usize {
        tokens.div_ceil(TILE_TOKENS) * columns.div_ceil(GROUP) * size_of::<TokenTile>()
    }

    /// Prepares the activations `x`, `(tokens, columns)`, for products with weights of these `types`.
    ///
    /// # Panics
    /// If `x` has another size, or a quantised type's columns are not a whole number of groups.
    pub fn set(
        &mut self,
        kernels: &Kernels,
        threads: &Threads,
        x: &[f32],
        tokens: impl Into<Tokens>,
        columns: usize,
        types: &[TensorType],
    ) {
        let all: Tokens = tokens.into();
        assert_eq!(x.len(), all.count() * columns, "activations of {} tokens with {columns} columns", all.count());
        (self.tokens, self.prompts, self.columns) = (all.count(), all.prompts, columns);
        (self.stride, self.words) = (stride(columns, 1), stride(columns, 2));
        // Prompts have no other form than tiles where all types that want it are multiplied in tiles.
        let in_tiles = |ty| all.prompts > 0 && columns > 0 && kernels.matmul.for_prompts(ty).is_some();
        let tokens_in = |form| {
            let types = types.iter().filter(|&&ty| columns > 0 && kernels.matmul.form(ty) == form);
            types.map(|&ty| if in_tiles(ty) { all.answers } else { all.count() }).max().unwrap_or(0)
        };
        let [plain, rounded, quantised] = [Form::Plain, Form::Rounded, Form::Quantised].map(tokens_in);
        self.values.size(plain * self.stride, 0.0);
        self.rounded.size(rounded * self.words, 0);
        self.groups.size(quantised * group_stride(columns), ActivationGroup::ZERO);
        let tiles = if types.iter().any(|&ty| in_tiles(ty)) { all.prompts.div_ceil(TILE_TOKENS) } else { 0 };
        self.tiles.size(tiles * columns.div_ceil(GROUP), TokenTile::ZERO);
        self.copy(threads, &x[..plain * columns]);
        if let Some(round) = kernels.matmul.round {
            self.round(round, threads, &x[..rounded * columns]);
        }
        if quantised > 0 {
            assert!(columns.is_multiple_of(GROUP), "{columns} columns are not whole groups of {GROUP}");
            self.quantize(kernels, threads, &x[..quantised * columns]);
        }
        if let (Some(prompts), false) = (kernels.matmul.prompts, self.tiles.is_empty()) {
            self.lay_out(prompts.lay_out, threads, &x[all.answers * columns..]);
        }
    }

    /// Calls `work` with the tokens, a few at a time.
    fn in_chunks(tokens: usize, threads: &Threads, work: impl Fn(usize) + Sync) {
        /// Tokens per chunk: some 10 µs of work, so that few tokens stay on one thread.
        const TOKENS: usize = 16;
        threads.run(tokens.div_ceil(TOKENS), &|chunk| {
            (chunk * TOKENS..(chunk * TOKENS + TOKENS).min(tokens)).for_each(&work);
        });
    }

    fn copy(&mut self, threads: &Threads, x: &[f32]) {
        let (columns, stride) = (self.columns, self.stride);
        let values = Disjoint::new(&mut self.values);
        Self::in_chunks(x.len().checked_div(columns).unwrap_or(0), threads, |token| {
            // SAFETY: every token is in one chunk, so its part is borrowed once.
            let row = unsafe { values.part(token * stride..(token + 1) * stride) };
            row[..columns].copy_from_slice(&x[token * columns..][..columns]);
            row[columns..].fill(0.0);
        });
    }

    fn round(&mut self, round: RoundKernel, threads: &Threads, x: &[f32]) {
        let (columns, words) = (self.columns, self.words);
        let rounded = Disjoint::new(&mut self.rounded);
        Self::in_chunks(x.len().checked_div(columns).unwrap_or(0), threads, |token| {
            // SAFETY: every token is in one chunk, so its part is borrowed once; the table is supported by the processor.
            unsafe { round(&x[token * columns..][..columns], rounded.part(token * words..(token + 1) * words)) };
        });
    }

    fn quantize(&mut self, kernels: &Kernels, threads: &Threads, x: &[f32]) {
        let (columns, groups, stride) = (self.columns, self.columns / GROUP, group_stride(self.columns));
        let all = Disjoint::new(&mut self.groups);
        let quantize = kernels.matmul.quantize;
        Self::in_chunks(x.len().checked_div(columns).unwrap_or(0), threads, |token| {
            // SAFETY: every token is in one chunk, so its part is borrowed once; the table is supported by the processor.
            unsafe { quantize(&x[token * columns..][..columns], all.part(token * stride..token * stride + groups)) };
        });
    }

    fn lay_out(&mut self, lay_out: LayOutKernel, threads: &Threads, x: &[f32]) {
        let (columns, groups) = (self.columns, self.columns.div_ceil(GROUP));
        let tiles = Disjoint::new(&mut self.tiles);
        threads.run(x.len().div_ceil(TILE_TOKENS * columns), &|index| {
            let tokens = &x[index * TILE_TOKENS * columns..];
            let tokens = &tokens[..tokens.len().min(TILE_TOKENS * columns)];
            // SAFETY: every tile is borrowed once; the table is supported by the processor.
            unsafe { lay_out(tokens, columns, tiles.part(index * groups..(index + 1) * groups)) };
        });
    }

    /// Copies rows of other activations, in the forms they have: `rows` holds each row's token.
    ///
    /// # Panics
    /// If there is no such token.
    pub(crate) fn gather(&mut self, threads: &Threads, from: &Activations, rows: &[u32]) {
        (self.tokens, self.columns, self.stride, self.words) = (rows.len(), from.columns, from.stride, from.words);
        self.prompts = 0;
        self.tiles.size(0, TokenTile::ZERO);
        let (stride, words) = (from.stride, from.words);
        let (groups, group_stride) = (from.columns / GROUP, group_stride(from.columns));
        self.values.size(if from.values.is_empty() { 0 } else { rows.len() * stride }, 0.0);
        self.rounded.size(if from.rounded.is_empty() { 0 } else { rows.len() * words }, 0);
        self.groups.size(if from.groups.is_empty() { 0 } else { rows.len() * group_stride }, ActivationGroup::ZERO);
        let some_values = !self.values.is_empty();
        let some_rounded = !self.rounded.is_empty();
        let some_groups = !self.groups.is_empty();
        let (values, all_groups) = (Disjoint::new(&mut self.values), Disjoint::new(&mut self.groups));
        let rounded = Disjoint::new(&mut self.rounded);
        let from = from.all();
        Self::in_chunks(rows.len(), threads, |row| {
            let token = rows[row] as usize;
            // SAFETY: every row is in one chunk, so its part is borrowed once.
            unsafe {
                if some_values {
                    values.part(row * stride..(row + 1) * stride).copy_from_slice(from.values(token));
                }
                if some_rounded {
                    rounded.part(row * words..(row + 1) * words).copy_from_slice(from.rounded(token));
                }
                if some_groups {
                    all_groups
                        .part(row * group_stride..row * group_stride + groups)
                        .copy_from_slice(from.groups(token));
                }
            }
        });
    }

    /// The number of tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// How many of them, the last ones, are of prompts.
    pub(super) fn prompts(&self) -> usize {
        self.prompts
    }

    /// The tokens of prompts in tiles, and in no other form.
    pub(super) fn in_tiles(&self) -> Rows<'_> {
        Rows { tokens: self.prompts, tiles: &self.tiles, ..self.rows(0..0) }
    }

    /// All tokens, for a product.
    pub fn all(&self) -> Rows<'_> {
        Rows {
            tokens: self.tokens,
            columns: self.columns,
            values: &self.values,
            stride: self.stride,
            rounded: &self.rounded,
            words: self.words,
            groups: &self.groups,
            tiles: &[],
        }
    }

    /// Some tokens, for a product.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn rows(&self, tokens: Range<usize>) -> Rows<'_> {
        assert!(tokens.start <= tokens.end && tokens.end <= self.tokens, "tokens {tokens:?} of {}", self.tokens);
        self.all().part(tokens)
    }
}

/// A contiguous range of tokens of [`Activations`].
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub(super) tokens: usize,
    pub(super) columns: usize,
    values: &'a [f32],
    stride: usize,
    rounded: &'a [u32],
    words: usize,
    groups: &'a [ActivationGroup],
    tiles: &'a [TokenTile],
}

impl<'a> Rows<'a> {
    /// The number of tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Some of the tokens; in tiles, from the first of one on.
    pub(super) fn part(&self, tokens: Range<usize>) -> Self {
        // A form may be there of no token, or of answers only.
        let part = |held: usize, size: usize| (tokens.start * size).min(held)..(tokens.end * size).min(held);
        let (first, end) = (tokens.start / TILE_TOKENS, tokens.end.div_ceil(TILE_TOKENS));
        let (groups, held) = (self.columns.div_ceil(GROUP), self.tiles.len());
        Rows {
            tokens: tokens.len(),
            values: &self.values[part(self.values.len(), self.stride)],
            rounded: &self.rounded[part(self.rounded.len(), self.words)],
            groups: &self.groups[part(self.groups.len(), self.group_stride())],
            tiles: &self.tiles[(first * groups).min(held)..(end * groups).min(held)],
            ..*self
        }
    }

    /// Whether all tokens are there in a form.
    pub(super) fn has(&self, form: Form) -> bool {
        let (held, of_token) = match form {
            Form::Plain => (self.values.len(), self.stride),
            Form::Rounded => (self.rounded.len(), self.words),
            Form::Quantised => (self.groups.len(), self.group_stride()),
        };
        held == self.tokens * of_token
    }

    /// The same of tiles.
    pub(super) fn has_tiles(&self) -> bool {
        self.tiles.len() == self.tokens.div_ceil(TILE_TOKENS) * self.columns.div_ceil(GROUP)
    }

    /// The tiles of block `block` of sixteen tokens, one for each 32 columns.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "read by AMX"))]
    pub(crate) fn tiles(&self, block: usize) -> &'a [TokenTile] {
        let groups = self.columns.div_ceil(GROUP);
        &self.tiles[block * groups..][..groups]
    }

    /// The f32 columns of a token, padded with zeros to a multiple of 32.
    pub(crate) fn values(&self, token: usize) -> &'a [f32] {
        &self.values[token * self.stride..][..self.stride]
    }

    /// The BF16 columns of a token, two a word, padded with zeros to a multiple of 32.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "read by AVX-512"))]
    pub(crate) fn rounded(&self, token: usize) -> &'a [u32] {
        &self.rounded[token * self.words..][..self.words]
    }

    /// The quantised groups of a token.
    pub(crate) fn groups(&self, token: usize) -> &'a [ActivationGroup] {
        &self.groups[token * self.group_stride()..][..self.columns / GROUP]
    }

    /// Groups from a token's to the next token's.
    pub(crate) fn group_stride(&self) -> usize {
        group_stride(self.columns)
    }
}
