//! Mixture of experts: feed-forwards of which each token uses a few.
//!
//! `out[token] = Σ_slot weight × down[expert](activation(gate[expert](x)) × up[expert](x))`. Only the weights of experts that
//! some token uses are read, each once per batch. Routing (the router's product, softmax and top-k) is not done here.
//!
//! The one idea: a token and one of its expert slots form a *pair*; pairs are sorted by expert, which makes an expert's tokens
//! contiguous. Gate and up of all experts are one parallel region, the activation of all pairs one, down one; then each token
//! sums its pairs in slot order. So a token's bits depend neither on the batch nor on which experts other tokens use.

mod buffers;
mod low_rank;
#[cfg(test)]
mod tests;

pub use buffers::ExpertsBuffers;
pub use low_rank::{ExpertsAdapter, LowRank};

use buffers::Share;

use satchel_gguf::TensorType;

use super::Kernels;
use super::elementwise::{Activation, activate, for_rows, gate, swiglu_oai};
use super::matmul::{Matrix, Product, Rows, Work, matmul_each};
use super::threads::Threads;

/// One of every expert's matrices, stacked.
#[derive(Clone, Copy)]
pub struct ExpertStack<'a> {
    /// How the elements are stored.
    pub ty: TensorType,
    /// Outputs per expert.
    pub rows: usize,
    /// Inputs per expert.
    pub columns: usize,
    /// Number of experts.
    pub count: usize,
    /// Bytes from one expert to the next: more than its own size if gate and up share a tensor.
    pub stride_bytes: usize,
    /// From the first byte of the first expert at least to the last byte of the last.
    pub bytes: &'a [u8],
    /// Per expert, a factor applied to its product before the bias.
    pub factors: Option<&'a [f32]>,
    /// `(count, rows)`, added to the product.
    pub bias: Option<&'a [f32]>,
}

impl<'a> ExpertStack<'a> {
    /// A stack of contiguous experts.
    ///
    /// # Panics
    /// If `count` is 0 and there are bytes.
    pub fn whole(ty: TensorType, rows: usize, columns: usize, count: usize, bytes: &'a [u8]) -> Self {
        let stride_bytes = if bytes.is_empty() { 0 } else { bytes.len() / count };
        ExpertStack { ty, rows, columns, count, stride_bytes, bytes, factors: None, bias: None }
    }

    fn matrix(&self, expert: usize) -> Matrix<'a> {
        let &ExpertStack { ty, rows, columns, stride_bytes, bytes, .. } = self;
        let row_bytes = ty.row_bytes(columns as u64).and_then(|bytes| usize::try_from(bytes).ok());
        let size = row_bytes.and_then(|bytes| bytes.checked_mul(rows)).expect("columns are whole blocks");
        Matrix { ty, rows, columns, bytes: &bytes[expert * stride_bytes..][..size] }
    }

    /// The bias that the product itself can add. With a factor, which comes first, it is added later.
    fn product_bias(&self, expert: usize) -> Option<&'a [f32]> {
        if self.factors.is_some() { None } else { self.expert_bias(expert) }
    }

    fn expert_bias(&self, expert: usize) -> Option<&'a [f32]> {
        self.bias.map(|bias| &bias[expert * self.rows..(expert + 1) * self.rows])
    }

    fn check(&self, name: &str, count: usize, columns: usize) {
        assert_eq!(self.count, count, "experts of {name}");
        assert_eq!(self.columns, columns, "columns of {name}");
        assert!(self.bias.is_none_or(|bias| bias.len() == count * self.rows), "a bias of {name} an expert's row");
        assert!(self.factors.is_none_or(|factors| factors.len() == count), "a factor of {name} an expert");
    }
}

/// The operation between the products.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ExpertActivation {
    /// `activation(up)`, without a gate.
    Plain(Activation),
    /// `activation(gate) * up`
    Gated(Activation),
    /// See [`swiglu_oai`].
    SwigluOai {
        /// Steepness of the gate.
        alpha: f32,
        /// Upper bound of the gate, and bound of `up`'s magnitude.
        limit: f32,
    },
}

impl ExpertActivation {
    /// `one` is the gate, or the only input if there is none.
    fn run(self, kernels: &Kernels, threads: &Threads, one: &[f32], up: &[f32], out: &mut [f32]) {
        match self {
            ExpertActivation::Plain(activation) => activate(kernels, threads, activation, one, out),
            ExpertActivation::Gated(activation) => gate(kernels, threads, activation, one, up, out),
            ExpertActivation::SwigluOai { alpha, limit } => swiglu_oai(kernels, threads, one, up, alpha, limit, out),
        }
    }
}

/// What a route's weight multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weigh {
    /// The expert's output.
    Output,
    /// Its input (Llama 4).
    Input,
}

/// One expert used by a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Route {
    /// Index of the expert.
    pub expert: u32,
    /// Its weight.
    pub weight: f32,
}

/// The experts of a layer, and the routes of a batch.
#[derive(Clone, Copy)]
pub struct ExpertsCall<'a> {
    /// `(tokens, columns)`
    pub x: &'a [f32],
    /// `(tokens, used)`
    pub routes: &'a [Route],
    /// Experts used per token.
    pub used: usize,
    /// `(inner, columns)` for each expert; `None` where the activation is plain.
    pub gate: Option<ExpertStack<'a>>,
    /// `(inner, columns)` for each expert.
    pub up: ExpertStack<'a>,
    /// `(rows, inner)` for each expert.
    pub down: ExpertStack<'a>,
    /// Applied between them.
    pub activation: ExpertActivation,
    /// Where the routes' weights apply.
    pub weigh: Weigh,
    /// What is added to the products.
    pub adapters: &'a [ExpertsAdapter<'a>],
}

impl ExpertsCall<'_> {
    /// The types of weights that the input is multiplied with.
    fn input_types(&self) -> Vec<TensorType> {
        let adapted = self.adapters.iter().flat_map(|adapter| [adapter.gate, adapter.up]).flatten();
        let own = [Some(self.up), self.gate].into_iter().flatten();
        own.chain(adapted.map(|low| low.a)).map(|stack| stack.ty).collect()
    }

    /// Those of the last product.
    fn hidden_types(&self) -> Vec<TensorType> {
        let adapted = self.adapters.iter().filter_map(|adapter| adapter.down);
        std::iter::once(self.down).chain(adapted.map(|low| low.a)).map(|stack| stack.ty).collect()
    }

    fn check(&self, out: &[f32]) {
        let (count, columns, inner) = (self.up.count, self.up.columns, self.up.rows);
        let tokens = self.routes.len() / self.used;
        assert_eq!(self.routes.len(), tokens * self.used, "{} routes a token", self.used);
        assert_eq!(self.x.len(), tokens * columns, "input of {tokens} tokens x {columns} columns");
        assert_eq!(out.len(), tokens * self.down.rows, "output of {tokens} tokens x {} rows", self.down.rows);
        self.up.check("up", count, columns);
        self.down.check("down", count, inner);
        if let Some(gate) = &self.gate {
            gate.check("gate", count, columns);
            assert_eq!(gate.rows, inner, "rows of gate and up");
        }
        self.adapters.iter().for_each(|adapter| adapter.check(self, tokens));
        let plain = matches!(self.activation, ExpertActivation::Plain(_));
        assert_eq!(plain, self.gate.is_none(), "a gate for {:?}", self.activation);
        assert!(self.routes.iter().all(|route| (route.expert as usize) < count), "a route to none of {count} experts");
    }
}

/// Runs a call; `out` is `(tokens, down.rows)` and is overwritten.
///
/// # Panics
/// If shapes do not match, or a route's expert does not exist.
pub fn experts(
    kernels: &Kernels,
    threads: &Threads,
    buffers: &mut ExpertsBuffers,
    call: &ExpertsCall<'_>,
    out: &mut [f32],
) {
    if call.used == 0 || call.routes.is_empty() {
        return out.fill(0.0);
    }
    call.check(out);
    buffers.sort(call.routes, call.used, call.up.count);
    buffers.take_input(kernels, threads, call);
    let one_row = buffers.is_one_row(call);
    let ExpertsBuffers { input, gathered, tokens, shares, pairs, first, second, hidden, low, .. } = buffers;
    let (all, inner) = (call.routes.len(), call.up.rows);
    let rows = |share: &Share| if one_row { input.rows(0..1) } else { gathered.rows(share.pairs.clone()) };
    let mut adapt = |adapter: &ExpertsAdapter<'_>, of: Option<LowRank<'_>>, rows: RowsOf<'_, '_>, out: &mut [f32]| {
        if let Some(of) = of {
            low.add(kernels, threads, (shares, tokens), &of, adapter.tokens, rows, out);
        }
    };
    first.resize(all * inner.max(call.down.rows), 0.0);
    second.resize(if call.gate.is_some() { all * inner } else { 0 }, 0.0);
    let one = &mut first[..all * inner];
    match &call.gate {
        Some(gate) => {
            multiply(kernels, threads, shares, &mut [(gate, &mut *one), (&call.up, &mut *second)], false, &rows);
        }
        None => multiply(kernels, threads, shares, &mut [(&call.up, &mut *one)], false, &rows),
    }
    for adapter in call.adapters {
        adapt(adapter, adapter.gate, &rows, one);
        adapt(adapter, adapter.up, &rows, if call.gate.is_some() { second } else { one });
    }
    hidden.resize(all * inner, 0.0);
    call.activation.run(kernels, threads, one, second, hidden);
    gathered.set(kernels, threads, hidden, all, inner, &call.hidden_types());
    let outputs = &mut first[..all * call.down.rows];
    let rows = |share: &Share| gathered.rows(share.pairs.clone());
    multiply(kernels, threads, shares, &mut [(&call.down, &mut *outputs)], false, &rows);
    call.adapters.iter().for_each(|adapter| adapt(adapter, adapter.down, &rows, outputs));
    sum(kernels, threads, call, pairs, outputs, out);
}

/// The input of a share.
type RowsOf<'f, 'a> = &'f dyn Fn(&Share) -> Rows<'a>;

/// Multiplies every share with each stack, into `(pairs, rows)` or added to what is there, in one parallel region.
fn multiply<'a>(
    kernels: &Kernels,
    threads: &Threads,
    shares: &[Share],
    stacks: &mut [(&ExpertStack<'_>, &mut [f32])],
    add: bool,
    rows: RowsOf<'_, 'a>,
) {
    let mut work = Vec::with_capacity(shares.len() * stacks.len());
    for (stack, out) in stacks.iter_mut() {
        let mut rest = &mut **out;
        for share in shares {
            let out;
            (out, rest) = rest.split_at_mut(share.pairs.len() * stack.rows);
            let (weight, bias) = (stack.matrix(share.expert), stack.product_bias(share.expert));
            work.push(Work { product: Product { weight, out, add, bias }, x: rows(share) });
        }
    }
    matmul_each(kernels, threads, &mut work);
    for (stack, out) in stacks {
        if let Some(factors) = stack.factors {
            finish(kernels, threads, shares, stack, factors, out);
        }
    }
}

/// Applies each expert's factor, then its bias.
fn finish(
    kernels: &Kernels,
    threads: &Threads,
    shares: &[Share],
    stack: &ExpertStack<'_>,
    factors: &[f32],
    out: &mut [f32],
) {
    for_pairs(threads, out, stack.rows, &|pair, row| {
        let expert = shares[shares.partition_point(|share| share.pairs.end <= pair)].expert;
        // SAFETY: tables are handed out only on processors that support them; slices of equal length.
        unsafe {
            (kernels.elementwise.scale)(row, factors[expert]);
            if let Some(bias) = stack.expert_bias(expert) {
                (kernels.elementwise.add)(row, bias);
            }
        }
    });
}

/// Sums each token's pairs, slot by slot.
fn sum(kernels: &Kernels, threads: &Threads, call: &ExpertsCall<'_>, pairs: &[u32], outputs: &[f32], out: &mut [f32]) {
    let rows = call.down.rows;
    for_pairs(threads, out, rows, &|token, out| {
        out.fill(0.0);
        for slot in token * call.used..(token + 1) * call.used {
            let output = &outputs[pairs[slot] as usize * rows..][..rows];
            let weight = if call.weigh == Weigh::Output { call.routes[slot].weight } else { 1.0 };
            // SAFETY: as in `finish`.
            unsafe { (kernels.elementwise.add_scaled)(out, output, weight) };
        }
    });
}

/// Calls `work(index, row)` for every row of `columns` elements.
fn for_pairs(threads: &Threads, values: &mut [f32], columns: usize, work: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    for_rows(threads, values, columns, columns, &|range, rows| {
        range.zip(rows.chunks_exact_mut(columns)).for_each(|(index, row)| work(index, row));
    });
}
