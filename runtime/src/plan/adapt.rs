//! Adapters of low rank (LoRA, arXiv:2106.09685) as a rewrite of a plan.
//!
//! After a product `out = x · Wᵀ` whose tensor an adapter has factors for come `t = x · Aᵀ`, an operation that scales the rows
//! whose sequence uses the adapter and clears the others, and `out += t · Bᵀ`. After a row of the token table, `t` is a row of `A`.
//! Experts are one operation, which is told of the factors. The weights stay as they are mapped, and sequences with different
//! adapters share a step. A device leaves out what belongs to adapters that no row of a step uses.

mod fit;

use std::collections::BTreeMap;
use std::ops::Range;

use super::buffers::{self, Rows};
use super::{AdaptedExperts, AdaptedStack, Experts, Op, Plan, Product, Role, Slot, SlotShape, Weight, WeightUse};

/// What an adapter adds to one tensor: `scale · B · A`.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// `(rank, inputs)`, for each expert of a stack; of a table `(tokens, rank)`, a table itself.
    pub a: WeightUse,
    /// `(outputs, rank)`, for each expert of a stack.
    pub b: WeightUse,
    /// Its factor.
    pub scale: f32,
}

/// The factors of one adapter, by the name of the tensor they change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adapter {
    /// What messages call it.
    pub name: String,
    /// By the tensor's name.
    pub tensors: BTreeMap<String, LowRank>,
}

/// Operations that only matter to sequences which use an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterOps {
    /// Indices into [`Plan::ops`].
    pub ops: Range<usize>,
    /// Which adapter.
    pub adapter: usize,
}

/// The adapters that a sequence uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AdapterSet(u64);

impl AdapterSet {
    /// Adapters that one model may have.
    pub const MOST: usize = u64::BITS as usize;

    /// One.
    pub fn one(adapter: usize) -> Self {
        Self(1 << adapter)
    }

    /// The first `count` of them: all, where there are so many.
    pub fn first(count: usize) -> Self {
        (0..count).fold(Self::default(), |set, adapter| set.with(Self::one(adapter)))
    }

    /// Those of both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether this one is among them.
    pub fn has(self, adapter: usize) -> bool {
        self.0 >> adapter & 1 == 1
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// A number that is 0 for none, and another for each set.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl Plan {
    /// The plan with the operations of `adapters`, in their order.
    ///
    /// # Errors
    /// One line for the user: an adapter changes what is no linear layer, or has factors of another shape than the model's.
    pub fn with_adapters(mut self, adapters: &[Adapter]) -> Result<Self, String> {
        if adapters.len() > AdapterSet::MOST {
            return Err(format!("{} adapters are more than the {} there can be", adapters.len(), AdapterSet::MOST));
        }
        adapters.iter().try_for_each(|adapter| self.check(adapter))?;
        let ops = std::mem::take(&mut self.ops);
        let (before, first_output_op) = (ops.len(), self.first_output_op);
        for (at, op) in ops.into_iter().enumerate() {
            if at == first_output_op {
                self.first_output_op = self.ops.len();
            }
            let each = || adapters.iter().enumerate();
            match op {
                Op::Linear { x, ref products } => {
                    self.ops.push(op.clone());
                    each().try_for_each(|(index, adapter)| self.adapt(x, products, index, adapter))?;
                }
                Op::Embed { table, scale, out } => {
                    self.ops.push(op);
                    each().for_each(|(index, adapter)| self.adapt_table(table, scale, out, index, adapter));
                }
                Op::Experts { x, routes, mut experts, out } => {
                    each().try_for_each(|(index, adapter)| self.adapt_experts(&mut experts, index, adapter))?;
                    self.ops.push(Op::Experts { x, routes, experts, out });
                }
                _ => self.ops.push(op),
            }
        }
        if first_output_op >= before {
            self.first_output_op = self.ops.len();
        }
        self.buffers = buffers::assign(&self.ops, &mut self.slots, &[self.head.slot()]);
        Ok(self)
    }

    /// The factors that an adapter has for a weight: of `b`, the rows of the part that is used.
    fn factors(&self, weight: Weight, adapter: &Adapter) -> Result<Option<LowRank>, String> {
        let base = &self.weights[weight.0];
        let Some(LowRank { a, b, scale }) = adapter.tensors.get(&base.name) else { return Ok(None) };
        if base.role == Role::Matrix && a.role == Role::Table {
            return Ok(None);
        }
        if a.columns != base.columns {
            return Err(format!(
                "adapter {}: `{}` has {} inputs, the model's {}; it was made for another model",
                adapter.name, a.name, a.columns, base.columns
            ));
        }
        let offset = b.offset + b.row_bytes() * base.first_row as u64;
        let b = WeightUse { offset, first_row: base.first_row, rows: base.rows, ..b.clone() };
        Ok(Some(LowRank { a: a.clone(), b, scale: *scale }))
    }

    /// The operations of one adapter behind products of one input.
    fn adapt(&mut self, x: Slot, products: &[Product], index: usize, adapter: &Adapter) -> Result<(), String> {
        let mut changed = Vec::new();
        for product in products {
            changed.extend(self.factors(product.weight, adapter)?.map(|factors| (*product, factors)));
        }
        if changed.is_empty() {
            return Ok(());
        }
        let begin = self.ops.len();
        let mut down = Vec::new();
        let mut up = Vec::new();
        for (product, LowRank { a, b, scale }) in changed {
            let t = self.add_slot(a.rows, self.slots[product.out.0].rows);
            let (a, b) = (self.add_weight(a), self.add_weight(b));
            down.push(Product { weight: a, bias: None, factor: None, out: t, add: false });
            up.push(Op::Adapt { x: t, adapter: index, scale });
            // A factor is of the stored weights, unless it covers all that is added to their product.
            let factor = product.factor.filter(|factor| factor.covers_bias);
            let product = Product { weight: b, bias: None, factor, out: product.out, add: true };
            up.push(Op::Linear { x: t, products: vec![product] });
        }
        self.ops.push(Op::Linear { x, products: down });
        self.ops.append(&mut up);
        self.adapted.push(AdapterOps { ops: begin..self.ops.len(), adapter: index });
        Ok(())
    }

    /// The operations of one adapter behind the rows of a table, which are multiplied with `factor`.
    fn adapt_table(&mut self, table: Weight, factor: f32, out: Slot, index: usize, adapter: &Adapter) {
        let Some(LowRank { a, b, scale }) = adapter.tensors.get(&self.weights[table.0].name).cloned() else { return };
        let begin = self.ops.len();
        let t = self.add_slot(a.columns, Rows::Tokens);
        let (a, b) = (self.add_weight(a), self.add_weight(b));
        self.ops.push(Op::Embed { table: a, scale: 1.0, out: t });
        self.ops.push(Op::Adapt { x: t, adapter: index, scale: scale * factor });
        let product = Product { weight: b, bias: None, factor: None, out, add: true };
        self.ops.push(Op::Linear { x: t, products: vec![product] });
        self.adapted.push(AdapterOps { ops: begin..self.ops.len(), adapter: index });
    }

    /// What one adapter adds to the products of experts.
    fn adapt_experts(&mut self, experts: &mut Experts, index: usize, adapter: &Adapter) -> Result<(), String> {
        let mut stack = |weight: Option<Weight>| -> Result<Option<AdaptedStack>, String> {
            let Some(weight) = weight else { return Ok(None) };
            let Some(LowRank { a, b, scale }) = self.factors(weight, adapter)? else { return Ok(None) };
            Ok(Some(AdaptedStack { a: self.add_weight(a), b: self.add_weight(b), scale }))
        };
        let (gate, up, down) = (stack(experts.gate)?, stack(Some(experts.up))?, stack(Some(experts.down))?);
        if gate.is_some() || up.is_some() || down.is_some() {
            experts.adapters.push(AdaptedExperts { adapter: index, gate, up, down });
        }
        Ok(())
    }

    fn add_slot(&mut self, columns: usize, rows: Rows) -> Slot {
        self.slots.push(SlotShape { columns, rows, buffer: usize::MAX });
        Slot(self.slots.len() - 1)
    }

    fn add_weight(&mut self, weight: WeightUse) -> Weight {
        self.weights.push(weight);
        Weight(self.weights.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use satchel_gguf::TensorType;

    use super::*;
    use crate::plan::{Head, Linear, PlanBuilder};

    fn weight(name: &str, role: Role, first_row: usize, rows: usize, columns: usize) -> WeightUse {
        let (part, ty, stack) = (0, TensorType::F32, 1);
        let offset = (first_row * columns * 4) as u64;
        let stack_bytes = (rows * columns * 4) as u64;
        WeightUse { name: name.into(), role, part, offset, ty, rows, first_row, columns, stack, stack_bytes }
    }

    /// An embedding, a fused layer of 8 and 24 outputs, and logits of its second part.
    fn plan() -> Plan {
        let mut plan = PlanBuilder::new();
        let table = plan.weight(weight("token_embd.weight", Role::Table, 0, 100, 16));
        let x = plan.embed(table, 1.0);
        let mut linear = |name, first, rows, columns| Linear {
            weight: plan.weight(weight(name, Role::Matrix, first, rows, columns)),
            bias: None,
            factor: None,
        };
        let fused = [linear("qkv.weight", 0, 8, 16), linear("qkv.weight", 8, 24, 16)];
        let head = linear("output.weight", 0, 100, 24);
        let parts = plan.linears(x, &fused);
        let wanted = plan.select(parts[1]);
        let logits = plan.linear(wanted, head);
        plan.finish("test", 100, 512, Head::Logits(logits))
    }

    fn adapter(name: &str, rank: usize, inputs: usize, outputs: usize) -> Adapter {
        let factor = |suffix: &str, rows, columns| WeightUse {
            part: 1,
            offset: 1000,
            ..weight(&format!("{name}.{suffix}"), Role::Matrix, 0, rows, columns)
        };
        let pair = LowRank { a: factor("lora_a", rank, inputs), b: factor("lora_b", outputs, rank), scale: 0.5 };
        Adapter { name: "test".into(), tensors: BTreeMap::from([(name.to_owned(), pair)]) }
    }

    #[test]
    fn parts_of_a_fused_tensor_take_their_own_rows() {
        let before = plan().ops.len();
        let plan = plan().with_adapters(&[adapter("qkv.weight", 2, 16, 32), adapter("output.weight", 3, 24, 100)]);
        let plan = plan.expect("both fit");
        assert_eq!(
            plan.adapted,
            [AdapterOps { ops: 2..7, adapter: 0 }, AdapterOps { ops: before + 5..before + 8, adapter: 1 }]
        );
        let Op::Linear { products, .. } = &plan.ops[2] else { panic!("{:?}", plan.ops[2]) };
        assert_eq!(products.len(), 2, "both parts' first products at once");
        let up = |at: usize| match &plan.ops[at] {
            Op::Linear { products, .. } if products[0].add => plan.weights[products[0].weight.0].clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!((up(4).offset, up(4).rows, up(4).columns), (1000, 8, 2));
        assert_eq!((up(6).offset, up(6).rows, up(6).part), (1000 + 8 * 2 * 4, 24, 1));
        assert!(matches!(plan.ops[plan.first_output_op], Op::Select { .. }));
        assert!(plan.slots.iter().all(|slot| slot.buffer < plan.buffers.len()), "every slot has its place");
    }

    #[test]
    fn the_token_table_takes_rows_of_its_own() {
        let of_tokens = |tokens| {
            let mut adapter = adapter("token_embd.weight", 2, 2, 16);
            let pair = adapter.tensors.get_mut("token_embd.weight").expect("just made");
            (pair.a.role, pair.a.rows) = (Role::Table, tokens);
            plan().with_adapters(&[adapter])
        };
        let plan = of_tokens(100).expect("it fits");
        assert_eq!(plan.adapted, [AdapterOps { ops: 1..4, adapter: 0 }]);
        let Op::Embed { table, scale, out } = plan.ops[1] else { panic!("{:?}", plan.ops[1]) };
        assert_eq!((plan.weights[table.0].columns, scale), (2, 1.0));
        assert_eq!(plan.ops[2], Op::Adapt { x: out, adapter: 0, scale: 0.5 });
        let Op::Embed { out, .. } = plan.ops[0] else { panic!("{:?}", plan.ops[0]) };
        assert!(matches!(&plan.ops[3], Op::Linear { products, .. } if products[0].out == out && products[0].add));
        let line = of_tokens(99).expect_err("another vocabulary");
        assert!(line.contains("99 tokens, the model's 100"), "{line}");
    }

    #[test]
    fn only_linear_layers_of_the_right_shape_are_adapted() {
        let refused = |adapter| plan().with_adapters(&[adapter]).expect_err("it does not fit");
        assert!(refused(adapter("token_embd.weight", 2, 16, 100)).contains("only linear layers"));
        assert!(refused(adapter("other.weight", 2, 16, 100)).contains("does not have"));
        assert!(refused(adapter("qkv.weight", 2, 16, 31)).contains("31 outputs, the model's 32"));
        assert!(refused(adapter("qkv.weight", 2, 15, 32)).contains("15 inputs, the model's 16"));
    }
}
