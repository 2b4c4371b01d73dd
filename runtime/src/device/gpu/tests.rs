//! A tiny real model on a software adapter: the CPU's logits, the same bits however a prompt is cut, and what a step costs.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use satchel_gpu::Gpu;

use super::{GpuDevice, uncovered};
use crate::TokenId;
use crate::device::Device;
use crate::engine::{Evaluator, Loaded, Wanted};
use crate::kernels;
use crate::plan::{CacheType, CacheTypes};
use crate::session::ModelSource;
use crate::session::open::{Compute, load_model, plan_of};

/// The adapter under test; without it the tests are skipped, which CI does not allow.
fn gpu() -> Option<Arc<Gpu>> {
    let name = std::env::var("SATCHEL_TEST_GPU_NAME").unwrap_or_else(|_| "llvmpipe".to_owned());
    match Gpu::open_named(&name) {
        Ok(gpu) => Some(Arc::new(gpu)),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "GPU tests cannot be skipped in CI: {error}");
            let line = format!("SKIPPED a model on a GPU: {error}; apt-get install mesa-vulkan-drivers has llvmpipe\n");
            std::io::stderr().write_all(line.as_bytes()).expect("stderr can be written");
            None
        }
    }
}

fn stories() -> ModelSource {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/models/stories260K-f32.v3.gguf"));
    ModelSource::open(Some(&path)).expect("the model opens")
}

fn load(gpu: &Arc<Gpu>, source: &ModelSource) -> Loaded {
    let plan = plan_of(source, None).expect("it is a model");
    let device = GpuDevice::of(Arc::clone(gpu));
    let program = device.load(&plan, 0..plan.ops.len(), &source.mapped_parts()).expect("it is covered");
    Loaded { plan, program }
}

/// Logits of all tokens, prefilled `chunk` at a time.
fn logits(loaded: Loaded, tokens: &[TokenId], chunk: usize) -> Vec<f32> {
    let mut evaluator = Evaluator::new(loaded, tokens.len());
    let chunks = tokens.chunks(chunk);
    chunks.flat_map(|chunk| evaluator.append(chunk, Wanted::All).expect("it runs").to_vec()).collect()
}

#[test]
fn a_tiny_model_gives_the_cpus_logits_however_its_prompt_is_cut() {
    let Some(gpu) = gpu() else { return };
    let source = stories();
    // More than a page of positions.
    let tokens: Vec<TokenId> = (0..75).map(|at| 30 + at * 7 % 300).collect();
    let compute = Compute { kernels: kernels::best(), threads: 1, cache: CacheTypes::default() };
    let right = logits(load_model(&source, compute, None).expect("it is loaded"), &tokens, 75);
    let whole = logits(load(&gpu, &source), &tokens, 75);
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value).powi(2)).sum::<f64>();
    let power = square(&mut right.iter().copied());
    let error = square(&mut whole.iter().zip(&right).map(|(found, right)| found - right)) / power;
    assert!(error < 1e-7, "nmse {error:e}");
    for chunk in [1, 7] {
        assert!(logits(load(&gpu, &source), &tokens, chunk) == whole, "chunks of {chunk} change the logits");
    }
}

#[test]
fn a_token_is_one_pass_and_its_logits_are_all_that_comes_back() {
    let Some(gpu) = gpu() else { return };
    let source = stories();
    let loaded = load(&gpu, &source);
    let (vocabulary, layers) = (loaded.plan.vocabulary, loaded.plan.attentions().count());
    let mut evaluator = Evaluator::new(loaded, 8);
    evaluator.append(&[1, 2, 3], Wanted::Last).expect("it runs");
    let before = gpu.counts();
    evaluator.append(&[4], Wanted::Last).expect("it runs");
    let after = gpu.counts();
    assert_eq!(after.passes - before.passes, 1);
    // The pass, and the copy of what is read.
    assert_eq!(after.submissions - before.submissions, 2);
    assert_eq!(after.read_bytes - before.read_bytes, 4 * vocabulary as u64);
    // Norms 2, rotations 2, products 7, residual sums are part of them, cache and attention 2, gate 1; with block types 4 more.
    let dispatches = after.dispatches - before.dispatches;
    assert!(dispatches <= 14 * layers as u64 + 4, "{dispatches} for {layers} layers");
}

#[test]
fn a_lost_device_ends_the_step_with_an_error() {
    let Some(gpu) = gpu() else { return };
    let mut evaluator = Evaluator::new(load(&gpu, &stories()), 8);
    evaluator.append(&[1, 2, 3], Wanted::Last).expect("it runs");
    gpu.destroy();
    assert!(evaluator.append(&[4], Wanted::Last).is_err());
}

#[test]
fn what_is_not_covered_is_named() {
    let source = stories();
    let plan = plan_of(&source, None).expect("it is a model");
    let all = 0..plan.ops.len();
    assert_eq!(uncovered(&plan, all.clone(), CacheTypes::default()), None);
    let why = uncovered(&plan, all, CacheTypes::both(CacheType::Q8_0));
    assert_eq!(why.as_deref(), Some("there is no shader yet for a KV cache in Q8_0, only in F16"));
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/architectures/gpt-oss-moe.gguf"));
    let source = ModelSource::open(Some(&path)).expect("the model opens");
    let plan = plan_of(&source, None).expect("it is a model");
    let why = uncovered(&plan, 0..plan.ops.len(), CacheTypes::default());
    assert_eq!(why.as_deref(), Some("there is no shader yet for expert routing"));
}
