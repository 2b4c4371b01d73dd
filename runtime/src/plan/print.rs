//! A human-readable plan: `satchel inspect --plan`.
//!
//! One line per operation, `name(inputs) -> outputs`, with widths and weights; repeated layers are collapsed.

use std::fmt::{self, Display, Formatter, Write};

use super::{Head, NormKind, Op, Plan, Product, Recurrence, Slot, StateGroup, Weight, Window};

impl Display for Plan {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "{}: {} tokens of vocabulary, {} columns, {} operations, {} weights",
            self.architecture,
            self.vocabulary,
            self.embedding,
            self.ops.len(),
            self.weights.len()
        )?;
        for (at, group) in self.state.groups.iter().enumerate() {
            writeln!(out, "state {at}: {group}")?;
        }
        let columns: Vec<String> = self.buffers.iter().map(|buffer| buffer.columns.to_string()).collect();
        writeln!(out, "buffers: {} columns", columns.join(", "))?;
        let lines: Vec<(Option<usize>, String)> =
            self.ops.iter().map(|op| (self.layer_of(op), self.line(op))).collect();
        write_layers(out, &lines)?;
        match self.head {
            Head::Logits(slot) => writeln!(out, "logits: {}", self.name(slot)),
            Head::Embeddings(slot) => writeln!(out, "embeddings: {}", self.name(slot)),
            Head::Scores(slot) => writeln!(out, "scores: {}", self.name(slot)),
        }
    }
}

impl Display for StateGroup {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paged { layers, heads, key_dim, value_dim, window } => {
                write!(out, "keys and values of {layers} layers, {heads} heads of {key_dim} and {value_dim}")?;
                match window {
                    Some(window) => write!(out, ", the last {window} positions"),
                    None => Ok(()),
                }
            }
            Self::Recurrent { layers, elements } => {
                write!(out, "recurrent state of {layers} layers, {elements} numbers each")
            }
        }
    }
}

/// Writes lines; a run of layers that differ only in the layer number is written once.
fn write_layers(out: &mut Formatter<'_>, lines: &[(Option<usize>, String)]) -> fmt::Result {
    // Operations without weights belong to the layer before them.
    let mut layers: Vec<(Option<usize>, Vec<&str>)> = Vec::new();
    for (layer, line) in lines {
        match layers.last_mut() {
            Some((current, lines)) if layer.is_none() || layer == current => lines.push(line),
            _ => layers.push((*layer, vec![line])),
        }
    }
    let generic = |(layer, lines): &(Option<usize>, Vec<&str>)| {
        let number = layer.map(|layer| format!("blk.{layer}."));
        lines
            .iter()
            .map(|line| number.as_ref().map_or(line.to_string(), |number| line.replace(number, "blk.*.")))
            .collect::<Vec<_>>()
    };
    let mut at = 0;
    while at < layers.len() {
        let this = generic(&layers[at]);
        let alike = layers[at..].iter().take_while(|layer| layer.0.is_some() && generic(layer) == this).count().max(1);
        match (layers[at].0, alike) {
            (Some(layer), 1) => writeln!(out, "layer {layer}")?,
            (Some(layer), more) => writeln!(out, "layers {layer} to {}, each", layer + more - 1)?,
            (None, _) => {}
        }
        let shown = if alike > 1 { this } else { layers[at].1.iter().map(ToString::to_string).collect() };
        for line in shown {
            writeln!(out, "  {line}")?;
        }
        at += alike;
    }
    Ok(())
}

impl Plan {
    /// Slots are named by buffer and width, which repeat from layer to layer.
    fn name(&self, slot: Slot) -> String {
        let shape = self.slot(slot);
        format!("b{}[{}]", shape.buffer, shape.columns)
    }

    fn weight_name(&self, weight: Weight) -> String {
        let weight = &self.weights[weight.0];
        format!("{} {}", weight.name, weight.ty)
    }

    /// The layer whose weights an operation reads.
    fn layer_of(&self, op: &Op) -> Option<usize> {
        let weight = match op {
            Op::Norm { norm, .. } => norm.weight,
            Op::Linear { products, .. } => products.first().map(|product| product.weight),
            Op::LinearHeads { weight, .. } | Op::Convolve { weight, .. } => Some(*weight),
            Op::Experts { experts, .. } => Some(experts.up),
            Op::Embed { table, .. } | Op::Position { table, .. } => Some(*table),
            _ => None,
        }?;
        let name = self.weights[weight.0].name.strip_prefix("blk.");
        match name {
            Some(rest) => rest.split('.').next().and_then(|number| number.parse().ok()),
            // No layer: kept apart from both neighbours by a number that no layer has.
            None => Some(usize::MAX),
        }
        .filter(|&layer| layer != usize::MAX || !matches!(op, Op::Embed { .. }))
    }

    fn product(&self, product: &Product) -> String {
        let mut text =
            format!("{}{}", self.weight_name(product.weight), if product.bias.is_some() { " + bias" } else { "" });
        if product.factor.is_some() {
            text.push_str(" * factor");
        }
        let arrow = if product.add { "+>" } else { "->" };
        let _ = write!(text, " {arrow} {}", self.name(product.out));
        text
    }

    fn line(&self, op: &Op) -> String {
        let n = |slot: &Slot| self.name(*slot);
        match op {
            Op::Embed { table, scale, out } => format!("embed {} * {scale} -> {}", self.weight_name(*table), n(out)),
            Op::Position { table, x } => format!("position {} +> {}", self.weight_name(*table), n(x)),
            Op::Bias { vector, x } => format!("bias {} +> {}", self.weight_name(*vector), n(x)),
            Op::Norm { x, norm, out } => {
                let kind = match norm.kind {
                    NormKind::Rms => "rms",
                    NormKind::Layer => "layer",
                    NormKind::L2 => "l2",
                };
                let weight = norm.weight.map_or(String::new(), |weight| format!(", {}", self.weight_name(weight)));
                format!("norm({}) {kind} of {}{weight} -> {}", n(x), norm.width, n(out))
            }
            Op::Linear { x, products } => {
                let products: Vec<String> = products.iter().map(|product| self.product(product)).collect();
                format!("linear({}) {}", n(x), products.join("; "))
            }
            Op::LinearHeads { x, weight, out } => {
                format!("linear_heads({}) {} -> {}", n(x), self.weight_name(*weight), n(out))
            }
            Op::Split { x, first, width, stride, out } => {
                format!("split({}) {first}..{} of every {stride} -> {}", n(x), first + width, n(out))
            }
            Op::Join { x, y, heads, out } => format!("join({}, {}) {heads} heads -> {}", n(x), n(y), n(out)),
            Op::Rope { x, rope, heads, first } => format!(
                "rope({}) {heads} heads, {:?} pairs, {} elements from {first}, base {}",
                n(x),
                rope.pairs,
                rope.dimensions,
                rope.base
            ),
            Op::Store { kept, key, value } => {
                format!("store({}, {}) in state {} layer *", n(key), n(value), kept.group)
            }
            Op::Attend { kept, shape, query, out } => {
                let window = match shape.window {
                    Some(Window::Sliding(length)) => format!(", window {length}"),
                    Some(Window::Chunked(length)) => format!(", chunks of {length}"),
                    None => String::new(),
                };
                format!(
                    "attend({}) {} heads on {}, scale {}{window}, state {} -> {}",
                    n(query),
                    shape.heads,
                    shape.kv_heads,
                    shape.scale,
                    kept.group,
                    n(out)
                )
            }
            Op::Activate { activation, x, out } => format!("activate({}) {activation:?} -> {}", n(x), n(out)),
            Op::Gate { activation, gate, up, out } => {
                format!("gate({}, {}) {activation:?} -> {}", n(gate), n(up), n(out))
            }
            Op::Add { x, to } => format!("add({}) +> {}", n(x), n(to)),
            Op::Multiply { x, to, width } => format!("multiply({}) by runs of {width} *> {}", n(x), n(to)),
            Op::MultiplyVector { vector, to, width } => {
                format!("multiply {} by runs of {width} *> {}", self.weight_name(*vector), n(to))
            }
            Op::DivideVector { vector, to } => format!("divide by {} /> {}", self.weight_name(*vector), n(to)),
            Op::Adapt { x, adapter, scale } => format!("adapt({}) by adapter {adapter}, scale {scale}", n(x)),
            Op::Scale { x, factor } => format!("scale({}) {factor}", n(x)),
            Op::Softcap { x, cap } => format!("softcap({}) {cap}", n(x)),
            Op::Clamp { x, limit } => format!("clamp({}) {limit}", n(x)),
            Op::Temperature { x, scale, length, .. } => format!("temperature({}) {scale} every {length}", n(x)),
            Op::Route { scores, router, out } => {
                format!("route({}) {} of {}, {:?} -> {}", n(scores), router.used, router.experts, router.gating, n(out))
            }
            Op::Experts { x, routes, experts, out } => {
                let gate = experts.gate.map_or(String::new(), |gate| format!("{}, ", self.weight_name(gate)));
                let adapted =
                    experts.adapters.iter().map(|of| format!(", by adapter {}", of.adapter)).collect::<String>();
                format!(
                    "experts({}, {}) {gate}{}, {}{adapted} -> {}",
                    n(x),
                    n(routes),
                    self.weight_name(experts.up),
                    self.weight_name(experts.down),
                    n(out)
                )
            }
            Op::Convolve { x, kernel, weight, kept, out, .. } => format!(
                "convolve({}) {} over {kernel} rows, state {} -> {}",
                n(x),
                self.weight_name(*weight),
                kept.group,
                n(out)
            ),
            Op::Recur { kept, recurrence, out } => {
                let (name, x) = match recurrence {
                    Recurrence::Mamba { x, .. } => ("mamba", x),
                    Recurrence::Mamba2 { x, .. } => ("mamba2", x),
                    Recurrence::GatedDelta { value, .. } => ("gated_delta", value),
                };
                format!("recur({}) {name}, state {} -> {}", n(x), kept.group, n(out))
            }
            Op::Select { x, out } => format!("select({}) -> {}", n(x), n(out)),
            Op::Pool { pooling, x, out } => format!("pool({}) {pooling:?} -> {}", n(x), n(out)),
        }
    }
}
