//! What architectures are composed of: blocks that find their tensors under the names GGUF gives them and add operations to a
//! plan. An architecture's file reads like its paper: one call a block.
//!
//! Blocks hold no numbers of a family. What differs (which norm, what rotation, which gate) is an argument, or follows from
//! which tensors the file has. The current layer is set once by [`Blocks::at`], and names without `blk.` belong to it.

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

/// A model on its way from names to a plan.
pub struct Blocks<'a, 'b> {
    /// The architecture's metadata keys.
    pub keys: &'a Keys<'a>,
    /// The common ones, read and checked.
    pub hyper: Hyperparameters,
    /// Tensors by name.
    pub tensors: &'a mut TensorTable<'b>,
    /// The plan so far.
    pub plan: PlanBuilder,
    /// Rows of the token table: the file's own word on the vocabulary's size.
    pub vocabulary: usize,
    /// Which matrices' factors count (`attn_q.scale`), by a matrix's name in its layer. What a family's definition leaves out is
    /// left out here, too: [`factors_of_attention`] for most.
    pub factors: fn(&str) -> bool,
    /// Whose factors cover what adapters add, as those of a feed-forward do: no other matrix's for most.
    pub covering: fn(&str) -> bool,
    /// What the plan is to end in.
    pub purpose: Purpose,
    /// Positions see those before them only.
    pub causal: bool,
    layer: usize,
}

impl<'a, 'b> Blocks<'a, 'b> {
    /// Nothing but the hyperparameters.
    pub fn new(keys: &'a Keys<'a>, purpose: Purpose, tensors: &'a mut TensorTable<'b>) -> Result<Self, ModelError> {
        let hyper = Hyperparameters::read(keys)?;
        let vocabulary = vocabulary(tensors)?;
        let (plan, factors) = (PlanBuilder::new(), factors_of_attention);
        let covering = |_: &str| false;
        let causal = keys.flag("attention.causal")?.unwrap_or(true);
        Ok(Self { keys, hyper, tensors, plan, vocabulary, factors, covering, purpose, causal, layer: 0 })
    }

    /// Takes the last layers away that predict further tokens (`nextn_predict_layers`), as nothing here uses them.
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

    /// From here on, names are of this layer.
    pub fn at(&mut self, layer: usize) {
        self.layer = layer;
        // Rotation frequencies that files of 2023 carry; the hyperparameters say the same.
        self.tensors.ignore(&format!("blk.{layer}.attn_rot_embd"));
    }

    /// The current layer.
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// A tensor's whole name in the current layer.
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

    /// The residual stream's beginning: `table[token] * scale`.
    pub fn embed(&mut self, scale: f32) -> Result<Slot, ModelError> {
        let table = self.tensors.table("token_embd.weight", self.vocabulary, self.hyper.embedding)?;
        let table = self.plan.weight(table);
        Ok(self.plan.embed(table, scale))
    }

    /// Adds the positions' rows of the learned table `position_embd`, where the file has one.
    pub fn learned_positions(&mut self, x: Slot) -> Result<(), ModelError> {
        let name = "position_embd.weight";
        if self.tensors.has(name) {
            let table = self.tensors.table(name, self.hyper.context, self.hyper.embedding)?;
            let table = self.plan.weight(table);
            self.plan.apply(Op::Position { table, x });
        }
        Ok(())
    }

    /// Adds the vector of the first kind of token (of the first text, where there are two), where the file has kinds.
    pub fn token_type(&mut self, x: Slot) -> Result<(), ModelError> {
        let name = "token_types.weight";
        if let Some(kinds) = self.tensors.dimension(name, 1) {
            let kinds = self.tensors.table(name, kinds as usize, self.hyper.embedding)?;
            let first = self.plan.weight(WeightUse { role: Role::Vector, ..rows_of(&kinds, 0..1) });
            self.plan.apply(Op::Bias { vector: first, x });
        }
        Ok(())
    }

    /// A vector of the current layer, by its whole name after `blk.N.`.
    pub fn vector(&mut self, name: &str, length: usize) -> Result<Weight, ModelError> {
        self.vector_of(name, &[length])
    }

    /// The same with several dimensions, columns first.
    pub fn vector_of(&mut self, name: &str, dimensions: &[usize]) -> Result<Weight, ModelError> {
        let vector = self.tensors.vector(&self.name(name), dimensions)?;
        Ok(self.plan.weight(vector))
    }

    /// A vector of the current layer that a model may lack.
    pub fn optional_vector(&mut self, name: &str, length: usize) -> Result<Option<Weight>, ModelError> {
        if self.has(name) { self.vector(name, length).map(Some) } else { Ok(None) }
    }

    /// The end: wanted rows, norm, head. The head is the token table itself where the model ties them.
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

    /// The end of a decoder that is to give embeddings: its normalised rows, pooled. Where positions look back only, the last
    /// one alone has seen everything.
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

    /// The plan.
    pub fn finish(self, head: Head) -> Result<Plan, ModelError> {
        self.tensors.all_used(self.keys.architecture)?;
        if !self.causal && self.plan.looks_back_by_distance() {
            let what = "positions that see what comes after them, within a window or with a bias by distance, are not supported";
            return Err(self.unsupported(what));
        }
        Ok(self.plan.finish(self.keys.architecture, self.vocabulary, self.hyper.context, head))
    }
}

/// Factors of all matrices but the feed-forward parts'.
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
            expected: "a row a token, at least two".into(),
        }),
    }
}

/// The largest width that a file may claim.
pub const WIDEST: u64 = MOST_COLUMNS;
