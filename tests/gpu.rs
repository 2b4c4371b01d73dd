//! The GPU, on Debian's software adapter (llvmpipe): SmolLM2's text and its distance from the reference, every architecture, and
//! what is said where there is no GPU or a bad one. `SATCHEL_TEST_GPU=all` runs longer sets, `SATCHEL_TEST_GPU_NAME` names another.

use std::process::Command;
use std::sync::OnceLock;

use satchel::TokenId;
use satchel::device::Device;
use satchel::device::gpu::{GpuDevice, uncovered};
use satchel::engine::{Evaluator, Loaded, Wanted};
use satchel::kernels;
use satchel::plan::{CacheType, CacheTypes};
use satchel::session::ModelSource;
use satchel::session::open::{Compute, load_model, plan_of};
use serde::Deserialize;

use crate::served::Served;
use crate::support::{self, Printed, SATCHEL, satchel};

/// Part of the name of the adapter under test, if it is there; in CI it must be.
fn adapter() -> Option<&'static str> {
    static NAME: OnceLock<Option<String>> = OnceLock::new();
    let found = NAME.get_or_init(|| {
        let name = std::env::var("SATCHEL_TEST_GPU_NAME").unwrap_or_else(|_| "llvmpipe".to_owned());
        let listed = satchel(&["doctor", "--quick"]).ok();
        listed.contains(&name).then_some(name)
    });
    if found.is_none() {
        support::skip("GPU", "the software adapter is not here; apt-get install mesa-vulkan-drivers has it");
    }
    found.as_deref()
}

fn everything() -> bool {
    std::env::var("SATCHEL_TEST_GPU").is_ok_and(|set| set == "all")
}

/// Runs the executable with a variable set.
fn with(variable: (&str, &str), arguments: &[&str]) -> Printed {
    support::output(Command::new(SATCHEL).args(arguments).env(variable.0, variable.1), b"")
}

fn stories() -> String {
    support::stories().to_str().expect("UTF-8").to_owned()
}

#[test]
fn smollm2_writes_the_cpus_text() {
    let (Some(model), Some(gpu)) = (support::smollm2(), adapter()) else { return };
    let model = model.to_str().expect("UTF-8");
    let length = if everything() { "64" } else { "12" };
    let run = |more: &[&str]| {
        let question = ["run", "-m", model, "--temperature", "0", "-n", length, "What is the capital of France?"];
        satchel(&[&question[..], more].concat())
    };
    let on_gpu = run(&["--gpu", gpu]);
    assert!(on_gpu.stderr.contains(gpu) && on_gpu.stderr.contains("all layers"), "{}", on_gpu.stderr);
    assert_eq!(on_gpu.ok(), run(&[]).ok());
}

#[test]
fn smollm2_predictions_match_its_weights_in_f32() {
    let (Some(model), Some(gpu)) = (support::smollm2(), adapter()) else { return };
    let (divergence, agreed) = crate::reference::distance_with(&model, &["--gpu", gpu]);
    assert!(divergence <= 0.004 && agreed >= 0.98, "mean KL divergence {divergence}, {agreed} agree");
}

#[derive(Deserialize)]
struct Reference {
    model: String,
    logits: String,
    tokens: Vec<TokenId>,
    nmse_max: f64,
}

#[test]
fn every_architecture_gives_llama_cpps_logits() {
    let Some(gpu) = adapter() else { return };
    let folder = support::data("architectures");
    let manifest = std::fs::read(folder.join("manifest.json")).expect("the manifest");
    let references: Vec<Reference> = serde_json::from_slice(&manifest).expect("the manifest is JSON");
    let device = GpuDevice::open_named(gpu, CacheTypes::default()).expect("it opens");
    let mut faults = Vec::new();
    for reference in &references {
        let source = ModelSource::open(Some(&folder.join(&reference.model))).expect("it opens");
        let plan = plan_of(&source, None).expect("it is a model");
        let all = 0..plan.ops.len();
        if let Some(why) = uncovered(&plan, all.clone(), CacheTypes::default()) {
            faults.push(format!("{}: {why}", reference.model));
            continue;
        }
        let chunks = if everything() { vec![reference.tokens.len(), 7, 1] } else { vec![reference.tokens.len(), 7] };
        let mut whole: Option<Vec<f32>> = None;
        for chunk in chunks {
            let program = device.load(&plan, all.clone(), &source.mapped_parts()).expect("it is covered");
            let mut evaluator = Evaluator::new(Loaded { plan: plan.clone(), program }, reference.tokens.len());
            let mut found = Vec::new();
            for chunk in reference.tokens.chunks(chunk) {
                found.extend_from_slice(evaluator.append(chunk, Wanted::All).expect("it runs"));
            }
            let Some(whole) = &whole else {
                let error = nmse(&found, &folder.join(&reference.logits));
                println!("{}: nmse {error:.2e} of {:.2e}", reference.model, reference.nmse_max);
                if error.is_nan() || error > reference.nmse_max {
                    faults.push(format!("{}: nmse {error:.2e}", reference.model));
                }
                whole = Some(found);
                continue;
            };
            if found != *whole {
                faults.push(format!("{}: chunks of {chunk} change the logits", reference.model));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// `sum((a - b)²) / sum(b²)`, with the expected values of a file.
fn nmse(found: &[f32], expected: &std::path::Path) -> f64 {
    let bytes = std::fs::read(expected).expect("the logits");
    let expected = bytes.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
    assert_eq!(found.len(), expected.len());
    let error: f64 = found.iter().zip(expected.clone()).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    error / expected.map(|b| b * b).sum::<f64>()
}

#[test]
fn the_doctor_lists_what_there_is() {
    let Some(gpu) = adapter() else { return };
    let printed = satchel(&["doctor"]).ok();
    assert!(printed.contains("kernels: scalar") && printed.contains(gpu), "{printed}");
    assert!(printed.contains("(software, vulkan)") && printed.contains("GB/s"), "{printed}");
    let none = with(("VK_DRIVER_FILES", "/nonexistent.json"), &["doctor"]).ok();
    assert!(none.contains("GPU      none: drivers show none"), "{none}");
}

#[test]
fn a_gpu_that_was_asked_for_and_cannot_be_used_is_an_error() {
    let model = stories();
    let run = |gpu| ["run", "-m", &model, "--raw", "-n", "2", "--gpu", gpu, "Once"];
    let told = satchel(&run("nonesuch")).failed(1);
    assert!(told.contains("--gpu nonesuch: ") && told.contains("without --gpu the CPU computes"), "{told}");
    let told = with(("SATCHEL_TEST_PROBE_FAULT", "crash"), &run("0")).failed(1);
    assert!(told.contains("its driver took the search for GPUs down"), "{told}");
    let Some(gpu) = adapter() else { return };
    let told = satchel(&["run", "-m", &model, "--raw", "--cache-type-k", "q8_0", "--gpu", gpu, "Once"]).failed(1);
    assert!(told.contains("there is no shader yet for a KV cache in K Q8_0, V F16, only in F16"), "{told}");
}

/// The text and what is said of the GPU.
fn automatic(variable: (&str, &str)) -> (String, String) {
    let model = stories();
    let printed =
        with(variable, &["run", "-m", &model, "--raw", "--temperature", "0", "-n", "4", "--gpu", "auto", "Once"]);
    (printed.stdout.clone(), {
        let said = printed.stderr.clone();
        printed.ok();
        said
    })
}

#[test]
fn without_a_gpu_the_cpu_computes_and_says_why() {
    let model = stories();
    let right = satchel(&["run", "-m", &model, "--raw", "--temperature", "0", "-n", "4", "Once"]).ok();
    for (variable, why) in [
        (("VK_DRIVER_FILES", "/nonexistent.json"), "none: "),
        (("SATCHEL_TEST_PROBE_FAULT", "crash"), "none: "),
        (("SATCHEL_TEST_PROBE_FAULT", "hang"), "none: "),
    ] {
        let (text, said) = automatic(variable);
        assert_eq!(text, right);
        assert!(said.contains("GPU: ") && said.contains(why), "{variable:?}: {said}");
    }
    if adapter() == Some("llvmpipe") && cfg!(target_os = "linux") {
        let (text, said) = automatic(("SATCHEL_UNUSED", ""));
        assert_eq!(text, right);
        assert!(said.contains("is a program, not a GPU, and used only if asked for by name"), "{said}");
    }
}

#[test]
fn a_server_says_which_gpu_it_uses() {
    let Some(gpu) = adapter() else { return };
    let server = Served::start(&support::stories(), &["--gpu", gpu]);
    let line = server.block.lines().find(|line| line.starts_with("  GPU ")).expect("a line about the GPU").to_owned();
    assert!(line.contains(gpu) && line.contains("all layers") && line.ends_with("as asked for"), "{line}");
    let props = server.request("GET", "/props", "", b"").json();
    assert!(line.ends_with(props["gpu"].as_str().expect("a text")), "{props}");
    let body = br#"{"prompt": "Once upon a time", "max_tokens": 6, "temperature": 0}"#;
    let texts: Vec<_> = std::thread::scope(|scope| {
        let ask = || server.request("POST", "/v1/completions", "Content-Type: application/json\r\n", body).json();
        let asked: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().map(|answer| answer.join().expect("an answer")["choices"][0]["text"].clone()).collect()
    });
    assert!(texts[0].as_str().is_some_and(|text| text.starts_with(", there was")), "{texts:?}");
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    let none = Served::start(&support::stories(), &[]);
    assert!(none.block.contains("  GPU       none was asked for"), "{}", none.block);
}

/// The adapter under test, if it is there.
pub(crate) fn opened() -> Option<GpuDevice> {
    Some(GpuDevice::open_named(adapter()?, CacheTypes::default()).expect("it opens"))
}

/// The tiny model of stories on the GPU, for `positions` positions.
fn evaluator(device: &GpuDevice, positions: usize) -> Evaluator {
    let source = ModelSource::open(Some(&support::stories())).expect("it opens");
    let plan = plan_of(&source, None).expect("it is a model");
    let program = device.load(&plan, 0..plan.ops.len(), &source.mapped_parts()).expect("it is covered");
    Evaluator::new(Loaded { plan, program }, positions)
}

#[test]
fn more_than_a_page_gives_the_cpus_logits_however_its_prompt_is_cut() {
    let Some(device) = opened() else { return };
    let tokens: Vec<TokenId> = (0..75).map(|at| 30 + at * 7 % 300).collect();
    let logits = |mut evaluator: Evaluator, chunk: usize| {
        let chunks = tokens.chunks(chunk);
        chunks.flat_map(|chunk| evaluator.append(chunk, Wanted::All).expect("it runs").to_vec()).collect::<Vec<f32>>()
    };
    let source = ModelSource::open(Some(&support::stories())).expect("it opens");
    let compute = Compute { kernels: kernels::best(), threads: 1, cache: CacheTypes::default() };
    let loaded = load_model(&source, compute, None).expect("it is loaded");
    let right = logits(Evaluator::new(loaded, 75), 75);
    let whole = logits(evaluator(&device, 75), 75);
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value).powi(2)).sum::<f64>();
    let error = square(&mut whole.iter().zip(&right).map(|(found, right)| found - right));
    let error = error / square(&mut right.iter().copied());
    assert!(error < 1e-7, "nmse {error:e}");
    for chunk in [1, 7] {
        assert!(logits(evaluator(&device, 75), chunk) == whole, "chunks of {chunk} change the logits");
    }
}

#[test]
fn a_token_is_one_pass_and_its_logits_are_all_that_comes_back() {
    let Some(device) = opened() else { return };
    let source = ModelSource::open(Some(&support::stories())).expect("it opens");
    let plan = plan_of(&source, None).expect("it is a model");
    let mut evaluator = evaluator(&device, 8);
    evaluator.append(&[1, 2, 3], Wanted::Last).expect("it runs");
    let before = device.gpu().counts();
    evaluator.append(&[4], Wanted::Last).expect("it runs");
    let after = device.gpu().counts();
    // The pass, and the copy of what is read.
    assert_eq!((after.passes - before.passes, after.submissions - before.submissions), (1, 2));
    assert_eq!(after.read_bytes - before.read_bytes, 4 * plan.vocabulary as u64);
    // The embedding; of a layer: 2 norms, 2 rotations, 7 products, cache, attention, gate; at the end selection, norm and product.
    let layers = plan.attentions().count() as u64;
    assert_eq!(after.dispatches - before.dispatches, 14 * layers + 4);
}

#[test]
fn a_lost_device_ends_the_step_with_an_error() {
    let Some(device) = opened() else { return };
    let mut evaluator = evaluator(&device, 8);
    evaluator.append(&[1, 2, 3], Wanted::Last).expect("it runs");
    device.gpu().destroy();
    assert!(evaluator.append(&[4], Wanted::Last).is_err());
}

#[test]
fn what_has_no_shader_is_named() {
    let source = ModelSource::open(Some(&support::stories())).expect("it opens");
    let plan = plan_of(&source, None).expect("it is a model");
    let all = 0..plan.ops.len();
    assert_eq!(uncovered(&plan, all.clone(), CacheTypes::default()), None);
    let why = uncovered(&plan, all, CacheTypes::both(CacheType::Q8_0));
    assert_eq!(why.as_deref(), Some("there is no shader yet for a KV cache in Q8_0, only in F16"));
}
