//! The report as JSON: complete, and with stable names.
//!
//! Sizes are in bytes and counts are integers; unknown values, NaN and infinity are `null`.

use satchel_container::Digest;
use satchel_gguf::{Array, Value as Entry};
use serde_json::{Map, Value, json};

use super::report::Report;
use crate::session::Packed;

/// The whole report; `hashes` are the files' in order, or `None` with `--no-hash`.
pub(super) fn value(report: &Report<'_>, hashes: Option<&[Digest]>) -> Value {
    let gguf = report.gguf;
    let hash = |at: usize| hashes.and_then(|hashes| hashes.get(at)).map(Digest::to_string);
    let files =
        report.files.iter().enumerate().map(
            |(at, file)| json!({ "name": file.name, "offset": file.offset, "bytes": file.bytes, "sha256": hash(at) }),
        );
    let templates = report.templates().map(|(name, text)| (name.unwrap_or("default").to_owned(), Value::from(text)));
    json!({
        "file": report.path,
        "name": report.name,
        "packed": report.packed.map(packed),
        "files": files.collect::<Vec<_>>(),
        "gguf_version": gguf.version,
        "alignment": gguf.alignment,
        "architecture": gguf.metadata.get_str("general.architecture").ok().flatten(),
        "context_length": report.trained_context,
        "parameters": report.parameters,
        "tensor_bytes": report.tensor_bytes,
        "bits_per_weight": report.bits_per_weight(),
        "block_types": block_types(report),
        "memory": memory(report),
        "chat_templates": templates.collect::<Map<_, _>>(),
        "conversation": report.conversation().map(|conversation| json!({
            "built_in_template": conversation.built_in,
            "rendered": conversation.text.as_ref().ok(),
            "error": conversation.text.as_ref().err(),
        })),
        "metadata": gguf.metadata.iter().map(|(key, value)| (key.to_owned(), entry(value))).collect::<Map<_, _>>(),
        "tensors": tensors(report),
    })
}

fn packed(packed: &Packed) -> Value {
    let bundle = &packed.bundle;
    let entries = bundle.entries().iter().map(|entry| {
        json!({
            "name": entry.name,
            "kind": entry.kind,
            "offset": entry.offset,
            "bytes": entry.size,
            "stored_bytes": entry.stored_bytes,
            "sha256": entry.sha256.to_string(),
        })
    });
    json!({
        "format": bundle.manifest.format,
        "packed_by": bundle.manifest.packed_by,
        "program_bytes": bundle.program_bytes,
        "program_sha256": bundle.program_sha256.to_string(),
        "payload_sha256": bundle.payload_sha256.to_string(),
        "defaults": bundle.manifest.defaults,
        "entries": entries.collect::<Vec<_>>(),
    })
}

fn block_types(report: &Report<'_>) -> Vec<Value> {
    let row = |sum: &super::report::TypeSum| json!({ "type": sum.ty.name(), "tensors": sum.tensors, "elements": sum.elements, "bytes": sum.bytes });
    report.block_types.iter().map(row).collect()
}

fn memory(report: &Report<'_>) -> Value {
    let contexts = report.contexts.iter().map(|&context| {
        let kv_bytes = report.kv_bytes(context);
        let memory = report.memory(context).ok();
        json!({
            "context": context,
            "kv_bytes": kv_bytes,
            "activation_bytes": memory.map(|memory| memory.activation_bytes),
            "scratch_bytes": memory.map(|memory| memory.scratch_bytes),
            "vocabulary_bytes": memory.map(|memory| memory.vocabulary_bytes),
            "program_bytes": memory.map(|memory| memory.program_bytes),
            "total_bytes": memory.map(|memory| memory.total_bytes()),
        })
    });
    json!({
        "weights_bytes": report.tensor_bytes,
        "kv_type": report.cache.to_string(),
        "kv_bytes_per_token": report.kv_bytes_per_token.as_ref().ok(),
        "kv_unknown_because": report.kv_bytes_per_token.as_ref().err().map(|unknown| &unknown.0),
        "contexts": contexts.collect::<Vec<_>>(),
    })
}

fn tensors(report: &Report<'_>) -> Vec<Value> {
    let row = |tensor: &satchel_gguf::TensorInfo| {
        json!({
            "name": tensor.name,
            "shape": tensor.dimensions,
            "type": tensor.ty.name(),
            "elements": tensor.elements(),
            "bytes": tensor.bytes,
            "offset": tensor.offset,
            "file": tensor.part,
        })
    };
    report.gguf.tensors.iter().map(row).collect()
}

/// A metadata value with its type, which JSON alone would lose.
fn entry(value: &Entry) -> Value {
    match value {
        Entry::Array(array) => json!({
            "type": "array",
            "element_type": array.element_type().name(),
            "length": array.len(),
            "value": elements(array),
        }),
        scalar => json!({ "type": scalar.value_type().name(), "value": plain(scalar) }),
    }
}

fn plain(value: &Entry) -> Value {
    match value {
        Entry::U8(v) => json!(v),
        Entry::I8(v) => json!(v),
        Entry::U16(v) => json!(v),
        Entry::I16(v) => json!(v),
        Entry::U32(v) => json!(v),
        Entry::I32(v) => json!(v),
        Entry::F32(v) => json!(v),
        Entry::Bool(v) => json!(v),
        Entry::String(v) => json!(v),
        Entry::Array(v) => elements(v),
        Entry::U64(v) => json!(v),
        Entry::I64(v) => json!(v),
        Entry::F64(v) => json!(v),
    }
}

fn elements(array: &Array) -> Value {
    match array {
        Array::U8(v) => json!(v),
        Array::I8(v) => json!(v),
        Array::U16(v) => json!(v),
        Array::I16(v) => json!(v),
        Array::U32(v) => json!(v),
        Array::I32(v) => json!(v),
        Array::F32(v) => json!(v),
        Array::Bool(v) => json!(v),
        Array::String(v) => v.iter().collect::<Vec<_>>().into(),
        Array::Array(v) => v.iter().map(elements).collect::<Vec<_>>().into(),
        Array::U64(v) => json!(v),
        Array::I64(v) => json!(v),
        Array::F64(v) => json!(v),
    }
}
