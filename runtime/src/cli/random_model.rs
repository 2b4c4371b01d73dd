//! `satchel random-model`: a llama of any shape and block type with random weights, for benchmarks and tests.
//!
//! Its output is noise, but speed, memory and the agreement of kernels do not depend on the weights' values. The vocabulary
//! is copied from another file.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use satchel_gguf::{Array, GgufWriter, Metadata, TensorType, Value};
use satchel_packer::Output;

use super::Failure;
use super::out::notice;
use crate::quant::random::RandomWeights;
use crate::quant::supports;
use crate::session::ModelSource;

/// Arguments of `random-model`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Block type of all matrices (Q4_0, IQ2_XS, F16, …), or Q4_K_M for the mixture of that name
    #[arg(value_name = "TYPE")]
    ty: String,
    /// The file to write
    #[arg(short, long, value_name = "OUT.gguf")]
    output: PathBuf,
    /// A GGUF file to take the vocabulary from
    #[arg(long, value_name = "FILE.gguf")]
    vocabulary: PathBuf,
    /// Entries of the vocabulary: more than the file has are unused ones [default: as in the file]
    #[arg(long, value_name = "N")]
    tokens: Option<usize>,
    /// Columns of the residual stream
    #[arg(long, value_name = "N", default_value_t = 2048)]
    width: u32,
    /// Blocks of attention and feed-forward
    #[arg(long, value_name = "N", default_value_t = 16)]
    layers: u32,
    /// Attention heads, which share the width
    #[arg(long, value_name = "N", default_value_t = 32)]
    heads: u32,
    /// Heads of keys and values
    #[arg(long, value_name = "N", default_value_t = 8)]
    kv_heads: u32,
    /// Inner width of the feed-forward part
    #[arg(long, value_name = "N", default_value_t = 8192)]
    feed_forward: u32,
    /// Experts of each layer, each as wide as --feed-forward; 0 for a dense model
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1024))]
    experts: u32,
    /// Experts that each token uses
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    experts_used: u32,
    /// Trained context length to declare
    #[arg(long, value_name = "N", default_value_t = 8192)]
    context: u32,
    /// Seed of the random weights
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Replace OUT.gguf if it exists
    #[arg(long)]
    force: bool,
}

/// Which block type a matrix has.
#[derive(Clone, Copy)]
enum Types {
    One(TensorType),
    /// Q4_K; Q6_K for the token embedding and, in about half of the layers, V and the down projection.
    Q4KM,
}

impl Types {
    fn parse(name: &str) -> Result<Self, Failure> {
        if name == "Q4_K_M" {
            return Ok(Types::Q4KM);
        }
        let ty = TensorType::from_name(name).filter(|&ty| supports(ty));
        let known: Vec<&str> = TensorType::all().filter(|&ty| supports(ty)).map(TensorType::name).collect();
        ty.map(Types::One).ok_or_else(|| {
            Failure::usage(format!("there is no block type `{name}`; there are {}, and Q4_K_M", known.join(", ")))
        })
    }

    /// Type of a matrix in this layer; of the token embedding if `layer` is `None`.
    fn of(self, name: &str, layer: Option<u32>, layers: u32) -> TensorType {
        match (self, layer) {
            (Types::One(ty), _) => ty,
            (Types::Q4KM, None) => TensorType::Q6_K,
            (Types::Q4KM, Some(layer)) => {
                let eighth = layers / 8;
                let more = layer < eighth || layer >= 7 * eighth || (layer - eighth) % 3 == 2;
                let larger = more && (name == "attn_v" || name == "ffn_down");
                if larger { TensorType::Q6_K } else { TensorType::Q4_K }
            }
        }
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let types = Types::parse(&args.ty)?;
    if args.heads == 0
        || args.kv_heads == 0
        || !args.width.is_multiple_of(args.heads)
        || !args.heads.is_multiple_of(args.kv_heads)
    {
        return Err(Failure::usage(format!(
            "{} heads must divide a width of {}, and {} KV heads must divide them",
            args.heads, args.width, args.kv_heads
        )));
    }
    if args.experts > 0 && args.experts_used > args.experts {
        return Err(Failure::usage(format!("a token cannot use {} of {} experts", args.experts_used, args.experts)));
    }
    let source = ModelSource::open(Some(&args.vocabulary))?;
    let writer = plan(&args, types, &source.gguf.metadata)?;
    let layout = writer.layout()?;
    let output = Output::create_or_stream(&args.output, args.force)?;
    output.check_room(layout.file_bytes)?;
    let mut file = BufWriter::new(output.file());
    let written = layout.write(&mut file, |at, out| {
        let tensor = &layout.tensors[at];
        if tensor.rows() == 1 {
            return (0..tensor.columns()).try_for_each(|_| out.write_all(&1f32.to_le_bytes()));
        }
        let deviation = 1.0 / (tensor.columns() as f32).sqrt();
        write_weights(RandomWeights::new(tensor.ty, deviation, args.seed + at as u64), tensor.ty, tensor.bytes, out)
    });
    written.and_then(|()| file.flush()).map_err(|error| output.write_failed(error, layout.file_bytes))?;
    drop(file);
    output.commit()?;
    notice!("{}: {} bytes", args.output.display(), layout.file_bytes);
    Ok(())
}

/// Writes `bytes` bytes of weights, a few hundred kilobytes at a time.
fn write_weights(mut weights: RandomWeights, ty: TensorType, bytes: u64, out: &mut impl Write) -> io::Result<()> {
    let mut part = vec![0; 4096 * ty.block_bytes()];
    let mut left = bytes;
    while left > 0 {
        let size = left.min(part.len() as u64);
        let part = &mut part[..size as usize];
        weights.fill(part);
        out.write_all(part)?;
        left -= size;
    }
    Ok(())
}

/// A list of the vocabulary with unused entries behind its own.
fn padded(key: &str, mut value: Value, tokens: usize) -> Value {
    /// GGUF's number of tokens that mean nothing.
    const UNUSED: i32 = 5;
    match (key, &mut value) {
        ("tokenizer.ggml.tokens", Value::Array(Array::String(texts))) => {
            (texts.len()..tokens).for_each(|at| texts.push(&format!("<unused {at}>")));
        }
        ("tokenizer.ggml.scores", Value::Array(Array::F32(scores))) => scores.resize(tokens, 0.0),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32(types))) => types.resize(tokens, UNUSED),
        _ => {}
    }
    value
}

/// Metadata and tensor table: a llama's, plus the vocabulary's entries.
fn plan(args: &Args, types: Types, vocabulary: &Metadata) -> Result<GgufWriter, Failure> {
    let own = vocabulary.require_str_array("tokenizer.ggml.tokens")?.len();
    let tokens = args.tokens.unwrap_or(own);
    if tokens < own {
        return Err(Failure::usage(format!("--tokens {tokens}: the vocabulary has {own} tokens already")));
    }
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", Value::String("llama".into()));
    writer.set("general.name", Value::String(format!("random {}", args.ty)));
    let numbers = [
        ("block_count", args.layers),
        ("context_length", args.context),
        ("embedding_length", args.width),
        ("feed_forward_length", args.feed_forward),
        ("attention.head_count", args.heads),
        ("attention.head_count_kv", args.kv_heads),
        ("rope.dimension_count", args.width / args.heads),
    ];
    for (key, value) in numbers {
        writer.set(&format!("llama.{key}"), Value::U32(value));
    }
    if args.experts > 0 {
        writer.set("llama.expert_count", Value::U32(args.experts));
        writer.set("llama.expert_used_count", Value::U32(args.experts_used));
    }
    writer.set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    for (key, value) in vocabulary.iter().filter(|(key, _)| key.starts_with("tokenizer.")) {
        writer.set(key, padded(key, value.clone(), tokens));
    }
    let tokens = tokens as u64;
    let (width, inner) = (u64::from(args.width), u64::from(args.feed_forward));
    let cached = width / u64::from(args.heads) * u64::from(args.kv_heads);
    writer.tensor("token_embd.weight", &[width, tokens], types.of("token_embd", None, args.layers))?;
    writer.tensor("output_norm.weight", &[width], TensorType::F32)?;
    for layer in 0..args.layers {
        let attention = [
            ("attn_q", width, width),
            ("attn_k", width, cached),
            ("attn_v", width, cached),
            ("attn_output", width, width),
        ];
        for (name, columns, rows) in attention {
            let ty = types.of(name, Some(layer), args.layers);
            writer.tensor(&format!("blk.{layer}.{name}.weight"), &[columns, rows], ty)?;
        }
        for (name, columns, rows) in [("ffn_gate", width, inner), ("ffn_up", width, inner), ("ffn_down", inner, width)]
        {
            let ty = types.of(name, Some(layer), args.layers);
            if args.experts == 0 {
                writer.tensor(&format!("blk.{layer}.{name}.weight"), &[columns, rows], ty)?;
            } else {
                let dimensions = [columns, rows, u64::from(args.experts)];
                writer.tensor(&format!("blk.{layer}.{name}_exps.weight"), &dimensions, ty)?;
            }
        }
        if args.experts > 0 {
            let dimensions = [width, u64::from(args.experts)];
            writer.tensor(&format!("blk.{layer}.ffn_gate_inp.weight"), &dimensions, TensorType::F32)?;
        }
        for name in ["attn_norm", "ffn_norm"] {
            writer.tensor(&format!("blk.{layer}.{name}.weight"), &[width], TensorType::F32)?;
        }
    }
    Ok(writer)
}
