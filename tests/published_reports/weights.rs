//! Weights that are NaN, negative, or large enough to overflow sums: an answer, or one line that says what happened.

use satchel_gguf::TensorType;

use super::models::experts;
use super::{Model, bounded, harmless, text};
use crate::support::Scratch;

/// F16's NaN, its infinities, its largest number below zero, and -1.
const SCALES: [u16; 5] = [0x7E00, 0x7C00, 0xFC00, 0xFBFF, 0xBC00];

/// Writes a scale into every block of a tensor.
fn scaled(model: &Model, name: &str, scale: u16) -> Model {
    let mut model = model.clone();
    let tensor = model.tensor(name);
    let block = tensor.ty.block_bytes();
    let at = match tensor.ty {
        TensorType::Q4_0 | TensorType::Q8_0 => 0,
        other => panic!("where is the scale of {other:?}?"),
    };
    tensor.bytes.chunks_exact_mut(block).for_each(|block| block[at..at + 2].copy_from_slice(&scale.to_le_bytes()));
    model
}

/// A block's scale multiplies all its levels, so a NaN there spreads to everything computed from it: router scores, attention
/// scores, logits.
#[test]
fn block_scales_that_are_negative_or_nan() {
    for ty in ["Q4_0", "Q8_0"] {
        let scratch = Scratch::new();
        let model = experts(&scratch, ty);
        for name in [
            "token_embd.weight",
            "blk.0.attn_q.weight",
            "blk.0.attn_v.weight",
            "blk.1.ffn_gate_exps.weight",
            "blk.1.ffn_down_exps.weight",
        ] {
            for scale in SCALES {
                println!("{ty}, {name}, {scale:#x}");
                let printed = harmless(&scaled(&model, name, scale).write(&scratch));
                // -1 is a number like any other.
                assert!(scale != 0xBC00 || printed.code == Some(0), "{printed:?}");
            }
        }
        // With NaN in the whole token table no token is the most likely.
        let printed = harmless(&scaled(&model, "token_embd.weight", SCALES[0]).write(&scratch));
        assert_eq!(printed.code, Some(1));
        assert!(printed.stderr.contains("is not a finite number"), "{printed:?}");
    }
}

/// The scores that choose experts are sorted; NaN is in no order.
#[test]
fn routers_and_norms_that_are_no_numbers() {
    let scratch = Scratch::new();
    let model = experts(&scratch, "F32");
    for name in ["blk.0.ffn_gate_inp.weight", "blk.1.attn_norm.weight", "output_norm.weight"] {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -1.0] {
            let mut model = model.clone();
            for number in model.tensor(name).bytes.chunks_exact_mut(4) {
                number.copy_from_slice(&value.to_le_bytes());
            }
            println!("{name} = {value}");
            harmless(&model.write(&scratch));
        }
    }
}

/// `logits` writes the result, NaN or not; `quantize` refuses to encode it.
#[test]
fn commands_that_take_weights_as_they_are() {
    let scratch = Scratch::new();
    let mut model = experts(&scratch, "F32");
    model.tensor("blk.0.attn_q.weight").bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let model = model.write(&scratch);
    std::fs::write(scratch.path("tokens"), "1 2 3").expect("scratch");
    let (tokens, logits, quantised) = (scratch.path("tokens"), scratch.path("logits"), scratch.path("quantised"));
    let (tokens, logits) = (text(&tokens), text(&logits));
    bounded(&["logits", "-m", text(&model), "--tokens", tokens, "-o", logits, "-t", "1"]).ok();
    let printed = bounded(&["quantize", "-q", text(&model), text(&quantised), "Q8_0", "--pure"]);
    if printed.code == Some(0) {
        harmless(&quantised);
    } else {
        assert!(printed.failed(1).contains("blk.0.attn_q.weight"));
    }
}
