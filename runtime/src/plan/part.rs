//! Parts of a plan, for models that are split between devices.
//!
//! A part is a plan of its own: a range of the operations, with the states of its layers and no others. Weights, slots and groups of
//! state keep their numbers, so that a step means the same to all parts; between two of them go the slots of [`Plan::crossing`].

use std::collections::BTreeSet;
use std::ops::Range;

use super::{AdapterOps, BufferShape, Kept, Op, Plan, Recurrence, Slot, StateGroup, Weight};

impl Op {
    /// The weights it reads.
    pub fn weights(&self) -> Vec<Weight> {
        let of = |weights: &[Option<Weight>]| weights.iter().flatten().copied().collect();
        match self {
            Self::Embed { table: weight, .. }
            | Self::Position { table: weight, .. }
            | Self::Bias { vector: weight, .. }
            | Self::MultiplyVector { vector: weight, .. }
            | Self::DivideVector { vector: weight, .. }
            | Self::LinearHeads { weight, .. } => vec![*weight],
            Self::Norm { norm, .. } => of(&[norm.weight, norm.bias]),
            Self::Linear { products, .. } => {
                let factor = |product: &super::Product| product.factor.map(|factor| factor.weight);
                let each = products.iter().flat_map(|product| [Some(product.weight), product.bias, factor(product)]);
                each.flatten().collect()
            }
            Self::Rope { rope, .. } => of(&[rope.factors]),
            Self::Attend { shape, .. } => of(&[shape.sinks]),
            Self::Route { router, .. } => of(&[router.bias]),
            Self::Experts { experts, .. } => {
                let mut weights: Vec<Weight> = experts.stacks().collect();
                let biases = [experts.gate_bias, experts.up_bias, experts.down_bias];
                let factors = [experts.gate_factor, experts.up_factor, experts.down_factor];
                weights.extend(biases.into_iter().chain(factors).flatten());
                weights
            }
            Self::Convolve { weight, bias, .. } => of(&[Some(*weight), *bias]),
            Self::Recur { recurrence, .. } => match recurrence {
                Recurrence::Mamba { a, d, .. } => vec![*a, *d],
                Recurrence::Mamba2 { a, d, .. } => vec![*a, *d],
                Recurrence::GatedDelta { .. } => Vec::new(),
            },
            Self::Split { .. }
            | Self::Join { .. }
            | Self::Store { .. }
            | Self::Activate { .. }
            | Self::Gate { .. }
            | Self::Add { .. }
            | Self::Multiply { .. }
            | Self::Scale { .. }
            | Self::Adapt { .. }
            | Self::Softcap { .. }
            | Self::Clamp { .. }
            | Self::Temperature { .. }
            | Self::Select { .. }
            | Self::Pool { .. } => Vec::new(),
        }
    }

    /// The state that it reads or writes.
    pub fn kept(&self) -> Option<Kept> {
        match self {
            Self::Store { kept, .. }
            | Self::Attend { kept, .. }
            | Self::Convolve { kept, .. }
            | Self::Recur { kept, .. } => Some(*kept),
            _ => None,
        }
    }

    fn kept_mut(&mut self) -> Option<&mut Kept> {
        match self {
            Self::Store { kept, .. }
            | Self::Attend { kept, .. }
            | Self::Convolve { kept, .. }
            | Self::Recur { kept, .. } => Some(kept),
            _ => None,
        }
    }
}

/// `blk.12.attn_q.weight` -> 12
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

impl Plan {
    /// The first operation of each layer, in order.
    pub fn layers(&self) -> Vec<usize> {
        let mut starts: Vec<usize> = Vec::new();
        for (at, op) in self.ops.iter().enumerate() {
            let names = op.weights().into_iter().map(|weight| &self.weights[weight.0].name);
            if names.filter_map(|name| layer_of(name)).any(|layer| layer == starts.len()) {
                starts.push(at);
            }
        }
        starts
    }

    /// Whether the plan can be cut before this operation: no state is used on both sides.
    pub fn may_cut(&self, at: usize) -> bool {
        let (before, after) = self.ops.split_at(at);
        let states = |ops: &[Op]| -> BTreeSet<_> {
            ops.iter().filter_map(Op::kept).map(|kept| (kept.group, kept.layer)).collect()
        };
        states(before).is_disjoint(&states(after))
    }

    /// What is written before this operation and read from it on.
    pub fn crossing(&self, at: usize) -> Vec<Slot> {
        let (before, after) = self.ops.split_at(at);
        let written: BTreeSet<usize> = before.iter().flat_map(Op::writes).map(|slot| slot.0).collect();
        let read: BTreeSet<usize> = after.iter().flat_map(Op::reads).map(|slot| slot.0).collect();
        written.intersection(&read).map(|slot| Slot(*slot)).collect()
    }

    /// Some of the operations as a plan, with the states of their layers alone.
    #[must_use]
    pub fn part(&self, ops: Range<usize>) -> Self {
        let mut part = self.clone();
        part.ops = self.ops[ops.clone()].to_vec();
        part.first_output_op = self.first_output_op.clamp(ops.start, ops.end) - ops.start;
        let within = |adapted: &&AdapterOps| ops.start <= adapted.ops.start && adapted.ops.end <= ops.end;
        let moved = |adapted: &AdapterOps| AdapterOps {
            ops: adapted.ops.start - ops.start..adapted.ops.end - ops.start,
            adapter: adapted.adapter,
        };
        part.adapted = self.adapted.iter().filter(within).map(moved).collect();
        for (index, group) in part.state.groups.iter_mut().enumerate() {
            let kept = part.ops.iter().filter_map(Op::kept).filter(|kept| kept.group == index);
            let of_part: Vec<usize> = kept.map(|kept| kept.layer).collect::<BTreeSet<_>>().into_iter().collect();
            for kept in part.ops.iter_mut().filter_map(Op::kept_mut).filter(|kept| kept.group == index) {
                kept.layer = of_part.iter().position(|layer| *layer == kept.layer).expect("it is one of them");
            }
            match group {
                StateGroup::Paged { layers, .. } | StateGroup::Recurrent { layers, .. } => *layers = of_part.len(),
            }
        }
        // Memory that no operation of the part uses is none.
        let slots = part.ops.iter().flat_map(|op| op.reads().into_iter().chain(op.writes()));
        let used: BTreeSet<usize> = slots.map(|slot| part.slots[slot.0].buffer).collect();
        let shape = |(at, shape): (usize, &BufferShape)| match used.contains(&at) {
            true => *shape,
            false => BufferShape { columns: 0, ..*shape },
        };
        part.buffers = self.buffers.iter().enumerate().map(shape).collect();
        part
    }
}

#[cfg(test)]
mod tests {
    use satchel_gguf::TensorType;

    use super::*;
    use crate::plan::{Attention, Head, Linear, PlanBuilder, Role, WeightUse};

    /// An embedding, layers that attend and add, and logits.
    fn plan(layers: usize) -> Plan {
        let mut plan = PlanBuilder::new();
        let weight = |plan: &mut PlanBuilder, name: String, role, rows| {
            let (ty, bytes) = (TensorType::F32, (rows * 8 * 4) as u64);
            let place = WeightUse {
                name,
                role,
                part: 0,
                offset: 0,
                ty,
                rows,
                first_row: 0,
                columns: 8,
                stack: 1,
                stack_bytes: bytes,
            };
            plan.weight(place)
        };
        let table = weight(&mut plan, "token_embd.weight".to_owned(), Role::Table, 10);
        let x = plan.embed(table, 1.0);
        for layer in 0..layers {
            let linear = |plan: &mut PlanBuilder, name: &str| {
                let weight = weight(plan, format!("blk.{layer}.{name}.weight"), Role::Matrix, 8);
                plan.linear(x, Linear { weight, bias: None, factor: None })
            };
            let [query, key, value] = ["attn_q", "attn_k", "attn_v"].map(|name| linear(&mut plan, name));
            let shape = Attention {
                heads: 2,
                kv_heads: 2,
                key_dim: 4,
                value_dim: 4,
                scale: 0.5,
                window: None,
                softcap: None,
                alibi: None,
                sinks: None,
                causal: true,
            };
            let kept = StateGroup::Paged { layers: 0, heads: 2, key_dim: 4, value_dim: 4, window: None };
            let kept = plan.keep(kept);
            let attended = plan.attend(kept, shape, query, key, value);
            plan.apply(Op::Add { x: attended, to: x });
        }
        let head = weight(&mut plan, "output.weight".to_owned(), Role::Matrix, 10);
        let last = plan.select(x);
        let logits = plan.linear(last, Linear { weight: head, bias: None, factor: None });
        plan.finish("test", 10, 512, Head::Logits(logits))
    }

    fn layers_of(plan: &Plan) -> usize {
        match plan.state.groups[0] {
            StateGroup::Paged { layers, .. } | StateGroup::Recurrent { layers, .. } => layers,
        }
    }

    #[test]
    fn parts_have_their_layers_states_and_what_crosses_is_the_residual_stream() {
        let plan = plan(3);
        let starts = plan.layers();
        assert_eq!((starts.len(), starts[0]), (3, 1));
        let (cut, end) = (starts[1], plan.ops.len());
        assert!(plan.may_cut(cut));
        let inside = (cut..end).find(|at| matches!(plan.ops[*at], Op::Attend { .. })).expect("it attends");
        assert!(!plan.may_cut(inside), "keys would be stored on one side and read on the other");
        assert_eq!(plan.crossing(cut).len(), 1);
        let (first, second) = (plan.part(0..cut), plan.part(cut..end));
        assert_eq!((layers_of(&first), layers_of(&second)), (1, 2));
        let kept: Vec<usize> = second.ops.iter().filter_map(Op::kept).map(|kept| kept.layer).collect();
        assert_eq!(kept, [0, 0, 1, 1]);
        assert_eq!(first.first_output_op, cut, "a part without an end runs to its own");
        assert_eq!(second.first_output_op + cut, plan.first_output_op);
        let logits = plan.slots[plan.head.slot().0].buffer;
        assert_eq!((first.buffers[logits].columns, second.buffers[logits].columns > 0), (0, true));
    }
}
