//! Packed files whose seals are right and whose contents are not: a packed file comes from a stranger as a model does.

use std::ops::Range;
use std::path::Path;

use flate2::Crc;
use satchel_container::{Bundle, Digest, directory};

use super::{bounded, text};
use crate::support::{Scratch, satchel, stories};

/// A packed file with a licence in it.
fn packed(scratch: &Scratch) -> Vec<u8> {
    let (licence, out) = (scratch.path("LICENSE-OF-THE-MODEL"), scratch.path("packed"));
    std::fs::write(&licence, "Do as you like.\n").expect("scratch");
    satchel(&["pack", text(&stories()), "-q", "-o", text(&out), "--license", text(&licence)]).ok();
    std::fs::read(out).expect("it was written")
}

/// Replaces `from` by `to`, as long, in every header, the manifest and the directory of what was `bundle`, and makes the
/// checksums and hashes of manifest and directory right again.
fn replaced(bundle: &Bundle, mut file: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places = matches(&file, bundle.program_bytes as usize, from.as_bytes());
    assert!(!places.is_empty(), "{from} is there");
    places.into_iter().for_each(|at| file[at..at + to.len()].copy_from_slice(to.as_bytes()));
    let entry = &bundle.manifest_entry;
    let manifest = entry.offset as usize..(entry.offset + entry.size) as usize;
    let tail = file.len() - directory::TAIL_BYTES;
    let records = matches(&file[..tail], manifest.end, RECORD);
    sum(&mut file, &manifest, "manifest.json", *records.last().expect("its record is the last"));
    let hash = matches(&file, tail, bundle.payload_sha256.to_string().as_bytes())[0];
    let seal = file.len() - 65;
    for (at, covered) in [(hash, manifest.clone()), (seal, manifest.end..seal)] {
        let hash = Digest::of(&file[covered]).to_string();
        file[at..at + 64].copy_from_slice(hash.as_bytes());
    }
    file
}

/// How a record of the directory begins.
const RECORD: &[u8] = b"PK\x01\x02";

/// Makes an entry's checksum right: it stands 14 bytes into the header before it, and 16 into its record.
fn sum(file: &mut [u8], entry: &Range<usize>, name: &str, record: usize) {
    let header = entry.start - directory::local_header_bytes(name) as usize;
    let mut crc = Crc::new();
    crc.update(&file[entry.clone()]);
    for at in [header + 14, record + 16] {
        file[at..at + 4].copy_from_slice(&crc.sum().to_le_bytes());
    }
}

fn matches(file: &[u8], from: usize, part: &[u8]) -> Vec<usize> {
    let windows = file[from..].windows(part.len()).enumerate();
    windows.filter(|(_, window)| *window == part).map(|(at, _)| from + at).collect()
}

/// Names that leave the folder they are unpacked in, as in CVE-2024-45436 (and 7773, which is the same).
#[test]
fn cve_2024_45436_entries_that_leave_their_folder() {
    let scratch = Scratch::new();
    let whole = packed(&scratch);
    let bundle = Bundle::open(&whole).expect("sound").expect("a bundle");
    let name = "licenses/LICENSE-OF-THE-MODEL";
    // The forger's tools work: another good name passes.
    let path = scratch.path("forged");
    let unpack = |folder: &Path| bounded(&["unpack", text(&path), "-q", "-o", text(folder)]);
    std::fs::write(&path, replaced(&bundle, whole.clone(), name, "licenses/ANOTHER-OF-THE-MODEL")).expect("scratch");
    bounded(&["verify", "-q", text(&path)]).ok();
    unpack(&scratch.path("good")).ok();
    assert!(scratch.path("good/licenses/ANOTHER-OF-THE-MODEL").exists());

    for to in [
        "../../../../../../tmp/escaped",
        "licenses/../../../../escaped0",
        "/tmp/escaped-by-satchel-file",
        "licenses\\..\\..\\..\\..\\escaped",
        "licenses/./LICENSE-THE-MODEL.",
        "C:/licenses/LICENSE-THE-MODEL",
        "licenses//LICENSE-OF-A-MODELS",
        "licenses/LICENSE-OF-THE-\u{202e}EL",
    ] {
        let to = to.to_owned() + &"0".repeat(name.len() - to.len());
        std::fs::write(&path, replaced(&bundle, whole.clone(), name, &to)).expect("scratch");
        let folder = scratch.path("bad");
        for command in [
            &["unpack", text(&path), "-q", "-o", text(&folder)][..],
            &["verify", "-q", text(&path)],
            &["inspect", text(&path)],
            &["run", "-m", text(&path), "--raw", "a"],
        ] {
            let line = bounded(command).failed(1);
            assert!(line.contains("a name") || line.contains("no part of a name"), "{to}: {line}");
        }
        assert!(!folder.exists() || folder.read_dir().expect("a folder").next().is_none(), "{to}");
        let left: Vec<_> = scratch.folder().parent().expect("a folder").read_dir().expect("it can be read").collect();
        assert!(left.iter().flatten().all(|entry| !entry.file_name().to_string_lossy().contains("escaped")));
    }
}

/// A packer without checks can pack any model: the file verifies, and the model is refused when it is loaded.
#[test]
fn a_hostile_model_in_a_sound_bundle() {
    let scratch = Scratch::new();
    let key = "tokenizer.ggml.eos_token_id";
    let out = scratch.path("packed");
    satchel(&["pack", text(&stories()), "-q", "-o", text(&out)]).ok();
    let mut file = std::fs::read(&out).expect("it was written");
    let bundle = Bundle::open(&file).expect("sound").expect("a bundle");
    let entry = &bundle.model_entries()[0];
    let model = entry.offset as usize..(entry.offset + entry.size) as usize;
    // The id stands behind the key and its type.
    let id = matches(&file, model.start, key.as_bytes())[0] + key.len() + 4;
    file[id..id + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let record = matches(&file, model.end, RECORD)[0];
    sum(&mut file, &model, "model.gguf", record);
    let hash = Digest::of(&file[model]).to_string();
    std::fs::write(&out, replaced(&bundle, file, &entry.sha256.to_string(), &hash)).expect("scratch");
    bounded(&["verify", "-q", text(&out)]).ok();
    let line = bounded(&["run", "-m", text(&out), "--raw", "a"]).failed(1);
    assert!(line.contains("tokenizer.ggml.eos_token_id is 4294967295"), "{line}");
}
