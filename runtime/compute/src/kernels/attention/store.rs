//! Writes keys and values of new positions into their pages; the threads share pages and heads.

use std::ops::Range;

use half::f16;

use super::{AttentionShape, CacheType, PAGE_TOKENS, Role, cache};
use crate::kernels::Kernels;
use crate::kernels::threads::{Disjoint, Threads};

/// Consecutive positions of a sequence that are to be stored.
pub struct NewPositions<'a> {
    /// Their rows in the batch.
    pub rows: Range<usize>,
    /// The first one's slot in the first page.
    pub slot: usize,
    /// This layer's part of the pages that they go to, each of [`AttentionShape::page`] elements.
    pub pages: Vec<&'a mut [f16]>,
    /// The page before those, complete, if there is one.
    pub before: Option<&'a [f16]>,
}

/// Writes keys, `(rows, kv_heads * key_dim)`, and values, `(rows, kv_heads * value_dim)`, of a batch into pages. Values beyond the
/// range of f16 are clamped to it, whatever the type, so that one outlier does not turn every later score into infinity. NaN stays
/// NaN in F16 and becomes 0 in the quantised types.
///
/// # Panics
/// If lengths do not match the shape, or pages do not match the positions.
pub fn store(
    kernels: &Kernels,
    threads: &Threads,
    shape: &AttentionShape,
    keys: &[f32],
    values: &[f32],
    runs: &mut [NewPositions<'_>],
) {
    shape.check();
    let (key_columns, value_columns) = (shape.kv_heads * shape.key_dim, shape.kv_heads * shape.value_dim);
    let rows = keys.len() / key_columns;
    assert_eq!(keys.len(), rows * key_columns, "a key has {} heads of {} columns", shape.kv_heads, shape.key_dim);
    assert_eq!(values.len(), rows * value_columns, "{rows} values of {} heads", shape.kv_heads);
    let AttentionShape { kv_heads, key_dim, value_dim, cache, .. } = *shape;
    let of_keys = Side::new(Role::Keys, cache.keys, key_dim, keys, 0);
    let of_values = Side::new(Role::Values, cache.values, value_dim, values, kv_heads * of_keys.size);
    let page = shape.page();
    let runs = runs.iter_mut().map(|run| Run::new(page, run, rows)).collect();
    let storing = Storing { kernels, kv_heads, sides: [of_keys, of_values], runs };
    let pieces = storing.pieces();
    // Few positions are not worth another thread.
    let grain = (GRAIN * pieces.len()).div_ceil((keys.len() + values.len()).max(1));
    threads.run_ranges(pieces.len(), grain, &|range| pieces[range].iter().for_each(|piece| storing.write(piece)));
}

/// Minimum elements per thread: a few microseconds of work.
const GRAIN: usize = 8192;

/// [`NewPositions`] whose pages are written by several threads.
struct Run<'a> {
    rows: Range<usize>,
    slot: usize,
    pages: Vec<Disjoint<'a, f16>>,
    before: Option<&'a [f16]>,
}

impl<'a> Run<'a> {
    /// Checks that it belongs to a batch of `rows` rows, and that pages have `size` elements.
    fn new(size: usize, run: &'a mut NewPositions<'_>, rows: usize) -> Self {
        let NewPositions { rows: of_run, slot, pages, before } = run;
        assert!(of_run.start < of_run.end && of_run.end <= rows, "rows {of_run:?} of {rows}");
        assert!(*slot < PAGE_TOKENS, "slot {slot} of a page");
        let held = (*slot + of_run.len()).div_ceil(PAGE_TOKENS);
        assert_eq!(pages.len(), held, "pages of {} positions from slot {slot} on", of_run.len());
        let mut lengths = pages.iter().map(|page| page.len()).chain(before.iter().map(|page| page.len()));
        assert!(lengths.all(|length| length == size), "a page has {size} elements");
        let pages = pages.iter_mut().map(|page| Disjoint::new(page)).collect();
        Self { rows: of_run.clone(), slot: *slot, pages, before: *before }
    }

    /// The slots of a page that are written, and the row of the first.
    fn slots(&self, page: usize) -> (Range<usize>, usize) {
        let first = (page * PAGE_TOKENS).max(self.slot);
        let end = ((page + 1) * PAGE_TOKENS).min(self.slot + self.rows.len());
        (first - page * PAGE_TOKENS..end - page * PAGE_TOKENS, self.rows.start + first - self.slot)
    }
}

/// Keys or values of a batch, and where a page has them.
struct Side<'a> {
    role: Role,
    ty: CacheType,
    dim: usize,
    /// `(rows, kv_heads * dim)`.
    rows: &'a [f32],
    /// Elements of a page before those of the first head.
    first: usize,
    /// Elements of a page for one head.
    size: usize,
    /// Whether a page begins with a centre, which depends on the page before.
    centred: bool,
}

impl<'a> Side<'a> {
    fn new(role: Role, ty: CacheType, dim: usize, rows: &'a [f32], first: usize) -> Self {
        Side { role, ty, dim, rows, first, size: ty.page(role, dim), centred: ty.centre(role, dim) > 0 }
    }

    /// A head's part of a page.
    fn part(&self, head: usize) -> Range<usize> {
        self.first + head * self.size..self.first + (head + 1) * self.size
    }
}

/// What one thread writes: a head's part of some pages of a run.
struct Piece {
    run: usize,
    pages: Range<usize>,
    side: usize,
    head: usize,
}

struct Storing<'a> {
    kernels: &'a Kernels,
    kv_heads: usize,
    sides: [Side<'a>; 2],
    runs: Vec<Run<'a>>,
}

impl Storing<'_> {
    /// Every page with every head; where a page depends on the page before, all pages of a run, in order.
    fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(2 * self.kv_heads * self.runs.len());
        for (run, Run { pages, .. }) in self.runs.iter().enumerate() {
            for (side, Side { centred, .. }) in self.sides.iter().enumerate() {
                let together = if *centred { pages.len() } else { 1 };
                for first in (0..pages.len()).step_by(together) {
                    let pages = first..first + together;
                    pieces.extend((0..self.kv_heads).map(|head| Piece { run, pages: pages.clone(), side, head }));
                }
            }
        }
        pieces
    }

    fn write(&self, piece: &Piece) {
        let (run, side) = (&self.runs[piece.run], &self.sides[piece.side]);
        let (columns, column, part) = (self.kv_heads * side.dim, piece.head * side.dim, side.part(piece.head));
        for page in piece.pages.clone() {
            let (slots, first) = run.slots(page);
            let row = |slot: usize| &side.rows[(first + slot - slots.start) * columns + column..][..side.dim];
            // SAFETY: each head's keys or values of a page belong to one piece.
            let memory = unsafe { run.pages[page].part(part.clone()) };
            if slots.start == 0 && side.centred {
                let before = match page.checked_sub(1) {
                    // SAFETY: this piece has written that page, all of them being its own.
                    Some(page) => Some(unsafe { &*run.pages[page].part(part.clone()) }),
                    None => run.before.map(|before| &before[part.clone()]),
                };
                cache::set_centre(side.ty, memory, before, row(0));
            }
            slots.clone().for_each(|slot| self.write_row(side, memory, slot, row(slot)));
        }
    }

    #[inline]
    fn write_row(&self, side: &Side<'_>, memory: &mut [f16], slot: usize, row: &[f32]) {
        let convert = self.kernels.attention.convert;
        match side.ty {
            // SAFETY: tables are handed out only on processors that support them; the slices have the same length.
            CacheType::F16 => cache::store_f16(|from, to| unsafe { convert(from, to) }, side.role, memory, slot, row),
            ty => cache::store_blocks(ty, side.role, memory, slot, row),
        }
    }
}
