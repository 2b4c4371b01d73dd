//! Builds a plan: weights, slots and operations, in the order of a model's definition.
//!
//! One method per operation, which returns its result slot; `model/blocks` composes layers of them. Widths are checked as
//! operations are added, so that contradictory numbers in a file are an error here, never in a kernel.

use super::buffers::{self, Rows};
use super::{
    Activation, Attention, Experts, Factor, Head, Kept, Norm, Op, Plan, Pooling, Product, Recurrence, Rope, Router,
    Slot, SlotShape, StateGroup, StateLayout, Weight, WeightUse,
};

/// A linear layer: `x · weightᵀ [* factor] [+ bias]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linear {
    /// `(outputs, inputs)`
    pub weight: Weight,
    /// `(outputs)`
    pub bias: Option<Weight>,
    /// A factor for the whole matrix.
    pub factor: Option<Factor>,
}

/// A plan under construction.
#[derive(Debug, Default)]
pub struct PlanBuilder {
    weights: Vec<WeightUse>,
    slots: Vec<SlotShape>,
    ops: Vec<Op>,
    groups: Vec<StateGroup>,
    /// Index of the operation that keeps the wanted rows.
    select: Option<usize>,
}

impl PlanBuilder {
    /// An empty plan.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a weight.
    pub fn weight(&mut self, weight: WeightUse) -> Weight {
        self.weights.push(weight);
        Weight(self.weights.len() - 1)
    }

    /// How a weight is used.
    pub fn weight_use(&self, weight: Weight) -> &WeightUse {
        &self.weights[weight.0]
    }

    /// Columns of a slot.
    pub fn columns(&self, slot: Slot) -> usize {
        self.slots[slot.0].columns
    }

    fn slot(&mut self, columns: usize) -> Slot {
        let rows = if self.select.is_some() { Rows::Outputs } else { Rows::Tokens };
        self.slots.push(SlotShape { columns, rows, buffer: usize::MAX });
        Slot(self.slots.len() - 1)
    }

    /// Adds `op` with a new slot for its result.
    fn result(&mut self, columns: usize, op: impl FnOnce(Slot) -> Op) -> Slot {
        let out = self.slot(columns);
        self.ops.push(op(out));
        out
    }

    /// Reserves a layer's state in the group of its shape; `layers` of `group` is ignored.
    pub fn keep(&mut self, group: StateGroup) -> Kept {
        let alike = |known: &StateGroup| match (known, &group) {
            (
                StateGroup::Paged { heads, key_dim, value_dim, window, .. },
                StateGroup::Paged { heads: h, key_dim: k, value_dim: v, window: w, .. },
            ) => (heads, key_dim, value_dim, window) == (h, k, v, w),
            (StateGroup::Recurrent { elements, .. }, StateGroup::Recurrent { elements: e, .. }) => elements == e,
            _ => false,
        };
        let index = self.groups.iter().position(alike).unwrap_or_else(|| {
            let mut group = group.clone();
            match &mut group {
                StateGroup::Paged { layers, .. } | StateGroup::Recurrent { layers, .. } => *layers = 0,
            }
            self.groups.push(group);
            self.groups.len() - 1
        });
        match &mut self.groups[index] {
            StateGroup::Paged { layers, .. } | StateGroup::Recurrent { layers, .. } => {
                *layers += 1;
                Kept { group: index, layer: *layers - 1 }
            }
        }
    }

    /// Whether any attention goes by the distance back: within a window, or with a bias.
    pub fn looks_back_by_distance(&self) -> bool {
        let by_distance = |shape: &Attention| shape.window.is_some() || shape.alibi.is_some();
        self.ops.iter().any(|op| matches!(op, Op::Attend { shape, .. } if by_distance(shape)))
    }

    /// `table[token] * scale`
    pub fn embed(&mut self, table: Weight, scale: f32) -> Slot {
        let columns = self.weights[table.0].columns;
        self.result(columns, |out| Op::Embed { table, scale, out })
    }

    /// Adds an operation that changes slots in place.
    pub fn apply(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// `norm(x)`
    pub fn norm(&mut self, x: Slot, norm: Norm) -> Slot {
        let columns = self.columns(x);
        debug_assert!(columns.is_multiple_of(norm.width), "{columns} columns in groups of {}", norm.width);
        self.result(columns, |out| Op::Norm { x, norm, out })
    }

    /// One linear layer.
    pub fn linear(&mut self, x: Slot, linear: Linear) -> Slot {
        self.linears(x, &[linear])[0]
    }

    /// Several linear layers with the same input, in one operation.
    pub fn linears(&mut self, x: Slot, linears: &[Linear]) -> Vec<Slot> {
        let outs: Vec<Slot> = linears.iter().map(|linear| self.slot(self.weights[linear.weight.0].rows)).collect();
        let product = |(linear, &out): (&Linear, &Slot)| Product {
            weight: linear.weight,
            bias: linear.bias,
            factor: linear.factor,
            out,
            add: false,
        };
        let products = linears.iter().zip(&outs).map(product).collect();
        self.ops.push(Op::Linear { x, products });
        outs
    }

    /// `to += linear(x)`
    pub fn linear_add(&mut self, x: Slot, linear: Linear, to: Slot) {
        let Linear { weight, bias, factor } = linear;
        self.ops.push(Op::Linear { x, products: vec![Product { weight, bias, factor, out: to, add: true }] });
    }

    /// Each head by its own matrix of a stack.
    pub fn linear_heads(&mut self, x: Slot, weight: Weight) -> Slot {
        let WeightUse { rows, stack, .. } = self.weights[weight.0];
        self.result(rows * stack, |out| Op::LinearHeads { x, weight, out })
    }

    /// Columns `first .. first + width` of every `stride` columns.
    pub fn split(&mut self, x: Slot, first: usize, width: usize, stride: usize) -> Slot {
        let columns = self.columns(x) / stride * width;
        self.result(columns, |out| Op::Split { x, first, width, stride, out })
    }

    /// Columns `first .. first + width`.
    pub fn slice(&mut self, x: Slot, first: usize, width: usize) -> Slot {
        let stride = self.columns(x);
        self.split(x, first, width, stride)
    }

    /// A copy, for changes in place while the original is still needed.
    pub fn copy(&mut self, x: Slot) -> Slot {
        let columns = self.columns(x);
        self.slice(x, 0, columns)
    }

    /// Concatenates two parts per head.
    pub fn join(&mut self, x: Slot, y: Slot, heads: usize, y_width: usize) -> Slot {
        let columns = self.columns(x) + heads * y_width;
        self.result(columns, |out| Op::Join { x, y, heads, out })
    }

    /// Rotates heads in place.
    pub fn rope(&mut self, x: Slot, rope: &Rope, heads: usize, first: usize) {
        self.ops.push(Op::Rope { x, rope: rope.clone(), heads, first });
    }

    /// Stores keys and values, and attends.
    pub fn attend(&mut self, kept: Kept, shape: Attention, query: Slot, key: Slot, value: Slot) -> Slot {
        self.ops.push(Op::Store { kept, key, value });
        self.result(shape.heads * shape.value_dim, |out| Op::Attend { kept, shape, query, out })
    }

    /// `activation(x)`
    pub fn activate(&mut self, activation: Activation, x: Slot) -> Slot {
        let columns = self.columns(x);
        self.result(columns, |out| Op::Activate { activation, x, out })
    }

    /// `activation(gate) * up`
    pub fn gate(&mut self, activation: Activation, gate: Slot, up: Slot) -> Slot {
        let columns = self.columns(up);
        self.result(columns, |out| Op::Gate { activation, gate, up, out })
    }

    /// `to += x`
    pub fn add(&mut self, x: Slot, to: Slot) {
        self.ops.push(Op::Add { x, to });
    }

    /// `x *= factor`; nothing if it is 1.
    pub fn scale(&mut self, x: Slot, factor: f32) {
        if factor != 1.0 {
            self.ops.push(Op::Scale { x, factor });
        }
    }

    /// Chosen experts and their weights.
    pub fn route(&mut self, scores: Slot, router: Router) -> Slot {
        self.result(2 * router.used, |out| Op::Route { scores, router, out })
    }

    /// A mixture of experts.
    pub fn experts(&mut self, x: Slot, routes: Slot, experts: Experts) -> Slot {
        let columns = self.weights[experts.down.0].rows;
        self.result(columns, |out| Op::Experts { x, routes, experts, out })
    }

    /// A causal convolution of each column.
    pub fn convolve(
        &mut self,
        x: Slot,
        kernel: usize,
        weight: Weight,
        bias: Option<Weight>,
        activation: Option<Activation>,
    ) -> Slot {
        let columns = self.columns(x);
        let kept = self.keep(StateGroup::Recurrent { layers: 1, elements: (kernel - 1) * columns });
        self.result(columns, |out| Op::Convolve { x, kept, kernel, weight, bias, activation, out })
    }

    /// A recurrence with `elements` f32 of state and `columns` of output.
    pub fn recur(&mut self, recurrence: Recurrence, elements: usize, columns: usize) -> Slot {
        let kept = self.keep(StateGroup::Recurrent { layers: 1, elements });
        self.result(columns, |out| Op::Recur { kept, recurrence, out })
    }

    /// Keeps the wanted rows; everything after has a row for each of them.
    pub fn select(&mut self, x: Slot) -> Slot {
        let columns = self.columns(x);
        self.select = Some(self.ops.len());
        self.result(columns, |out| Op::Select { x, out })
    }

    /// Pools each sequence to one row; everything after has a row for each.
    pub fn pool(&mut self, pooling: Pooling, x: Slot) -> Slot {
        let columns = self.columns(x);
        self.select = Some(self.ops.len());
        self.result(columns, |out| Op::Pool { pooling, x, out })
    }

    /// Completes the plan with `head`.
    pub fn finish(self, architecture: &str, vocabulary: usize, trained_context: usize, head: Head) -> Plan {
        let Self { weights, mut slots, ops, groups, select } = self;
        let buffers = buffers::assign(&ops, &mut slots, &[head.slot()]);
        let embedding = ops.iter().find_map(|op| match op {
            Op::Embed { out, .. } => Some(slots[out.0].columns),
            _ => None,
        });
        Plan {
            architecture: architecture.to_owned(),
            vocabulary,
            embedding: embedding.expect("a model begins with its token table"),
            trained_context,
            weights,
            slots,
            buffers,
            state: StateLayout { groups },
            first_output_op: select.unwrap_or(ops.len()),
            adapted: Vec::new(),
            ops,
            head,
        }
    }
}
