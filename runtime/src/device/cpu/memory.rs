//! Predicts what a plan takes on the CPU besides weights and state, before anything is loaded. Sizes come from the code that
//! allocates the buffers.

use crate::kernels::attention::{self, AttentionShape};
use crate::kernels::matmul::{self, Activations};
use crate::plan::{CacheTypes, Op, Plan, Role, Weight};

/// Bytes of working memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Working {
    /// Activations of one step.
    pub activation_bytes: u64,
    /// Per-thread scratch, summed over all threads.
    pub thread_bytes: u64,
}

/// Working memory of steps of at most `tokens` rows and `outputs` wanted ones on `threads` threads.
pub fn working(plan: &Plan, tokens: usize, outputs: usize, threads: usize) -> Working {
    let layers = &plan.ops[..plan.first_output_op];
    let (quantised, plain) = (widest(plan, layers, true), widest(plan, layers, false));
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
    let converted = Activations::bytes_for(tokens, quantised, plain) as u64;
    let attending = plan.attentions().map(|shape| {
        attention::thread_bytes(&AttentionShape {
            heads: shape.heads,
            kv_heads: shape.kv_heads,
            key_dim: shape.key_dim,
            value_dim: shape.value_dim,
            scale: shape.scale,
            softcap: shape.softcap,
            alibi: shape.alibi,
            // Does not affect what threads need: pages are converted to f32.
            cache: CacheTypes::default(),
        })
    });
    let thread = matmul::thread_bytes(quantised, tokens) + attending.max().unwrap_or(0);
    Working {
        activation_bytes: plan.activation_bytes(tokens, outputs) + rotations + converted,
        thread_bytes: (threads * thread) as u64,
    }
}

/// Columns of the widest matrix that operations multiply with, of quantised or of plain types; 0 if none.
fn widest(plan: &Plan, ops: &[Op], quantised: bool) -> usize {
    let used = ops.iter().flat_map(|op| -> Vec<Weight> {
        match op {
            Op::Linear { products, .. } => products.iter().map(|product| product.weight).collect(),
            Op::LinearHeads { weight, .. } => vec![*weight],
            Op::Experts { experts, .. } => {
                [experts.gate, Some(experts.up), Some(experts.down)].into_iter().flatten().collect()
            }
            _ => Vec::new(),
        }
    });
    let weights = used.map(|weight| &plan.weights[weight.0]);
    let wanted = weights.filter(|weight| weight.role == Role::Matrix && matmul::is_quantised(weight.ty) == quantised);
    wanted.map(|weight| weight.columns).max().unwrap_or(0)
}
