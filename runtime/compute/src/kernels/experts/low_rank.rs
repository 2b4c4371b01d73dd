//! What adapters of low rank add to experts' products: `scale · B · A · x`, for the tokens that use them.

use super::{ExpertStack, ExpertsCall, RowsOf, Share, for_pairs, multiply};
use crate::kernels::Kernels;
use crate::kernels::matmul::{Activations, is_quantised};
use crate::kernels::threads::Threads;

/// An adapter's factors of one stack.
#[derive(Clone, Copy)]
pub struct LowRank<'a> {
    /// `(rank, inputs)` for each expert.
    pub a: ExpertStack<'a>,
    /// `(outputs, rank)` for each expert.
    pub b: ExpertStack<'a>,
    /// What the product is multiplied with.
    pub scale: f32,
}

/// What an adapter changes of a layer's experts.
#[derive(Clone, Copy)]
pub struct ExpertsAdapter<'a> {
    /// Of each token, whether it uses the adapter.
    pub tokens: &'a [bool],
    /// Of the gate.
    pub gate: Option<LowRank<'a>>,
    /// Of `up`.
    pub up: Option<LowRank<'a>>,
    /// Of `down`.
    pub down: Option<LowRank<'a>>,
}

impl ExpertsAdapter<'_> {
    pub(super) fn check(&self, call: &ExpertsCall<'_>, tokens: usize) {
        assert_eq!(self.tokens.len(), tokens, "tokens of an adapter");
        let pairs =
            [("gate", self.gate, call.gate), ("up", self.up, Some(call.up)), ("down", self.down, Some(call.down))];
        for (name, low, of) in pairs {
            let Some(LowRank { a, b, .. }) = low else { continue };
            let of = of.unwrap_or_else(|| panic!("an adapter of {name}, which is not there"));
            a.check(name, of.count, of.columns);
            b.check(name, of.count, a.rows);
            assert_eq!(b.rows, of.rows, "an adapter's rows of {name}");
            assert!(a.factors.is_none() && a.bias.is_none() && b.factors.is_none() && b.bias.is_none());
        }
    }

    fn stacks(&self) -> impl Iterator<Item = LowRank<'_>> {
        [self.gate, self.up, self.down].into_iter().flatten()
    }
}

/// Intermediate results.
#[derive(Default)]
pub(super) struct LowRankBuffers {
    /// `(pairs, rank)`
    products: Vec<f32>,
    activations: Activations,
}

impl LowRankBuffers {
    pub(super) fn bytes(&self) -> usize {
        self.products.capacity() * size_of::<f32>() + self.activations.bytes()
    }

    pub(super) fn bytes_for(adapters: &[ExpertsAdapter<'_>], pairs: usize) -> usize {
        let widest = |quantised: Option<bool>| {
            let stacks = adapters.iter().flat_map(ExpertsAdapter::stacks).map(|low| low.b);
            let wanted = stacks.filter(|b| quantised.is_none_or(|quantised| is_quantised(b.ty) == quantised));
            wanted.map(|b| b.columns).max().unwrap_or(0)
        };
        let products = pairs * widest(None) * size_of::<f32>();
        products + Activations::bytes_for(pairs, widest(Some(true)), widest(Some(false)))
    }

    /// Adds to the products of pairs, whose tokens are `(.., tokens)`, what an adapter has for them.
    #[allow(clippy::too_many_arguments, reason = "a step of a call, which has them")]
    pub(super) fn add(
        &mut self,
        kernels: &Kernels,
        threads: &Threads,
        (shares, tokens): (&[Share], &[u32]),
        low: &LowRank<'_>,
        uses: &[bool],
        rows: RowsOf<'_, '_>,
        out: &mut [f32],
    ) {
        let (pairs, rank) = (tokens.len(), low.a.rows);
        self.products.resize(pairs * rank, 0.0);
        multiply(kernels, threads, shares, &mut [(&low.a, &mut self.products)], false, rows);
        for_pairs(threads, &mut self.products, rank, &|pair, row| match uses[tokens[pair] as usize] {
            // SAFETY: tables are handed out only on processors that support them.
            true => unsafe { (kernels.elementwise.scale)(row, low.scale) },
            false => row.fill(0.0),
        });
        self.activations.set(kernels, threads, &self.products, pairs, rank, &[low.b.ty]);
        let rows = |share: &Share| self.activations.rows(share.pairs.clone());
        multiply(kernels, threads, shares, &mut [(&low.b, out)], true, &rows);
    }
}
