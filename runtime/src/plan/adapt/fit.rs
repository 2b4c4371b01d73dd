//! Whether an adapter fits a plan.

use std::collections::{BTreeMap, BTreeSet};

use super::{Adapter, LowRank};
use crate::plan::{Op, Plan, Role, WeightUse};

impl Plan {
    /// Whether everything that an adapter changes can be changed, and has its size.
    pub(super) fn check(&self, adapter: &Adapter) -> Result<(), String> {
        let adaptable = self.adaptable();
        for (name, LowRank { a, b, .. }) in &adapter.tensors {
            let wanted = adaptable.get(&(name.as_str(), a.role));
            let shape = Shape::of(a, b);
            let why = match wanted {
                Some(wanted) if *wanted == shape => continue,
                Some(wanted) => format!("{}; it was made for another model", shape.other_than(wanted, a, b)),
                None if self.weights.iter().any(|weight| weight.name == *name) => {
                    format!("it changes `{name}`, where only linear layers, experts and the token table can be adapted")
                }
                None => format!("it changes `{name}`, which the model does not have; it was made for another model"),
            };
            return Err(format!("adapter {}: {why}", adapter.name));
        }
        Ok(())
    }

    /// The tensors that can be changed, by name and by what `A` is for them.
    fn adaptable(&self) -> BTreeMap<(&str, Role), Shape> {
        let mut shapes = BTreeMap::new();
        let mut used = BTreeSet::new();
        for op in &self.ops {
            match op {
                Op::Linear { products, .. } => used.extend(products.iter().map(|product| product.weight.0)),
                Op::Experts { experts, .. } => used.extend(experts.stacks().map(|stack| stack.0)),
                Op::Embed { table, .. } => {
                    let WeightUse { name, rows, columns, .. } = &self.weights[table.0];
                    shapes.insert((name.as_str(), Role::Table), Shape { tokens: *rows, outputs: *columns, experts: 1 });
                }
                _ => {}
            }
        }
        for &weight in &used {
            let weight = &self.weights[weight];
            let shape = shapes.entry((weight.name.as_str(), Role::Matrix)).or_insert(Shape {
                tokens: 0,
                outputs: 0,
                experts: weight.stack,
            });
            shape.outputs = shape.outputs.max(weight.first_row + weight.rows);
        }
        // What another operation reads, too, would be changed in part only.
        let matrices = self.weights.iter().enumerate().filter(|(_, weight)| weight.role != Role::Table);
        for (_, weight) in matrices.filter(|(at, _)| !used.contains(at)) {
            shapes.remove(&(weight.name.as_str(), Role::Matrix));
        }
        shapes
    }
}

/// What factors have to fit, besides the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// Rows of a table; 0 of others.
    tokens: usize,
    outputs: usize,
    experts: usize,
}

impl Shape {
    fn of(a: &WeightUse, b: &WeightUse) -> Self {
        Self { tokens: if a.role == Role::Table { a.rows } else { 0 }, outputs: b.rows, experts: a.stack }
    }

    fn other_than(&self, model: &Self, a: &WeightUse, b: &WeightUse) -> String {
        let told = |name: &str, what: &str, own, models| format!("`{name}` has {own} {what}, the model's {models}");
        match *self {
            Self { outputs, .. } if outputs != model.outputs => told(&b.name, "outputs", outputs, model.outputs),
            Self { tokens, .. } if tokens != model.tokens => told(&a.name, "tokens", tokens, model.tokens),
            Self { experts, .. } => told(&a.name, "experts", experts, model.experts),
        }
    }
}
