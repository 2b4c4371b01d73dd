//! The operations. An operation has one name here, in the CPU's kernels and in the `.wgsl` file.
//!
//! Rule for whoever carries them out: a row of a result depends on that row's inputs and its own sequence's state only, never
//! on the other rows of the step, so a sequence gives the same tokens whatever runs beside it.

use super::{Rope, Slot, Weight};

pub use satchel_compute::kernels::elementwise::Activation;
pub use satchel_compute::kernels::experts::ExpertActivation;

/// A factor of a whole matrix: formats of four bits keep one beside their blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    /// `(1)`
    pub weight: Weight,
    /// `(x · weightᵀ + bias) * factor` in place of `(x · weightᵀ) * factor + bias`.
    pub covers_bias: bool,
}

/// `out (rows, weight rows) = x · weightᵀ [* factor] [+ bias]`, or added to what `out` holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    /// `(rows, columns)`
    pub weight: Weight,
    /// `(rows)`
    pub bias: Option<Weight>,
    /// The weight's factor, where it has one.
    pub factor: Option<Factor>,
    /// Where the result goes.
    pub out: Slot,
    /// Add to `out` in place of overwriting it.
    pub add: bool,
}

/// What a norm takes off and divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `x / sqrt(mean(x²) + ε)`
    Rms,
    /// `(x - mean(x)) / sqrt(variance(x) + ε)`
    Layer,
    /// `x / max(sqrt(sum(x²)), ε)`
    L2,
}

/// A normalisation of groups of columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// How.
    pub kind: NormKind,
    /// Columns that are normalised together: all of a row, or one head's.
    pub width: usize,
    /// `(width)`, the same for all groups, or `(columns)`.
    pub weight: Option<Weight>,
    /// Like `weight`.
    pub bias: Option<Weight>,
    /// ε
    pub epsilon: f32,
}

/// Which positions a query sees of those up to its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The last `n`.
    Sliding(usize),
    /// Those of the same stretch of `n` positions (`llama4`).
    Chunked(usize),
}

impl Window {
    /// Positions that it looks back at the most.
    pub fn length(self) -> usize {
        match self {
            Self::Sliding(length) | Self::Chunked(length) => length,
        }
    }
}

/// How queries look at keys and values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Columns of a key's head, and of a query's.
    pub key_dim: usize,
    /// Columns of a value's head.
    pub value_dim: usize,
    /// Scores are multiplied by this before the softmax.
    pub scale: f32,
    /// What is seen of the past; `None`: all of it.
    pub window: Option<Window>,
    /// Scores are squashed to `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// Largest slope of a bias by distance (ALiBi, arXiv:2108.12409).
    pub alibi: Option<f32>,
    /// `(heads)`: a score of each head that takes part in the softmax and has no value.
    pub sinks: Option<Weight>,
    /// Positions see those before them only.
    pub causal: bool,
}

/// A layer's place in the state of a sequence.
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
    /// Softmax over the chosen ones.
    SoftmaxOfChosen,
}

/// How experts are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Router {
    /// How many there are.
    pub experts: usize,
    /// How many a row uses.
    pub used: usize,
    /// Weights out of scores.
    pub gating: Gating,
    /// `(experts)`, added to the gated scores to choose by, not to weigh by.
    pub bias: Option<Weight>,
    /// Choose by the scores as they are, not by what the gating makes of them (`llama4`).
    pub by_score: bool,
    /// Experts stand in so many groups, of which only the best are chosen from; 1: no groups.
    pub groups: usize,
    /// How many of them.
    pub groups_used: usize,
    /// Divide the chosen weights by their sum.
    pub normalise: bool,
    /// Multiply them by this.
    pub scale: f32,
}

/// Feed-forward experts: `down(activation(gate(x)) * up(x))` of each chosen one, weighed and added up.
#[derive(Clone, Copy, Debug, PartialEq)]
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
    /// `(experts)`: factors of the matrices.
    pub gate_factor: Option<Weight>,
    /// `(experts)`
    pub up_factor: Option<Weight>,
    /// `(experts)`
    pub down_factor: Option<Weight>,
    /// What happens between the products; plain where there is no gate.
    pub activation: ExpertActivation,
    /// Weights multiply what goes in, not what comes out (`llama4`).
    pub weigh_input: bool,
}

/// A recurrence over the rows of a sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Recurrence {
    /// Selective scan of Mamba (arXiv:2312.00752): a state of `state` for each of x's columns.
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
    /// Mamba 2 (arXiv:2405.21060): a decay for each head.
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
        /// `(value_heads)`: logarithm of what is kept.
        decay: Slot,
        /// `(value_heads)`: how much is learned.
        beta: Slot,
        /// Heads of queries and keys.
        key_heads: usize,
        /// Heads of values.
        value_heads: usize,
        /// Value heads of one key head stand together; otherwise value head `i` reads key head `i % key_heads`.
        interleaved: bool,
    },
}

/// How rows of a sequence become one.
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
    /// Each head of `x` by its own matrix of a stack: `out[head] = weight[head] · x[head]`.
    LinearHeads { x: Slot, weight: Weight, out: Slot },
    /// Every `stride` columns of `x` give `width` columns of `out`, from the `first` of them on.
    Split { x: Slot, first: usize, width: usize, stride: usize, out: Slot },
    /// Heads made of a part of their own and a part: `out[head] = (x[head], y[head])`, `y` once for all where it has one head.
    Join { x: Slot, y: Slot, heads: usize, out: Slot },
    /// Rotates `heads` of `x` by the rows' positions, in place, from the `first` element of a head on.
    Rope { x: Slot, rope: Rope, heads: usize, first: usize },
    /// Keys and values of the rows go into the cache.
    Store { kept: Kept, key: Slot, value: Slot },
    /// Attention of every row over its own sequence's positions.
    Attend { kept: Kept, shape: Attention, query: Slot, out: Slot },
    /// `out = activation(x)`
    Activate { activation: Activation, x: Slot, out: Slot },
    /// `out = activation(gate) * up`
    Gate { activation: Activation, gate: Slot, up: Slot, out: Slot },
    /// `to += x`
    Add { x: Slot, to: Slot },
    /// `to *= x`, where a column of `x` multiplies `width` of `to`.
    Multiply { x: Slot, to: Slot, width: usize },
    /// `to *= vector`, where an element of `vector` multiplies `width` columns of `to`.
    MultiplyVector { vector: Weight, to: Slot, width: usize },
    /// `to /= vector`
    DivideVector { vector: Weight, to: Slot },
    /// `x *= factor`
    Scale { x: Slot, factor: f32 },
    /// `x = cap * tanh(x / cap)`
    Softcap { x: Slot, cap: f32 },
    /// `x = min(max(x, -limit), limit)`
    Clamp { x: Slot, limit: f32 },
    /// Queries grow with the logarithm of their position (`llama4`, `mistral3`): `x *= 1 + scale * ln(1 + floor((position + offset) / length))`.
    Temperature { x: Slot, scale: f32, length: usize, offset: f32 },
    /// `out = (chosen experts, their weights)`, `2 * used` columns.
    Route { scores: Slot, router: Router, out: Slot },
    /// `out = Σ weight · expert(x)` over the chosen ones.
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
    /// One row a sequence: of the rows of each wanted row's sequence in this step.
    Pool { pooling: Pooling, x: Slot, out: Slot },
}
