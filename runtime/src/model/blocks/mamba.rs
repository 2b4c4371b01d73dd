//! State space mixers: Mamba (arXiv:2312.00752), Mamba 2 (arXiv:2405.21060), and the short convolution of LFM 2.

use super::Blocks;
use crate::model::ModelError;
use crate::plan::{Activation, Linear, Norm, NormKind, Op, Recurrence, Slot};

/// Shape of a state space mixer, from `ssm.*`.
#[derive(Clone, Copy, Debug)]
pub struct StateSpace {
    /// Inner width.
    pub inner: usize,
    /// Length of the convolution kernel, in rows.
    pub kernel: usize,
    /// State elements per column.
    pub state: usize,
    /// Rank of the time step in Mamba; heads in Mamba 2.
    pub rank: usize,
    /// Groups of heads that share projections; 1 in Mamba.
    pub groups: usize,
}

impl Blocks<'_, '_> {
    /// Reads the shape.
    pub fn state_space(&self) -> Result<StateSpace, ModelError> {
        let count = |name: &str| self.keys.required_count(&format!("ssm.{name}"), super::WIDEST);
        let shape = StateSpace {
            inner: count("inner_size")?,
            kernel: count("conv_kernel")?,
            state: count("state_size")?,
            rank: count("time_step_rank")?,
            groups: self.keys.count("ssm.group_count", super::WIDEST)?.unwrap_or(1),
        };
        self.check_kernel("ssm.conv_kernel", shape.kernel)?;
        Ok(shape)
    }

    fn check_kernel(&self, name: &str, rows: usize) -> Result<(), ModelError> {
        match rows {
            2..=8 => Ok(()),
            _ => Err(self.keys.wrong(name, rows, "this build supports kernels of 2 to 8 rows")),
        }
    }

    fn convolution(
        &mut self,
        x: Slot,
        kernel: usize,
        name: &str,
        activation: Option<Activation>,
    ) -> Result<Slot, ModelError> {
        let columns = self.plan.columns(x);
        let weight = self.vector_of(&format!("{name}.weight"), &[kernel, columns])?;
        let bias = self.optional_vector(&format!("{name}.bias"), columns)?;
        Ok(self.plan.convolve(x, kernel, weight, bias, activation))
    }

    /// An RMS norm with `name.weight`; if that is missing, without weights if `plain`, else no norm.
    fn state_norm(&mut self, x: Slot, name: &str, plain: bool) -> Result<Slot, ModelError> {
        let width = self.plan.columns(x);
        let norm = if self.has(&format!("{name}.weight")) {
            self.norm_weights(NormKind::Rms, name, width)?
        } else if plain {
            Norm { kind: NormKind::Rms, width, weight: None, bias: None, epsilon: self.epsilon(NormKind::Rms) }
        } else {
            return Ok(x);
        };
        Ok(self.plan.norm(x, norm))
    }

    /// A Mamba mixer: the input of its last projection, and that projection.
    pub fn mamba(&mut self, x: Slot) -> Result<(Slot, Linear), ModelError> {
        let StateSpace { inner, kernel, state, rank, .. } = self.state_space()?;
        let embedding = self.plan.columns(x);
        let parts = self.fused("ssm_in", &[inner, inner], embedding)?;
        let outs = self.plan.linears(x, &parts);
        let (x, gate) = (self.convolution(outs[0], kernel, "ssm_conv1d", Some(Activation::Silu))?, outs[1]);

        let parts = self.fused("ssm_x", &[rank, state, state], inner)?;
        let outs = self.plan.linears(x, &parts);
        let plain = self.keys.flag("ssm.dt_b_c_rms")?.unwrap_or(false);
        let dt = self.state_norm(outs[0], "ssm_dt_norm", plain)?;
        let b = self.state_norm(outs[1], "ssm_b_norm", plain)?;
        let c = self.state_norm(outs[2], "ssm_c_norm", plain)?;
        let step = self.linear("ssm_dt", inner, rank)?;
        let dt = self.plan.linear(dt, step);
        let a = self.vector_of("ssm_a", &[state, inner])?;
        let d = self.vector("ssm_d", inner)?;
        let mixed = self.plan.recur(Recurrence::Mamba { x, dt, b, c, a, d }, inner * state, inner);
        let gated = self.plan.gate(Activation::Silu, gate, mixed);
        Ok((gated, self.linear("ssm_out", embedding, inner)?))
    }

    /// A Mamba 2 mixer: the input of its last projection, and that projection.
    pub fn mamba2(&mut self, x: Slot) -> Result<(Slot, Linear), ModelError> {
        let StateSpace { inner, kernel, state, rank: heads, groups } = self.state_space()?;
        if inner % heads != 0 || heads % groups != 0 || inner % groups != 0 {
            return Err(self.unsupported(format!(
                "a state space mixer of {inner} columns cannot be split into {heads} heads and {groups} groups"
            )));
        }
        let embedding = self.plan.columns(x);
        let parts = self.fused("ssm_in", &[inner, inner + 2 * groups * state, heads], embedding)?;
        let outs = self.plan.linears(x, &parts);
        let (gate, mixed, dt) = (outs[0], outs[1], outs[2]);
        let bias = self.vector("ssm_dt.bias", heads)?;
        self.plan.apply(Op::Bias { vector: bias, x: dt });
        let mixed = self.convolution(mixed, kernel, "ssm_conv1d", Some(Activation::Silu))?;
        let x = self.plan.slice(mixed, 0, inner);
        let b = self.plan.slice(mixed, inner, groups * state);
        let c = self.plan.slice(mixed, inner + groups * state, groups * state);
        let a = self.vector_of("ssm_a", &[1, heads])?;
        let d = self.vector_of("ssm_d", &[1, heads])?;
        let recurrence = Recurrence::Mamba2 { x, dt, b, c, a, d, heads, groups };
        let mixed = self.plan.recur(recurrence, inner * state, inner);
        let mut gated = self.plan.gate(Activation::Silu, gate, mixed);
        if self.has("ssm_norm.weight") {
            let width = inner / groups;
            let weight = Some(self.vector_of("ssm_norm.weight", &[width, groups])?);
            let epsilon = self.epsilon(NormKind::Rms);
            gated = self.plan.norm(gated, Norm { kind: NormKind::Rms, width, weight, bias: None, epsilon });
        }
        Ok((gated, self.linear("ssm_out", embedding, inner)?))
    }

    /// A gated convolution over a few rows: the input of its last projection, and that projection.
    pub fn short_convolution(&mut self, x: Slot) -> Result<(Slot, Linear), ModelError> {
        let kernel = self.keys.required_count("shortconv.l_cache", super::WIDEST)?;
        self.check_kernel("shortconv.l_cache", kernel)?;
        let width = self.plan.columns(x);
        let parts = self.fused("shortconv.in_proj", &[width; 3], width)?;
        let outs = self.plan.linears(x, &parts);
        let (before, after, x) = (outs[0], outs[1], outs[2]);
        self.plan.apply(Op::Multiply { x: before, to: x, width: 1 });
        let mixed = self.convolution(x, kernel, "shortconv.conv", None)?;
        self.plan.apply(Op::Multiply { x: after, to: mixed, width: 1 });
        Ok((mixed, self.linear("shortconv.out_proj", width, width)?))
    }

    /// The convolution before a gated delta net.
    pub(super) fn delta_convolution(&mut self, x: Slot, kernel: usize) -> Result<Slot, ModelError> {
        self.convolution(x, kernel, "ssm_conv1d", Some(Activation::Silu))
    }
}
