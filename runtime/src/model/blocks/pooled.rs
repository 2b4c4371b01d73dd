//! The end of a model that makes one vector of a sequence, or one score.

use super::Blocks;
use crate::model::ModelError;
use crate::model::purpose::{PoolingKind, Purpose};
use crate::plan::{Activation, Head, Plan, Slot};

impl Blocks<'_, '_> {
    /// Whether the plan is to end in embeddings.
    pub fn embeds(&self) -> bool {
        matches!(self.purpose, Purpose::Embed(_))
    }

    /// The end: rows are pooled as was asked for, as the file says, or as `default` has it. What only generating takes is
    /// left out.
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

    /// A classifier over the first row: a layer with a tanh where the file has it, and the projection to scores; or that
    /// projection alone.
    fn scores_of_pairs(mut self, x: Slot) -> Result<Plan, ModelError> {
        if self.causal {
            return Err(self.unsupported(
                "models that look back only score pairs by a template of their own, which this build does not have",
            ));
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
                self.unsupported("the file has no classifier (cls.weight, cls.output.weight), so it gives no scores")
            );
        }
        self.finish(Head::Scores(row))
    }
}
