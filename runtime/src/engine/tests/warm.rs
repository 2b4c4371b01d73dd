//! A prefix that was computed before the engine was started is found by everyone, and changes no bit.

use std::io::Write;
use std::sync::{Arc, Mutex};

use super::{TokenId, finish, request, stories};
use crate::device::MappedPart;
use crate::engine::{Companions, Engine, EngineOptions, Finished, Request, Warm, computed};
use crate::kernels::{self, Kernels};
use crate::mapping::MappedFile;
use crate::plan::CacheTypes;
use crate::session::ModelSource;
use crate::session::open::{Compute, load_model};

fn loaded(kernels: &'static Kernels) -> crate::engine::Loaded {
    let source = ModelSource::open(Some(&stories())).expect("the model opens");
    load_model(&source, Compute { kernels, threads: 2, cache: CacheTypes::default() }, None).expect("and is loaded")
}

fn prefix() -> Vec<TokenId> {
    (0..150).map(|at| 30 + at * 7 % 300).collect()
}

/// What callers 1 and 2 get for prompts that begin with the prefix, from an engine that has these bytes of it, and what it said.
fn ask(kernels: &'static Kernels, bytes: Option<&[u8]>) -> (Vec<(Vec<TokenId>, Finished)>, Vec<String>) {
    let said = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&said);
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let warm = bytes.map(|bytes| {
        file.write_all(b"before it").and_then(|()| file.write_all(bytes)).expect("it is written");
        let mapped = MappedFile::open(file.path()).expect("it is mapped");
        let part = MappedPart { file: mapped, start: 9, length: bytes.len() };
        let tell = Box::new(move |line: &str| told.lock().expect("no panic").push(line.to_owned()));
        Warm { part, identity: [4; 32], tokens: prefix(), tell }
    });
    let options = EngineOptions { context: 400, parallel: 2, ..EngineOptions::default() };
    let companions = Companions { warm, ..Companions::default() };
    let engine = Engine::start_with(loaded(kernels), options, prefix(), companions).expect("a thread");
    let answers = [1, 2].map(|caller| {
        let prompt = [prefix(), vec![5, 6, 7 + caller as TokenId]].concat();
        finish(engine.submit(Request { caller, ..request(&prompt, 0.0, 20) }).expect("taken"))
    });
    engine.close();
    let said = said.lock().expect("no panic").clone();
    (answers.into(), said)
}

#[test]
fn the_first_prompt_reads_only_what_is_new_in_it() {
    for kernels in kernels::tables_under_test("a computed prefix") {
        let bytes = computed(loaded(kernels), &prefix(), &[4; 32]).expect("it is computed");
        let (cold, _) = ask(kernels, None);
        let (warm, said) = ask(kernels, Some(&bytes));
        assert!(said.is_empty(), "{said:?}");
        let cached = |answers: &[(Vec<TokenId>, Finished)]| [answers[0].1.cached_tokens, answers[1].1.cached_tokens];
        assert_eq!(cached(&cold), [0, 128], "whole blocks, once the first caller has computed them");
        assert_eq!(cached(&warm), [150, 150], "{}", kernels.name);
        assert_eq!((&warm[0].0, &warm[1].0), (&cold[0].0, &cold[1].0), "{}", kernels.name);
    }
}

#[test]
fn of_a_damaged_one_nothing_is_used_and_that_is_said() {
    let kernels = kernels::best();
    let bytes = computed(loaded(kernels), &prefix(), &[4; 32]).expect("it is computed");
    let (cold, _) = ask(kernels, None);
    let mut random = oorandom::Rand32::new(11);
    let mut bad: Vec<Vec<u8>> = [1, 60, 500, bytes.len() - 1].map(|length| bytes[..length].to_vec()).into();
    bad.push([&bytes[..], b"more"].concat());
    for _ in 0..12 {
        let mut flipped = bytes.clone();
        flipped[random.rand_range(0..bytes.len() as u32) as usize] ^= 1 << random.rand_range(0..8);
        bad.push(flipped);
    }
    // Another prefix, and one block too few.
    bad.push(computed(loaded(kernels), &prefix()[1..], &[4; 32]).expect("it is computed"));
    bad.push(computed(loaded(kernels), &prefix()[..128], &[4; 32]).expect("it is computed"));
    for (at, bytes) in bad.iter().enumerate() {
        let (answers, said) = ask(kernels, Some(bytes));
        assert!(said.len() == 1 && said[0].contains("cannot be used"), "case {at}: {said:?}");
        assert_eq!((answers[0].1.cached_tokens, &answers[0].0), (0, &cold[0].0), "case {at}");
    }
}
