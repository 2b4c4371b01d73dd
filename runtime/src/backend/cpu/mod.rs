//! The processor as a backend: slots are vectors, weights stay in the mapped file, operations are kernels of one
//! table shared out over one pool of threads.

use std::sync::Arc;

use half::f16;
use satchel_gguf::TensorType;

use super::{
    Activation, AttentionShape, Backend, Batch, CacheTypes, Factor, KvShape, MappedTensor, MemoryUse, Product, Slot,
    Weight,
};
use crate::kernels::Kernels;
use crate::kernels::attention::{self, PAGE_TOKENS, Query};
use crate::kernels::elementwise;
use crate::kernels::matmul::{self, Activations, Matrix};
use crate::kernels::threads::Threads;
use crate::kv::{BLOCK_TOKENS, BlockId};
use crate::model::rope::Rope;
use crate::quant::dequantize_row;

mod rotation;

use rotation::Rotations;

const _: () = assert!(BLOCK_TOKENS == PAGE_TOKENS, "a KV block is one page of every layer");

/// A weight as the kernels want it.
enum Placed {
    /// A matrix, where it is mapped.
    Matrix(MappedTensor),
    /// A vector (norm, bias): a few kilobytes, converted once.
    Vector(Arc<[f32]>),
}

/// An activation buffer and the shape of what it holds now.
#[derive(Default)]
struct Buffer {
    rows: usize,
    values: Vec<f32>,
}

/// The processor.
pub struct Cpu {
    kernels: &'static Kernels,
    threads: Threads,
    weights: Vec<Placed>,
    slots: Vec<Buffer>,
    /// Columns of each slot; apart from the buffers, which an operation takes out while it writes them.
    columns: Vec<usize>,
    activations: Activations,
    batch: Batch,
    cache_types: CacheTypes,
    kv_shape: Option<KvShape>,
    /// By block id: every layer's page, one after the other.
    blocks: Vec<Option<Box<[f16]>>>,
    rotations: Rotations,
}

impl Cpu {
    /// A backend on `threads` threads (the caller's is one of them) with one kernel table, and a KV cache of these types.
    pub fn new(kernels: &'static Kernels, threads: usize, cache_types: CacheTypes) -> Self {
        Self {
            kernels,
            threads: Threads::new(threads),
            weights: Vec::new(),
            slots: Vec::new(),
            columns: Vec::new(),
            activations: Activations::new(),
            batch: Batch::default(),
            cache_types,
            kv_shape: None,
            blocks: Vec::new(),
            rotations: Rotations::default(),
        }
    }

    fn vector(&self, weight: Weight) -> &[f32] {
        match &self.weights[weight.0] {
            Placed::Vector(values) => values,
            Placed::Matrix(tensor) => panic!("a matrix of {} rows was used as a vector", tensor.rows),
        }
    }

    fn matrix(&self, weight: Weight) -> Matrix<'_> {
        match &self.weights[weight.0] {
            Placed::Matrix(tensor) => {
                Matrix { ty: tensor.ty, rows: tensor.rows, columns: tensor.columns, bytes: tensor.bytes() }
            }
            Placed::Vector(_) => panic!("a vector was used as a matrix"),
        }
    }

    fn take(&mut self, slot: Slot) -> Buffer {
        std::mem::take(&mut self.slots[slot.0])
    }

    /// Takes a slot out to be overwritten with `rows` rows.
    fn take_for(&mut self, slot: Slot, rows: usize) -> Buffer {
        let mut buffer = self.take(slot);
        buffer.rows = rows;
        buffer.values.resize(rows * self.columns[slot.0], 0.0);
        buffer
    }

    fn put(&mut self, slot: Slot, buffer: Buffer) {
        self.slots[slot.0] = buffer;
    }

    /// A product whose weight has a factor of its own: rare enough for a plain second pass.
    fn product_with_factor(&mut self, x: Slot, product: &Product) {
        let Some(Factor { value: factor, covers_bias }) = product.factor else { return self.matmul(x, &[*product]) };
        let before = product.add.then(|| self.take(product.out));
        let bias = product.bias.filter(|_| covers_bias);
        self.matmul(x, &[Product { factor: None, bias, add: false, ..*product }]);
        let mut out = self.take(product.out);
        for value in &mut out.values {
            *value *= factor;
        }
        if let Some(bias) = product.bias.filter(|_| !covers_bias) {
            let bias = self.vector(bias);
            for row in out.values.chunks_exact_mut(bias.len()) {
                row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
            }
        }
        if let Some(before) = before {
            out.values.iter_mut().zip(&before.values).for_each(|(value, before)| *value += before);
        }
        self.put(product.out, out);
    }

    fn cache(&self) -> KvShape {
        self.kv_shape.expect("the model fixed the shape of the KV cache")
    }

    /// The KV heads as the kernels want them, with a query head each.
    fn cached_heads(&self) -> attention::AttentionShape {
        let KvShape { kv_heads, head_dim, .. } = self.cache();
        let cache = self.cache_types;
        attention::AttentionShape {
            heads: kv_heads,
            kv_heads,
            key_dim: head_dim,
            value_dim: head_dim,
            scale: 1.0,
            softcap: None,
            alibi: None,
            cache,
        }
    }
}

impl Backend for Cpu {
    fn name(&self) -> String {
        format!("cpu {}", self.kernels.name)
    }

    fn supports(&self, ty: TensorType) -> bool {
        matmul::supports(ty)
    }

    fn place(&mut self, tensor: MappedTensor) -> Weight {
        self.weights.push(if tensor.rows == 1 {
            let mut values = vec![0.0; tensor.columns];
            dequantize_row(tensor.ty, tensor.bytes(), &mut values);
            Placed::Vector(values.into())
        } else {
            Placed::Matrix(tensor)
        });
        Weight(self.weights.len() - 1)
    }

    fn slot(&mut self, columns: usize) -> Slot {
        self.slots.push(Buffer::default());
        self.columns.push(columns);
        Slot(self.slots.len() - 1)
    }

    fn kv_shape(&mut self, shape: KvShape) -> Result<(), String> {
        self.cache_types.check(shape.head_dim, shape.head_dim)?;
        self.kv_shape = Some(shape);
        Ok(())
    }

    fn kv_allocate(&mut self, block: BlockId) {
        let index = block as usize;
        if self.blocks.len() <= index {
            self.blocks.resize_with(index + 1, || None);
        }
        self.blocks[index] = Some(vec![f16::ZERO; self.cache().layers * self.cached_heads().page()].into());
    }

    fn kv_free(&mut self, block: BlockId) {
        self.blocks[block as usize] = None;
    }

    fn kv_copy(&mut self, from: BlockId, to: BlockId) {
        self.blocks[to as usize] = self.blocks[from as usize].clone();
    }

    fn memory(&self) -> MemoryUse {
        let kv_bytes = self.blocks.iter().flatten().map(|block| size_of_val(&**block)).sum::<usize>();
        let slots = self.slots.iter().map(|slot| slot.values.capacity() * size_of::<f32>()).sum::<usize>();
        MemoryUse { kv_bytes: kv_bytes as u64, scratch_bytes: (slots + self.activations.bytes()) as u64 }
    }

    fn begin(&mut self, batch: &Batch) {
        self.batch.clone_from(batch);
        self.rotations.begin(&batch.positions);
    }

    fn embed(&mut self, table: Weight, out: Slot) {
        let mut buffer = self.take_for(out, self.batch.tokens.len());
        let table = self.matrix(table);
        let row_bytes = table.bytes.len() / table.rows;
        for (&token, row) in self.batch.tokens.iter().zip(buffer.values.chunks_exact_mut(table.columns)) {
            let start = token as usize * row_bytes;
            dequantize_row(table.ty, &table.bytes[start..start + row_bytes], row);
        }
        self.put(out, buffer);
    }

    fn rms_norm(&mut self, x: Slot, weight: Weight, eps: f32, out: Slot) {
        let rows = self.slots[x.0].rows;
        let mut buffer = self.take_for(out, rows);
        let (x, weight) = (&self.slots[x.0].values, self.vector(weight));
        elementwise::rms_norm(self.kernels, &self.threads, x, weight, eps, &mut buffer.values);
        self.put(out, buffer);
    }

    fn matmul(&mut self, x: Slot, products: &[Product]) {
        if products.iter().any(|product| product.factor.is_some()) {
            return products.iter().for_each(|product| self.product_with_factor(x, product));
        }
        let types: Vec<TensorType> = products.iter().map(|product| self.matrix(product.weight).ty).collect();
        let rows = self.slots[x.0].rows;
        let mut outs: Vec<Buffer> = products
            .iter()
            .map(|product| if product.add { self.take(product.out) } else { self.take_for(product.out, rows) })
            .collect();
        let input = &self.slots[x.0];
        self.activations.set(self.kernels, &self.threads, &input.values, rows, self.columns[x.0], &types);
        let mut kernel_products: Vec<matmul::Product<'_>> = products
            .iter()
            .zip(&mut outs)
            .map(|(product, out)| matmul::Product {
                weight: self.matrix(product.weight),
                out: &mut out.values,
                add: product.add,
                bias: product.bias.map(|bias| self.vector(bias)),
            })
            .collect();
        matmul::matmul(self.kernels, &self.threads, &mut kernel_products, &self.activations);
        for (product, out) in products.iter().zip(outs) {
            self.put(product.out, out);
        }
    }

    fn rope(&mut self, x: Slot, rope: &Rope, heads: usize, head_dim: usize) {
        let mut buffer = self.take(x);
        let rows = self.rotations.rows(rope);
        let kind = rotation::kind(rope.pairs);
        elementwise::rope(
            self.kernels,
            &self.threads,
            kind,
            &mut buffer.values,
            heads,
            head_dim,
            rope.dimensions,
            rows,
        );
        self.put(x, buffer);
    }

    fn store_kv(&mut self, layer: usize, key: Slot, value: Slot) {
        let shape = self.cached_heads();
        let (page, columns) = (shape.page(), shape.kv_heads * shape.key_dim);
        let (keys, values) = (&self.slots[key.0].values, &self.slots[value.0].values);
        let rows = keys.chunks_exact(columns).zip(values.chunks_exact(columns));
        for ((&sequence, &position), (key, value)) in self.batch.sequences.iter().zip(&self.batch.positions).zip(rows) {
            let block = self.batch.tables[sequence][position / BLOCK_TOKENS] as usize;
            let memory = self.blocks[block].as_mut().expect("the block was allocated");
            let memory = &mut memory[layer * page..(layer + 1) * page];
            attention::store_kv(self.kernels, &shape, memory, position % BLOCK_TOKENS, key, value);
        }
    }

    fn attention(&mut self, layer: usize, shape: &AttentionShape, query: Slot, out: Slot) {
        let rows = self.slots[query.0].rows;
        let mut buffer = self.take_for(out, rows);
        let page = self.cached_heads().page();
        let memory = |block: &BlockId| {
            let block = self.blocks[*block as usize].as_deref().expect("the block was allocated");
            &block[layer * page..(layer + 1) * page]
        };
        let pages: Vec<Vec<&[f16]>> =
            self.batch.tables.iter().map(|table| table.iter().map(memory).collect()).collect();
        let queries: Vec<Query<'_>> = self
            .batch
            .sequences
            .iter()
            .zip(&self.batch.positions)
            .map(|(&sequence, &position)| Query {
                pages: &pages[sequence],
                positions: shape.window.map_or(0, |window| (position + 1).saturating_sub(window))..position + 1,
                position,
            })
            .collect();
        let shape = attention::AttentionShape {
            heads: shape.heads,
            kv_heads: shape.kv_heads,
            key_dim: shape.head_dim,
            value_dim: shape.head_dim,
            scale: shape.scale,
            softcap: shape.softcap,
            alibi: None,
            cache: self.cache_types,
        };
        let q = &self.slots[query.0].values;
        attention::attention(self.kernels, &self.threads, &shape, None, q, &queries, &mut buffer.values);
        self.put(out, buffer);
    }

    fn gate(&mut self, activation: Activation, gate: Slot, up: Slot, out: Slot) {
        let rows = self.slots[gate.0].rows;
        let mut buffer = self.take_for(out, rows);
        let (gate, up) = (&self.slots[gate.0].values, &self.slots[up.0].values);
        match activation {
            Activation::Silu => elementwise::silu_mul(self.kernels, &self.threads, gate, up, &mut buffer.values),
            Activation::Gelu => elementwise::gelu_mul(self.kernels, &self.threads, gate, up, &mut buffer.values),
        }
        self.put(out, buffer);
    }

    fn select_outputs(&mut self, x: Slot, out: Slot) {
        let mut buffer = self.take_for(out, self.batch.outputs.len());
        let input = &self.slots[x.0];
        let columns = self.columns[x.0];
        for (&row, target) in self.batch.outputs.iter().zip(buffer.values.chunks_exact_mut(columns)) {
            target.copy_from_slice(&input.values[row * columns..(row + 1) * columns]);
        }
        self.put(out, buffer);
    }

    fn read(&mut self, x: Slot) -> &[f32] {
        &self.slots[x.0].values
    }
}
