//! Arbitrary bytes as a packed file: opening must not panic, and an accepted bundle must satisfy its invariants.
//!
//! The seal rejects almost every mutated input, so each is tried twice: as it is, and with its hashes recomputed, as an
//! attacker would do.

#![no_main]

mod seeds;

use libfuzzer_sys::fuzz_target;
use satchel_container::directory::{self, Method, Record, TAIL_BYTES};
use satchel_container::layout::{self, Item};
use satchel_container::{
    ALIGNMENT_BYTES, Bundle, Defaults, Digest, EntryKind, EntryRecord, Error, FORMAT, Manifest, ModelFacts, Settings,
};
use sha2::{Digest as _, Sha256};

/// Length of a program of zeros, chosen so that little padding precedes the aligned model: inputs stay short.
const PROGRAM_BYTES: usize = ALIGNMENT_BYTES as usize - 100;

fuzz_target!(init: seeds::write(make_seeds()), |input: &[u8]| {
    check(input);
    let mut file = vec![0; PROGRAM_BYTES];
    file.extend_from_slice(input);
    check(&file);
    if sealed_again(&mut file).is_some() {
        check(&file);
    }
});

fn check(file: &[u8]) {
    match Bundle::open(file) {
        Ok(None) => {}
        Ok(Some(bundle)) => hold(&bundle, file),
        Err(error) => {
            assert!(!matches!(error, Error::Io(_)), "every read stays inside the file: {error}");
            let line = error.to_string();
            assert!(!line.contains(['\n', '\r', '\u{1b}']), "one line, safe on a terminal: {line:?}");
        }
    }
}

/// Invariants that callers rely on: entries lie within the file, in order, without overlap; models are stored uncompressed and
/// aligned; names stay within a folder.
fn hold(bundle: &Bundle, file: &[u8]) {
    let mut end = bundle.program_bytes;
    for entry in bundle.entries().iter().chain([&bundle.manifest_entry]) {
        assert!(entry.offset >= end);
        end = entry.offset + entry.stored_bytes;
        assert!(entry.stored_in(file).is_some());
        satchel_container::name::check(&entry.name).expect("a name that was accepted");
        if let Ok(content) = bundle.read(file, entry) {
            assert_eq!(content.len() as u64, entry.size);
        }
    }
    for model in bundle.model_entries() {
        assert_eq!((model.kind, model.method, model.size), (EntryKind::Model, Method::Stored, model.stored_bytes));
        assert!(model.offset.is_multiple_of(ALIGNMENT_BYTES));
    }
    assert!(end <= file.len() as u64);
}

/// Recomputes the manifest's hash and the seal; `None` if the file is too broken to have them.
fn sealed_again(file: &mut [u8]) -> Option<()> {
    const DIRECTORY_OFFSET_AT: usize = 48;
    const PAYLOAD_AT: usize = 98 + 28 + "payload sha256 ".len();
    let tail = file.len().checked_sub(TAIL_BYTES)?;
    let offset = file.get(tail + DIRECTORY_OFFSET_AT..)?.first_chunk::<8>()?;
    let directory = usize::try_from(u64::from_le_bytes(*offset)).ok().filter(|offset| *offset <= tail)?;
    let header = file[..directory].windows(4).rposition(|window| window == b"PK\x03\x04")?;
    let manifest = header + directory::local_header_bytes("manifest.json") as usize;
    if manifest <= directory {
        let payload = Digest::of(&file[manifest..directory]).to_string();
        file[tail + PAYLOAD_AT..][..64].copy_from_slice(payload.as_bytes());
    }
    let hash_at = file.len() - 65;
    let seal = Digest(Sha256::digest(&file[directory..hash_at]).into()).to_string();
    file[hash_at..hash_at + 64].copy_from_slice(seal.as_bytes());
    Some(())
}

/// Bundles with a model, with a page and a licence, and with nothing but a manifest.
fn make_seeds() -> Vec<Vec<u8>> {
    let model = ("model.gguf", EntryKind::Model, b"GGUF".to_vec());
    let page = ("ui/index.html", EntryKind::Page, b"<p>hello</p>".repeat(40));
    let license = ("licenses/LICENSE", EntryKind::License, b"short".to_vec());
    [vec![], vec![model.clone()], vec![model, page, license]].into_iter().map(bundle).collect()
}

fn bundle(contents: Vec<(&str, EntryKind, Vec<u8>)>) -> Vec<u8> {
    let mut file = vec![0; PROGRAM_BYTES];
    let (mut entries, mut records) = (Vec::new(), Vec::new());
    for (name, kind, bytes) in contents {
        entries.push(EntryRecord {
            name: name.to_owned(),
            kind,
            size: bytes.len() as u64,
            sha256: Digest::of(&bytes),
            scale: None,
        });
        let (crc32, size) = (crc32fast::hash(&bytes), bytes.len() as u64);
        let aligned = kind == EntryKind::Model;
        let (method, stored) = if aligned { (Method::Stored, bytes) } else { layout::compress(bytes) };
        let item = Item { name: name.to_owned(), stored_bytes: stored.len() as u64, aligned };
        let header_offset = layout::place(file.len() as u64, &[item]).expect("a seed is small")[0];
        let record =
            Record { name: name.to_owned(), method, crc32, stored_bytes: stored.len() as u64, size, header_offset };
        file.resize(header_offset as usize, 0);
        file.extend_from_slice(&directory::local_header(&record));
        file.extend_from_slice(&stored);
        records.push(record);
    }
    let model = records.iter().any(|record| record.name.ends_with(".gguf"));
    let manifest = Manifest {
        format: FORMAT,
        name: "seed".to_owned(),
        packed_by: "fuzz".to_owned(),
        model: model.then(|| ModelFacts { architecture: "llama".to_owned(), ..ModelFacts::default() }),
        defaults: Defaults {
            system_prompt: Some("Be brief.".to_owned()),
            settings: Settings { temperature: Some(0.5), host: Some("::1".to_owned()), ..Settings::default() },
        },
        beside: None,
        entries,
    };
    let program = Digest::of(&vec![0; PROGRAM_BYTES]);
    let end = file.len() as u64;
    let closing = layout::closing(&manifest, records, end, program, PROGRAM_BYTES as u64).expect("a seed is right");
    file.extend_from_slice(&closing);
    // A rejected seed would be useless.
    assert!(Bundle::open(&file).expect("a seed opens").is_some());
    let mut again = file.clone();
    sealed_again(&mut again);
    assert!(again == file, "recomputing correct hashes changes nothing");
    file.split_off(PROGRAM_BYTES)
}
