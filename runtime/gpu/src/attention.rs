//! Attention's shapes: how many queries a workgroup has, and whether the context is split over workgroups. All give the same bits.

use crate::kernel::{Kernel, shader};
use crate::text::expand;

/// What attention writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Its result.
    Values,
    /// Its result as int8, for products with block types.
    Levels,
    /// The sums of each segment, for [`Kernel::AttendMerge`].
    Split,
}

/// When a call is made, of attention that is prepared in two ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// In every step.
    #[default]
    Always,
    /// Where the context is not split, for so many heads.
    Whole(usize),
    /// Where it is.
    Split(usize),
}

/// Rows for whose split sums there has to be room.
pub const SPLIT_ROWS: usize = 8;
/// Positions of a segment.
pub const SEGMENT: usize = 256;
/// Workgroups that fill a GPU.
const MANY: usize = 256;

impl When {
    /// Whether the call is made in a step of so many rows that see so many positions. Few rows that look far back leave most of a GPU
    /// without work unless the context is split.
    pub(crate) fn holds(self, rows: usize, seen: usize) -> bool {
        let splits = |heads: usize| rows <= SPLIT_ROWS && heads * rows < MANY && segments(seen) > 2;
        match self {
            Self::Always => true,
            Self::Whole(heads) => !splits(heads),
            Self::Split(heads) => splits(heads),
        }
    }
}

/// Segments of so many positions.
pub fn segments(positions: usize) -> usize {
    positions.div_ceil(SEGMENT)
}

/// The queries that a workgroup has: as many as leave workgroups enough, and as fit into its memory.
pub(crate) fn queries(dims: (u32, u32), kv_heads: usize, items: usize, deep: usize, workgroup_bytes: u32) -> u32 {
    let fits = |queries: u32| {
        let words = queries * (dims.0 + dims.1 + 256 + 64 + 32) + 512;
        queries * dims.0.max(dims.1) <= 1024 && 4 * words <= workgroup_bytes
    };
    let enough = |queries: u32| kv_heads * items.div_ceil(queries as usize) * deep >= MANY;
    [8, 4, 2].into_iter().find(|queries| fits(*queries) && enough(*queries)).unwrap_or(1)
}

/// The text of attention, apart from `common.wgsl`.
pub(crate) fn source(key_dim: u32, value_dim: u32, queries: u32, into: Output) -> String {
    let (files, split) = match into {
        Output::Values => (vec![shader!("attend_last"), shader!("attend_write")], false),
        Output::Levels => (vec![shader!("attend_last"), shader!("levels"), shader!("attend_quantize")], false),
        Output::Split => (vec![shader!("attend_last"), shader!("attend_split")], true),
    };
    let own = (value_dim / 2).div_ceil(64);
    let held = (queries * value_dim).div_ceil(256);
    let constants = format!(
        "const THREADS = 256u;\nconst KEY_DIM = {key_dim}u;\nconst VALUE_DIM = {value_dim}u;\nconst QUERIES = {queries}u;\n\
         const SPLIT = {split};\n"
    );
    let body = expand(shader!("attend"), &[("QUERIES", queries), ("OWN", own), ("HELD", held)]);
    format!("{constants}{}{body}{}", shader!("attend_params"), files.concat())
}

/// The text of what merges segments.
pub(crate) fn merge_source(value_dim: u32, quantize: bool) -> String {
    let write = if quantize { [shader!("levels"), shader!("merge_quantize")] } else { ["", shader!("merge_write")] };
    let constants = format!("const THREADS = 64u;\nconst VALUE_DIM = {value_dim}u;\n");
    format!(
        "{constants}{}{}{}{}",
        shader!("attend_params"),
        shader!("attend_merge"),
        shader!("attend_last"),
        write.concat()
    )
}

/// Attention with some sizes of heads, in every way.
pub(crate) fn all() -> Vec<Kernel> {
    let mut all = Vec::new();
    for (key_dim, value_dim) in [(8, 8), (64, 64), (80, 80), (128, 128), (192, 128), (256, 256)] {
        let levels: &[Output] = if value_dim % 32 == 0 { &[Output::Levels] } else { &[] };
        for into in [Output::Values, Output::Split].iter().chain(levels) {
            all.extend([1, 2, 4].map(|queries| Kernel::Attend { key_dim, value_dim, queries, into: *into }));
        }
        all.push(Kernel::AttendMerge { value_dim, quantize: false });
        all.extend((!levels.is_empty()).then_some(Kernel::AttendMerge { value_dim, quantize: true }));
    }
    all.extend([Output::Values, Output::Levels].map(|into| Kernel::Attend {
        key_dim: 128,
        value_dim: 128,
        queries: 8,
        into,
    }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_that_look_far_back_are_split() {
        let split = |rows, seen| (When::Split(32).holds(rows, seen), When::Whole(32).holds(rows, seen));
        assert_eq!(split(1, 512), (false, true));
        assert_eq!(split(1, 513), (true, false));
        assert_eq!(split(7, 5000), (true, false));
        assert_eq!(split(8, 5000), (false, true), "256 workgroups are enough");
        assert!(When::Always.holds(1, 1));
    }

    #[test]
    fn a_workgroup_has_as_many_queries_as_leave_work_for_others() {
        assert_eq!(queries((128, 128), 8, 4, 1, 32 << 10), 1);
        assert_eq!(queries((128, 128), 8, 512 * 4, 1, 32 << 10), 8);
        assert_eq!(queries((128, 128), 8, 512 * 4, 1, 16 << 10), 4);
        assert_eq!(queries((128, 128), 8, 4, 16, 32 << 10), 2);
        assert_eq!(queries((576, 512), 1, 5000, 1, 32 << 10), 1);
    }
}
