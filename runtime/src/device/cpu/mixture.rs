//! Mixture of experts: routing and the experts' products.

use super::program::CpuProgram;
use crate::kernels::experts::{ExpertStack, ExpertsAdapter, ExpertsCall, LowRank, Route, Weigh, experts};
use crate::plan::{AdaptedExperts, AdaptedStack, Experts, Gating, Router, Rows, Slot, Weight};

impl CpuProgram {
    /// `out = (chosen experts, their weights)`. A row takes some hundred comparisons: plain code, the same on all tables.
    pub(super) fn route(&mut self, scores: Slot, router: &Router, out: Slot) {
        /// What an expert costs, in sums: the choice sorts them.
        const EXPERT: usize = 16;
        self.write_rows(out, EXPERT * router.experts, |program, range, out| {
            let bias = router.bias.map(|bias| program.weights.vector(bias));
            let rows = program.values(scores)[range.start * router.experts..].chunks_exact(router.experts);
            let mut chooser = Chooser::new(router);
            for (scores, out) in rows.zip(out.chunks_exact_mut(2 * router.used)) {
                chooser.choose(scores, bias, out);
            }
        });
    }

    /// `out = Σ weight · expert(x)` over the chosen experts.
    pub(super) fn experts(&mut self, x: Slot, routes: Slot, of: &Experts, out: Slot) {
        let used = self.columns(routes) / 2;
        let chosen: Vec<Route> = self
            .values(routes)
            .chunks_exact(2 * used)
            .flat_map(|row| {
                let (ids, weights) = row.split_at(used);
                ids.iter().zip(weights).map(|(&id, &weight)| Route { expert: id as u32, weight })
            })
            .collect();
        let adapters = self.adapters_in_use(x, of);
        let mut scratch = std::mem::take(&mut self.experts_scratch);
        self.write(out, |program, out| {
            let low = |stack: Option<AdaptedStack>| {
                let AdaptedStack { a, b, scale } = stack?;
                Some(LowRank { a: program.stack(a, None, None), b: program.stack(b, None, None), scale })
            };
            let adapters = adapters.iter().map(|(of, tokens)| {
                let (gate, up, down) = (low(of.gate), low(of.up), low(of.down));
                ExpertsAdapter { tokens, gate, up, down }
            });
            let adapters: Vec<ExpertsAdapter<'_>> = adapters.collect();
            let call = ExpertsCall {
                x: program.values(x),
                routes: &chosen,
                used,
                gate: of.gate.map(|gate| program.stack(gate, of.gate_bias, of.gate_factor)),
                up: program.stack(of.up, of.up_bias, of.up_factor),
                down: program.stack(of.down, of.down_bias, of.down_factor),
                activation: of.activation,
                weigh: if of.weigh_input { Weigh::Input } else { Weigh::Output },
                adapters: &adapters,
            };
            experts(program.kernels, &program.threads, &mut scratch, &call, out);
        });
        self.experts_scratch = scratch;
    }

    /// The adapters that rows of this step use, with which of them do.
    fn adapters_in_use<'a>(&self, x: Slot, of: &'a Experts) -> Vec<(&'a AdaptedExperts, Vec<bool>)> {
        let row = |at: usize| if self.slot_rows(x) == Rows::Outputs { self.step.outputs[at] } else { at };
        let uses = |adapter: &AdaptedExperts| -> Vec<bool> {
            (0..self.rows(x)).map(|at| self.step.adapts(row(at), adapter.adapter)).collect()
        };
        let adapters = of.adapters.iter().map(|adapter| (adapter, uses(adapter)));
        adapters.filter(|(_, rows)| rows.contains(&true)).collect()
    }

    fn stack(&self, weight: Weight, bias: Option<Weight>, factors: Option<Weight>) -> ExpertStack<'_> {
        let facts = self.weights.facts(weight);
        ExpertStack {
            ty: facts.ty,
            rows: facts.rows,
            columns: facts.columns,
            count: facts.stack,
            stride_bytes: facts.stack_bytes as usize,
            bytes: self.weights.stack_bytes(weight),
            factors: factors.map(|factors| self.weights.vector(factors)),
            bias: bias.map(|bias| self.weights.vector(bias)),
        }
    }
}

/// Chooses experts row by row.
struct Chooser<'a> {
    router: &'a Router,
    /// Scores after gating.
    gated: Vec<f32>,
    /// Scores that the choice is made by.
    selection: Vec<f32>,
    /// Experts, best first.
    order: Vec<usize>,
}

impl<'a> Chooser<'a> {
    fn new(router: &'a Router) -> Self {
        let zeros = vec![0.0; router.experts];
        Self { router, gated: zeros.clone(), selection: zeros, order: Vec::with_capacity(router.experts) }
    }

    /// Writes the chosen experts' indices, then their weights.
    fn choose(&mut self, scores: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        let router = self.router;
        self.gated.copy_from_slice(scores);
        match router.gating {
            Gating::Softmax => softmax(&mut self.gated),
            Gating::Sigmoid => self.gated.iter_mut().for_each(|score| *score = 1.0 / (1.0 + (-*score).exp())),
            Gating::SoftmaxOfChosen => {}
        }
        self.selection.copy_from_slice(if router.by_score { scores } else { &self.gated });
        if let Some(bias) = bias {
            self.selection.iter_mut().zip(bias).for_each(|(selection, bias)| *selection += bias);
        }
        if router.groups > 1 {
            self.keep_best_groups();
        }
        best_first(&self.selection, &mut self.order);
        let (ids, weights) = out.split_at_mut(router.used);
        for ((id, weight), &expert) in ids.iter_mut().zip(weights.iter_mut()).zip(&self.order) {
            (*id, *weight) = (expert as f32, self.gated[expert]);
        }
        if router.gating == Gating::SoftmaxOfChosen {
            softmax(weights);
        }
        if router.normalise {
            // At least the smallest normal F16, as in the models' reference code, to avoid dividing by 0.
            let sum = weights.iter().sum::<f32>().max(6.103_515_6e-5);
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        if router.scale != 1.0 {
            weights.iter_mut().for_each(|weight| *weight *= router.scale);
        }
    }

    /// Keeps only the groups with the best sum of their top two experts (arXiv:2412.19437, "node-limited routing").
    fn keep_best_groups(&mut self) {
        let size = self.router.experts / self.router.groups;
        let group_scores: Vec<f32> = self
            .selection
            .chunks_exact(size)
            .map(|group| {
                best_first(group, &mut self.order);
                group[self.order[0]] + group[self.order[1]]
            })
            .collect();
        best_first(&group_scores, &mut self.order);
        for &group in &self.order[self.router.groups_used..] {
            self.selection[group * size..(group + 1) * size].fill(f32::NEG_INFINITY);
        }
    }
}

/// Indices by value, descending; ties by index, NaN last.
fn best_first(values: &[f32], order: &mut Vec<usize>) {
    order.clear();
    order.extend(0..values.len());
    let key = |index: usize| if values[index].is_nan() { f32::NEG_INFINITY } else { values[index] };
    order.sort_by(|&a, &b| key(b).total_cmp(&key(a)).then(a.cmp(&b)));
}

fn softmax(values: &mut [f32]) {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    values.iter_mut().for_each(|value| *value = (*value - largest).exp());
    let sum: f32 = values.iter().sum();
    values.iter_mut().for_each(|value| *value /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(experts: usize, used: usize) -> Router {
        Router {
            experts,
            used,
            gating: Gating::Softmax,
            bias: None,
            by_score: false,
            groups: 1,
            groups_used: 1,
            normalise: false,
            scale: 1.0,
        }
    }

    fn chosen(router: &Router, scores: &[f32], bias: Option<&[f32]>) -> (Vec<usize>, Vec<f32>) {
        let mut out = vec![0.0; 2 * router.used];
        Chooser::new(router).choose(scores, bias, &mut out);
        let (ids, weights) = out.split_at(router.used);
        (ids.iter().map(|&id| id as usize).collect(), weights.to_vec())
    }

    #[test]
    fn weights_are_those_of_all_or_of_the_chosen() {
        let scores = [1f32.ln(), 3f32.ln(), 2f32.ln(), 4f32.ln()];
        let (ids, weights) = chosen(&router(4, 2), &scores, None);
        assert_eq!(ids, [3, 1]);
        assert!((weights[0] - 0.4).abs() < 1e-6 && (weights[1] - 0.3).abs() < 1e-6, "{weights:?}");
        let of_chosen = Router { gating: Gating::SoftmaxOfChosen, ..router(4, 2) };
        let normalised = Router { normalise: true, scale: 2.0, ..router(4, 2) };
        let (_, a) = chosen(&of_chosen, &scores, None);
        let (_, b) = chosen(&normalised, &scores, None);
        assert!((a[0] - 4.0 / 7.0).abs() < 1e-6 && (b[0] - 8.0 / 7.0).abs() < 1e-6, "{a:?} {b:?}");
    }

    #[test]
    fn a_bias_chooses_and_does_not_weigh() {
        let sigmoid = Router { gating: Gating::Sigmoid, ..router(4, 1) };
        let (ids, weights) = chosen(&sigmoid, &[0.0, 5.0, 1.0, 2.0], Some(&[1.0, 0.0, 0.0, 0.0]));
        assert_eq!((ids, weights), (vec![0], vec![0.5]));
    }

    #[test]
    fn groups_are_chosen_by_their_two_best() {
        let grouped = Router { gating: Gating::Sigmoid, groups: 2, groups_used: 1, ..router(8, 2) };
        // The best expert is in a group whose second best is poor.
        let scores = [9.0, -9.0, -9.0, -9.0, 2.0, 2.5, -9.0, -9.0];
        assert_eq!(chosen(&grouped, &scores, None).0, [5, 4]);
    }
}
