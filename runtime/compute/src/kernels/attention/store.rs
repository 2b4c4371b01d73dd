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
    let runs: Vec<Run<'_>> = runs.iter_mut().map(|run| Run::new(shape, run, rows)).collect();
    let storing = Storing { kernels, shape, keys, values, runs };
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
    fn new(shape: &AttentionShape, run: &'a mut NewPositions<'_>, rows: usize) -> Self {
        let NewPositions { rows: of_run, slot, pages, before } = run;
        assert!(of_run.start < of_run.end && of_run.end <= rows, "rows {of_run:?} of {rows}");
        assert!(*slot < PAGE_TOKENS, "slot {slot} of a page");
        let (held, size) = ((*slot + of_run.len()).div_ceil(PAGE_TOKENS), shape.page());
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

/// What one thread writes: a head's part of some pages of a run.
struct Piece {
    run: usize,
    pages: Range<usize>,
    role: Role,
    head: usize,
}

struct Storing<'a> {
    kernels: &'a Kernels,
    shape: &'a AttentionShape,
    keys: &'a [f32],
    values: &'a [f32],
    runs: Vec<Run<'a>>,
}

impl Storing<'_> {
    fn type_of(&self, role: Role) -> (CacheType, usize) {
        match role {
            Role::Keys => (self.shape.cache.keys, self.shape.key_dim),
            Role::Values => (self.shape.cache.values, self.shape.value_dim),
        }
    }

    /// Every page with every head; where a page's centre depends on the page before, all pages of a run, in order.
    fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(2 * self.shape.kv_heads * self.runs.len());
        for (run, Run { pages, .. }) in self.runs.iter().enumerate() {
            for role in [Role::Keys, Role::Values] {
                let (ty, dim) = self.type_of(role);
                let together = if ty.centre(role, dim) > 0 { pages.len() } else { 1 };
                let starts = (0..pages.len()).step_by(together);
                pieces.extend(starts.flat_map(|first| {
                    (0..self.shape.kv_heads).map(move |head| Piece { run, pages: first..first + together, role, head })
                }));
            }
        }
        pieces
    }

    fn write(&self, piece: &Piece) {
        let run = &self.runs[piece.run];
        let (role, head) = (piece.role, piece.head);
        let (ty, dim) = self.type_of(role);
        let (all, columns) = (if role == Role::Keys { self.keys } else { self.values }, self.shape.kv_heads * dim);
        let part = self.part(role, head);
        for page in piece.pages.clone() {
            let (slots, first) = run.slots(page);
            let mut rows = all[first * columns..].chunks_exact(columns).map(|row| &row[head * dim..][..dim]).peekable();
            // SAFETY: each head's keys or values of a page belong to one piece.
            let memory = unsafe { run.pages[page].part(part.clone()) };
            if slots.start == 0 && ty.centre(role, dim) > 0 {
                let before = match page.checked_sub(1) {
                    // SAFETY: this piece has written that page, all of them being its own.
                    Some(page) => Some(unsafe { &*run.pages[page].part(part.clone()) }),
                    None => run.before.map(|before| &before[part.clone()]),
                };
                cache::set_centre(ty, memory, before, rows.peek().expect("a written page has a row"));
            }
            slots.zip(rows).for_each(|(slot, row)| self.write_row(ty, role, memory, slot, row));
        }
    }

    fn write_row(&self, ty: CacheType, role: Role, memory: &mut [f16], slot: usize, row: &[f32]) {
        let convert = self.kernels.attention.convert;
        match ty {
            // SAFETY: tables are handed out only on processors that support them; the slices have the same length.
            CacheType::F16 => cache::store_f16(|from, to| unsafe { convert(from, to) }, role, memory, slot, row),
            ty => cache::store_blocks(ty, role, memory, slot, row),
        }
    }

    /// A head's keys or values in a page.
    fn part(&self, role: Role, head: usize) -> Range<usize> {
        let AttentionShape { kv_heads, key_dim, .. } = *self.shape;
        let (ty, dim) = self.type_of(role);
        let size = ty.page(role, dim);
        let first = if role == Role::Keys { 0 } else { kv_heads * self.shape.cache.keys.page(Role::Keys, key_dim) };
        first + head * size..first + (head + 1) * size
    }
}
