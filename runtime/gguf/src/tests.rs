//! The parser against valid files, and files that are wrong in a single place.

use crate::{Array, Error, Gguf, GgufWriter, StringArray, TensorType, Value, build};

/// A small valid file: two tensors, some metadata.
fn small() -> Vec<u8> {
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", Value::String("llama".into()));
    writer.set("tokens", Value::Array(Array::String(["<s>", "a", "b"].iter().collect())));
    writer.set("scores", Value::Array(Array::F32(vec![0.0, -1.0, -2.0])));
    writer.tensor("a.weight", &[32, 2], TensorType::Q8_0).unwrap();
    writer.tensor("b.weight", &[5], TensorType::F32).unwrap();
    writer.layout().unwrap().to_bytes(&[&[1; 68], &[2; 20]]).unwrap()
}

/// A file with one entry whose bytes after the key are given.
fn with_entry(value: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    build::head(&mut file, 3, 0, 1);
    build::text(&mut file, "k");
    file.extend(value);
    file
}

/// A tensor's name, dimensions, type and offset.
type Row<'a> = (&'a str, &'a [u64], u32, u64);

/// A file of tensors followed by `data` bytes.
fn with_tensors(rows: &[Row<'_>], data: usize) -> Vec<u8> {
    let mut file = Vec::new();
    build::head(&mut file, 3, rows.len() as u64, 0);
    for (name, dimensions, ty, offset) in rows {
        build::row(&mut file, name, dimensions, *ty, *offset);
    }
    build::pad(&mut file, 32);
    file.resize(file.len() + data, 0);
    file
}

fn line(file: &[u8]) -> String {
    let line = Gguf::parse(file).expect_err("the file is wrong").to_string();
    assert!(!line.contains('\n') && line.len() < 400, "{line}");
    line
}

fn assert_line(file: &[u8], words: &str) {
    let line = line(file);
    assert!(line.contains(words), "{line:?} should contain {words:?}");
}

#[test]
fn a_small_file_is_read() {
    let file = small();
    let gguf = Gguf::parse(&file).unwrap();
    assert_eq!((gguf.version, gguf.alignment, gguf.metadata.len()), (3, 32, 3));
    assert_eq!(gguf.metadata.get_str("general.architecture"), Ok(Some("llama")));
    let tokens = gguf.metadata.require_str_array("tokens").unwrap();
    assert_eq!(tokens.iter().collect::<Vec<_>>(), ["<s>", "a", "b"]);
    assert_eq!((tokens.get(2), tokens.get(3)), (Some("b"), None));
    let a = gguf.tensor("a.weight").unwrap();
    assert_eq!((a.columns(), a.rows(), a.elements(), a.bytes, a.part), (32, 2, 64, 68, 0));
    assert_eq!(a.offset, gguf.data_offset);
    assert_eq!(gguf.tensor("b.weight").unwrap().offset, gguf.data_offset + 96);
    assert_eq!((gguf.parameters(), gguf.tensor_bytes()), (69, 88));
    assert_eq!(gguf.tensor("c"), None);
    assert_eq!(gguf.split(), Ok(None));
}

#[test]
fn version_2_is_the_same_and_others_are_named() {
    let mut file = small();
    file[4] = 2;
    assert_eq!(Gguf::parse(&file).unwrap().version, 2);
    file[4] = 1;
    assert_eq!(Gguf::parse(&file), Err(Error::Version1));
    file[4] = 4;
    assert_eq!(Gguf::parse(&file), Err(Error::UnknownVersion(4)));
    file[4..8].copy_from_slice(&3u32.to_be_bytes());
    assert_eq!(Gguf::parse(&file), Err(Error::BigEndian(3)));
    file[4..8].copy_from_slice(&[9, 9, 9, 9]);
    assert!(matches!(Gguf::parse(&file), Err(Error::UnknownVersion(_))));
}

#[test]
fn every_cut_is_an_error_of_its_kind() {
    let file = small();
    let whole = Gguf::parse(&file).unwrap();
    let last = whole.tensors.last().unwrap().end() as usize;
    let table = file.windows(8).rposition(|bytes| bytes == b"b.weight").unwrap() + 8 + 4 + 8 + 4 + 8;
    for cut in 0..last {
        match Gguf::parse(&file[..cut]).unwrap_err() {
            Error::NotGguf(line) => assert!(cut == 0 && line == "it is empty"),
            Error::Ended { file_bytes, .. } => assert!(cut < table && file_bytes == cut as u64, "{cut}"),
            Error::CutOff { file_bytes, expected_bytes, .. } => {
                assert!(cut >= table, "{cut}");
                assert_eq!((file_bytes, expected_bytes), (cut as u64, last as u64));
            }
            other => panic!("cut at {cut}: {other}"),
        }
    }
    assert_eq!(Gguf::parse(&file[..last]).unwrap().tensors, whole.tensors, "padding at the end may be missing");
    assert_line(&file[..last - 7], "7 are missing (first in tensor 'b.weight')");
}

#[test]
fn counts_beyond_the_limits_are_refused() {
    for (tensors, entries, words) in [
        (u64::MAX, 0, "claims 18446744073709551615 tensors, at most 262144"),
        (0, u64::MAX, "claims 18446744073709551615 metadata entries, at most 65536"),
        (1 << 18, 0, "inside the tensor table"),
        (0, 1 << 16, "inside the metadata"),
    ] {
        let mut file = Vec::new();
        build::head(&mut file, 3, tensors, entries);
        assert_line(&file, words);
    }
    let string = |length: u64| with_entry(&[&8u32.to_le_bytes()[..], &length.to_le_bytes()].concat());
    assert_line(&string(u64::MAX), "claims 18446744073709551615 bytes of text");
    assert_line(&string(1 << 20), "inside the value of the metadata key 'k'");
    let array =
        |ty: u32, count: u64| with_entry(&[&9u32.to_le_bytes()[..], &ty.to_le_bytes(), &count.to_le_bytes()].concat());
    for ty in 0..=12 {
        assert_line(&array(ty, u64::MAX), "array elements, at most");
        assert_line(&array(ty, 1 << 24), "inside the value of the metadata key 'k'");
    }
    let mut key = Vec::new();
    build::head(&mut key, 3, 0, 1);
    key.extend(u64::MAX.to_le_bytes());
    key.extend([0; 16]);
    assert_line(&key, "metadata entry 0 claims");
}

#[test]
fn nested_arrays_have_a_depth_and_a_count() {
    let mut deep = 9u32.to_le_bytes().to_vec();
    for _ in 0..100_000 {
        deep.extend(9u32.to_le_bytes());
        deep.extend(1u64.to_le_bytes());
    }
    assert_line(&with_entry(&deep), "nests arrays more than 4 deep");

    let many = Array::Array(vec![Array::U8(Vec::new()); 70_000]);
    let mut file = Vec::new();
    build::head(&mut file, 3, 0, 1);
    build::entry(&mut file, "k", &Value::Array(many));
    assert_line(&file, "70000 arrays in arrays, at most 65536");
}

#[test]
fn values_that_cannot_be_are_refused() {
    assert_line(&with_entry(&[13, 0, 0, 0, 0]), "unknown type 13");
    assert_line(&with_entry(&[7, 0, 0, 0, 2]), "a truth value of 2");
    let bools = Array::U8(vec![0, 1, 7]);
    let mut file = Vec::new();
    build::head(&mut file, 3, 0, 1);
    build::entry(&mut file, "k", &Value::Array(bools));
    let element_type = file.len() - 3 - 8 - 4;
    file[element_type] = 7;
    assert_line(&file, "element 2 of the metadata array 'k' is a truth value of 7");
    assert_line(&with_entry(&[8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xff]), "not valid UTF-8");
    let mut twice = Vec::new();
    build::head(&mut twice, 3, 0, 3);
    for key in ["a\n\u{1b}[2J", "b", "a\n\u{1b}[2J"] {
        build::entry(&mut twice, key, &Value::U8(1));
    }
    assert_line(&twice, r"the metadata key 'a\n\u{1b}[2J' is there twice");
}

#[test]
fn each_string_of_an_array_is_text_by_itself() {
    let strings = |strings: &[&[u8]]| {
        let mut value = [9u32, 8].map(u32::to_le_bytes).concat();
        value.extend((strings.len() as u64).to_le_bytes());
        for string in strings {
            value.extend((string.len() as u64).to_le_bytes());
            value.extend(*string);
        }
        with_entry(&value)
    };
    let whole = strings(&["a".as_bytes(), "é".as_bytes(), b"", "日".as_bytes()]);
    assert_eq!(Gguf::parse(&whole).unwrap().metadata.get_str_array("k").unwrap().unwrap().get(3), Some("日"));
    assert_line(&strings(&[b"a", b"", b"\xff", b"b"]), "element 2 of the metadata array 'k' is not valid UTF-8");
    // Two halves of a character are only valid together.
    assert_line(&strings(&[b"a", b"\xc3", b"\xa9"]), "element 1 of the metadata array 'k' is not valid UTF-8");
    assert_line(&strings(&[b"a", b"b\xc3"]), "element 1 of the metadata array 'k' is not valid UTF-8");
}

#[test]
fn alignment_is_checked() {
    for (value, words) in [
        (Value::U32(0), "general.alignment is 0"),
        (Value::U32(4), "general.alignment is 4"),
        (Value::U32(48), "general.alignment is 48"),
        (Value::String("x".into()), "'general.alignment' should be a whole number"),
    ] {
        let mut file = Vec::new();
        build::head(&mut file, 3, 0, 1);
        build::entry(&mut file, "general.alignment", &value);
        assert_line(&file, words);
    }
    let mut file = Vec::new();
    build::head(&mut file, 3, 1, 1);
    build::entry(&mut file, "general.alignment", &Value::U32(1 << 31));
    build::row(&mut file, "t", &[1], 0, 0);
    assert_line(&file, "cut off");
}

#[test]
fn tensors_that_cannot_be_are_refused() {
    let f32s = TensorType::F32 as u32;
    let q8 = TensorType::Q8_0 as u32;
    let cases: &[(&[Row<'_>], &str)] = &[
        (&[("t", &[1, 1, 1, 1, 1], f32s, 0)], "tensor 't' has 5 dimensions, at most 4"),
        (&[("t", &[4, 0], f32s, 0)], "tensor 't' has no elements (its shape is [4, 0])"),
        (&[("t", &[1 << 32, 1 << 32], f32s, 0)], "impossible shape"),
        (&[("t", &[1 << 62], f32s, 0)], "impossible shape"),
        (&[("t", &[u64::MAX], f32s, 0)], "impossible shape"),
        (&[("t", &[40], q8, 0)], "rows of 40 elements, which is no multiple of the 32 that a block of Q8_0 holds"),
        (&[("t", &[], q8, 0)], "rows of 1 elements"),
        (&[("t", &[32], 4, 0)], "block type 4, which was Q4_2 and is gone"),
        (&[("t", &[32], 999, 0)], "block type 999, which is not known"),
        (&[("t", &[32], 15, 0)], "Q8_K: a type for intermediate results"),
        (&[("t", &[1], f32s, 8)], "offset 8, which is no multiple of the file's alignment 32"),
        (&[("t", &[1], f32s, u64::MAX - 31)], "past the end"),
        (&[("t", &[1], f32s, 1 << 40)], "past the end: 4 bytes at byte 1099511627840 of a file of"),
        (&[("a", &[9], f32s, 0), ("b", &[1], f32s, 32)], "tensor 'a' and tensor 'b' overlap"),
        (&[("a", &[1], f32s, 0), ("b", &[9], f32s, 0)], "tensor 'a' and tensor 'b' overlap"),
        (&[("a", &[1], f32s, 0), ("a", &[1], f32s, 32)], "two tensors are called 'a'"),
        (&[("t", &[1000], f32s, 0)], "cut off: it has 96 + 64"),
    ];
    for (rows, words) in cases {
        let file = with_tensors(rows, 64);
        let words = words.replace("96 + 64", &file.len().to_string());
        assert_line(&file, &words);
    }
}

#[test]
fn an_offset_past_the_end_is_told_from_a_cut() {
    let f32s = TensorType::F32 as u32;
    let apart = with_tensors(&[("a", &[8], f32s, 0), ("b", &[8], f32s, 4096)], 64);
    assert_line(&apart, "tensor 'b' lies past the end");
    let packed = with_tensors(&[("a", &[8], f32s, 0), ("b", &[800], f32s, 32)], 64);
    assert_line(&packed, "3168 are missing (first in tensor 'b')");
    let gap = with_tensors(&[("b", &[8], f32s, 64), ("a", &[8], f32s, 0)], 96);
    assert_eq!(Gguf::parse(&gap).unwrap().tensors.len(), 2, "gaps and any order are fine");
}

#[test]
fn getters_name_the_key_and_what_is_there() {
    let strings: StringArray = ["x"].iter().collect();
    let metadata = crate::Metadata::new(vec![
        ("n".into(), Value::U64(1 << 40)),
        ("i".into(), Value::I8(-3)),
        ("f".into(), Value::F32(0.5)),
        ("s".into(), Value::String("text".into())),
        ("b".into(), Value::Bool(true)),
        ("heads".into(), Value::Array(Array::I32(vec![4, 2]))),
        ("negative".into(), Value::Array(Array::I32(vec![-1]))),
        ("strings".into(), Value::Array(Array::String(strings))),
        ("floats".into(), Value::Array(Array::F64(vec![0.25]))),
    ])
    .unwrap();
    assert_eq!(metadata.get_u64("n"), Ok(Some(1 << 40)));
    assert_eq!(metadata.get_i32("i"), Ok(Some(-3)));
    assert_eq!(metadata.get_f32("f"), Ok(Some(0.5)));
    assert_eq!(metadata.get_f32("i"), Ok(Some(-3.0)));
    assert_eq!(metadata.get_bool("b"), Ok(Some(true)));
    assert_eq!(metadata.get_u32("none"), Ok(None));
    assert_eq!(metadata.get_u32_array("heads"), Ok(Some(vec![4, 2])));
    assert_eq!(metadata.get_i32_array("negative"), Ok(Some(vec![-1])));
    assert_eq!(metadata.get_f32_array("floats"), Ok(Some(vec![0.25])));
    assert_eq!(metadata.get_u32_per_layer("heads", 2), Ok(Some(vec![4, 2])));
    assert_eq!(
        metadata.get_u32_per_layer("heads", 3).unwrap_err().to_string(),
        "the metadata array 'heads' has 2 elements where 3 are needed"
    );
    let lines = [
        (
            metadata.get_u32("n").unwrap_err(),
            "'n' should be a whole number that fits 32 bits, but is the number 1099511627776",
        ),
        (metadata.get_u32("i").unwrap_err(), "is the number -3"),
        (metadata.get_u32("f").unwrap_err(), "is the number 0.5"),
        (metadata.get_str("b").unwrap_err(), "'b' should be a text, but is the truth value true"),
        (metadata.get_bool("s").unwrap_err(), "is the text 'text'"),
        (metadata.get_u32_array("negative").unwrap_err(), "an array of 1 elements of type i32"),
        (metadata.get_str_array("heads").unwrap_err(), "should be an array of texts"),
        (metadata.require_str("none").unwrap_err(), "the metadata has no 'none'"),
    ];
    for (error, words) in lines {
        assert!(error.to_string().contains(words), "{error} should contain {words}");
    }
}
