//! Arbitrary bytes as a GGUF file: the parser must not panic, and an accepted file must satisfy its invariants.

#![no_main]

mod seeds;

use libfuzzer_sys::fuzz_target;
use satchel_gguf::{Array, Gguf, GgufWriter, TensorType, Value};

fuzz_target!(init: seeds::write(make_seeds()), |file: &[u8]| {
    match Gguf::parse(file) {
        Err(error) => {
            let line = error.to_string();
            assert!(!line.contains(['\n', '\r', '\u{1b}']), "one line, safe on a terminal: {line:?}");
        }
        Ok(gguf) => hold(&gguf, file),
    }
});

/// Invariants that callers rely on: tensors lie within the file, aligned, without overlap, and are found by name; metadata
/// can be read.
fn hold(gguf: &Gguf, file: &[u8]) {
    let mut ranges = Vec::new();
    for tensor in &gguf.tensors {
        assert!(tensor.offset >= gguf.data_offset && tensor.end() <= file.len() as u64);
        assert_eq!(tensor.offset % gguf.alignment, 0);
        assert_eq!(tensor.elements(), tensor.rows() * tensor.columns());
        assert_eq!(gguf.tensor(&tensor.name), Some(tensor));
        ranges.push((tensor.offset, tensor.end()));
    }
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    for (key, value) in gguf.metadata.iter() {
        let found = gguf.metadata.get(key).expect("a key that is there is found");
        assert_eq!(format!("{found:?}"), format!("{value:?}"), "NaN is not equal to itself");
        let _ = gguf.metadata.get_u32(key);
        let _ = gguf.metadata.get_f32(key);
        let _ = gguf.metadata.get_str(key);
        let _ = gguf.metadata.get_u32_array(key);
        let _ = gguf.metadata.get_f32_array(key);
        let _ = gguf.metadata.get_byte_array(key);
        let _ = gguf.metadata.get_u32_per_layer(key, 4);
        if let Ok(Some(strings)) = gguf.metadata.get_str_array(key) {
            assert_eq!(strings.iter().count(), strings.len());
        }
    }
    write_again(gguf);
    let _ = gguf.split();
    let _ = Gguf::join(vec![gguf.clone(), gguf.clone()]);
}

/// An accepted file round-trips through the writer.
fn write_again(gguf: &Gguf) {
    // A large alignment would make the written file huge.
    if gguf.alignment > 4096 {
        return;
    }
    let mut writer = GgufWriter::with_metadata(&gguf.metadata);
    for tensor in &gguf.tensors {
        writer.tensor(&tensor.name, &tensor.dimensions, tensor.ty).expect("its shape was accepted");
    }
    // The writer requires the exact type of general.alignment; the reader accepts any integer.
    let Ok(layout) = writer.layout() else { return };
    let again = Gguf::parse_head(&layout.head, layout.file_bytes).expect("what is written can be read");
    assert_eq!(format!("{:?}", again.metadata), format!("{:?}", gguf.metadata));
    assert_eq!(again.tensors.len(), gguf.tensors.len());
}

/// Seeds: no tensors, every block type, every value type, a part of a split model.
fn make_seeds() -> Vec<Vec<u8>> {
    let text = |text: &str| Value::String(text.to_owned());
    let mut bare = GgufWriter::new();
    bare.set("general.architecture", text("llama")).set("general.alignment", Value::U32(64));

    let mut types = GgufWriter::new();
    for ty in TensorType::all() {
        let columns = ty.block_elements() as u64;
        types.tensor(&format!("blk.{ty}.weight"), &[columns, 2], ty).expect("two whole blocks");
    }

    let mut values = GgufWriter::new();
    values.set("a.u8", Value::U8(1)).set("a.i8", Value::I8(-1)).set("a.u16", Value::U16(1));
    values.set("a.i16", Value::I16(-1)).set("a.i32", Value::I32(-1)).set("a.f32", Value::F32(0.5));
    values.set("a.bool", Value::Bool(true)).set("a.u64", Value::U64(1)).set("a.i64", Value::I64(-1));
    values.set("a.f64", Value::F64(0.5)).set("tokens", Value::Array(Array::String(["<s>", "a"].iter().collect())));
    values.set("scores", Value::Array(Array::F32(vec![0.0, -1.0]))).set("types", Value::Array(Array::I32(vec![3, 1])));
    values.set("flags", Value::Array(Array::Bool(vec![true, false])));
    let nested = Array::Array(vec![Array::U8(vec![1]), Array::Array(vec![Array::U64(vec![2])])]);
    values.set("nested", Value::Array(nested));
    values.tensor("one", &[], TensorType::F32).expect("a single number");

    let mut part = GgufWriter::new();
    part.set("split.no", Value::U16(0)).set("split.count", Value::U16(2)).set("split.tensors.count", Value::I32(2));
    part.tensor("token_embd.weight", &[32, 4, 2, 1], TensorType::Q8_0).expect("whole blocks");

    [bare, types, values, part].iter().map(whole_file).collect()
}

fn whole_file(writer: &GgufWriter) -> Vec<u8> {
    let layout = writer.layout().expect("a seed is right");
    let data: Vec<Vec<u8>> = layout.tensors.iter().map(|tensor| vec![0; tensor.bytes as usize]).collect();
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    layout.to_bytes(&data).expect("memory can be written")
}
