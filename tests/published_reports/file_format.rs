//! GGUF files whose counts, lengths, offsets and types were overflows, wild pointers and divisions by zero elsewhere.

use satchel_gguf::{TensorType, Value, build};

use super::{bounded, refused_by, string, text};
use crate::support::{Scratch, stories};

/// Every command that opens a file refuses these bytes with a line that has the words.
#[track_caller]
fn damaged(bytes: &[u8], words: &str) {
    let scratch = Scratch::new();
    let path = scratch.path("model.gguf");
    std::fs::write(&path, bytes).expect("scratch");
    for command in [
        &["inspect", "--no-hash", "MODEL"][..],
        &["run", "-m", "MODEL", "--raw", "a"],
        &["pack", "MODEL", "-q", "-o", "OUT"],
        &["quantize", "-q", "MODEL", "OUT", "Q8_0"],
    ] {
        refused_by(&scratch, &path, command, words);
    }
}

/// A head that claims so many tensors and entries, and some bytes behind it.
fn claiming(tensors: u64, entries: u64, rest: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    build::head(&mut file, 3, tensors, entries);
    file.extend(rest);
    file
}

/// A file of one entry: its key, and what follows the key.
fn with_entry(key: &str, rest: &[u8]) -> Vec<u8> {
    let mut file = claiming(0, 1, b"");
    build::text(&mut file, key);
    file.extend(rest);
    file
}

/// A file of tensors (name, dimensions, type, offset) with a kilobyte of data.
fn with_tensors(rows: &[(&str, &[u64], u32, u64)]) -> Vec<u8> {
    let mut file = Vec::new();
    build::head(&mut file, 3, rows.len() as u64, 1);
    build::entry(&mut file, "general.architecture", &string("llama"));
    rows.iter().for_each(|(name, dimensions, ty, offset)| build::row(&mut file, name, dimensions, *ty, *offset));
    build::pad(&mut file, 32);
    file.resize(file.len() + 1024, 0);
    file
}

const F32: u32 = TensorType::F32 as u32;

/// A value's type and a 64-bit number behind it: a string's length, or an array's element type and count.
fn string_of(bytes: u64) -> Vec<u8> {
    [&8u32.to_le_bytes()[..], &bytes.to_le_bytes(), b"short"].concat()
}

fn array_of(element: u32, count: u64) -> Vec<u8> {
    [&9u32.to_le_bytes()[..], &element.to_le_bytes(), &count.to_le_bytes(), &[0; 64]].concat()
}

#[test]
fn cve_2024_21825_arrays_whose_bytes_wrap_around() {
    for (element, count) in [(10, (1 << 61) + 1), (8, (1 << 60) + 1), (0, u64::MAX), (9, 1 << 62)] {
        damaged(&with_entry("k", &array_of(element, count)), "array elements, at most");
    }
}

#[test]
fn cve_2024_23496_cve_2025_66959_strings_that_need_a_byte_more_than_there_are_numbers() {
    for bytes in [u64::MAX, u64::MAX - 1, 1 << 63, 1 << 32] {
        damaged(&with_entry("k", &string_of(bytes)), "bytes of text, at most");
        damaged(&claiming(0, 1, &[&bytes.to_le_bytes()[..], &[b'k'; 64]].concat()), "at most");
        damaged(&claiming(1, 0, &[&bytes.to_le_bytes()[..], &[b'n'; 64]].concat()), "at most");
    }
}

/// The first version of the format had strings of its own; what it may claim does not matter, since it is not read.
#[test]
fn cve_2025_66960_strings_of_version_1() {
    let mut file = b"GGUF".to_vec();
    file.extend([1u32, 0, 1, u32::MAX].iter().flat_map(|number| number.to_le_bytes()));
    damaged(&file, "GGUF version 1");
}

#[test]
fn cve_2024_21802_more_dimensions_than_a_tensor_has_room_for() {
    for count in [5u32, 255, 1 << 31, u32::MAX] {
        let mut file = claiming(1, 0, b"");
        build::text(&mut file, "t");
        file.extend(count.to_le_bytes());
        file.resize(file.len() + 4096, 1);
        damaged(&file, "dimensions, at most 4");
    }
}

#[test]
fn cve_2024_21836_cve_2024_23605_counts_whose_tables_wrap_around() {
    // What 64 bits leave of them in tables of 88 and of 48 bytes a row is less than a row.
    for count in [u64::MAX / 88 + 1, u64::MAX / 48 + 1, u64::MAX, 1 << 32] {
        damaged(&claiming(count, 0, &[0; 256]), "tensors, at most");
        damaged(&claiming(0, count, &[0; 256]), "metadata entries, at most");
    }
}

#[test]
fn cve_2024_32878_an_entry_that_is_not_there_to_be_freed() {
    let mut file = claiming(0, 3, b"");
    build::entry(&mut file, "a", &string("one"));
    build::text(&mut file, "b");
    damaged(&file, "the file ends at byte");
}

#[test]
fn cve_2024_41130_a_tensor_without_a_name() {
    damaged(&claiming(1, 0, &5u64.to_le_bytes()), "the file ends at byte");
    damaged(&claiming(1, 0, b""), "the file ends at byte");
    let nameless = with_tensors(&[("", &[8], F32, 0)]);
    let scratch = Scratch::new();
    std::fs::write(scratch.path("model.gguf"), nameless).expect("scratch");
    refused_by(&scratch, &scratch.path("model.gguf"), &["run", "-m", "MODEL", "--raw", "a"], "llama.");
}

/// Each size is representable, their sum is not: a buffer for all of them was small.
#[test]
fn cve_2025_53630_cve_2026_27940_tensors_whose_sum_wraps_around() {
    let half = (1u64 << 61) - 8;
    let bytes = half * 4;
    let three: [(&str, &[u64], u32, u64); 3] =
        [("a", &[half], F32, 0), ("b", &[half], F32, bytes), ("c", &[24], F32, 2 * bytes)];
    damaged(&with_tensors(&three), "lies past the end");
    damaged(&with_tensors(&three[..2]), "lies past the end");
    // Nearly all of the numbers there are, so that what a program needs beside them wraps around.
    let most: [(&str, &[u64], u32, u64); 2] = [("a", &[half - 8], F32, 0), ("b", &[half], F32, bytes - 32)];
    damaged(&with_tensors(&most), "past the end");
}

#[test]
fn cve_2026_33298_a_tensor_whose_bytes_wrap_around() {
    for dimensions in [[1024, 1024, (1 << 42) + 1, 1], [1 << 32, 1 << 32, 1, 1], [u64::MAX, 1, 1, 1], [1 << 16; 4]] {
        damaged(&with_tensors(&[("t", &dimensions, F32, 0)]), "the impossible shape");
    }
}

/// The tensor of the report: a shape beyond what the file holds, which quantising read from the heap behind it.
#[test]
fn cve_2026_7482_a_tensor_larger_than_its_file() {
    let f16 = TensorType::F16 as u32;
    damaged(&with_tensors(&[("token_embd.weight", &[4096, 1024], f16, 0)]), "are missing");
    damaged(&with_tensors(&[("token_embd.weight", &[256], f16, 992)]), "past the end");
    let whole = std::fs::read(stories()).expect("the model");
    damaged(&whole[..whole.len() / 2], "are missing");
}

#[test]
fn cve_2024_39720_a_file_of_four_bytes() {
    damaged(b"GGUF", "the file ends at byte 4");
}

/// A name of something that never ends, given as a model.
#[test]
#[cfg(unix)]
fn cve_2024_39721_devices_that_are_no_models() {
    let scratch = Scratch::new();
    for device in ["/dev/random", "/dev/zero", "/dev/null", "/"] {
        for command in
            [&["inspect", "MODEL"][..], &["run", "-m", "MODEL", "--raw", "a"], &["pack", "MODEL", "-o", "OUT"]]
        {
            refused_by(&scratch, std::path::Path::new(device), command, "regular file");
        }
    }
}

/// The advisory says no more than a read out of bounds in the decoder: a length that reaches behind the file, by one or by
/// many.
#[test]
fn cve_2024_12055_lengths_that_reach_behind_the_file() {
    for bytes in [6, 1 << 10, 1 << 23] {
        damaged(&with_entry("k", &string_of(bytes)), "the file ends at byte");
    }
    damaged(&with_entry("k", &array_of(8, 9)), "the file ends at byte");
}

/// The advisory says no more than a missing value that was used: a tensor without elements, and a file without the keys of a
/// model.
#[test]
fn cve_2025_0312_a_tensor_or_a_key_that_is_not_there() {
    damaged(&with_tensors(&[("t", &[0, 256], F32, 0)]), "no elements (its shape is [0, 256])");
    let scratch = Scratch::new();
    std::fs::write(scratch.path("model.gguf"), claiming(0, 0, &[0; 64])).expect("scratch");
    for command in [&["run", "-m", "MODEL", "--raw", "a"][..], &["pack", "MODEL", "-q", "-o", "OUT"]] {
        refused_by(&scratch, &scratch.path("model.gguf"), command, "general.architecture");
    }
}

#[test]
fn cve_2025_0315_sizes_that_would_be_allocated() {
    damaged(&with_tensors(&[("t", &[1 << 40], F32, 0)]), "are missing");
    damaged(&with_entry("k", &array_of(10, 1 << 24)), "the file ends at byte");
    damaged(&claiming(1 << 18, 0, &[0; 64]), "the file ends at byte");
}

#[test]
fn cve_2025_0317_an_alignment_that_cannot_be_divided_by() {
    let aligned = |value: Value| {
        let mut file = claiming(0, 1, b"");
        build::entry(&mut file, "general.alignment", &value);
        file.resize(file.len() + 64, 0);
        file
    };
    for value in [0, 1, 3, 4, 24, u32::MAX] {
        damaged(&aligned(Value::U32(value)), "alignment");
    }
    for value in [Value::I32(-32), Value::String("32".into()), Value::F32(32.0), Value::U64(1 << 40)] {
        damaged(&aligned(value), "general.alignment");
    }
    // As large as it may be: the data would begin far behind the file.
    let mut file = claiming(1, 1, b"");
    build::entry(&mut file, "general.alignment", &Value::U32(1 << 31));
    build::row(&mut file, "t", &[8], F32, 0);
    damaged(&file, "are missing");
}

#[test]
fn cve_2026_52131_an_entry_without_a_key() {
    let mut file = claiming(0, 1, b"");
    build::entry(&mut file, "", &string("empty"));
    let scratch = Scratch::new();
    let path = scratch.path("model.gguf");
    std::fs::write(&path, file).expect("scratch");
    refused_by(&scratch, &path, &["run", "-m", "MODEL", "--raw", "a"], "general.architecture");
    bounded(&["inspect", "--no-hash", text(&path)]).ok();
}

/// llama.cpp's pull request 19856 and issue 8816: a negative type was an index, a type that was taken away a division by zero.
#[test]
fn block_types_that_are_none() {
    for ty in [4, 5, 31, 32, 33, 36, 37, 38] {
        damaged(&with_tensors(&[("t", &[32], ty, 0)]), &format!("block type {ty}"));
    }
    for ty in [255, 1 << 31, u32::MAX] {
        damaged(&with_tensors(&[("t", &[32], ty, 0)]), "which is not known here");
    }
}
