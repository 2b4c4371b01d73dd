//! The signable form of a small Mach-O: the fields that `codesign` and the loader read, and the payload.

use std::path::{Path, PathBuf};

use satchel_container::Bundle;

use crate::platform::{Facts, Platform};
use crate::runtimes::Runtimes;
use crate::verify::PackedFile;
use crate::{Form, Packed, Plan, Request, Silent, Target};

const LINKEDIT_AT: usize = 0x4000;
const SYMBOLS: &[u8; 64] = b"what the symbol table of this program would be, 64 bytes of it..";

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/models/stories260K-f32.v3.gguf")
}

/// A program for arm64: `__TEXT` with a section at `section`, `__LINKEDIT` with symbols and room for a signature.
fn program(section: u32) -> Vec<u8> {
    let mut commands: Vec<u8> = Vec::new();
    let mut segment = |name: &str, memory: u64, offset: u64, bytes: u64, sections: u32| {
        words(&mut commands, &[0x19, 72 + 80 * sections]);
        commands.extend(name.bytes().chain(std::iter::repeat(0)).take(16));
        for value in [memory, 0x4000, offset, bytes] {
            commands.extend(value.to_le_bytes());
        }
        words(&mut commands, &[5, 5, sections, 0]);
        for _ in 0..sections {
            let mut header = [0; 80];
            header[48..52].copy_from_slice(&section.to_le_bytes());
            commands.extend(header);
        }
    };
    segment("__TEXT", 1 << 32, 0, LINKEDIT_AT as u64, 1);
    segment("__LINKEDIT", (1 << 32) + 0x4000, LINKEDIT_AT as u64, 80, 0);
    words(&mut commands, &[2, 24, LINKEDIT_AT as u32, 2, LINKEDIT_AT as u32 + 32, 32]);
    words(&mut commands, &[0x1d, 16, LINKEDIT_AT as u32 + 64, 16]);
    let mut file = Vec::new();
    words(&mut file, &[0xfeed_facf, 0x0100_000c, 0, 2, 4, commands.len() as u32, 0, 0]);
    file.extend(commands);
    file.resize(LINKEDIT_AT, 0x90);
    file.extend(SYMBOLS);
    file.extend([0; 16]);
    file
}

fn words(out: &mut Vec<u8>, values: &[u32]) {
    values.iter().for_each(|value| out.extend(value.to_le_bytes()));
}

/// A scratch folder with the program in it.
fn folder(name: &str, program: &[u8]) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("satchel-macho-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("satchel"), program).unwrap();
    folder
}

fn pack(folder: &Path) -> Result<Packed, crate::Error> {
    let runtimes = Runtimes::open(&folder.join("satchel"))?;
    let program = Form::Signable(Platform::MacosAarch64).program(&runtimes, "test")?;
    let plan = Plan::new(&Request { model: model(), packed_by: "test".to_owned(), ..Request::default() })?;
    plan.write(&program, Target { path: &folder.join("packed"), force: false }, &Silent)
}

#[test]
fn the_signature_covers_the_payload_and_the_bundle_opens() {
    let folder = folder("signed", &program(0x1000));
    let packed = pack(&folder).unwrap();
    let bytes = std::fs::read(&packed.path).unwrap();
    assert_eq!(packed.bytes, bytes.len() as u64);

    let signature = Facts::read(Platform::MacosAarch64, &bytes).unwrap().signature.expect("a signature");
    assert!(signature.ad_hoc && signature.wrong_pages.is_empty(), "{:?}", signature.wrong_pages);
    assert_eq!((signature.covered_bytes, signature.end), (signature.offset, bytes.len() as u64));

    let bundle = Bundle::open(&bytes).unwrap().expect("a bundle");
    let [entry] = bundle.model_entries() else { panic!("one model") };
    assert!(bundle.in_segment && entry.stored_in(&bytes).unwrap() == std::fs::read(model()).unwrap());
    let rows = PackedFile::open(&packed.path).unwrap().verify(&Silent).unwrap();
    assert!(rows.iter().all(|row| row.is_good()), "{rows:?}");

    // The symbol table is at the offset in its command, after the payload.
    let command = bytes.windows(8).position(|window| window == [2, 0, 0, 0, 24, 0, 0, 0]).unwrap();
    let symbols = u32::from_le_bytes(bytes[command + 8..command + 12].try_into().unwrap()) as usize;
    assert!(symbols as u64 > entry.offset + entry.size && bytes[symbols..].starts_with(SYMBOLS));

    let mut changed = bytes;
    changed[entry.offset as usize + 5000] ^= 1;
    let signature = Facts::read(Platform::MacosAarch64, &changed).unwrap().signature.unwrap();
    assert_eq!(signature.wrong_pages.len(), 1, "a byte of the weights");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_program_without_room_is_refused() {
    let cramped = program(350);
    let folder = folder("cramped", &cramped);
    let line = pack(&folder).unwrap_err().to_string();
    assert!(line.contains("signable form") && line.contains("-headerpad"), "{line}");
    assert!(!folder.join("packed").exists());
    std::fs::remove_dir_all(folder).unwrap();
}

/// Any value in the headers gives a result or a one-line error, never a panic.
#[test]
fn damaged_headers_are_refused() {
    let sound = program(0x1000);
    let bundle_end = 100_000;
    assert!(super::build(&mut sound.clone(), bundle_end).is_ok());
    let headers = 32 + u32::from_le_bytes(sound[20..24].try_into().unwrap()) as usize;
    for at in (0..headers).step_by(4) {
        for value in [0_u32, 8, 0x28, 0x100, 0x4001, 0x7fff_ffff, u32::MAX] {
            let mut damaged = sound.clone();
            damaged[at..at + 4].copy_from_slice(&value.to_le_bytes());
            if let Err(line) = super::build(&mut damaged, bundle_end) {
                assert!(!line.is_empty() && !line.contains('\n'), "byte {at}: {line:?}");
            }
        }
    }
    for end in 0..headers {
        assert!(super::build(&mut sound[..end].to_vec(), bundle_end).is_err(), "truncated to {end} bytes");
    }
    // __LINKEDIT overlapping the load commands: truncating there would cut off bytes that are then written.
    let command = sound.windows(10).position(|window| window == b"__LINKEDIT").unwrap() - 8;
    let mut damaged = sound;
    damaged[command + 40..command + 48].copy_from_slice(&40_u64.to_le_bytes());
    let line = super::build(&mut damaged, bundle_end).unwrap_err();
    assert!(line.contains("__LINKEDIT lies outside"), "{line}");
}
