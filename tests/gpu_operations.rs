//! On the GPU: adapters of every architecture, and tokens that are picked there instead of reading a vocabulary's logits.

use std::sync::Arc;

use satchel::TokenId;
use satchel::device::Device;
use satchel::device::gpu::GpuDevice;
use satchel::engine::{Engine, EngineOptions, Evaluator, Event, Loaded, Overflow, Request, Speculate};
use satchel::plan::AdapterSet;
use satchel::sampling::{Constraint, SamplingParams, TokenMask};
use satchel::session::ModelSource;
use satchel::session::open::plan_of;

use crate::gpu::opened;
use crate::{lora_reference, support};

/// Every adapted operation, routing of an adapter's rows and experts' factors among them.
#[test]
fn every_architecture_with_adapters_gives_llama_cpps_logits() {
    let Some(device) = opened() else { return };
    let faults = lora_reference::faults(|source, positions| {
        let plan = plan_of(source, None).expect("it is a model");
        let program = device.load(&plan, 0..plan.ops.len(), &source.mapped_parts()).expect("it is covered");
        Evaluator::new(Loaded { plan, program }, positions)
    });
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// An engine with the tiny model of stories, and the size of its vocabulary.
fn engine(device: &GpuDevice) -> (Engine, usize) {
    let source = ModelSource::open(Some(&support::stories())).expect("it opens");
    let plan = plan_of(&source, None).expect("it is a model");
    let vocabulary = plan.vocabulary;
    let program = device.load(&plan, 0..plan.ops.len(), &source.mapped_parts()).expect("it is covered");
    let options = EngineOptions { context: 128, speculate: Speculate::Off, ..EngineOptions::default() };
    (Engine::start(Loaded { plan, program }, options, Vec::new()).expect("it starts"), vocabulary)
}

/// Allows every third token, so that something has to be left out.
#[derive(Clone, Debug)]
struct Thirds(usize);

impl Constraint for Thirds {
    fn allowed(&mut self) -> Result<TokenMask, String> {
        let mut mask = TokenMask::none(self.0);
        (0..self.0 as TokenId).step_by(3).for_each(|token| mask.allow(token));
        Ok(mask)
    }

    fn accept(&mut self, token: TokenId) -> Result<(), String> {
        if token.is_multiple_of(3) { Ok(()) } else { Err(format!("{token} was not allowed")) }
    }

    fn is_complete(&self) -> bool {
        false
    }

    fn roll_back(&mut self, _: usize) -> Result<(), String> {
        Ok(())
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

/// The tokens of a request, and the bytes read back for them; with log-probabilities, all logits are.
fn generated(device: &GpuDevice, engine: &Engine, request: Request, logprobs: bool) -> (Vec<TokenId>, u64) {
    let before = device.gpu().counts().read_bytes;
    let mut generation =
        engine.submit(Request { logprobs: logprobs.then_some(0), ..request }).expect("the request is valid");
    let mut tokens = Vec::new();
    while let Some(event) = generation.recv() {
        match event {
            Event::Token(token) => tokens.push(token.id),
            Event::Prompt { .. } => {}
            Event::Finished(finished) => println!("{:?}", finished.reason),
        }
    }
    (tokens, device.gpu().counts().read_bytes - before)
}

#[test]
fn picked_tokens_are_those_of_all_logits_and_a_few_bytes_each() {
    let Some(device) = opened() else { return };
    let (engine, vocabulary) = engine(&device);
    let greedy = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
    let answers = SamplingParams { seed: Some(7), ..SamplingParams::for_answers() };
    let penalties = SamplingParams { repeat_penalty: 1.2, presence_penalty: 0.3, repeat_last_n: 8, ..answers.clone() };
    let biased = SamplingParams { logit_bias: vec![(5, 3.0), (301, f32::NEG_INFINITY)], ..greedy.clone() };
    let unlimited = SamplingParams { top_k: 0, seed: Some(3), ..SamplingParams::default() };
    let constraint = || Some(Box::new(Thirds(vocabulary)) as Box<dyn Constraint>);
    const COUNT: u64 = 20;
    // The most bytes of a token.
    let cases = [
        ("greedy", greedy.clone(), None, 8),
        ("greedy with a constraint", greedy.clone(), constraint(), 8),
        ("greedy with biases", biased, None, 8 + 2 * 4),
        ("defaults for answers", answers.clone(), None, 64 * 8),
        ("penalties", penalties.clone(), None, 64 * 8 + 8 * 4),
        ("penalties with a constraint", penalties, constraint(), 64 * 8 + 8 * 4),
        ("no limit", unlimited, None, 4 * vocabulary as u64),
    ];
    for (name, sampling, constraint, most) in cases {
        let request = Request {
            caller: 0,
            prompt: vec![1, 403, 407, 261, 378],
            sampling,
            overflow: Overflow::Stop,
            max_tokens: Some(COUNT as usize),
            end_tokens: Arc::from([]),
            logprobs: None,
            after_sampling: false,
            infill: None,
            adapters: AdapterSet::default(),
            constraint,
        };
        let (few, bytes) = generated(&device, &engine, request.clone(), false);
        let (all, all_bytes) = generated(&device, &engine, request, true);
        assert_eq!(few, all, "{name}");
        assert_eq!(few.len() as u64, COUNT, "{name}");
        println!("{name}: {} bytes a token, all logits {}", bytes / COUNT, all_bytes / COUNT);
        assert!(bytes <= COUNT * most, "{name}: {bytes} bytes for {COUNT} tokens");
        assert_eq!(all_bytes, COUNT * 4 * vocabulary as u64, "{name}");
    }
}

#[test]
fn sequences_that_run_together_pick_what_they_do_alone() {
    let Some(device) = opened() else { return };
    let (engine, _) = engine(&device);
    let request = |seed: u64, temperature: f32| Request {
        caller: 0,
        prompt: vec![1, 403, 407, 261, 300 + seed as TokenId],
        sampling: SamplingParams { seed: Some(seed), temperature, ..SamplingParams::for_answers() },
        overflow: Overflow::Stop,
        max_tokens: Some(12),
        end_tokens: Arc::from([]),
        logprobs: None,
        after_sampling: false,
        infill: None,
        adapters: AdapterSet::default(),
        constraint: None,
    };
    let requests = [request(1, 0.0), request(2, 0.8), request(3, 1.3)];
    let alone: Vec<_> = requests.iter().map(|request| generated(&device, &engine, request.clone(), false).0).collect();
    let (device, engine) = (&device, &engine);
    let together: Vec<_> = std::thread::scope(|scope| {
        let asked = requests.map(|request| scope.spawn(move || generated(device, engine, request, false).0));
        asked.map(|answer| answer.join().expect("an answer")).to_vec()
    });
    assert_eq!(together, alone);
}

#[test]
fn steps_that_are_begun_ahead_change_no_token_when_sequences_come_and_go() {
    let Some(device) = opened() else { return };
    let (engine, _) = engine(&device);
    // Of other lengths, and longer than a page of positions.
    let request = |at: usize| Request {
        caller: 0,
        prompt: vec![1, 403, 407, 261, 300 + at as TokenId],
        sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
        overflow: Overflow::Stop,
        max_tokens: Some([9, 75, 30][at]),
        end_tokens: Arc::from([]),
        logprobs: None,
        after_sampling: false,
        infill: None,
        adapters: AdapterSet::default(),
        constraint: None,
    };
    let right: Vec<_> = (0..3).map(|at| generated(&device, &engine, request(at), true).0).collect();
    let before = device.gpu().counts();
    let alone = generated(&device, &engine, request(1), false);
    assert_eq!(alone, (right[1].clone(), 8 * 75));
    let after = device.gpu().counts();
    // A step each, and the one that was begun when the last token was not read yet.
    assert_eq!(after.passes - before.passes, 76);
    let (device, engine) = (&device, &engine);
    let together: Vec<_> = std::thread::scope(|scope| {
        let asked = [0, 1, 2].map(|at| scope.spawn(move || generated(device, engine, request(at), false).0));
        asked.map(|answer| answer.join().expect("an answer")).to_vec()
    });
    assert_eq!(together, right);
}
