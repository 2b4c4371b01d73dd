//! Operations that are carried out together: fewer dispatches, of which each waits for the one before.
//!
//! - A norm, gate, activation or attention whose result is only multiplied with block types writes int8 activations itself.
//! - Rotations of queries and keys and the store behind them are one call.
//!
//! Products with the same input are one call in any case (`Gpu::products`). With that a layer of a dense llama is nine calls.

use satchel_gpu::call::Words;
use satchel_gpu::{Function, GpuError, Grid, Kernel};

use super::prepare::{Preparing, norm_kind};
use crate::plan::{Kept, Op, Rope, RopePairs, Slot};

impl Preparing<'_> {
    /// Makes the calls of the operation at `at` and of those that are carried out with it; says how many operations that are.
    /// Operations are carried out together only if they belong to the same adapter, or none.
    pub(super) fn add_fused(&mut self, ops: &[Op], adapters: &[Option<usize>], at: usize) -> Result<usize, GpuError> {
        self.quantized_slot = None;
        let alike = |count: usize| adapters.get(at..at + count).is_some_and(|of| of.iter().all(|one| *one == of[0]));
        if alike(3) && self.rope_store(ops, at)? {
            return Ok(3);
        }
        let written = ops[at].writes();
        if let [out] = written[..]
            && alike(2)
            && self.is_quantized_only(ops, at, out)?
            && self.quantizing(&ops[at])?
        {
            self.quantized_slot = Some(out);
            self.add(&ops[at + 1])?;
            self.quantized_slot = None;
            return Ok(2);
        }
        self.add(&ops[at])?;
        Ok(1)
    }

    /// Whether the next operation multiplies a result with block types, and none else reads it.
    fn is_quantized_only(&mut self, ops: &[Op], at: usize, out: Slot) -> Result<bool, GpuError> {
        let Some(Op::Linear { x, products }) = ops.get(at + 1) else { return Ok(false) };
        let read_later = ops[at + 2..].iter().any(|op| op.reads().contains(&out));
        if *x != out || read_later || !self.columns(out).is_multiple_of(32) {
            return Ok(false);
        }
        self.send(&ops[at + 1])?;
        Ok(!products.iter().any(|product| self.weights.matrix(product.weight).form.is_plain()))
    }

    /// The form of an operation that writes int8 activations, if there is one.
    fn quantizing(&mut self, op: &Op) -> Result<bool, GpuError> {
        self.send(op)?;
        let (kernel, grid, words, x, reads) = match op {
            Op::Norm { x, norm, .. } => {
                let columns = self.columns(*x);
                let whole = |vector: Option<_>| vector.is_none_or(|vector| self.weights.elements(vector) == columns);
                if norm.width != columns || !whole(norm.weight) || !whole(norm.bias) {
                    return Ok(false);
                }
                let words = Words::default()
                    .flag(self.wanted_only(*x))
                    .count(columns)
                    .flag(norm.weight.is_some())
                    .flag(norm.bias.is_some())
                    .number(norm.epsilon);
                let vector = |vector: Option<_>| vector.map_or(self.step, |vector| self.weights.vector(vector));
                let reads = vec![self.buffer(*x), vector(norm.weight), vector(norm.bias)];
                (Kernel::NormQuantize(norm_kind(norm.kind)), Grid::Workgroups(1), words, *x, reads)
            }
            Op::Gate { activation, gate, up, .. } => {
                let words = Words::default().flag(self.wanted_only(*up)).count(self.columns(*up));
                let kernel = Kernel::GateQuantize { function: Function::of(*activation), gated: true };
                let reads = vec![self.buffer(*gate), self.buffer(*up)];
                (kernel, Grid::Threads(self.columns(*up) / 4), words, *up, reads)
            }
            Op::Activate { activation, x, .. } => {
                let words = Words::default().flag(self.wanted_only(*x)).count(self.columns(*x));
                let kernel = Kernel::GateQuantize { function: Function::of(*activation), gated: false };
                let reads = vec![self.buffer(*x), self.step];
                (kernel, Grid::Threads(self.columns(*x) / 4), words, *x, reads)
            }
            Op::Attend { kept, shape, query, out } if shape.value_dim.is_multiple_of(32) => {
                return self.attend(*kept, shape, *query, *out, true).map(|()| true);
            }
            _ => return Ok(false),
        };
        let call = self.gpu.call(kernel, self.wanted_only(x), grid, &words, self.step, &reads, &[self.quantized])?;
        self.calls.push(call);
        Ok(true)
    }

    /// Rotations of queries and of keys that are then stored, in one call.
    fn rope_store(&mut self, ops: &[Op], at: usize) -> Result<bool, GpuError> {
        let Some(
            [
                Op::Rope { x: query, rope, heads, first },
                Op::Rope { x: key, rope: same, heads: kv_heads, first: start },
                store,
            ],
        ) = ops.get(at..at + 3)
        else {
            return Ok(false);
        };
        let Op::Store { kept, key: stored, value } = store else { return Ok(false) };
        let key_dim = self.columns(*key) / kv_heads;
        let alike = rope == same && first == start && self.columns(*query) == heads * key_dim;
        // The keys' slot keeps what was not rotated.
        let read_later = ops[at + 3..].iter().any(|op| op.reads().contains(key));
        let apart = self.are_apart(&[*query, *key, *value]);
        let halves = key_dim.is_multiple_of(2) && (self.columns(*value) / kv_heads).is_multiple_of(2);
        if !alike || stored != key || read_later || !apart || !halves || self.gpu.most_buffers() < 7 {
            return Ok(false);
        }
        self.rope_store_call(*kept, rope, (*query, *heads), (*key, *kv_heads), *value, *first)?;
        Ok(true)
    }

    fn rope_store_call(
        &mut self,
        kept: Kept,
        rope: &Rope,
        (query, heads): (Slot, usize),
        (key, kv_heads): (Slot, usize),
        value: Slot,
        first: usize,
    ) -> Result<(), GpuError> {
        let (key_columns, value_columns) = (self.columns(key), self.columns(value));
        let pairs = rope.dimensions / 2;
        let words = Words::default()
            .count(kept.group)
            .count(heads)
            .count(kv_heads)
            .count(key_columns / kv_heads)
            .count(value_columns / kv_heads)
            .count(first)
            .count(pairs)
            .flag(rope.pairs == RopePairs::Adjacent);
        let (keys, values) = self.state.of(kept);
        let grid = Grid::Threads(heads * pairs + (key_columns + value_columns) / 2);
        let reads = [self.angles_of(rope), self.buffer(key), self.buffer(value)];
        let writes = [self.buffer(query), keys, values];
        let call = self.gpu.call(Kernel::RopeStore, false, grid, &words, self.step, &reads, &writes)?;
        self.calls.push(call);
        Ok(())
    }

    /// Whether slots have different memory: a buffer cannot be read and written in one call.
    fn are_apart(&self, slots: &[Slot]) -> bool {
        let of = |slot: Slot| self.slots[slot.0].buffer;
        slots.iter().enumerate().all(|(at, slot)| slots[..at].iter().all(|other| of(*other) != of(*slot)))
    }
}
