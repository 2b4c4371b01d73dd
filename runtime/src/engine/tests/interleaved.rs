//! At temperature 0 a sequence gets the same tokens beside any others, with any prompt chunks, on any number of threads, whatever is
//! guessed of it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use satchel_gguf::{GgufWriter, TensorType, Value};

use super::{
    CacheType, CacheTypes, Compute, Engine, EngineOptions, Event, Kernels, TokenId, cached_engine_of, finish, request,
    stories,
};
use crate::engine::Speculate;
use crate::kernels::tables_under_test;
use crate::quant::random::RandomWeights;

/// Prompt lengths in order of arrival: short ones fall into the prefill of long ones, and some exceed a block of the KV cache (64
/// positions) and a segment of attention (256).
const PROMPTS: [usize; 8] = [40, 330, 1, 65, 200, 7, 130, 64];
/// Tokens generated for each.
const ANSWER: usize = 40;
/// Maximum tokens per forward pass, which determines prompt chunks.
const BATCHES: [usize; 3] = [5, 48, 512];

fn prompt(of: usize) -> Vec<TokenId> {
    (0..PROMPTS[of]).map(|at| 1 + ((at * 31 + of * 97) % 250) as TokenId).collect()
}

fn options(parallel: usize, batch_tokens: usize, speculate: Speculate) -> EngineOptions {
    EngineOptions { context: 400, parallel, batch_tokens, speculate, ..EngineOptions::default() }
}

/// Each prompt's answer with nothing beside it, its prompt in one chunk, on one thread, without speculation.
fn alone(model: &Path, kernels: &'static Kernels, cache: CacheTypes) -> Vec<Vec<TokenId>> {
    let answer = |of| {
        let engine = cached_engine_of(model, Compute { kernels, threads: 1, cache }, options(1, 512, Speculate::Off));
        finish(engine.submit(request(&prompt(of), 0.0, ANSWER)).expect("taken")).0
    };
    (0..PROMPTS.len()).map(answer).collect()
}

/// The answers if each sequence starts once the previous one has its first token, and the maximum number that ran concurrently.
fn together(engine: &Engine) -> (Vec<Vec<TokenId>>, usize) {
    let mut running = Vec::new();
    let mut most = 0;
    for of in 0..PROMPTS.len() {
        let mut generation = engine.submit(request(&prompt(of), 0.0, ANSWER)).expect("taken");
        let first = loop {
            match generation.recv().expect("it does not end before its first token") {
                Event::Prompt { .. } => {}
                Event::Token(token) => break token.id,
                Event::Finished(finished) => panic!("ended without a token: {finished:?}"),
            }
        };
        most = most.max(engine.running());
        running.push((first, generation));
    }
    let whole = running.into_iter().map(|(first, generation)| {
        let mut tokens = vec![first];
        tokens.extend(finish(generation).0);
        tokens
    });
    (whole.collect(), most)
}

/// Every table, batch size and thread count against the sequences alone.
fn check(model: &Path, cache: CacheTypes, batches: &[usize], thread_counts: &[usize]) {
    for kernels in tables_under_test("interleaved sequences") {
        let alone = alone(model, kernels, cache);
        let different: std::collections::HashSet<_> = alone.iter().flatten().collect();
        assert!(different.len() > 20, "the model says next to nothing: {alone:?}");
        let mut most = 0;
        for &batch in batches {
            for &threads in thread_counts {
                let engine =
                    cached_engine_of(model, Compute { kernels, threads, cache }, options(8, batch, Speculate::Always));
                let (answers, at_once) = together(&engine);
                most = most.max(at_once);
                // Once more, with its prompt and answer cached: the start of a block is copied.
                let again = finish(engine.submit(request(&prompt(1), 0.0, ANSWER)).expect("taken")).0;
                assert_eq!(again, alone[1], "{}: the same prompt again", kernels.name);
                for (of, (answer, alone)) in answers.iter().zip(&alone).enumerate() {
                    let prompt = PROMPTS[of];
                    assert_eq!(
                        answer, alone,
                        "{}: the prompt of {prompt}, {threads} threads, batch {batch}",
                        kernels.name
                    );
                }
            }
        }
        assert!(most > 2, "{}: never more than {most} sequences at once", kernels.name);
    }
}

#[test]
fn a_real_model_gives_eight_sequences_what_each_gets_alone() {
    check(&stories(), CacheTypes::default(), &BATCHES, &[1, 2, 3]);
}

/// A llama with random weights and a different block type for each matrix, so that each family of kernels takes part.
fn write_mixed_model(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    use TensorType as Ty;
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", Value::String("llama".into()));
    let numbers = [
        ("block_count", 1),
        ("context_length", 512),
        ("embedding_length", 256),
        ("feed_forward_length", 256),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("rope.dimension_count", 64),
    ];
    for (key, value) in numbers {
        writer.set(&format!("llama.{key}"), Value::U32(value));
    }
    writer.set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    let matrices = [
        ("token_embd", 256, Ty::Q8_0),
        ("blk.0.attn_q", 256, Ty::Q4_K),
        ("blk.0.attn_k", 128, Ty::F16),
        ("blk.0.attn_v", 128, Ty::Q6_K),
        ("blk.0.attn_output", 256, Ty::IQ4_NL),
        ("blk.0.ffn_gate", 256, Ty::Q4_1),
        ("blk.0.ffn_up", 256, Ty::BF16),
        ("blk.0.ffn_down", 256, Ty::Q2_K),
        ("output", 256, Ty::Q5_0),
    ];
    for (name, rows, ty) in matrices {
        writer.tensor(&format!("{name}.weight"), &[256, rows], ty)?;
    }
    for name in ["blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"] {
        writer.tensor(&format!("{name}.weight"), &[256], Ty::F32)?;
    }
    let layout = writer.layout()?;
    let mut file = BufWriter::new(File::create(path)?);
    layout.write(&mut file, |at, out| {
        let tensor = &layout.tensors[at];
        if tensor.rows() == 1 {
            return (0..tensor.columns()).try_for_each(|_| out.write_all(&1f32.to_le_bytes()));
        }
        let mut bytes = vec![0; tensor.bytes as usize];
        RandomWeights::new(tensor.ty, 1.0 / 16.0, at as u64).fill(&mut bytes);
        out.write_all(&bytes)
    })?;
    Ok(file.flush()?)
}

#[test]
fn a_model_of_many_block_types_gives_eight_sequences_what_each_gets_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mixed.gguf");
    write_mixed_model(&path).expect("it is written");
    check(&path, CacheTypes::default(), &BATCHES, &[1, 2, 3]);
    // A quantised cache could depend on the prompts' chunks, and with them on how pages are filled.
    check(&path, CacheTypes { keys: CacheType::Q8_0, values: CacheType::Q4_0 }, &[5, 512], &[2]);
    check(&path, CacheTypes::both(CacheType::Q8_0), &[48], &[3]);
    // Pages of Q4_0 keys have a centre, which is computed from the page before.
    check(&path, CacheTypes::both(CacheType::Q4_0), &[5, 48], &[2]);
}
