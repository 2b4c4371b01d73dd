//! The type assigned to each tensor, by the rules of llama.cpp's `llama-quantize` (`llama-quant.cpp`) without an importance
//! matrix.
//!
//! A mixture spends its extra bits where errors hurt most: the output matrix, V, the feed-forward down projection and the
//! attention output; among layers, the first and last eighths and every third in between. If a row's length is not a
//! multiple of 256, a type with blocks of 32 is the fallback.

use satchel_gguf::{Gguf, Metadata, TensorInfo, TensorType};

use crate::model::file_type::FileType;

/// A tensor's type, and the one the rules wanted before the fallback for its row length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Assigned {
    pub(super) ty: TensorType,
    pub(super) wanted: TensorType,
}

/// Types for all tensors of a model, in file order. `pure`: every quantised tensor gets the base type.
///
/// # Errors
/// A metadata key that the rules need has the wrong value type.
pub(super) fn assign(gguf: &Gguf, file_type: FileType, pure: bool) -> Result<Vec<Assigned>, satchel_gguf::Error> {
    let rules = Rules::new(gguf, file_type, pure)?;
    let mut assigned: Vec<Assigned> = gguf.tensors.iter().map(|tensor| rules.plain(tensor)).collect();
    if pure || file_type.base().block_elements() == 1 {
        return Ok(assigned);
    }
    // V matrices are numbered in layer order, whatever their order in the file.
    let mut values: Vec<usize> =
        (0..gguf.tensors.len()).filter(|&at| rules.role(&gguf.tensors[at]) == Role::Value).collect();
    values.sort_by_key(|&at| layer(&gguf.tensors[at].name));
    for (at, tensor) in gguf.tensors.iter().enumerate().filter(|(_, tensor)| is_quantised(tensor)) {
        let place = values.iter().position(|&value| value == at).unwrap_or(0);
        assigned[at] = fitting(tensor, rules.mixed(tensor, place, values.len()));
    }
    Ok(assigned)
}

/// A matrix's role, as far as the rules distinguish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// The output matrix, or the token embedding tied to it.
    Output,
    /// V, or a fused matrix that includes it.
    Value,
    Key,
    AttentionOutput,
    Down,
    Other,
}

/// The rules, with what they need to know about the model.
struct Rules {
    file_type: FileType,
    base: TensorType,
    /// The token embedding doubles as the output matrix.
    tied: bool,
    layers: usize,
    experts: u32,
    /// Four or more heads share a KV head.
    shared: bool,
    /// 80 layers and grouped-query attention, where V is a small share of the weights.
    large: bool,
    falcon: bool,
}

impl Rules {
    fn new(gguf: &Gguf, file_type: FileType, pure: bool) -> Result<Self, satchel_gguf::Error> {
        let facts = &gguf.metadata;
        let architecture = facts.require_str("general.architecture")?;
        let number = |key: &str| facts.get_u32(&format!("{architecture}.{key}"));
        let layers = number("block_count")?.unwrap_or(0);
        let group = if pure { 1 } else { heads_in_a_group(facts, architecture, layers)? };
        Ok(Self {
            file_type,
            base: file_type.base(),
            tied: gguf.tensors.iter().all(|tensor| tensor.name != "output.weight"),
            layers: layers as usize,
            experts: number("expert_count")?.unwrap_or(0),
            shared: group >= 4,
            large: layers == 80 && group > 1,
            falcon: architecture == "falcon",
        })
    }

    /// The base type, if the tensor is quantised.
    fn plain(&self, tensor: &TensorInfo) -> Assigned {
        if is_quantised(tensor) { fitting(tensor, self.base) } else { Assigned { ty: tensor.ty, wanted: tensor.ty } }
    }

    fn role(&self, tensor: &TensorInfo) -> Role {
        let name = tensor.name.as_str();
        let tables = ["token_embd.weight", "per_layer_token_embd.weight"];
        if name == "output.weight" || self.tied && tables.contains(&name) {
            return Role::Output;
        }
        let parts = [
            ("attn_qkv.weight", Role::Value),
            ("attn_kv_b.weight", Role::Value),
            ("attn_v.weight", Role::Value),
            ("attn_k.weight", Role::Key),
            ("attn_output.weight", Role::AttentionOutput),
            ("ffn_down", Role::Down),
        ];
        parts.iter().find(|(part, _)| name.contains(part)).map_or(Role::Other, |&(_, role)| role)
    }

    /// The type of a quantised tensor; a V matrix is number `place` of `places`.
    fn mixed(&self, tensor: &TensorInfo, place: usize, places: usize) -> TensorType {
        match self.role(tensor) {
            Role::Output => self.output(tensor),
            Role::Value => self.value(place, places),
            Role::Key if self.experts == 8 => TensorType::Q8_0,
            Role::AttentionOutput => self.attention_output(),
            Role::Down => self.down(layer(&tensor.name).unwrap_or(0)),
            Role::Key | Role::Other => self.base,
        }
    }

    fn output(&self, tensor: &TensorInfo) -> TensorType {
        let fits = tensor.columns().is_multiple_of(self.base.block_elements() as u64);
        if self.falcon || !fits || self.base == TensorType::Q8_0 { TensorType::Q8_0 } else { TensorType::Q6_K }
    }

    fn value(&self, place: usize, places: usize) -> TensorType {
        use FileType::*;
        if self.experts == 8 {
            return TensorType::Q8_0;
        }
        let ty = match self.file_type {
            Q2_K | Q2_K_S if self.shared => TensorType::Q4_K,
            Q2_K => TensorType::Q3_K,
            Q3_K_M if place < 2 => TensorType::Q5_K,
            Q3_K_M => TensorType::Q4_K,
            Q3_K_L => TensorType::Q5_K,
            Q4_K_S if place < 4 => TensorType::Q5_K,
            Q4_K_M | Q5_K_M if deserves_more(place, places) => TensorType::Q6_K,
            _ => self.base,
        };
        match ty {
            TensorType::Q3_K | TensorType::Q4_K if self.large => TensorType::Q5_K,
            ty => ty,
        }
    }

    fn down(&self, layer: usize) -> TensorType {
        use FileType::*;
        let (first_eighth, first_sixteenth) = (layer < self.layers / 8, layer < self.layers / 16);
        let more = deserves_more(layer, self.layers);
        match self.file_type {
            Q2_K => TensorType::Q3_K,
            Q2_K_S if first_eighth => TensorType::Q4_K,
            Q3_K_M if first_sixteenth => TensorType::Q5_K,
            Q3_K_M if !self.falcon || more => TensorType::Q4_K,
            Q3_K_L if self.falcon => TensorType::Q4_K,
            Q3_K_L => TensorType::Q5_K,
            Q4_K_M if self.falcon && first_sixteenth => TensorType::Q6_K,
            Q4_K_M if self.falcon && more => TensorType::Q5_K,
            Q4_K_M | Q5_K_M if more && !(self.falcon && self.file_type == Q4_K_M) => TensorType::Q6_K,
            Q4_K_S if first_eighth && !self.falcon => TensorType::Q5_K,
            _ => self.base,
        }
    }

    fn attention_output(&self) -> TensorType {
        use FileType::*;
        match self.file_type {
            Q3_K_L if self.falcon => TensorType::Q4_K,
            _ if self.falcon => self.base,
            Q2_K | Q3_K_S | Q3_K_M | Q4_K_S | Q4_K_M if self.experts == 8 => TensorType::Q5_K,
            _ if self.experts == 8 => self.base,
            Q2_K => TensorType::Q3_K,
            Q3_K_M => TensorType::Q4_K,
            Q3_K_L => TensorType::Q5_K,
            _ => self.base,
        }
    }
}

/// Heads per KV head in the first layer; 1 if the file does not say.
fn heads_in_a_group(facts: &Metadata, architecture: &str, layers: u32) -> Result<u32, satchel_gguf::Error> {
    let first = |key: &str| {
        let all = facts.get_u32_per_layer(&format!("{architecture}.attention.{key}"), layers as usize)?;
        Ok(all.and_then(|all| all.first().copied()))
    };
    let heads = first("head_count")?;
    let shared = first("head_count_kv")?.or(heads);
    Ok(heads.zip(shared).and_then(|(heads, shared)| heads.checked_div(shared)).unwrap_or(1))
}

/// The first and the last eighth, and every third in between.
fn deserves_more(place: usize, places: usize) -> bool {
    let eighth = places / 8;
    place < eighth || place >= 7 * places / 8 || (place - eighth) % 3 == 2
}

/// The layer number in a tensor's name, `blk.7.…`.
fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// Small matrices that are never quantised, by a part of their names.
const KEPT: [&str; 10] = [
    "_norm.weight",
    "ffn_gate_inp.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "attn_rel_b.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
];

/// Whether a tensor is quantised at all: weight matrices, except small and sensitive ones.
fn is_quantised(tensor: &TensorInfo) -> bool {
    let name = tensor.name.as_str();
    let is_table = name == "position_embd.weight" || name == "token_types.weight";
    tensor.rows() > 1
        && tensor.columns() > 0
        && name.ends_with("weight")
        && !is_table
        && !KEPT.iter().any(|part| name.contains(part))
}

/// The wanted type, or its fallback if a row is not a whole number of blocks.
fn fitting(tensor: &TensorInfo, wanted: TensorType) -> Assigned {
    let fits = |ty: TensorType| tensor.columns().is_multiple_of(ty.block_elements() as u64);
    let instead = match wanted {
        TensorType::Q2_K | TensorType::Q3_K => TensorType::Q4_0,
        TensorType::Q4_K => TensorType::Q5_0,
        TensorType::Q5_K => TensorType::Q5_1,
        TensorType::Q6_K => TensorType::Q8_0,
        _ => TensorType::F16,
    };
    let ty = [wanted, instead].into_iter().find(|&ty| fits(ty)).unwrap_or(TensorType::F16);
    Assigned { ty, wanted }
}

#[cfg(test)]
mod tests;
