//! Building blocks of architectures: they find tensors by GGUF name and add operations to a plan. An architecture's file reads
//! like its paper: one call per block.
//!
//! Blocks contain no constants of a family. What differs (which norm, what rotation, which gate) is an argument, or follows
//! from the tensors in the file. [`Blocks::at`] sets the current layer; names without `blk.` refer to it.

mod attention;
mod delta;
mod feed_forward;
mod layers;
mod linear;
mod mamba;
mod mixture;
mod norms;
mod pooled;
mod rope;
mod windows;

pub use attention::Heads;
pub use mixture::Mixture;
pub use windows::Windows;

use super::ModelError;
use super::hyperparameters::{Hyperparameters, MOST_COLUMNS};
use super::keys::Keys;
use super::purpose::{PoolingKind, Purpose};
use super::tensors::{TensorTable, rows_of};
use crate::plan::{Head, Linear, NormKind, Op, Plan, PlanBuilder, Role, Slot, Weight, WeightUse};

/// A plan under construction.
pub struct Blocks<'a, 'b> {
    /// The architecture's metadata keys.
    pub keys: &'a Keys<'a>,
    /// The common hyperparameters.
    pub hyper: Hyperparameters,
    /// Tensors by name.
    pub tensors: &'a mut TensorTable<'b>,
    /// The plan so far.
    pub plan: PlanBuilder,
    /// Size of the vocabulary: rows of the token table.
    pub vocabulary: usize,
    /// Whether a matrix's factor (`attn_q.scale`) is applied, by the matrix's name in its layer. Some factors are ignored where
    /// the family's definition ignores them: [`factors_of_attention`] for most.
    pub factors: fn(&str) -> bool,
    /// Whether a matrix's factor also scales what an adapter adds to it, as in a feed-forward; by name, for most none.
    pub covering: fn(&str) -> bool,
    /// What the plan outputs.
    pub purpose: Purpose,
    /// Causal attention.
    pub causal: bool,
    layer: usize,
}

impl<'a, 'b> Blocks<'a, 'b> {
    /// An empty plan, with the hyperparameters read.
    pub fn new(keys: &'a Keys<'a>, purpose: Purpose, tensors: &'a mut TensorTable<'b>) -> Result<Self, ModelError> {
        let hyper = Hyperparameters::read(keys)?;
        let vocabulary = vocabulary(tensors)?;
        let (plan, factors) = (PlanBuilder::new(), factors_of_attention);
        let covering = |_: &str| false;
        let causal = keys.flag("attention.causal")?.unwrap_or(true);
        Ok(Self { keys, hyper, tensors, plan, vocabulary, factors, covering, purpose, causal, layer: 0 })
    }

    /// Drops the multi-token prediction layers at the end (`nextn_predict_layers`), which are not used.
    pub fn leave_out_prediction_layers(&mut self) -> Result<(), ModelError> {
        let name = "nextn_predict_layers";
        let count = self.keys.count(name, u64::from(u16::MAX))?.unwrap_or(0);
        let layers = self.hyper.layers;
        if count >= layers {
            return Err(self.keys.wrong(name, count, format!("it must be below the {layers} layers")));
        }
        self.hyper.layers -= count;
        (self.hyper.layers..layers).for_each(|layer| self.tensors.ignore_all(&format!("blk.{layer}.")));
        Ok(())
    }

    /// Sets the current layer.
    pub fn at(&mut self, layer: usize) {
        self.layer = layer;
        // Rotation frequencies in files of 2023, redundant with the hyperparameters.
        self.tensors.ignore(&format!("blk.{layer}.attn_rot_embd"));
    }

    /// The current layer.
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// A tensor's full name in the current layer.
    pub fn name(&self, name: &str) -> String {
        format!("blk.{}.{name}", self.layer)
    }

    /// Whether the current layer has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.has(&self.name(name))
    }

    /// An error about the architecture.
    pub fn unsupported(&self, what: impl Into<String>) -> ModelError {
        ModelError::Unsupported { architecture: self.keys.architecture.to_owned(), what: what.into() }
    }

    /// Starts the residual stream: `table[token] * scale`.
    pub fn embed(&mut self, scale: f32) -> Result<Slot, ModelError> {
        let table = self.tensors.table("token_embd.weight", self.vocabulary, self.hyper.embedding)?;
        let table = self.plan.weight(table);
        Ok(self.plan.embed(table, scale))
    }

    /// Adds learned position embeddings (`position_embd`), if the file has them.
    pub fn learned_positions(&mut self, x: Slot) -> Result<(), ModelError> {
        let name = "position_embd.weight";
        if self.tensors.has(name) {
            let table = self.tensors.table(name, self.hyper.context, self.hyper.embedding)?;
            let table = self.plan.weight(table);
            self.plan.apply(Op::Position { table, x });
        }
        Ok(())
    }

    /// Adds the embedding of token type 0 (the first text), if the file has token types.
    pub fn token_type(&mut self, x: Slot) -> Result<(), ModelError> {
        let name = "token_types.weight";
        if let Some(kinds) = self.tensors.dimension(name, 1) {
            let kinds = self.tensors.table(name, kinds as usize, self.hyper.embedding)?;
            let first = self.plan.weight(WeightUse { role: Role::Vector, ..rows_of(&kinds, 0..1) });
            self.plan.apply(Op::Bias { vector: first, x });
        }
        Ok(())
    }

    /// A vector of the current layer, by its name after `blk.N.`.
    pub fn vector(&mut self, name: &str, length: usize) -> Result<Weight, ModelError> {
        self.vector_of(name, &[length])
    }

    /// The same with several dimensions, columns first.
    pub fn vector_of(&mut self, name: &str, dimensions: &[usize]) -> Result<Weight, ModelError> {
        let vector = self.tensors.vector(&self.name(name), dimensions)?;
        Ok(self.plan.weight(vector))
    }

    /// An optional vector of the current layer.
    pub fn optional_vector(&mut self, name: &str, length: usize) -> Result<Option<Weight>, ModelError> {
        if self.has(name) { self.vector(name, length).map(Some) } else { Ok(None) }
    }

    /// The end of the plan: row selection, norm, output projection. Tied models use the token table for the latter.
    pub fn head(self, kind: NormKind, x: Slot) -> Result<Plan, ModelError> {
        self.head_by_norm(kind, x, "output_norm")
    }

    /// The same with a norm of another name.
    pub fn head_by_norm(mut self, kind: NormKind, x: Slot, norm: &str) -> Result<Plan, ModelError> {
        if self.embeds() {
            return self.normed_embeddings(kind, x, norm);
        }
        let last = self.plan.select(x);
        let normed = self.outer_norm(kind, last, norm)?;
        let logits = self.logits(normed)?;
        self.finish(Head::Logits(logits))
    }

    /// The end of a model that scales its logits, or squashes them to `cap * tanh(logit / cap)`.
    pub fn scaled_head(mut self, kind: NormKind, x: Slot, scale: f32, cap: Option<f32>) -> Result<Plan, ModelError> {
        if self.embeds() {
            return self.normed_embeddings(kind, x, "output_norm");
        }
        let last = self.plan.select(x);
        let normed = self.outer_norm(kind, last, "output_norm")?;
        let logits = self.logits(normed)?;
        self.plan.scale(logits, scale);
        if let Some(cap) = cap {
            self.plan.apply(Op::Softcap { x: logits, cap });
        }
        self.finish(Head::Logits(logits))
    }

    /// The end of a decoder used for embeddings: normalised rows, pooled. With causal attention, only the last row depends on
    /// the whole text.
    fn normed_embeddings(mut self, kind: NormKind, x: Slot, norm: &str) -> Result<Plan, ModelError> {
        let normed = self.outer_norm(kind, x, norm)?;
        let default = if self.causal { PoolingKind::Last } else { PoolingKind::Mean };
        self.embeddings(normed, default)
    }

    /// Logits of normalised rows.
    pub fn logits(&mut self, normed: Slot) -> Result<Slot, ModelError> {
        let (vocabulary, embedding) = (self.vocabulary, self.hyper.embedding);
        let output = if self.tensors.has("output.weight") {
            self.linear_named("output", vocabulary, embedding)?
        } else {
            let table = self.tensors.matrix("token_embd.weight", vocabulary, embedding)?;
            Linear { weight: self.plan.weight(table), bias: None, factor: None }
        };
        Ok(self.plan.linear(normed, output))
    }

    /// Completes the plan; an error if tensors are left unused.
    pub fn finish(self, head: Head) -> Result<Plan, ModelError> {
        self.tensors.all_used(self.keys.architecture)?;
        if !self.causal && self.plan.looks_back_by_distance() {
            let what = "bidirectional attention with a sliding window or ALiBi is not supported";
            return Err(self.unsupported(what));
        }
        Ok(self.plan.finish(self.keys.architecture, self.vocabulary, self.hyper.context, head))
    }
}

/// Factors of all matrices except feed-forward ones.
pub fn factors_of_attention(name: &str) -> bool {
    !name.starts_with("ffn_")
}

/// Factors of all matrices.
pub fn factors_of_all(_: &str) -> bool {
    true
}

/// Rows of the token table.
fn vocabulary(tensors: &TensorTable<'_>) -> Result<usize, ModelError> {
    let name = "token_embd.weight";
    let Some(rows) = tensors.dimension(name, 1) else {
        return Err(ModelError::MissingTensor { name: name.into() });
    };
    match usize::try_from(rows) {
        Ok(rows) if rows > 1 && u32::try_from(rows).is_ok() => Ok(rows),
        _ => Err(ModelError::WrongShape {
            name: name.into(),
            found: format!("{rows} rows"),
            expected: "a row per token, at least two".into(),
        }),
    }
}

/// Largest width that a file may claim.
pub const WIDEST: u64 = MOST_COLUMNS;
