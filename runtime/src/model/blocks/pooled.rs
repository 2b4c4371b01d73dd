//! The end of a plan that outputs one embedding or one score per sequence.

use super::Blocks;
use crate::model::ModelError;
use crate::model::purpose::{PoolingKind, Purpose};
use crate::plan::{Activation, Head, Plan, Slot};

impl Blocks<'_, '_> {
    /// Whether the plan outputs embeddings or scores.
    pub fn embeds(&self) -> bool {
        matches!(self.purpose, Purpose::Embed(_))
    }

    /// The end of the plan: pooling as requested, else as in the file, else `default`. The output projection is left out.
    pub fn embeddings(mut self, x: Slot, default: PoolingKind) -> Result<Plan, ModelError> {
        let of_file = PoolingKind::of_file(self.keys)?;
        let asked = match self.purpose {
            Purpose::Embed(asked) => asked,
            Purpose::Generate => None,
        };
        let kind = asked.or(of_file).unwrap_or(default);
        self.tensors.ignore_all("output.");
        if kind == PoolingKind::Rank {
            return self.scores_of_pairs(x);
        }
        let pooled = self.plan.pool(kind.pooling(), x);
        self.tensors.ignore_all("cls.");
        self.finish(Head::Embeddings(pooled))
    }

    /// A classifier over the first row: an optional dense layer with tanh, and the projection to scores.
    fn scores_of_pairs(mut self, x: Slot) -> Result<Plan, ModelError> {
        if self.causal {
            return Err(
                self.unsupported("causal models score pairs with a prompt template, which this build does not support")
            );
        }
        let width = self.plan.columns(x);
        let mut row = self.plan.pool(PoolingKind::Rank.pooling(), x);
        if self.tensors.has("cls.weight") {
            let dense = self.linear_named("cls", width, width)?;
            let dense = self.plan.linear(row, dense);
            row = self.plan.activate(Activation::Tanh, dense);
        }
        if self.tensors.has("cls.output.weight") {
            let scores = self.tensors.dimension("cls.output.weight", 1).unwrap_or(1) as usize;
            let output = self.linear_named("cls.output", scores, width)?;
            row = self.plan.linear(row, output);
        } else if !self.tensors.has("cls.weight") {
            return Err(
                self.unsupported("the file has no classifier (cls.weight, cls.output.weight), so it cannot score")
            );
        }
        self.finish(Head::Scores(row))
    }
}
