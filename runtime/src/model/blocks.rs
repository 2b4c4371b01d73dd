//! The blocks a forward pass is composed of. Handles and numbers only; an architecture fills them in.

use super::rope::Rope;
use crate::backend::{Activation, AttentionShape, Factor, Weight};

/// `x · weightᵀ + bias`, times a factor where the file has one
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// `(outputs, inputs)`
    pub weight: Weight,
    /// `(outputs)`
    pub bias: Option<Weight>,
    /// The factor of the whole matrix.
    pub factor: Option<Factor>,
}

/// Root-mean-square normalisation.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// `(columns)`
    pub weight: Weight,
    /// Added to the mean square.
    pub epsilon: f32,
}

/// Self-attention over the sequence's KV cache.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Before the projections.
    pub norm: Norm,
    /// `(heads * head_dim, embedding)`
    pub query: Linear,
    /// `(kv_heads * head_dim, embedding)`
    pub key: Linear,
    /// `(kv_heads * head_dim, embedding)`
    pub value: Linear,
    /// `(embedding, heads * head_dim)`
    pub output: Linear,
    /// `None`: this layer has no positions.
    pub rope: Option<Rope>,
    /// Heads and how they look.
    pub shape: AttentionShape,
    /// The layer of the KV cache.
    pub kv_layer: usize,
}

/// What follows the mixer in a layer.
#[derive(Clone, Debug)]
pub enum FeedForward {
    /// `down(activation(gate(x)) * up(x))`
    Gated {
        /// Before the projections.
        norm: Norm,
        /// `(feed_forward, embedding)`
        gate: Linear,
        /// `(feed_forward, embedding)`
        up: Linear,
        /// `(embedding, feed_forward)`
        down: Linear,
        /// The nonlinearity.
        activation: Activation,
    },
}

/// What mixes positions in a layer.
#[derive(Clone, Debug)]
pub enum Mixer {
    /// Softmax attention.
    Attention(Attention),
}

/// A layer: both parts read the residual stream and add to it.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Mixes positions.
    pub mixer: Mixer,
    /// Works on each position alone.
    pub feed_forward: FeedForward,
}
