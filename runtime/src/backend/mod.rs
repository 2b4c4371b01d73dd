//! The operations a forward pass is made of, and the contract of whoever carries them out.
//!
//! A model is a list of operations over *slots* (activation buffers of so many columns, one row a token) and *weights*.
//! Where they live (memory the processor reads, or a GPU's) is the backend's affair: above this line there are only
//! handles. One operation has one name here, in the scalar kernel and in the `.wgsl` file.
//!
//! Rule for every backend: a row of a result depends on that row's inputs only, never on the other rows of the batch,
//! so a sequence gives the same tokens whoever runs beside it.

use satchel_gguf::TensorType;

use crate::TokenId;
use crate::kv::BlockId;
use crate::mapping::MappedFile;
use crate::model::rope::Rope;

pub use crate::kernels::attention::{CacheType, CacheTypes};

pub mod cpu;

/// A weight that a backend has been given. Weights with more than one row are matrices `(rows, columns)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight(pub(crate) usize);

/// An activation buffer: `(tokens of the batch, columns)`, f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub(crate) usize);

/// A tensor where the file system mapped it.
#[derive(Clone, Debug)]
pub struct MappedTensor {
    /// The file that holds it.
    pub file: MappedFile,
    /// Where its first block begins, in bytes from the start of `file`; checked against the file's size.
    pub offset: usize,
    /// How its elements are stored.
    pub ty: TensorType,
    /// Number of rows: the product of all GGUF dimensions but the first.
    pub rows: usize,
    /// Elements of a row: the first GGUF dimension.
    pub columns: usize,
}

impl MappedTensor {
    /// The blocks of all rows.
    pub fn bytes(&self) -> &[u8] {
        let row_bytes = self.ty.row_bytes(self.columns as u64).expect("checked when the tensor table was read");
        &self.file[self.offset..self.offset + self.rows * row_bytes as usize]
    }
}

/// A number that a whole matrix is multiplied by: formats of four bits keep one beside their blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factor {
    /// The number.
    pub value: f32,
    /// `(x · weightᵀ + bias) * value` in place of `(x · weightᵀ) * value + bias`.
    pub covers_bias: bool,
}

/// `out (tokens, rows) = x · weightᵀ [* factor] [+ bias]`, or added to what `out` holds.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// `(rows, columns)`
    pub weight: Weight,
    /// `(rows)`
    pub bias: Option<Weight>,
    /// The weight's factor, where it has one.
    pub factor: Option<Factor>,
    /// Where the result goes.
    pub out: Slot,
    /// Add to `out` in place of overwriting it.
    pub add: bool,
}

/// How queries look at keys and values.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Columns of a head.
    pub head_dim: usize,
    /// Scores are multiplied by this before the softmax.
    pub scale: f32,
    /// Only this many last positions are seen; `None`: all.
    pub window: Option<usize>,
    /// Scores are squashed to `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
}

/// The shape of the KV cache of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Layers that keep keys and values.
    pub layers: usize,
    /// Key and value heads of a layer.
    pub kv_heads: usize,
    /// Columns of a head.
    pub head_dim: usize,
}

/// Memory that a backend holds beside the mapped weights, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Keys and values.
    pub kv_bytes: u64,
    /// Activations of the largest batch so far, and what converts them.
    pub scratch_bytes: u64,
}

/// The rows of one forward pass.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// A token a row.
    pub tokens: Vec<TokenId>,
    /// Its position in its sequence.
    pub positions: Vec<usize>,
    /// Its sequence, an index into `tables`.
    pub sequences: Vec<usize>,
    /// The KV blocks of each sequence in order of position; they cover every position above.
    pub tables: Vec<Vec<BlockId>>,
    /// Rows whose logits are wanted, ascending.
    pub outputs: Vec<usize>,
}

/// A nonlinearity of a gated feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`
    Silu,
    /// `x * Φ(x)`, the tanh form
    Gelu,
}

/// Carries out the operations of a forward pass. Shapes were checked when the model was built; a backend may panic on
/// a handle that is not its own.
pub trait Backend: Send {
    /// What people see, e.g. `cpu avx2`.
    fn name(&self) -> String;

    /// Whether [`Backend::matmul`] computes with weights of this type.
    fn supports(&self, ty: TensorType) -> bool;

    /// Takes a weight in. The bytes stay where they are mapped wherever the hardware can read them there.
    fn place(&mut self, tensor: MappedTensor) -> Weight;

    /// Makes an activation buffer of `columns` a token.
    fn slot(&mut self, columns: usize) -> Slot;

    /// Fixes the shape of the KV cache, once, before the first weight is placed.
    ///
    /// # Errors
    /// One line for the person, where heads of this size do not fit the types that the cache was asked to have.
    fn kv_shape(&mut self, shape: KvShape) -> Result<(), String>;
    /// Makes room for a KV block. The same id may come again after [`Backend::kv_free`].
    fn kv_allocate(&mut self, block: BlockId);
    /// Gives a KV block's memory back.
    fn kv_free(&mut self, block: BlockId);
    /// Copies a whole KV block.
    fn kv_copy(&mut self, from: BlockId, to: BlockId);

    /// What it holds now.
    fn memory(&self) -> MemoryUse;

    /// Starts a forward pass: sizes the slots for the batch's rows.
    fn begin(&mut self, batch: &Batch);
    /// `out[row] = table[batch.tokens[row]]`
    fn embed(&mut self, table: Weight, out: Slot);
    /// `out[row] = x[row] / rms(x[row]) * weight`
    fn rms_norm(&mut self, x: Slot, weight: Weight, eps: f32, out: Slot);
    /// Several products with the same `x`.
    fn matmul(&mut self, x: Slot, products: &[Product]);
    /// Rotates the heads of `x` by the batch's positions, in place.
    fn rope(&mut self, x: Slot, rope: &Rope, heads: usize, head_dim: usize);
    /// Stores keys and values of the batch's rows at their positions in layer `layer` of the KV cache.
    fn store_kv(&mut self, layer: usize, key: Slot, value: Slot);
    /// Causal attention of every row over its own sequence's positions up to its own.
    fn attention(&mut self, layer: usize, shape: &AttentionShape, query: Slot, out: Slot);
    /// `out = activation(gate) * up`
    fn gate(&mut self, activation: Activation, gate: Slot, up: Slot, out: Slot);
    /// Keeps only the rows `batch.outputs` of `x`, moved to the front of `out`; later operations on `out` see that
    /// many rows.
    fn select_outputs(&mut self, x: Slot, out: Slot);
    /// The rows of `x` as f32, `(rows, columns)`.
    fn read(&mut self, x: Slot) -> &[f32];
}
