//! The operations of a plan.
//!
//! Contract for devices: a result row depends only on that row's inputs and its own sequence's state, never on other rows of the
//! step, so a sequence gives the same tokens whatever runs beside it.

use super::{Rope, Slot, Weight};

pub use satchel_compute::kernels::elementwise::Activation;
pub use satchel_compute::kernels::experts::ExpertActivation;

/// A scale for a whole matrix, which four-bit formats store beside their blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    /// `(1)`
    pub weight: Weight,
    /// `(x · weightᵀ + bias) * factor` instead of `(x · weightᵀ) * factor + bias`.
    pub covers_bias: bool,
}

/// `out (rows, weight rows) = x · weightᵀ [* factor] [+ bias]`, or added to what `out` holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    /// `(rows, columns)`
    pub weight: Weight,
    /// `(rows)`
    pub bias: Option<Weight>,
    /// The weight's factor, if it has one.
    pub factor: Option<Factor>,
    /// Where the result goes.
    pub out: Slot,
    /// Add to `out` instead of overwriting it.
    pub add: bool,
}

/// What a norm subtracts and divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `x / sqrt(mean(x²) + ε)`
    Rms,
    /// `(x - mean(x)) / sqrt(variance(x) + ε)`
    Layer,
    /// `x / max(sqrt(sum(x²)), ε)`
    L2,
}

/// Normalises groups of columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// How.
    pub kind: NormKind,
    /// Columns normalised together: a whole row, or one head.
    pub width: usize,
    /// `(width)`, shared by all groups, or `(columns)`.
    pub weight: Option<Weight>,
    /// Like `weight`.
    pub bias: Option<Weight>,
    /// ε
    pub epsilon: f32,
}

/// Which of the positions up to its own a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The last `n`.
    Sliding(usize),
    /// Those in its own chunk of `n` positions (`llama4`).
    Chunked(usize),
}

impl Window {
    /// Maximum positions it looks back.
    pub fn length(self) -> usize {
        match self {
            Self::Sliding(length) | Self::Chunked(length) => length,
        }
    }
}

/// Parameters of attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Columns per key and query head.
    pub key_dim: usize,
    /// Columns per value head.
    pub value_dim: usize,
    /// Scores are multiplied by this before the softmax.
    pub scale: f32,
    /// Visible part of the past; `None`: all of it.
    pub window: Option<Window>,
    /// Scores become `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// Maximum slope of distance biases (ALiBi, arXiv:2108.12409).
    pub alibi: Option<f32>,
    /// `(heads)`: per head a score that joins the softmax but has no value.
    pub sinks: Option<Weight>,
    /// Positions see only earlier ones and themselves.
    pub causal: bool,
}

/// A layer's place in a sequence's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// An index into [`super::StateLayout::groups`].
    pub group: usize,
    /// The layer within the group.
    pub layer: usize,
}

/// How a router's scores become weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gating {
    /// Softmax over all experts.
    Softmax,
    /// A sigmoid for each expert.
    Sigmoid,
    /// Softmax over the chosen experts.
    SoftmaxOfChosen,
}

/// How experts are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Router {
    /// Number of experts.
    pub experts: usize,
    /// Experts used per row.
    pub used: usize,
    /// How scores become weights.
    pub gating: Gating,
    /// `(experts)`, added to the gated scores for choosing, but not for weighting.
    pub bias: Option<Weight>,
    /// Choose by raw scores instead of gated ones (`llama4`).
    pub by_score: bool,
    /// Number of expert groups, of which only the best are considered; 1: no groups.
    pub groups: usize,
    /// Number of groups considered.
    pub groups_used: usize,
    /// Divide the chosen weights by their sum.
    pub normalise: bool,
    /// Scale of the weights.
    pub scale: f32,
}

/// Feed-forward experts: the weighted sum of `down(activation(gate(x)) * up(x))` over the chosen ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Experts {
    /// Stack of `(feed_forward, embedding)`; `None`: `down(activation(up(x)))`.
    pub gate: Option<Weight>,
    /// Stack of `(feed_forward, embedding)`
    pub up: Weight,
    /// Stack of `(embedding, feed_forward)`
    pub down: Weight,
    /// `(experts, feed_forward)`
    pub gate_bias: Option<Weight>,
    /// `(experts, feed_forward)`
    pub up_bias: Option<Weight>,
    /// `(experts, embedding)`
    pub down_bias: Option<Weight>,
    /// `(experts)`: scales of the matrices.
    pub gate_factor: Option<Weight>,
    /// `(experts)`
    pub up_factor: Option<Weight>,
    /// `(experts)`
    pub down_factor: Option<Weight>,
    /// Applied between the products; plain if there is no gate.
    pub activation: ExpertActivation,
    /// Weights multiply an expert's input instead of its output (`llama4`).
    pub weigh_input: bool,
    /// What adapters add to the products, for the rows whose sequence uses them.
    pub adapters: Vec<AdaptedExperts>,
}

/// What an adapter adds to the products of experts.
#[derive(Clone, Debug, PartialEq)]
pub struct AdaptedExperts {
    /// Which adapter.
    pub adapter: usize,
    /// Where it changes the gate.
    pub gate: Option<AdaptedStack>,
    /// Where it changes `up`.
    pub up: Option<AdaptedStack>,
    /// Where it changes `down`.
    pub down: Option<AdaptedStack>,
}

/// `scale · B · A` for each expert of a stack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptedStack {
    /// Stack of `(rank, inputs)`
    pub a: Weight,
    /// Stack of `(outputs, rank)`
    pub b: Weight,
    /// Its factor.
    pub scale: f32,
}

impl Experts {
    /// The stacks that are multiplied with.
    pub fn stacks(&self) -> impl Iterator<Item = Weight> {
        let adapted = self.adapters.iter().flat_map(|of| [of.gate, of.up, of.down]).flatten();
        let own = [self.gate, Some(self.up), Some(self.down)].into_iter().flatten();
        own.chain(adapted.flat_map(|stack| [stack.a, stack.b]))
    }
}

/// A recurrence over the rows of a sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Recurrence {
    /// Selective scan of Mamba (arXiv:2312.00752): `state` elements for each column of `x`.
    Mamba {
        /// `(columns)`
        x: Slot,
        /// `(columns)`, before softplus.
        dt: Slot,
        /// `(state)`
        b: Slot,
        /// `(state)`
        c: Slot,
        /// `(columns, state)`
        a: Weight,
        /// `(columns)`
        d: Weight,
    },
    /// Mamba-2 (arXiv:2405.21060): one decay per head.
    Mamba2 {
        /// `(heads, head_dim)`
        x: Slot,
        /// `(heads)`, before softplus.
        dt: Slot,
        /// `(groups, state)`
        b: Slot,
        /// `(groups, state)`
        c: Slot,
        /// `(heads)`
        a: Weight,
        /// `(heads)`
        d: Weight,
        /// Heads.
        heads: usize,
        /// Groups of heads that share `b` and `c`.
        groups: usize,
    },
    /// Gated delta rule (arXiv:2412.06464): an associative memory `(key_dim, value_dim)` for each value head.
    GatedDelta {
        /// `(key_heads, key_dim)`
        query: Slot,
        /// `(key_heads, key_dim)`
        key: Slot,
        /// `(value_heads, value_dim)`
        value: Slot,
        /// `(value_heads)`: log decay of the state.
        decay: Slot,
        /// `(value_heads)`: learning rate.
        beta: Slot,
        /// Heads of queries and keys.
        key_heads: usize,
        /// Heads of values.
        value_heads: usize,
        /// Adjacent value heads share a key head; otherwise value head `i` uses key head `i % key_heads`.
        interleaved: bool,
    },
}

/// How a sequence's rows are pooled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first.
    First,
    /// The last.
    Last,
}

/// One operation.
#[allow(missing_docs, reason = "a variant's comment names its fields")]
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `out = table[token] * scale`, or a given embedding.
    Embed { table: Weight, scale: f32, out: Slot },
    /// `x += table[position]`
    Position { table: Weight, x: Slot },
    /// `x += vector`
    Bias { vector: Weight, x: Slot },
    /// `out = norm(x)`
    Norm { x: Slot, norm: Norm, out: Slot },
    /// Several products with the same `x`.
    Linear { x: Slot, products: Vec<Product> },
    /// Multiplies each head of `x` by its own matrix of a stack: `out[head] = weight[head] · x[head]`.
    LinearHeads { x: Slot, weight: Weight, out: Slot },
    /// From every `stride` columns of `x`, takes `width` columns from `first` on.
    Split { x: Slot, first: usize, width: usize, stride: usize, out: Slot },
    /// Concatenates two parts per head: `out[head] = (x[head], y[head])`; `y` is shared if it is one head wide.
    Join { x: Slot, y: Slot, heads: usize, out: Slot },
    /// Rotates `heads` of `x` by the rows' positions, in place, from element `first` of each head on.
    Rope { x: Slot, rope: Rope, heads: usize, first: usize },
    /// Stores the rows' keys and values in the cache.
    Store { kept: Kept, key: Slot, value: Slot },
    /// Attention of every row over its own sequence's positions.
    Attend { kept: Kept, shape: Attention, query: Slot, out: Slot },
    /// `out = activation(x)`
    Activate { activation: Activation, x: Slot, out: Slot },
    /// `out = activation(gate) * up`
    Gate { activation: Activation, gate: Slot, up: Slot, out: Slot },
    /// `to += x`
    Add { x: Slot, to: Slot },
    /// `to *= x`, where each column of `x` multiplies `width` columns of `to`.
    Multiply { x: Slot, to: Slot, width: usize },
    /// `to *= vector`, where each element of `vector` multiplies `width` columns of `to`.
    MultiplyVector { vector: Weight, to: Slot, width: usize },
    /// `to /= vector`
    DivideVector { vector: Weight, to: Slot },
    /// `x *= factor`
    Scale { x: Slot, factor: f32 },
    /// `x *= scale` in the rows whose sequence uses the adapter, 0 in the others.
    Adapt { x: Slot, adapter: usize, scale: f32 },
    /// `x = cap * tanh(x / cap)`
    Softcap { x: Slot, cap: f32 },
    /// `x = min(max(x, -limit), limit)`
    Clamp { x: Slot, limit: f32 },
    /// Scales queries with the logarithm of their position (`llama4`, `mistral3`):
    /// `x *= 1 + scale * ln(1 + floor((position + offset) / length))`.
    Temperature { x: Slot, scale: f32, length: usize, offset: f32 },
    /// `out = (chosen experts, their weights)`, `2 * used` columns.
    Route { scores: Slot, router: Router, out: Slot },
    /// `out = Σ weight · expert(x)` over the chosen experts.
    Experts { x: Slot, routes: Slot, experts: Experts, out: Slot },
    /// Causal convolution of each column over its last `kernel` rows; `weight (columns, kernel)`, `bias (columns)`.
    Convolve {
        x: Slot,
        kept: Kept,
        kernel: usize,
        weight: Weight,
        bias: Option<Weight>,
        activation: Option<Activation>,
        out: Slot,
    },
    /// A recurrence over the rows of a sequence.
    Recur { kept: Kept, recurrence: Recurrence, out: Slot },
    /// Keeps the wanted rows.
    Select { x: Slot, out: Slot },
    /// One row per sequence, pooled from those rows of each wanted row's sequence that are in this step.
    Pool { pooling: Pooling, x: Slot, out: Slot },
}
