//! Which layers a GPU takes: those that its shaders cover and its memory holds, from one end of the model.
//!
//! What fits is predicted from the plan: the weights in the GPU's own layout, keys and values of full contexts, and activations of
//! the largest step. Layers that stay on the CPU are whole layers at one end, so that a token crosses once. The end of the model is preferred for
//! the GPU: its logits are read back anyway, and the head is the largest matrix.

use std::collections::BTreeMap;
use std::ops::Range;

use satchel_gpu::matrix::row_words;

use super::cover::{lacking, refused, uncovered};
use crate::plan::{BLOCK_TOKENS, CacheTypes, Head, Op, Plan, Role, StateGroup, Weight, WeightUse};

/// The largest load that a model is to run.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Rows of a step.
    pub tokens: usize,
    /// Wanted rows.
    pub outputs: usize,
    /// Pages of each group of state.
    pub pages: Vec<usize>,
}

/// Bytes of a GPU's memory, by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// Weights.
    pub weights: u64,
    /// Keys, values and recurrent states.
    pub state: u64,
    /// Activations.
    pub scratch: u64,
}

impl Needed {
    /// For a plan, or a part of one.
    pub fn of(plan: &Plan, load: &Load) -> Self {
        // Rows that the CPU looks up are not there; the table of tokens is, where steps are begun ahead.
        let on_the_gpu = plan.ops.iter().filter(|op| !matches!(op, Op::Embed { .. } | Op::Position { .. }));
        let mut used: Vec<usize> = on_the_gpu.flat_map(Op::weights).map(|weight| weight.0).collect();
        used.extend(table_of(plan, &(0..plan.ops.len())).map(|table| table.0));
        used.sort_unstable();
        used.dedup();
        let weights = used.into_iter().map(|weight| {
            let weight = &plan.weights[weight];
            let row = match weight.role {
                Role::Matrix | Role::Table => row_words(weight.ty, weight.columns),
                Role::Vector => weight.columns,
            };
            4 * (row * weight.rows * weight.stack) as u64
        });
        let state = plan.state.groups.iter().zip(&load.pages).map(|(group, pages)| {
            let page = match *group {
                StateGroup::Paged { layers, heads, key_dim, value_dim, .. } => {
                    2 * BLOCK_TOKENS * layers * heads * (key_dim + value_dim)
                }
                StateGroup::Recurrent { layers, elements } => 4 * layers * elements,
            };
            page as u64 * *pages as u64
        });
        let widest = plan.ops.iter().filter_map(|op| match op {
            Op::Linear { x, .. } => Some(plan.slot(*x).columns),
            _ => None,
        });
        // Products of block types take their activations as int8: 48 bytes for each 32.
        let quantized = 48 * (load.tokens.max(load.outputs) * widest.max().unwrap_or(0).div_ceil(32)) as u64;
        Self {
            weights: weights.sum(),
            state: state.sum(),
            scratch: plan.activation_bytes(load.tokens, load.outputs) + quantized,
        }
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.weights + self.state + self.scratch
    }
}

/// The token table of a plan that is on the GPU from its first operation to its logits, if steps can be begun ahead: a recurrent state
/// could not be taken back. Where the model's head has the same rows, that matrix, so that they are sent once.
pub(super) fn table_of(plan: &Plan, ops: &Range<usize>) -> Option<Weight> {
    let whole = *ops == (0..plan.ops.len()) && matches!(plan.head, Head::Logits(_));
    let ends_here = plan.ops.iter().flat_map(Op::writes).any(|slot| slot == plan.head.slot());
    let whole = whole && ends_here && !plan.state.has_recurrent();
    let Some(Op::Embed { table, .. }) = plan.ops.first().filter(|_| whole) else { return None };
    let own = &plan.weights[table.0];
    let same = |other: &WeightUse| {
        (other.role, other.stack) == (Role::Matrix, 1)
            && (other.part, other.offset, other.ty) == (own.part, own.offset, own.ty)
            && (other.rows, other.columns) == (own.rows, own.columns)
    };
    Some(plan.weights.iter().position(same).map_or(*table, Weight))
}

/// What a GPU takes of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Operations.
    pub ops: Range<usize>,
    /// Layers.
    pub layers: Range<usize>,
    /// Layers of the model.
    pub of: usize,
    /// Memory at the largest load.
    pub needed: Needed,
    /// Why it takes no more; empty if it takes all, or as many as were asked for.
    pub why: String,
}

impl Placed {
    /// Whether the CPU keeps no operation but the look-up of tokens.
    pub fn is_all(&self) -> bool {
        self.layers.len() == self.of && self.why.is_empty()
    }

    /// `all layers`, `the last 12 of 16 layers`
    pub fn words(&self) -> String {
        let count = self.layers.len();
        match (self.layers.start, self.layers.end == self.of) {
            (0, true) => "all layers".to_owned(),
            (_, true) => format!("the last {count} of {} layers", self.of),
            _ => format!("the first {count} of {} layers", self.of),
        }
    }
}

/// Part of a GPU's memory that a model may take: drivers, displays and other programs need some.
const SHARE: (u64, u64) = (9, 10);

/// The most layers that a GPU with this memory can take, or `asked` of them.
///
/// # Errors
/// One line, without its end: why it takes none, or not as many.
pub fn place(
    plan: &Plan,
    cache: CacheTypes,
    load: &Load,
    memory: Option<u64>,
    asked: Option<usize>,
) -> Result<Placed, String> {
    if let Some(why) = refused(plan, cache) {
        return Err(why);
    }
    let usable = memory.map(|bytes| bytes / SHARE.1 * SHARE.0);
    let starts = plan.layers();
    let asked = asked.map(|asked| asked.min(starts.len()));
    let mut refusals: Vec<String> = Vec::new();
    for (ops, layers) in candidates(plan, &starts) {
        if asked.is_some_and(|asked| asked != layers.len()) {
            continue;
        }
        if let Some(why) = uncovered(plan, ops.clone(), cache) {
            refusals.push(why);
            continue;
        }
        let needed = Needed::of(&plan.part(ops.clone()), load);
        if let Some(usable) = usable.filter(|usable| needed.total() > *usable) {
            refusals.push(too_large(layers.len(), &needed, usable));
            continue;
        }
        let rest = asked.is_none() && (layers.len() < starts.len() || ops.end < plan.ops.len());
        let why = if rest { reason(plan, &layers, &starts, refusals.last()) } else { String::new() };
        return Ok(Placed { ops, layers, of: starts.len(), needed, why });
    }
    Err(refusals
        .into_iter()
        .next_back()
        .unwrap_or_else(|| "the model has no layers that could be told apart".to_owned()))
}

/// Ranges of operations with their layers, the largest first.
fn candidates(plan: &Plan, starts: &[usize]) -> Vec<(Range<usize>, Range<usize>)> {
    let (layers, end) = (starts.len(), plan.ops.len());
    let mut all = vec![(0..end, 0..layers)];
    for count in (1..=layers).rev() {
        let last = starts[layers - count]..end;
        let first = 0..starts.get(count).copied().unwrap_or(plan.first_output_op);
        all.extend([(last, layers - count..layers), (first, 0..count)]);
    }
    all.retain(|(ops, _)| plan.may_cut(ops.start) && plan.may_cut(ops.end));
    all
}

fn too_large(layers: usize, needed: &Needed, usable: u64) -> String {
    format!(
        "{layers} {} {} MiB ({} of weights, {} for the context), and it has {}",
        if layers == 1 { "layer takes" } else { "layers take" },
        needed.total().div_ceil(1 << 20),
        needed.weights >> 20,
        needed.state >> 20,
        usable >> 20
    )
}

/// Why the other layers stay on the CPU: operations without a shader, by layer, or memory.
fn reason(plan: &Plan, taken: &Range<usize>, starts: &[usize], refusal: Option<&String>) -> String {
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, op) in plan.ops.iter().enumerate() {
        let Some(layer) = starts.iter().rposition(|start| *start <= at) else { continue };
        if let Some(name) = lacking(plan, op).filter(|_| !taken.contains(&layer)) {
            let layers = by_name.entry(name).or_default();
            if layers.last() != Some(&layer) {
                layers.push(layer);
            }
        }
    }
    if by_name.is_empty() {
        return refusal.cloned().unwrap_or_default();
    }
    let each = by_name.iter().map(|(name, layers)| format!("{name} ({})", listed(layers)));
    format!("there is no shader yet for {}", each.collect::<Vec<_>>().join(", "))
}

/// [0, 1, 2, 5] -> "layers 0 to 2, 5"
fn listed(layers: &[usize]) -> String {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for &layer in layers {
        match runs.last_mut() {
            Some(run) if run.end == layer => run.end += 1,
            _ => runs.push(layer..layer + 1),
        }
    }
    let run = |run: &Range<usize>| match run.len() {
        1 => run.start.to_string(),
        _ => format!("{} to {}", run.start, run.end - 1),
    };
    let word = if layers.len() == 1 { "layer" } else { "layers" };
    format!("{word} {}", runs.iter().map(run).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_listed_in_runs() {
        assert_eq!(listed(&[3]), "layer 3");
        assert_eq!(listed(&[0, 1, 2, 5, 7, 8]), "layers 0 to 2, 5, 7 to 8");
    }
}
