//! GGUF files with a single defect: each is rejected with its own message and exit status 1, using little memory.

use std::path::Path;
use std::process::Command;

use satchel_gguf::{GgufWriter, TensorType, Value, build};

use crate::support::{self, SATCHEL, Scratch, output, satchel};

/// Runs `inspect` on a file of these bytes and returns its error line.
#[track_caller]
fn line_for(bytes: &[u8]) -> String {
    let scratch = Scratch::new();
    let path = scratch.path("bad.gguf");
    std::fs::write(&path, bytes).expect("a scratch file");
    let line = satchel(&["inspect".as_ref(), path.as_os_str()]).failed(1);
    assert!(line.starts_with("satchel: ") && line.contains("bad.gguf: "), "it names the file: {line}");
    line
}

#[track_caller]
fn assert_line(bytes: &[u8], words: &str) {
    let line = line_for(bytes);
    assert!(line.contains(words), "{line:?} should contain {words:?}");
}

/// A small valid model file.
fn valid() -> Vec<u8> {
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", Value::String("llama".into()));
    writer.tensor("a.weight", &[32, 2], TensorType::Q8_0).expect("whole blocks");
    writer.tensor("b.weight", &[8], TensorType::F32).expect("whole blocks");
    let layout = writer.layout().expect("a sound file");
    layout.to_bytes(&[&[0; 68], &[0; 32]]).expect("memory can be written")
}

/// A file of tensors (name, dimensions, type id, offset) with 256 bytes of data.
fn with_tensors(rows: &[(&str, &[u64], u32, u64)]) -> Vec<u8> {
    let mut file = Vec::new();
    build::head(&mut file, 3, rows.len() as u64, 0);
    rows.iter().for_each(|(name, dimensions, ty, offset)| build::row(&mut file, name, dimensions, *ty, *offset));
    build::pad(&mut file, 32);
    file.resize(file.len() + 256, 0);
    file
}

#[test]
fn a_model_cut_off_anywhere_is_refused() {
    let whole = std::fs::read(support::stories()).expect("the test model");
    let table_end = satchel_gguf::Gguf::parse(&whole).expect("a sound model").data_offset as usize;
    // Ten places in the header, metadata and table; ten in the tensors, including the last byte.
    let head = [1, 3, 6, 12, 20, 24, 40, table_end / 4, table_end / 2, table_end - 40];
    let data = (0..9).map(|tenth| table_end + (whole.len() - table_end) / 10 * tenth).chain([whole.len() - 1]);
    let cuts: Vec<usize> = head.into_iter().chain(data).collect();
    assert_eq!(cuts.len(), 20);
    for cut in cuts {
        let line = line_for(&whole[..cut]);
        if cut < table_end - 32 {
            assert!(line.contains(&format!("the file ends at byte {cut}, inside")), "{line}");
        } else {
            let missing = format!("it has {cut} of {} bytes, {} are missing", whole.len(), whole.len() - cut);
            assert!(line.contains(&missing), "{line}");
        }
        assert!(line.contains("download or copy it again"), "{line}");
    }
}

#[test]
fn other_file_formats_are_recognised() {
    assert_line(b"PK\x03\x04 and so on", "not a GGUF file: it is a zip archive");
    assert_line(b"<!DOCTYPE html><html></html>", "web page");
    assert_line(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull");
    assert_line(b"\x1f\x8b\x08\x00", "gzip");
    assert_line(b"GGUG", "bytes 47 47 55 47 where 47 47 55 46 (GGUF) should be");
    assert_line(&[0; 4096], "zeros");
    assert_line(b"", "empty");
}

#[test]
fn other_versions_are_named() {
    for (version, words) in [
        (1u32, "GGUF version 1, which was only written in 2023"),
        (4, "GGUF version 4 is not known here"),
        (3u32.swap_bytes(), "a big-endian GGUF (version 3)"),
    ] {
        let mut file = valid();
        file[4..8].copy_from_slice(&version.to_le_bytes());
        assert_line(&file, words);
    }
}

#[test]
fn tensors_out_of_place_are_named() {
    let (f32s, q8) = (TensorType::F32 as u32, TensorType::Q8_0 as u32);
    assert_line(&with_tensors(&[("far", &[8], f32s, 1 << 40)]), "tensor 'far' lies past the end: 32 bytes at byte");
    assert_line(&with_tensors(&[("far", &[8], f32s, u64::MAX - 31)]), "tensor 'far' lies past the end");
    let overlapping = with_tensors(&[("left", &[16], f32s, 0), ("right", &[8], f32s, 32)]);
    assert_line(&overlapping, "tensor 'left' and tensor 'right' overlap");
    assert_line(&with_tensors(&[("odd", &[8], f32s, 4)]), "no multiple of the file's alignment 32");
    assert_line(&with_tensors(&[("t", &[8], f32s, 0), ("t", &[8], f32s, 32)]), "two tensors are called 't'");
    assert_line(&with_tensors(&[("t", &[33], q8, 0)]), "no multiple of the 32 that a block of Q8_0 holds");
    assert_line(&with_tensors(&[("t", &[0, 8], f32s, 0)]), "no elements (its shape is [0, 8])");
    assert_line(&with_tensors(&[("t", &[1 << 40, 1 << 40], f32s, 0)]), "impossible shape");
    assert_line(&with_tensors(&[("t", &[1; 5], f32s, 0)]), "5 dimensions, at most 4");
}

#[test]
fn unknown_block_types_are_named() {
    assert_line(&with_tensors(&[("t", &[32], 4, 0)]), "tensor 't' has block type 4, which was Q4_2");
    assert_line(&with_tensors(&[("t", &[32], 1000, 0)]), "tensor 't' has block type 1000, which is not known here");
}

/// Address space for a run on a bad file: enough to start, far less than the sizes declared in the files below.
const ADDRESS_SPACE_KIB: u64 = 512 * 1024;

/// Runs `inspect` with so little address space that allocating a declared size would abort it.
#[cfg(unix)]
fn inspect_confined(path: &Path, address_space_kib: u64) -> support::Printed {
    let script = format!("ulimit -v {address_space_kib} && exec \"$0\" inspect --no-hash \"$1\"");
    output(Command::new("sh").args(["-c", &script, SATCHEL]).arg(path), b"")
}

#[test]
#[cfg(unix)]
fn absurd_counts_and_lengths_cost_no_memory() {
    let scratch = Scratch::new();
    let path = scratch.path("absurd.gguf");
    // The limit works: a valid file can be read within it, but not within a hundredth of it.
    std::fs::write(&path, valid()).expect("a scratch file");
    inspect_confined(&path, ADDRESS_SPACE_KIB).ok();
    assert_ne!(inspect_confined(&path, ADDRESS_SPACE_KIB / 100).code, Some(0));

    let with_value = |ty: u32, rest: &[u64]| {
        let mut file = Vec::new();
        build::head(&mut file, 3, 0, 1);
        build::text(&mut file, "key");
        file.extend(ty.to_le_bytes());
        file.extend(rest.iter().flat_map(|number| number.to_le_bytes()));
        file
    };
    let with_array = |element: u32, count: u64| {
        let mut file = with_value(9, &[]);
        file.extend(element.to_le_bytes());
        file.extend(count.to_le_bytes());
        file
    };
    let with_counts = |tensors: u64, entries: u64| {
        let mut file = Vec::new();
        build::head(&mut file, 3, tensors, entries);
        file
    };
    let mut cases = vec![
        (with_counts(u64::MAX, 0), "tensors, at most"),
        (with_counts(1 << 33, 0), "tensors, at most"),
        (with_counts(1 << 18, 0), "inside the tensor table"),
        (with_counts(0, u64::MAX), "metadata entries, at most"),
        (with_counts(0, 1 << 16), "inside the metadata"),
        (with_value(8, &[u64::MAX]), "bytes of text, at most"),
        (with_value(8, &[1 << 24]), "inside the value of the metadata key 'key'"),
        (with_tensors(&[("t", &[1 << 40], 0, 0)]), "cut off"),
    ];
    for element in [0, 4, 8, 9, 10, 12] {
        cases.push((with_array(element, u64::MAX), "array elements, at most"));
        cases.push((with_array(element, 1 << 35), "array elements, at most"));
        cases.push((with_array(element, 1 << 24), "inside the value of the metadata key 'key'"));
    }
    for (file, words) in cases {
        std::fs::write(&path, file).expect("a scratch file");
        let line = inspect_confined(&path, ADDRESS_SPACE_KIB).failed(1);
        assert!(line.contains(words), "{line:?} should contain {words:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn large_counts_in_a_sparse_file_cost_no_memory() {
    // A sparse file of 8 GiB: the declared counts fit its size, and all their bytes are zero.
    let scratch = Scratch::new();
    let path = scratch.path("sparse.gguf");
    let mut head = Vec::new();
    build::head(&mut head, 3, 1 << 18, 1 << 16);
    std::fs::write(&path, head).expect("a scratch file");
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("the scratch file");
    file.set_len(8 << 30).expect("the file system supports sparse files");
    // The mapping itself takes address space too.
    let line = inspect_confined(&path, (8 << 20) + ADDRESS_SPACE_KIB).failed(1);
    assert!(line.contains("the metadata key '' is there twice"), "{line}");
}

#[test]
fn a_part_under_another_name_says_which_part_it_is() {
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", Value::String("llama".into()));
    writer.set("split.no", Value::U16(0)).set("split.count", Value::U16(3)).set("split.tensors.count", Value::I32(3));
    writer.tensor("a.weight", &[8], TensorType::F32).expect("whole blocks");
    let part = writer.layout().expect("a sound file").to_bytes(&[&[0; 32]]).expect("memory can be written");
    let scratch = Scratch::new();
    let line = |name: &str, command: &[&str]| {
        let path = scratch.path(name);
        std::fs::write(&path, &part).expect("a scratch file");
        let path = path.to_str().expect("UTF-8").to_owned();
        let arguments: Vec<&str> = command.iter().map(|&word| if word == "MODEL" { &path } else { word }).collect();
        satchel(&arguments).failed(1)
    };
    let out = scratch.path("out");
    let out = out.to_str().expect("UTF-8");
    for command in [&["inspect", "MODEL"][..], &["run", "--raw", "x", "-m", "MODEL"], &["pack", "MODEL", "-o", out]] {
        for name in ["renamed.gguf", "renamed-00001-of-00002.gguf"] {
            let line = line(name, command);
            let expected = "is part 1 of 3: give it its name back, NAME-00001-of-00003.gguf, and put all parts up to \
                            NAME-00003-of-00003.gguf in one folder";
            assert!(line.contains(name) && line.ends_with(expected), "{line}");
        }
        let line = line("m-00001-of-00003.gguf", command);
        assert!(line.contains("m-00002-of-00003.gguf: this part of ") && line.contains("is missing"), "{line}");
    }
}

/// Metadata counts that could size an allocation.
#[test]
fn absurd_layer_counts_cost_no_memory() {
    let scratch = Scratch::new();
    let model = scratch.path("deep.gguf");
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", Value::String("llama".into()));
    writer.set("llama.block_count", Value::U32(u32::MAX));
    writer.set("llama.attention.head_count", Value::U32(8)).set("llama.attention.head_count_kv", Value::U32(2));
    writer.tensor("blk.0.attn_q.weight", &[256, 2], TensorType::F32).expect("whole blocks");
    let bytes = writer.layout().expect("a sound file").to_bytes(&[&[0; 2048]]).expect("memory can be written");
    std::fs::write(&model, bytes).expect("a scratch file");
    let (model, out) = (model.to_str().expect("UTF-8"), scratch.path("out.gguf"));
    // Half a gigabyte of address space; an array of this length takes 17.
    let limited = |arguments: &[&str]| {
        let mut command = Command::new("prlimit");
        output(command.args(["--as=536870912", SATCHEL]).args(arguments), b"")
    };
    if Command::new("prlimit").arg("--version").output().is_err() {
        return support::skip("memory of bad files", "there is no `prlimit` program (Debian: util-linux)");
    }
    let line = limited(&["quantize", "-q", model, out.to_str().expect("UTF-8"), "Q4_K_M"]).failed(1);
    assert!(line.contains("claims 4294967295 layers, at most 65536 are accepted"), "{line}");
    let told = limited(&["inspect", "--no-hash", model]).ok();
    assert!(told.contains("4294967295"), "{told}");
    limited(&["run", "--raw", "x", "-m", model]).failed(1);
}
