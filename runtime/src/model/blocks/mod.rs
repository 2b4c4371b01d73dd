//! What architectures are composed of: blocks that find their tensors under the names GGUF gives them and add operations to a
//! plan. An architecture's file reads like its paper: one call a block.
//!
//! Blocks hold no numbers of a family. What differs (which norm, what rotation, which gate) is an argument, or follows from
//! which tensors the file has. The current layer is set once by [`Blocks::at`], and names without `blk.` belong to it.

mod attention;
mod delta;
mod feed_forward;
mod layers;
mod mamba;
mod mixture;

pub use attention::Heads;
pub use mixture::Mixture;

use super::ModelError;
use super::hyperparameters::{Hyperparameters, MOST_COLUMNS};
use super::keys::Keys;
use super::tensors::{TensorTable, elements_of, rows_of};
use crate::plan::{Factor, Head, Linear, Norm, NormKind, Plan, PlanBuilder, Rope, RopePairs, Slot, Weight, WeightUse};

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
    layer: usize,
}

impl<'a, 'b> Blocks<'a, 'b> {
    /// Nothing but the hyperparameters.
    pub fn new(keys: &'a Keys<'a>, tensors: &'a mut TensorTable<'b>) -> Result<Self, ModelError> {
        let hyper = Hyperparameters::read(keys)?;
        let vocabulary = vocabulary(tensors)?;
        Ok(Self { keys, hyper, tensors, plan: PlanBuilder::new(), vocabulary, layer: 0 })
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

    /// A norm over `width` columns with the tensors `name.weight` and, where it is there, `name.bias`.
    pub fn norm_weights(&mut self, kind: NormKind, name: &str, width: usize) -> Result<Norm, ModelError> {
        let full = self.name(name);
        self.norm_named(kind, &full, width)
    }

    fn norm_named(&mut self, kind: NormKind, name: &str, width: usize) -> Result<Norm, ModelError> {
        let weight = self.tensors.vector(&format!("{name}.weight"), &[width])?;
        let weight = Some(self.plan.weight(weight));
        let bias_name = format!("{name}.bias");
        let bias = match self.tensors.has(&bias_name) {
            true => Some(self.tensors.vector(&bias_name, &[width])?),
            false => None,
        };
        let bias = bias.map(|bias| self.plan.weight(bias));
        Ok(Norm { kind, width, weight, bias, epsilon: self.epsilon(kind) })
    }

    /// ε of a norm.
    pub fn epsilon(&self, kind: NormKind) -> f32 {
        match kind {
            NormKind::Layer => self.hyper.layer_epsilon,
            NormKind::Rms | NormKind::L2 => self.hyper.rms_epsilon,
        }
    }

    /// `norm(x)` over all columns, by the tensors of the current layer.
    pub fn norm(&mut self, kind: NormKind, x: Slot, name: &str) -> Result<Slot, ModelError> {
        let norm = self.norm_weights(kind, name, self.plan.columns(x))?;
        Ok(self.plan.norm(x, norm))
    }

    /// `norm(x)` by tensors of no layer.
    pub fn outer_norm(&mut self, kind: NormKind, x: Slot, name: &str) -> Result<Slot, ModelError> {
        let norm = self.norm_named(kind, name, self.plan.columns(x))?;
        Ok(self.plan.norm(x, norm))
    }

    /// A linear layer of the current layer: `name.weight`, `name.bias` and `name.scale` where they are there.
    pub fn linear(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Linear, ModelError> {
        let full = self.name(name);
        self.linear_named(&full, outputs, inputs)
    }

    fn linear_named(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Linear, ModelError> {
        let (weight, bias, factor) = self.find_linear(name, outputs, inputs)?;
        Ok(self.add_linear(weight, bias, factor))
    }

    fn find_linear(
        &mut self,
        name: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<(WeightUse, Option<WeightUse>, Option<Factor>), ModelError> {
        let weight = self.tensors.matrix(&format!("{name}.weight"), outputs, inputs)?;
        let bias_name = format!("{name}.bias");
        let bias = match self.tensors.has(&bias_name) {
            true => Some(self.tensors.vector(&bias_name, &[outputs])?),
            false => None,
        };
        Ok((weight, bias, self.factor(name)?))
    }

    fn add_linear(&mut self, weight: WeightUse, bias: Option<WeightUse>, factor: Option<Factor>) -> Linear {
        let weight = self.plan.weight(weight);
        Linear { weight, bias: bias.map(|bias| self.plan.weight(bias)), factor }
    }

    /// The factor of a whole matrix that files made from scaled formats carry.
    fn factor(&mut self, name: &str) -> Result<Option<Factor>, ModelError> {
        // What activations were divided by where they are quantised to four bits; nothing here does that.
        self.tensors.ignore(&format!("{name}.input_scale"));
        let scale = format!("{name}.scale");
        if !self.tensors.has(&scale) {
            return Ok(None);
        }
        let weight = self.tensors.vector(&scale, &[1])?;
        Ok(Some(Factor { weight: self.plan.weight(weight), covers_bias: false }))
    }

    /// A fused linear layer of the current layer, taken apart by rows. `widths` add up to its outputs.
    pub fn fused(&mut self, name: &str, widths: &[usize], inputs: usize) -> Result<Vec<Linear>, ModelError> {
        let full = self.name(name);
        let (weight, bias, factor) = self.find_linear(&full, widths.iter().sum(), inputs)?;
        let mut first = 0;
        let parts = widths.iter().map(|&width| {
            let rows = first..first + width;
            first += width;
            let bias = match &bias {
                None => None,
                Some(bias) => Some(elements_of(bias, rows.clone()).ok_or_else(|| {
                    self.unsupported(format!("{full}.bias is stored in blocks that do not fall apart into {widths:?}"))
                })?),
            };
            Ok(self.add_linear(rows_of(&weight, rows), bias, factor))
        });
        parts.collect()
    }

    /// The rotation that the `rope.*` keys describe, with the divisors that the file has: longrope's for the context in force,
    /// or those of Llama 3.1.
    pub fn rope(&mut self, pairs: RopePairs) -> Result<Rope, ModelError> {
        let count = self.hyper.rope_dimensions(self.keys)? / 2;
        let longrope = self.hyper.longrope_factors(self.keys)?;
        let name = match longrope {
            Some([name, other]) => {
                self.tensors.ignore(other);
                Some(name)
            }
            None => self.tensors.has("rope_freqs.weight").then_some("rope_freqs.weight"),
        };
        let factors = match name {
            Some(name) => Some(self.tensors.vector(name, &[count])?),
            None => None,
        };
        let factors = factors.map(|factors| self.plan.weight(factors));
        self.hyper.rope(self.keys, pairs, factors)
    }

    /// The rotation that the `rope.*` keys describe, where no divisors belong to it.
    pub fn rope_without_factors(&mut self, pairs: RopePairs) -> Result<Rope, ModelError> {
        self.hyper.rope(self.keys, pairs, None)
    }

    /// The end: wanted rows, norm, head. The head is the token table itself where the model ties them.
    pub fn head(mut self, kind: NormKind, x: Slot) -> Result<Plan, ModelError> {
        let last = self.plan.select(x);
        let normed = self.outer_norm(kind, last, "output_norm")?;
        let logits = self.logits(normed)?;
        self.finish(Head::Logits(logits))
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
        Ok(self.plan.finish(self.keys.architecture, self.vocabulary, self.hyper.context, head))
    }
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
