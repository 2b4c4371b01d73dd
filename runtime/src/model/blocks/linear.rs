//! Linear layers by name, with biases, factors, and parts of fused matrices.

use super::Blocks;
use crate::model::ModelError;
use crate::model::tensors::{elements_of, rows_of};
use crate::plan::{Factor, Linear, WeightUse};

impl Blocks<'_, '_> {
    /// A linear map of the current layer: `name.weight`, and `name.bias` and `name.scale` if present.
    pub fn linear(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Linear, ModelError> {
        let full = self.name(name);
        self.linear_named(&full, outputs, inputs)
    }

    pub(super) fn linear_named(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Linear, ModelError> {
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

    /// The factor of a matrix, present in files made from scaled formats.
    fn factor(&mut self, name: &str) -> Result<Option<Factor>, ModelError> {
        // A scale for activations quantised to four bits, which are not used here.
        self.tensors.ignore(&format!("{name}.input_scale"));
        let scale = format!("{name}.scale");
        let in_layer = name.strip_prefix(&self.name("")).unwrap_or(name);
        if !(self.factors)(in_layer) {
            self.tensors.ignore(&scale);
            return Ok(None);
        }
        if !self.tensors.has(&scale) {
            return Ok(None);
        }
        let weight = self.tensors.vector(&scale, &[1])?;
        Ok(Some(Factor { weight: self.plan.weight(weight), covers_bias: (self.covering)(in_layer) }))
    }

    /// A fused linear map of the current layer, split by rows. `widths` add up to its outputs.
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
                    self.unsupported(format!("{full}.bias is stored in blocks that cannot be split into {widths:?}"))
                })?),
            };
            Ok(self.add_linear(rows_of(&weight, rows), bias, factor))
        });
        parts.collect()
    }
}
