//! Conversations outlive an engine in a file.

use std::path::Path;
use std::sync::{Arc, Mutex};

use super::{Compute, TokenId, finish, request, stories};
use crate::engine::{Companions, Engine, EngineOptions, Finished, Store};
use crate::kernels;
use crate::plan::CacheTypes;
use crate::session::ModelSource;
use crate::session::open::load_model;

/// What an engine with this file answers, and what it said of the file.
fn ask(path: &Path, identity: u8, prompt: &[TokenId]) -> (Vec<TokenId>, Finished, Vec<String>) {
    let source = ModelSource::open(Some(&stories())).expect("the model opens");
    let compute = Compute { kernels: kernels::best(), threads: 1, cache: CacheTypes::default() };
    let loaded = load_model(&source, compute, None).expect("and is loaded");
    let said = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&said);
    let store = Store {
        path: path.to_owned(),
        identity: [identity; 32],
        owners: vec![0],
        tell: Box::new(move |line| told.lock().expect("no panic").push(line.to_owned())),
    };
    let options = EngineOptions { context: 400, ..EngineOptions::default() };
    let engine =
        Engine::start_with(loaded, options, Vec::new(), Companions { store: Some(store), ..Companions::default() });
    let engine = engine.expect("a thread");
    let (tokens, finished) = finish(engine.submit(request(prompt, 0.0, 20)).expect("taken"));
    engine.close();
    assert!(engine.submit(request(prompt, 0.0, 20)).is_err(), "it is closed");
    let said = said.lock().expect("no panic").clone();
    (tokens, finished, said)
}

#[test]
fn the_next_engine_goes_on_where_the_last_one_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kept");
    let prompt: Vec<TokenId> = (0..150).map(|at| 30 + at * 7 % 300).collect();
    let (first, finished, said) = ask(&path, 1, &prompt);
    assert_eq!((finished.cached_tokens, said.len()), (0, 0), "there is no file yet: {said:?}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let (second, finished, said) = ask(&path, 1, &prompt);
    assert_eq!((finished.cached_tokens, said.len()), (149, 0), "{said:?}");
    assert_eq!(second, first);
    let turn = [&prompt[..], &first[..], &[5, 6, 7]].concat();
    assert_eq!(ask(&path, 1, &turn).1.cached_tokens, 169);

    let (third, finished, said) = ask(&path, 2, &prompt);
    assert_eq!((finished.cached_tokens, &third), (0, &first));
    assert!(said.len() == 1 && said[0].contains("another model"), "{said:?}");
    let mut bytes = std::fs::read(&path).expect("it is there");
    *bytes.last_mut().expect("a byte") ^= 1;
    std::fs::write(&path, bytes).expect("it is written");
    let (fourth, finished, said) = ask(&path, 2, &prompt);
    assert_eq!((finished.cached_tokens, &fourth), (0, &first));
    assert!(said.len() == 1 && said[0].ends_with("it is damaged; nothing of it is used"), "{said:?}");
    assert_eq!(ask(&path, 2, &prompt).1.cached_tokens, 149, "the damaged one was replaced");
}

#[test]
fn a_file_of_something_else_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("letter.txt");
    std::fs::write(&path, "Dear all, this is more than a header of such a file would take, and then some more words.")
        .expect("written");
    let (_, finished, said) = ask(&path, 1, &[1, 2, 3]);
    assert_eq!(finished.generated_tokens, 20);
    assert_eq!(said.len(), 2, "when it is read and when it would be written: {said:?}");
    assert!(std::fs::read_to_string(&path).expect("text").starts_with("Dear all"));
}
