//! The GPU, on Debian's software adapter (llvmpipe): SmolLM2's text and its distance from the reference, every architecture, and
//! what is said where there is no GPU or a bad one. `SATCHEL_TEST_GPU=all` runs longer sets, `SATCHEL_TEST_GPU_NAME` names another,
//! `SATCHEL_GPU_MATRICES=1` multiplies prompts by cooperative matrices, which CI's has not.

use std::process::Command;
use std::sync::OnceLock;

use satchel::TokenId;
use satchel::device::Device;
use satchel::device::gpu::{GpuDevice, Load, place, uncovered};
use satchel::engine::{EngineOptions, Evaluator, Loaded, Wanted};
use satchel::kernels;
use satchel::plan::{CacheType, CacheTypes, Plan};
use satchel::session::open::{Compute, load_model, plan_of};
use satchel::session::{Demand, ModelSource};
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

fn by_matrices() -> bool {
    std::env::var("SATCHEL_GPU_MATRICES").is_ok_and(|set| set == "1")
}

fn everything() -> bool {
    std::env::var("SATCHEL_TEST_GPU").is_ok_and(|set| set == "all")
}

/// Runs the executable with a variable set.
fn with(variable: (&str, &str), arguments: &[&str]) -> Printed {
    // Mesa complains of a missing folder in lines of its own.
    let folder = std::env::temp_dir();
    let mut command = Command::new(SATCHEL);
    command.args(arguments).env("XDG_RUNTIME_DIR", folder).env(variable.0, variable.1);
    support::output(&mut command, b"")
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
    let device = GpuDevice::open_named(gpu, CacheTypes::default(), by_matrices()).expect("it opens");
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

fn cpu() -> Compute {
    Compute { kernels: kernels::best(), threads: 1, cache: CacheTypes::default() }
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
    assert!(told.contains("--gpu nonesuch: ") && told.contains("with --gpu none the CPU computes"), "{told}");
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
        (("VK_ICD_FILENAMES", "/dev/null"), "none: "),
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
    let body = br#"{"prompt": "Once upon a time", "max_tokens": 6, "temperature": 0}"#;
    let texts: Vec<_> = std::thread::scope(|scope| {
        let ask = || server.request("POST", "/v1/completions", "Content-Type: application/json\r\n", body).json();
        let asked: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().map(|answer| answer.join().expect("an answer")["choices"][0]["text"].clone()).collect()
    });
    assert!(texts[0].as_str().is_some_and(|text| text.starts_with(", there was")), "{texts:?}");
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    // Since then it was compared with the CPU.
    let props = server.request("GET", "/props", "", b"").json();
    let said = props["gpu"].as_str().expect("a text");
    let (before, verdict) = said.split_once("; its predictions are the CPU's (KL divergence 0.000").expect("a verdict");
    assert!(line.ends_with(before) && verdict.ends_with(')'), "{props}");
    let none = Served::start(&support::stories(), &[]);
    assert!(none.block.contains("  GPU       none: none was asked for (--gpu none)"), "{}", none.block);
}

#[test]
fn where_nothing_is_chosen_a_gpu_is_looked_for_if_one_is_in_sight() {
    let run = |choice: Option<&str>, flags: &[&str]| {
        let mut command = Command::new(SATCHEL);
        command.args(["run", "-m", &stories(), "--raw", "-n", "1"]).args(flags).arg("Once").env_remove("SATCHEL_GPU");
        let printed = support::output(command.envs(choice.map(|choice| ("SATCHEL_GPU", choice))), b"");
        let said = printed.stderr.clone();
        printed.ok();
        said
    };
    assert!(!run(Some("none"), &[]).contains("GPU:"));
    assert!(run(Some("auto"), &[]).contains("GPU: "), "the environment chooses");
    assert!(!run(Some("auto"), &["--gpu", "none"]).contains("GPU:"), "the flag is stronger");
    assert!(run(None, &["--gpu-layers", "1"]).contains("GPU: "), "these are for a GPU");
    let has_devices =
        ["/dev/dri", "/dev/nvidiactl", "/dev/dxg"].iter().any(|path| std::fs::exists(path).unwrap_or(true));
    if cfg!(target_os = "linux") && !has_devices {
        assert!(!run(None, &[]).contains("GPU:"), "nobody is told that there is none");
        let mut command = Command::new(SATCHEL);
        command.arg("serve").arg("-m").arg(support::stories()).args(["--no-browser", "--port", "0"]);
        let block = &Served::run(command.env_remove("SATCHEL_GPU")).block;
        assert!(block.contains("  GPU       none: there is n"), "{block}");
    }
}

#[test]
fn a_gpu_that_predicts_something_else_is_not_used() {
    let Some(gpu) = adapter() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (path, model) = (folder.path().to_str().expect("UTF-8"), stories());
    let run = |variables: &[(&str, &str)]| {
        let mut command = Command::new(SATCHEL);
        command.args(["run", "-m", &model, "--raw", "--gpu", gpu, "Once"]);
        command.env("XDG_CACHE_HOME", path).env("XDG_RUNTIME_DIR", path);
        support::output(command.envs(variables.iter().copied()), b"").failed(1)
    };
    let told = run(&[("SATCHEL_TEST_GPU_WRONG", "1")]);
    assert!(told.contains("its predictions of this model are not the CPU's (KL divergence "), "{told}");
    assert!(told.contains("with --gpu none the CPU computes"), "{told}");
    assert_eq!(run(&[]), told, "the verdict is kept");
}

/// The adapter under test, if it is there.
pub(crate) fn opened() -> Option<GpuDevice> {
    Some(GpuDevice::open_named(adapter()?, CacheTypes::default(), by_matrices()).expect("it opens"))
}

/// The tiny model of stories on the GPU, for `positions` positions.
fn evaluator(device: &GpuDevice, positions: usize) -> Evaluator {
    evaluator_of(device, &support::stories(), positions).0
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
    let loaded = load_model(&source, cpu(), None).expect("it is loaded");
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

/// A model on the GPU, for `positions` positions, and its plan.
fn evaluator_of(device: &GpuDevice, model: &std::path::Path, positions: usize) -> (Evaluator, Plan) {
    let source = ModelSource::open(Some(model)).expect("it opens");
    let plan = plan_of(&source, None).expect("it is a model");
    let program = device.load(&plan, 0..plan.ops.len(), &source.mapped_parts()).expect("it is covered");
    (Evaluator::new(Loaded { plan: plan.clone(), program }, positions), plan)
}

#[test]
fn a_token_is_one_pass_of_nine_dispatches_a_layer_and_its_logits_are_all_that_comes_back() {
    let Some(device) = opened() else { return };
    // Weights in f32, and in blocks that are multiplied with int8 activations.
    for model in [Some(support::stories()), support::smollm2()].into_iter().flatten() {
        let (mut evaluator, plan) = evaluator_of(&device, &model, 8);
        evaluator.append(&[1, 2, 3], Wanted::Last).expect("it runs");
        let before = device.gpu().counts();
        evaluator.answer(4).expect("it runs");
        let after = device.gpu().counts();
        // The pass, and the copy of what is read.
        assert_eq!((after.passes - before.passes, after.submissions - before.submissions), (1, 2));
        assert_eq!(after.read_bytes - before.read_bytes, 4 * plan.vocabulary as u64);
        // Of a layer: norm, queries with keys and values, rotations with the cache, attention, its product; norm, gate with up,
        // activation, product. Before them the embedding, at the end selection, norm and product.
        let layers = plan.attentions().count() as u64;
        assert_eq!(after.dispatches - before.dispatches, 9 * layers + 4, "{}", model.display());
    }
}

#[test]
fn attention_that_is_split_over_the_context_gives_the_bits_of_a_prompts() {
    let Some(device) = opened() else { return };
    let tokens: Vec<TokenId> = (0..600).map(|at| 30 + at * 7 % 300).collect();
    let (long, last) = tokens.split_at(597);
    let logits = |chunk: usize| {
        let mut evaluator = evaluator(&device, 600);
        long.chunks(200).for_each(|chunk| drop(evaluator.append(chunk, Wanted::Last).expect("it runs").to_vec()));
        let before = device.gpu().counts().dispatches;
        let chunks = last.chunks(chunk);
        let found: Vec<f32> =
            chunks.flat_map(|chunk| evaluator.append(chunk, Wanted::All).expect("it runs").to_vec()).collect();
        (found, device.gpu().counts().dispatches - before)
    };
    let ((together, few), (apart, many)) = (logits(3), logits(1));
    assert!(together == apart, "tokens together or one by one");
    let layers = plan_of(&ModelSource::open(Some(&support::stories())).expect("it opens"), None).expect("a model");
    let layers = layers.attentions().count() as u64;
    // Of a layer one more: segments are merged.
    assert_eq!((few, many), (10 * layers + 4, 3 * (10 * layers + 4)));
    // All at once: a workgroup has all segments of its queries.
    let mut evaluator = evaluator(&device, 600);
    let whole = evaluator.append(&tokens, Wanted::All).expect("it runs").to_vec();
    assert!(whole.ends_with(&together), "a prompt whole, and its end by itself");
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

/// The text of the tiny model, and what is said of the GPU.
fn told_with(variables: &[(&str, &str)], flags: &[&str]) -> (String, String) {
    let model = stories();
    let mut command = Command::new(SATCHEL);
    command.args(["run", "-m", &model, "--raw", "--temperature", "0", "-n", "24"]).args(flags).arg("Once");
    let printed = support::output(command.envs(variables.iter().copied()), b"");
    let said = printed.stderr.clone();
    (printed.ok(), said)
}

#[test]
fn layers_that_the_gpu_does_not_take_stay_on_the_cpu() {
    let Some(gpu) = adapter() else { return };
    let (right, _) = told_with(&[], &[]);
    for (layers, words) in [("2", "the last 2 of 5 layers"), ("99", "all layers"), ("0", "no layers were asked for")] {
        let (text, said) = told_with(&[], &["--gpu", gpu, "--gpu-layers", layers]);
        assert_eq!(text, right, "{layers} layers");
        assert!(said.contains(words), "{said}");
    }
    // Of its memory a GPU gives nine tenths: here as much as three layers take.
    let source = ModelSource::open(Some(&support::stories())).expect("it opens");
    let plan = plan_of(&source, None).expect("it is a model");
    let options = EngineOptions { context: 64, parallel: 1, ..EngineOptions::default() };
    let demand = Demand::of_engine(&options, 1, CacheTypes::default());
    let (tokens, outputs) = demand.rows();
    let load = Load { tokens, outputs, pages: demand.pages(&plan.state) };
    let three = place(&plan, CacheTypes::default(), &load, None, Some(3)).expect("it fits").needed;
    let memory = three.total() / 9 * 10 + 4096;
    let part = place(&plan, CacheTypes::default(), &load, Some(memory), None).expect("some layers fit");
    assert!((3..5).contains(&part.layers.len()) && part.why.contains("layers take"), "{part:?}");
    assert!(part.needed.total() <= memory / 10 * 9);
    let refused = place(&plan, CacheTypes::default(), &load, Some(memory), Some(5)).expect_err("that many do not fit");
    assert!(refused.contains("5 layers take"), "{refused}");
    let memory = memory.to_string();
    let (text, said) = told_with(&[("SATCHEL_TEST_GPU_MEMORY", memory.as_str())], &["--gpu", gpu, "--context", "64"]);
    assert_eq!(text, right);
    assert!(said.contains("of 5 layers") && said.contains("the CPU keeps the others: "), "{said}");
    let model = stories();
    let told = satchel(&["run", "-m", &model, "--raw", "--gpu-layers", "2", "Once"]).failed(1);
    assert!(told.contains("--gpu-layers needs a GPU"), "{told}");
}

#[test]
fn small_buffers_are_met_by_splitting_weights_or_said() {
    let Some(gpu) = adapter() else { return };
    let (right, _) = told_with(&[], &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let kept = ("XDG_CACHE_HOME", folder.path().to_str().expect("UTF-8"));
    // Leaves its verdict: the trial's prompt needs larger buffers than the one below.
    told_with(&[kept], &["--gpu", gpu, "--context", "64"]);
    let small = |bytes| [("SATCHEL_TEST_GPU_BUFFER", bytes), kept];
    let (text, said) = told_with(&small("65536"), &["--gpu", gpu, "--context", "64"]);
    assert_eq!(text, right);
    assert!(said.contains("all layers"), "{said}");
    let model = stories();
    let told = with(small("2048")[0], &["run", "-m", &model, "--raw", "--gpu", gpu, "Once"]).failed(1);
    assert!(told.contains("with --gpu none the CPU computes"), "{told}");
    let device = opened().expect("it is there");
    let refused = device.gpu().buffer("a test", 1 << 60).expect_err("no GPU has so much");
    assert!(refused.to_string().contains("has no memory for"), "{refused}");
}

#[test]
fn a_stream_goes_on_when_the_device_is_lost() {
    let Some(gpu) = adapter() else { return };
    let text = |lost: Option<&str>, flags: &[&str]| {
        let mut command = Command::new(SATCHEL);
        command.arg("serve").arg("-m").arg(support::stories()).args(["--no-browser", "--port", "0", "-t", "2"]);
        let server = Served::run(command.args(flags).envs(lost.map(|steps| ("SATCHEL_TEST_GPU_LOST", steps))));
        let body = br#"{"prompt": "Once upon a time", "max_tokens": 20, "temperature": 0, "stream": true}"#;
        let answer = server.request("POST", "/v1/completions", "Content-Type: application/json\r\n", body);
        let events = answer.events();
        let said = server.get("/props").json()["gpu"].as_str().expect("a text").to_owned();
        let parts = events.iter().filter_map(|event| serde_json::from_str::<serde_json::Value>(event).ok());
        let parts = parts.map(|part| part["choices"][0]["text"].as_str().unwrap_or_default().to_owned());
        (parts.collect::<String>(), said)
    };
    let (right, _) = text(None, &[]);
    assert!(right.starts_with(", there was"), "{right}");
    for flags in [&["--gpu", gpu][..], &["--gpu", gpu, "--gpu-layers", "2"]] {
        let (once, said) = text(Some("4"), flags);
        assert_eq!(once, right, "{flags:?}");
        assert!(said.contains("opened again after it failed"), "{said}");
    }
    let (twice, said) = text(Some("4,3"), &["--gpu", gpu]);
    assert_eq!(twice, right);
    assert!(said.starts_with("none: ") && said.contains("so the CPU computes"), "{said}");
}

#[test]
fn a_server_answers_while_a_gpu_is_looked_for() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let mut command = Command::new(SATCHEL);
    command.arg("serve").arg("-m").arg(support::stories()).args(["--gpu", "0"]);
    command.env("SATCHEL_TEST_PROBE_FAULT", "hang").stderr(std::process::Stdio::null());
    let server = Served::unready(&mut command, port);
    let health = server.get("/health");
    let state = health.json();
    assert_eq!((health.status, &state["status"], &state["loaded"]), (503, &"loading".into(), &0.0.into()), "{state}");
    assert_eq!(server.page("GET", "").status, 200);
    assert_eq!(server.get("/v1/models").status, 200);
}

#[test]
fn a_server_without_the_gpu_that_was_asked_for_ends_with_the_reason() {
    let model = stories();
    let serve = ["serve", "-m", &model, "--no-browser", "--port", "0", "--gpu", "nonesuch"];
    let told = satchel(&serve).failed(1);
    assert!(told.contains("--gpu nonesuch: ") && told.contains("with --gpu none the CPU computes"), "{told}");
}

#[test]
fn what_was_measured_is_kept_where_that_is_allowed() {
    let Some(gpu) = adapter() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("UTF-8");
    let (right, _) = told_with(&[("XDG_CACHE_HOME", path)], &["--gpu", gpu]);
    let file = folder.path().join("satchel/gpu.json");
    let mut kept: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&file).expect("it is there")).expect("JSON");
    let measured = &mut kept["measured"][0];
    assert!(measured[0]["name"].as_str().is_some_and(|name| name.contains(gpu)), "{measured}");
    // It is believed the next time.
    measured[1]["error"] = 0.5.into();
    std::fs::write(&file, kept.to_string()).expect("it is written");
    let model = stories();
    let told = with(("XDG_CACHE_HOME", path), &["run", "-m", &model, "--raw", "--gpu", gpu, "Once"]).failed(1);
    assert!(told.contains("computes wrong: a product is off by 5e-1"), "{told}");
    let (text, _) = told_with(&[("XDG_CACHE_HOME", "/proc/nonexistent")], &["--gpu", gpu]);
    assert_eq!(text, right, "nothing can be kept there");
}

#[test]
fn the_benchmark_runs_on_tiny_models() {
    // It takes minutes on a software adapter.
    let Some(gpu) = adapter().filter(|_| everything()) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("gpu.json");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/gpu");
    let mut command = Command::new("python3");
    command.arg(script).args(["--small", "--rounds", "1", "--gpu", gpu, "--satchel", SATCHEL]);
    command.arg("--vocabulary").arg(support::stories()).arg("--models").arg(folder.path()).arg("--json").arg(&json);
    let table = support::output(&mut command, b"").ok();
    let found: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).expect("it is there")).expect("JSON");
    let results = found["results"].as_array().expect("a list");
    assert!(results.iter().all(|result| result["ours"].as_f64().is_some_and(|figure| figure > 0.0)), "{found}");
    for test in ["decode tiny", "prefill 64", "decode after 128", "4 sequences, sum", "first prompt after start"] {
        assert!(table.contains(&format!("| {test}")), "{table}");
    }
}
