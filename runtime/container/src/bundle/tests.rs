//! Bundles built in memory, opened, cut, flipped and forged.

use super::*;
use crate::directory::Seal;
use crate::layout::{self, Item};
use crate::{Defaults, EntryRecord, ModelFacts, Settings};

const PROGRAM: &[u8] = b"\x7fELF not really a program, only its beginning";

/// A bundle with a model in two parts, a page and a licence. Returns the file and its records, the manifest's last.
fn built() -> (Vec<u8>, Vec<Record>) {
    let contents: [(&str, EntryKind, Vec<u8>); 4] = [
        ("model-00001-of-00002.gguf", EntryKind::Model, b"GGUF first part".repeat(100)),
        ("model-00002-of-00002.gguf", EntryKind::Model, b"GGUF second".to_vec()),
        ("ui/index.html", EntryKind::Page, b"<p>hello</p>".repeat(200)),
        ("licenses/LICENSE", EntryKind::License, b"short".to_vec()),
    ];
    let mut stored = Vec::new();
    let mut entries = Vec::new();
    for (name, kind, bytes) in contents {
        entries.push(EntryRecord {
            name: name.to_owned(),
            kind,
            size: bytes.len() as u64,
            sha256: Digest::of(&bytes),
            scale: None,
        });
        let (crc32, size) = (crc32fast::hash(&bytes), bytes.len() as u64);
        let (method, bytes) = if kind == EntryKind::Model { (Method::Stored, bytes) } else { layout::compress(bytes) };
        stored.push((name, kind, crc32, size, method, bytes));
    }
    let items: Vec<_> = stored
        .iter()
        .map(|(name, kind, .., bytes)| Item {
            name: (*name).to_owned(),
            stored_bytes: bytes.len() as u64,
            aligned: *kind == EntryKind::Model,
        })
        .collect();
    let offsets = layout::place(PROGRAM.len() as u64, &items).unwrap();
    let mut file = PROGRAM.to_vec();
    let mut records = Vec::new();
    for ((name, _, crc32, size, method, bytes), header_offset) in stored.into_iter().zip(offsets) {
        let stored_bytes = bytes.len() as u64;
        let record = Record { name: name.to_owned(), method, crc32, stored_bytes, size, header_offset };
        file.resize(header_offset as usize, 0);
        file.extend_from_slice(&directory::local_header(&record));
        file.extend_from_slice(&bytes);
        records.push(record);
    }
    let manifest = Manifest {
        format: FORMAT,
        name: "Two parts".to_owned(),
        packed_by: "test".to_owned(),
        model: Some(ModelFacts { architecture: "llama".to_owned(), ..ModelFacts::default() }),
        defaults: Defaults {
            system_prompt: Some("Be brief.".to_owned()),
            settings: Settings { temperature: Some(0.7), ..Settings::default() },
        },
        beside: None,
        entries,
    };
    let closing =
        layout::closing(&manifest, records.clone(), file.len() as u64, Digest::of(PROGRAM), PROGRAM.len() as u64)
            .unwrap();
    file.extend_from_slice(&closing);
    let end = read_end(&mut Cursor::new(&file), file.len() as u64).unwrap().unwrap();
    (file, end.records().unwrap())
}

/// Applies `change` and writes directory and tail anew with a valid seal, so that only the change can be refused.
fn forged(change: impl FnOnce(&mut Vec<u8>, &mut Vec<Record>, &mut Seal)) -> Vec<u8> {
    let (mut file, mut records) = built();
    let bundle = Bundle::open(&file).unwrap().unwrap();
    let end = read_end(&mut Cursor::new(&file), file.len() as u64).unwrap().unwrap();
    let mut seal = Seal {
        format: FORMAT,
        payload: bundle.payload_sha256,
        program: bundle.program_sha256,
        program_bytes: bundle.program_bytes,
    };
    file.truncate(end.directory_offset as usize);
    change(&mut file, &mut records, &mut seal);
    let central = directory::central_directory(&records);
    let offset = file.len() as u64;
    file.extend_from_slice(&central);
    file.extend_from_slice(&directory::tail(&central, records.len() as u64, offset, &seal));
    file
}

fn refused(file: &[u8]) -> String {
    match Bundle::open(file) {
        Err(error) => error.to_string(),
        Ok(found) => panic!("accepted: {}", found.is_some()),
    }
}

#[test]
fn opens_and_gives_back_what_was_packed() {
    let (file, _) = built();
    let bundle = Bundle::open(&file).unwrap().unwrap();
    assert_eq!(bundle.manifest.name, "Two parts");
    assert_eq!(bundle.program_bytes, PROGRAM.len() as u64);
    let models = bundle.model_entries();
    assert_eq!(models.len(), 2);
    assert!(models.iter().all(|entry| entry.offset % ALIGNMENT_BYTES == 0));
    assert_eq!(models[1].stored_in(&file), Some(&b"GGUF second"[..]));
    let page = bundle.entry("ui/index.html").unwrap();
    assert_eq!(page.method, Method::Deflated);
    assert_eq!(&*bundle.read(&file, page).unwrap(), b"<p>hello</p>".repeat(200));
    let license = bundle.entry("licenses/LICENSE").unwrap();
    assert!(matches!(bundle.read(&file, license).unwrap(), Cow::Borrowed(b"short")));
}

#[test]
fn a_file_without_a_bundle_is_distinguished_from_a_damaged_one() {
    assert!(Bundle::open(b"").unwrap().is_none());
    assert!(Bundle::open(PROGRAM).unwrap().is_none());
    assert!(Bundle::open(&vec![0; 100_000]).unwrap().is_none());
    assert!(matches!(Bundle::open(&built().0[1..]), Err(Error::Damaged(_))));
}

#[test]
fn every_flipped_bit_of_headers_manifest_directory_and_seal_is_detected() {
    let (file, records) = built();
    let mut covered = Vec::new();
    for record in &records {
        covered.extend(record.header_offset as usize..record.data_offset() as usize);
    }
    covered.extend(records.last().unwrap().data_offset() as usize..file.len());
    assert!(covered.len() > 2000);
    let mut flipped = file;
    for at in covered {
        for bit in 0..8 {
            flipped[at] ^= 1 << bit;
            let opened = Bundle::open(&flipped);
            assert!(matches!(opened, Err(Error::Damaged(_))), "byte {at}, bit {bit}: {opened:?}");
            flipped[at] ^= 1 << bit;
        }
    }
    assert!(Bundle::open(&flipped).unwrap().is_some());
}

#[test]
fn a_flipped_byte_of_an_entry_is_detected_when_it_is_read() {
    let (mut file, _) = built();
    let bundle = Bundle::open(&file).unwrap().unwrap();
    for name in ["ui/index.html", "licenses/LICENSE"] {
        let entry = bundle.entry(name).unwrap();
        // The last byte of a deflated stream may contain padding bits, so it is skipped.
        let padding_bytes = u64::from(entry.method == Method::Deflated);
        for at in entry.offset..entry.offset + entry.stored_bytes - padding_bytes {
            file[at as usize] ^= 0x10;
            assert!(bundle.read(&file, entry).is_err(), "{name}, byte {at}");
            file[at as usize] ^= 0x10;
        }
    }
}

#[test]
fn no_truncated_file_opens_as_a_bundle() {
    let (file, _) = built();
    for keep in 0..file.len() {
        let opened = Bundle::open(&file[..keep]);
        assert!(!matches!(opened, Ok(Some(_))), "{keep} bytes");
    }
}

#[test]
fn a_newer_format_is_reported_with_its_number() {
    let file = forged(|_, _, seal| seal.format = 7);
    assert!(matches!(Bundle::open(&file), Err(Error::Newer { found: 7, known: FORMAT })));
}

#[test]
fn forged_directories_with_a_valid_seal_are_refused() {
    let outside = "has an invalid offset or size";
    assert!(refused(&forged(|_, records, _| records[1].header_offset = records[0].header_offset)).contains(outside));
    assert!(refused(&forged(|_, records, _| records[3].stored_bytes = 1 << 40)).contains(outside));
    assert!(refused(&forged(|_, records, _| records[3].stored_bytes = u64::MAX)).contains(outside));
    assert!(refused(&forged(|_, records, _| records[0].header_offset = 3)).contains(outside));
    assert!(refused(&forged(|_, records, _| records.swap(0, 1))).contains(outside));
    assert!(refused(&forged(|_, records, _| records[2].size += 1)).contains("header of entry ui/index.html"));
    assert!(refused(&forged(|_, records, _| records[0].crc32 ^= 1)).contains("header of entry"));
    assert!(refused(&forged(|_, records, _| records[2].name = "../index.html".to_owned())).contains("relative path"));
    assert!(
        refused(&forged(|_, records, _| records[3].name = records[2].name.clone())).contains("as satchel writes it")
    );
    assert!(refused(&forged(|_, records, _| drop(records.pop()))).contains("not its last entry"));
    assert!(refused(&forged(|_, records, _| drop(records.remove(2)))).contains(outside));
    assert!(refused(&forged(|_, _, seal| seal.payload = Digest::of(b""))).contains("SHA-256"));
    assert!(refused(&forged(|_, _, seal| seal.program_bytes = u64::MAX)).contains(outside));
    assert!(refused(&forged(|_, _, seal| seal.format = 0)).contains("contradict"));
}

#[test]
fn a_model_that_is_not_aligned_is_refused() {
    let file = forged(|file, records, _| {
        // The same header and data, one byte further on.
        let first = &mut records[0];
        let (begin, end) = (first.header_offset as usize, (first.data_offset() + first.stored_bytes) as usize);
        file.copy_within(begin..end, begin + 1);
        first.header_offset += 1;
    });
    assert!(refused(&file).contains("entry model-00001-of-00002.gguf has an invalid offset or size"));
}

#[test]
fn padding_before_a_model_must_be_zeros_and_shorter_than_the_alignment() {
    let (file, _) = built();
    let bundle = Bundle::open(&file).unwrap().unwrap();
    let header = bundle.model_entries()[0].offset - directory::local_header_bytes("model-00001-of-00002.gguf");
    assert!(header > bundle.program_bytes);
    for at in [bundle.program_bytes, header - 1] {
        let mut file = file.clone();
        file[at as usize] = b'x';
        assert!(refused(&file).contains("the gap before entry model-00001-of-00002.gguf is not all zeros"));
    }
    let early = forged(|_, _, seal| seal.program_bytes -= 1);
    assert!(refused(&early).contains("is not all zeros"), "the program's last byte counts as padding");
}

#[test]
fn a_small_entry_that_claims_an_impossible_inflated_size_is_refused() {
    let file = forged(|file, records, _| {
        records[2].size = 1 << 50;
        let (at, header) = (records[2].header_offset as usize, directory::local_header(&records[2]));
        file[at..at + header.len()].copy_from_slice(&header);
    });
    assert!(refused(&file).contains("disagree on entry ui/index.html"));
}

#[test]
fn a_manifest_is_validated_even_when_its_hash_matches() {
    let with_manifest = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        forged(|file, records, seal| {
            let record = records.last_mut().unwrap();
            let at = record.data_offset() as usize;
            let text = String::from_utf8(file[at..].to_vec()).unwrap();
            assert!(text.contains(from));
            let text = text.replacen(from, to, 1);
            record.crc32 = crc32fast::hash(text.as_bytes());
            seal.payload = Digest::of(text.as_bytes());
            let (header_at, header) = (record.header_offset as usize, directory::local_header(record));
            file[header_at..header_at + header.len()].copy_from_slice(&header);
            file[at..].copy_from_slice(text.as_bytes());
        })
    };
    assert!(Bundle::open(&with_manifest("Two parts", "Two PARTS")).unwrap().is_some());
    for (from, to, reason) in [
        ("\"format\": 1", "\"format\": 2", "format 2"),
        ("\"temperature\"", "\"temperatura\"", "unknown field"),
        ("0.7", "-.7", "invalid number"),
        ("0.7", "999", "between 0 and 100"),
        ("ui/index.html", "ui/../../html", "relative path"),
        ("licenses/LICENSE", "somewhere/LICENS", "not where"),
        ("model-00002-of-00002.gguf", "model-00001-of-00002.gguf", "two entries"),
        ("licenses/LICENSE", "licenses/license", "disagree"),
        ("{\n", "[\n", "manifest.json"),
    ] {
        let line = refused(&with_manifest(from, to));
        assert!(line.contains(reason) && !line.contains('\n'), "{from} -> {to}: {line}");
    }
}
