//! Cases that the tiny models of `tests/architectures.rs` do not cover: deeper models, missing keys and other values. Plans
//! read no weights, so one layer's tensor infos can stand for any number of layers.

use std::collections::BTreeMap;

use satchel_gguf::{Array, Gguf, Metadata, TensorInfo, Value};

use super::plan;
use crate::model::{ModelError, Purpose, TensorTable};
use crate::plan::{Attention, Op, Plan, Rope, RopePairs, RopeScaling, Window};

/// A model of the test data with a different number of layers, all copies of its second, and keys changed or removed.
struct Variant {
    keys: BTreeMap<String, Value>,
    tensors: Vec<TensorInfo>,
    architecture: String,
}

impl Variant {
    fn of(name: &str, layers: usize) -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/architectures");
        let bytes = std::fs::read(format!("{folder}/{name}-dense.gguf")).expect("test data");
        let gguf = Gguf::parse(&bytes).expect("a valid file");
        let (of_layer, mut tensors): (Vec<_>, Vec<_>) =
            gguf.tensors.into_iter().partition(|tensor| tensor.name.starts_with("blk."));
        for tensor in of_layer.iter().filter(|tensor| tensor.name.starts_with("blk.1.")) {
            let rest = tensor.name.strip_prefix("blk.1").expect("just asked");
            tensors
                .extend((0..layers).map(|layer| TensorInfo { name: format!("blk.{layer}{rest}"), ..tensor.clone() }));
        }
        let keys = gguf.metadata.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
        Self { keys, tensors, architecture: name.to_owned() }.set("block_count", Value::U32(layers as u32))
    }

    fn set(mut self, key: &str, value: Value) -> Self {
        self.keys.insert(format!("{}.{key}", self.architecture), value);
        self
    }

    fn without(mut self, key: &str) -> Self {
        self.keys.remove(&format!("{}.{key}", self.architecture)).expect("the key is there");
        self
    }

    /// Removes the tensors whose name contains `part`.
    fn without_tensors(mut self, part: &str) -> Self {
        self.tensors.retain(|tensor| !tensor.name.contains(part));
        self
    }

    fn result(self) -> Result<Plan, ModelError> {
        let metadata = Metadata::new(self.keys.into_iter().collect()).expect("keys are valid");
        plan(&metadata, None, Purpose::Generate, &mut TensorTable::new(&self.tensors))
    }

    fn plan(self) -> Plan {
        self.result().expect("a model")
    }
}

fn windows(plan: &Plan) -> Vec<Option<usize>> {
    plan.attentions().map(|attention| attention.window.map(Window::length)).collect()
}

fn first_attention(plan: &Plan) -> Attention {
    *plan.attentions().next().expect("a layer")
}

/// The rotation of each layer's queries; `None` if it has none.
fn rotations(plan: &Plan) -> Vec<Option<Rope>> {
    let mut rotations = vec![None];
    for op in &plan.ops {
        match op {
            Op::Rope { rope, .. } => *rotations.last_mut().expect("never empty") = Some(rope.clone()),
            Op::Attend { .. } => rotations.push(None),
            _ => {}
        }
    }
    rotations.pop();
    rotations
}

#[test]
fn windows_follow_the_pattern_or_the_familys_period() {
    let array = |flags: &[u32]| Value::Array(Array::U32(flags.to_vec()));
    let gemma = || Variant::of("gemma3", 8);
    let default = windows(&gemma().without("attention.sliding_window_pattern").plan());
    assert_eq!(default, [Some(32), Some(32), Some(32), Some(32), Some(32), None, Some(32), Some(32)]);
    let period = |number| windows(&gemma().set("attention.sliding_window_pattern", Value::U32(number)).plan());
    assert_eq!(period(3), [Some(32), Some(32), None, Some(32), Some(32), None, Some(32), Some(32)]);
    assert_eq!(period(1), [None; 8]);
    assert_eq!(period(0), [Some(32); 8]);
    let flags = gemma().set("attention.sliding_window_pattern", array(&[0, 1, 1, 0, 0, 0, 0, 1])).plan();
    assert_eq!(windows(&flags), [None, Some(32), Some(32), None, None, None, None, Some(32)]);
    let short = gemma().set("attention.sliding_window_pattern", array(&[1, 0])).result();
    assert!(short.is_err(), "two flags for eight layers");
    let none = gemma().without("attention.sliding_window_pattern").set("attention.sliding_window", Value::U32(0));
    assert_eq!(windows(&none.plan()), [None; 8]);

    let deep = |name, layers| Variant::of(name, layers).without("attention.sliding_window_pattern");
    let gemma2 = deep("gemma2", 4).without("attention.sliding_window").plan();
    assert_eq!(windows(&gemma2), [Some(4096), None, Some(4096), None]);
    for name in ["cohere2", "olmo2"] {
        assert_eq!(windows(&deep(name, 5).plan()), [Some(32), Some(32), Some(32), None, Some(32)], "{name}");
    }
}

#[test]
fn exaone4_of_64_layers_has_windows_and_rotates_only_there() {
    let large = Variant::of("exaone4", 64).plan();
    assert!(windows(&large).iter().enumerate().all(|(layer, window)| window.is_some() == (layer % 4 != 3)));
    let rotations_of = rotations(&large);
    assert!(rotations_of.iter().zip(windows(&large)).all(|(rope, window)| rope.is_some() == window.is_some()));
    let small = Variant::of("exaone4", 30).plan();
    assert!(windows(&small).iter().all(Option::is_none) && rotations(&small).iter().all(Option::is_some));
    // Multi-token prediction layers are dropped.
    let predicting = Variant::of("exaone4", 31).set("nextn_predict_layers", Value::U32(1)).plan();
    assert_eq!(predicting.attentions().count(), 30);
    assert!(Variant::of("exaone4", 2).set("nextn_predict_layers", Value::U32(2)).result().is_err());
}

#[test]
fn some_layers_have_no_rotation() {
    let rotated = |plan: &Plan| rotations(plan).iter().map(Option::is_some).collect::<Vec<_>>();
    let smollm3 = Variant::of("smollm3", 9).plan();
    assert_eq!(rotated(&smollm3), [true, true, true, false, true, true, true, false, true]);
    let cohere2 = Variant::of("cohere2", 4).without("attention.sliding_window_pattern").plan();
    assert_eq!(rotated(&cohere2), [true, true, true, false]);
    let granite = |flag| Variant::of("granite", 2).set("rope.scaling.finetuned", Value::Bool(flag)).plan();
    assert_eq!(rotated(&granite(false)), [false, false]);
    assert_eq!(rotated(&granite(true)), [true, true]);
    assert_eq!(rotated(&Variant::of("granite", 2).without("rope.scaling.finetuned").plan()), [true, true]);
}

#[test]
fn windowed_layers_may_have_another_rotation() {
    let long = |name| {
        Variant::of(name, 6)
            .without("attention.sliding_window_pattern")
            .without("rope.freq_base_swa")
            .set("rope.freq_base", Value::F32(1e6))
            .set("rope.scaling.factor", Value::F32(8.0))
    };
    let ropes = rotations(&long("gemma3").plan());
    let [windowed, whole] = [&ropes[0], &ropes[5]].map(|rope| rope.as_ref().expect("it rotates"));
    assert_eq!((windowed.base, windowed.scaling), (1e4, RopeScaling::None));
    assert_eq!((whole.base, whole.scaling), (1e6, RopeScaling::Linear { factor: 8.0 }));
    let ropes = rotations(&long("gemma3").set("rope.freq_base_swa", Value::F32(5e4)).plan());
    assert_eq!(ropes[0].as_ref().map(|rope| rope.base), Some(5e4));
    let ropes = rotations(&long("gemma2").plan());
    assert_eq!(ropes[0], ropes[1]);
    let yarn = long("olmo2").set("rope.scaling.type", Value::String("yarn".into()));
    let ropes = rotations(&yarn.plan());
    let [windowed, whole] = [&ropes[0], &ropes[3]].map(|rope| rope.as_ref().expect("it rotates"));
    assert_eq!((windowed.base, windowed.scaling, windowed.magnitude), (1e6, RopeScaling::None, 1.0));
    assert!(matches!(whole.scaling, RopeScaling::Yarn { factor: 8.0, .. }));
}

#[test]
fn the_largest_gemmas_scale_scores_by_embedding_per_head() {
    // Four heads of 32 on an embedding of 64.
    let narrow = |name, layers| {
        let variant = Variant::of(name, layers).without("attention.scale").without("attention.sliding_window_pattern");
        let quarter = variant.set("attention.head_count", Value::U32(4)).set("attention.head_count_kv", Value::U32(2));
        let wide = |mut variant: Variant| {
            for tensor in &mut variant.tensors {
                if tensor.name.ends_with("attn_q.weight") {
                    tensor.dimensions[1] = 128;
                } else if tensor.name.ends_with("attn_q.bias") || tensor.name.ends_with("attn_output.weight") {
                    tensor.dimensions[0] = 128;
                }
            }
            variant
        };
        first_attention(&wide(quarter).plan()).scale
    };
    for (name, layers) in [("gemma2", 46), ("gemma3", 62)] {
        assert!((narrow(name, layers) - 1.0 / 16f32.sqrt()).abs() < 1e-6, "{name}");
        assert!((narrow(name, layers - 1) - 1.0 / 32f32.sqrt()).abs() < 1e-6, "{name}");
    }
}

#[test]
fn missing_scales_have_the_familys_defaults() {
    let scales = |plan: &Plan| {
        let factors = plan.ops.iter().filter_map(|op| match op {
            Op::Scale { factor, .. } | Op::Embed { scale: factor, .. } => Some(*factor),
            _ => None,
        });
        factors.collect::<Vec<_>>()
    };
    let minicpm = ["embedding_scale", "residual_scale", "logit_scale"].into_iter();
    let minicpm = minicpm.fold(Variant::of("minicpm", 4), Variant::without).plan();
    // Embeddings, two blocks in each of four layers, and logits, which are divided by 256 / 64.
    assert_eq!(scales(&minicpm), [&[12.0][..], &[0.7; 8], &[0.25]].concat());
    let granite = Variant::of("granite", 1).set("residual_scale", Value::F32(0.0)).set("logit_scale", Value::F32(8.0));
    assert_eq!(scales(&granite.plan()), [1.0, 0.125]);
    let command_r = Variant::of("command-r", 1).set("logit_scale", Value::F32(0.0625)).plan();
    assert_eq!(scales(&command_r), [1.0, 0.0625]);
    let attention = Variant::of("granite", 1).set("attention.scale", Value::F32(0.5)).plan();
    assert_eq!(first_attention(&attention).scale, 0.5);
}

#[test]
fn parallel_blocks_both_read_the_layers_input() {
    // Number of norms over a whole row of 64 before the first attention.
    let norms_before = |plan: &Plan| {
        let before = plan.ops.iter().take_while(|op| !matches!(op, Op::Attend { .. }));
        before.filter(|op| matches!(op, Op::Norm { norm, .. } if norm.width == 64)).count()
    };
    let parallel = |flag| Variant::of("gptneox", 1).set("use_parallel_residual", Value::Bool(flag)).plan();
    assert_eq!((norms_before(&parallel(false)), norms_before(&parallel(true))), (1, 2));
    assert_eq!(norms_before(&Variant::of("falcon", 1).plan()), 2);
    assert_eq!(norms_before(&Variant::of("falcon", 1).without_tensors("attn_norm_2").plan()), 1);
    let norms = |plan: &Plan| plan.ops.iter().filter(|op| matches!(op, Op::Norm { .. })).count();
    let small = norms(&Variant::of("stablelm", 1).plan());
    assert_eq!(norms(&Variant::of("stablelm", 1).without_tensors("ffn_norm").plan()), small - 1);
    let plain = Variant::of("stablelm", 1).without_tensors("attn_q_norm").without_tensors("attn_k_norm").plan();
    assert_eq!(norms(&plain), small - 2);
}

#[test]
fn the_layout_of_rotated_pairs_depends_on_the_family() {
    let pairs = |variant: Variant| rotations(&variant.plan())[0].as_ref().map(|rope| rope.pairs);
    for name in ["granite", "minicpm", "mistral3", "command-r", "cohere2", "smollm3"] {
        assert_eq!(pairs(Variant::of(name, 2)), Some(RopePairs::Adjacent), "{name}");
    }
    for name in ["qwen2", "qwen3", "gemma", "phi2", "phi3", "falcon", "gptneox", "olmo2", "nemotron"] {
        assert_eq!(pairs(Variant::of(name, 2)), Some(RopePairs::Halves), "{name}");
    }
    // Sections for time, height and width imply halves.
    assert_eq!(pairs(Variant::of("glm4", 1)), Some(RopePairs::Halves));
    let none = Value::Array(Array::U32(vec![0; 4]));
    assert_eq!(pairs(Variant::of("glm4", 1).set("rope.dimension_sections", none)), Some(RopePairs::Adjacent));
    let unrotated = Value::Array(Array::U32(vec![4, 4, 0, 8]));
    assert!(Variant::of("glm4", 1).set("rope.dimension_sections", unrotated).result().is_err());
}

#[test]
fn scaled_rotations_have_the_same_magnitude_as_in_llama_cpp() {
    let rope = |changes: &[(&str, Value)]| {
        let variant =
            changes.iter().fold(Variant::of("mistral3", 1), |variant, (key, value)| variant.set(key, value.clone()));
        rotations(&variant.plan())[0].clone().expect("it rotates")
    };
    let text = |text: &str| Value::String(text.into());
    let yarn = ("rope.scaling.type", text("yarn"));
    let sixteen = ("rope.scaling.factor", Value::F32(16.0));
    // The device applies YaRN's own `1 + 0.1 ln factor`.
    assert_eq!(rope(&[yarn.clone(), sixteen.clone()]).magnitude, 1.0);
    let attention = ("rope.scaling.attn_factor", Value::F32(1.5));
    assert_eq!(rope(&[yarn.clone(), sixteen.clone(), attention.clone()]).magnitude, 1.5);
    // `yarn_log_multiplier` cancels it.
    let multiplier = ("rope.scaling.yarn_log_multiplier", Value::F32(1.0));
    let cancelled = rope(&[yarn.clone(), sixteen.clone(), multiplier]).magnitude;
    assert!((cancelled * (1.0 + 0.1 * 16f32.ln()) - 1.0).abs() < 1e-6, "{cancelled}");
    // An extrapolation factor of 0 makes it linear; any other makes it YaRN.
    let share = |share| ("rope.scaling.yarn_ext_factor", Value::F32(share));
    assert_eq!(rope(&[yarn, sixteen.clone(), share(0.0)]).scaling, RopeScaling::Linear { factor: 16.0 });
    assert!(matches!(rope(&[sixteen.clone(), share(0.5)]).scaling, RopeScaling::Yarn { extrapolation: 0.5, .. }));
    assert_eq!(rope(&[("rope.scaling.type", text("none")), sixteen.clone()]).scaling, RopeScaling::None);
    assert_eq!(rope(&[sixteen, attention]).magnitude, 1.5);
}
