//! Predicts what a plan takes on the CPU besides weights and state, before anything is loaded. Sizes come from the code that
//! allocates the buffers.

use satchel_gguf::TensorType;

use super::attend::turns;
use crate::kernels::Kernels;
use crate::kernels::attention::{self, AttentionShape};
use crate::kernels::matmul::{self, Activations};
use crate::plan::{Attention, CacheTypes, Op, Plan, Role, Weight};

/// Bytes of working memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Working {
    /// Activations of one step.
    pub activation_bytes: u64,
    /// Per-thread scratch, summed over all threads.
    pub thread_bytes: u64,
}

/// What a plan is to run for.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Rows of the largest step.
    pub tokens: usize,
    /// Rows of it whose result is wanted.
    pub outputs: usize,
    /// Threads that compute.
    pub threads: usize,
    /// How keys and values are stored.
    pub cache: CacheTypes,
    /// The table; `None`: one that has no forms of activations of its own.
    pub kernels: Option<&'static Kernels>,
}

/// What the steps of `load` take.
pub fn working(plan: &Plan, load: Load) -> Working {
    let Load { tokens, outputs, threads, cache, kernels } = load;
    let layers = &plan.ops[..plan.first_output_op];
    // What is multiplied in tiles has another form for answers, whose rows are few beside a prompt's.
    let tiled = |ty| kernels.is_some_and(|kernels| kernels.tiles(ty));
    let in_bf16 = |ty| kernels.is_some_and(Kernels::rounds) && ty == TensorType::BF16;
    let quantised = widest(plan, layers, |ty| matmul::is_quantised(ty) && !tiled(ty));
    let plain = widest(plan, layers, |ty| !matmul::is_quantised(ty) && !in_bf16(ty) && !tiled(ty));
    let rounded = widest(plan, layers, in_bf16);
    let tiles = widest(plan, layers, tiled);
    // Cosines and sines are as wide as the rotated part, once for each kind of rotation.
    let mut rotated: Vec<usize> = Vec::new();
    for op in &plan.ops {
        if let Op::Rope { rope, .. } = op
            && !rotated.contains(&rope.dimensions)
        {
            rotated.push(rope.dimensions);
        }
    }
    let rotations = (rotated.iter().sum::<usize>() * tokens * size_of::<f32>()) as u64;
    let converted = Activations::bytes_for(tokens, quantised, plain)
        + Activations::bytes_for_rounded(tokens, rounded)
        + Activations::bytes_for_tiles(tokens, tiles);
    let shapes = || plan.attentions().map(|shape| heads(shape, cache));
    let attending = shapes().map(|shape| attention::thread_bytes(&shape)).max().unwrap_or(0);
    // Results that wait to be merged are left out: `attention::shared_bytes` bounds them at ten times what prompts and answers take.
    let multiplying = matmul::thread_bytes(quantised, tokens, false).max(matmul::thread_bytes(tiles, tokens, true));
    let thread = multiplying + attending;
    Working {
        activation_bytes: plan.activation_bytes(tokens, outputs)
            + rotations
            + converted as u64
            + turned_bytes(plan, load),
        thread_bytes: (threads * thread) as u64,
    }
}

/// Heads as the kernels want them.
fn heads(shape: &Attention, cache: CacheTypes) -> AttentionShape {
    let Attention { heads, kv_heads, key_dim, value_dim, scale, softcap, alibi, .. } = *shape;
    AttentionShape { heads, kv_heads, key_dim, value_dim, scale, softcap, alibi, cache }
}

/// Copies of queries or keys, and of values, for a cache that keeps them transformed.
fn turned_bytes(plan: &Plan, load: Load) -> u64 {
    let widest = |ty, columns: fn(&Attention) -> usize| match turns(ty) {
        true => plan.attentions().map(columns).max().unwrap_or(0),
        false => 0,
    };
    let keys = widest(load.cache.keys, |shape| shape.heads * shape.key_dim);
    let values = widest(load.cache.values, |shape| shape.kv_heads * shape.value_dim);
    ((keys + values) * load.tokens * size_of::<f32>()) as u64
}

/// Columns of the widest matrix that operations multiply with, of these types; 0 for none.
fn widest(plan: &Plan, ops: &[Op], of: impl Fn(TensorType) -> bool) -> usize {
    let used = ops.iter().flat_map(|op| -> Vec<Weight> {
        match op {
            Op::Linear { products, .. } => products.iter().map(|product| product.weight).collect(),
            Op::LinearHeads { weight, .. } => vec![*weight],
            Op::Experts { experts, .. } => experts.stacks().collect(),
            _ => Vec::new(),
        }
    });
    let weights = used.map(|weight| &plan.weights[weight.0]);
    let wanted = weights.filter(|weight| weight.role == Role::Matrix && of(weight.ty));
    wanted.map(|weight| weight.columns).max().unwrap_or(0)
}
