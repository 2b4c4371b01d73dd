//! A file's tensors by name, handed out with their shape checked, and a note of which were asked for.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use satchel_gguf::{TensorInfo, TensorType};

use super::ModelError;
use crate::backend::{Backend, MappedTensor, Weight};
use crate::mapping::MappedFile;
use crate::quant::dequantize_row;

/// The tensors of a model file (or of all parts of a split one).
pub struct TensorSource<'a> {
    parts: &'a [MappedPart],
    by_name: HashMap<&'a str, &'a TensorInfo>,
    unused: BTreeSet<&'a str>,
}

/// One file of the model: what is mapped, and where in it the GGUF begins.
#[derive(Clone, Debug)]
pub struct MappedPart {
    /// The file, which may be a packed executable.
    pub file: MappedFile,
    /// Where the GGUF begins, bytes.
    pub start: usize,
    /// How long it is, bytes.
    pub length: usize,
}

impl MappedPart {
    /// The GGUF's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.file[self.start..self.start + self.length]
    }
}

fn shape_text(dimensions: &[u64]) -> String {
    let numbers: Vec<String> = dimensions.iter().map(u64::to_string).collect();
    format!("[{}]", numbers.join(", "))
}

impl<'a> TensorSource<'a> {
    /// The tensors in `infos`, which lie in `parts`.
    pub fn new(parts: &'a [MappedPart], infos: &'a [TensorInfo]) -> Self {
        Self {
            parts,
            by_name: infos.iter().map(|info| (info.name.as_str(), info)).collect(),
            unused: infos.iter().map(|info| info.name.as_str()).collect(),
        }
    }

    /// Whether the file has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The size of one dimension of a tensor (0: columns), where it is there.
    pub fn dimension(&self, name: &str, at: usize) -> Option<u64> {
        self.by_name.get(name)?.dimensions.get(at).copied()
    }

    /// The tensor with exactly these dimensions (GGUF order: columns first).
    fn find(&mut self, name: &str, dimensions: &[usize]) -> Result<MappedTensor, ModelError> {
        let Some(info) = self.by_name.get(name) else {
            return Err(ModelError::MissingTensor { name: name.to_owned() });
        };
        self.unused.remove(name);
        let expected: Vec<u64> = dimensions.iter().map(|&size| size as u64).collect();
        // Trailing dimensions of 1 say nothing.
        let found = info.dimensions.as_slice();
        let padded = found.iter().copied().chain(std::iter::repeat(1));
        if found.len() < expected.len() && expected[found.len()..].iter().any(|&size| size != 1)
            || padded.take(found.len().max(expected.len())).ne(expected
                .iter()
                .copied()
                .chain(std::iter::repeat(1))
                .take(found.len().max(expected.len())))
        {
            return Err(ModelError::WrongShape {
                name: name.to_owned(),
                found: shape_text(found),
                expected: shape_text(&expected),
            });
        }
        let part = &self.parts[info.part];
        Ok(MappedTensor {
            file: part.file.clone(),
            offset: part.start + info.offset as usize,
            ty: info.ty,
            rows: dimensions[1..].iter().product(),
            columns: dimensions[0],
        })
    }

    fn checked(&mut self, backend: &dyn Backend, name: &str, dimensions: &[usize]) -> Result<MappedTensor, ModelError> {
        let tensor = self.find(name, dimensions)?;
        if backend.supports(tensor.ty) {
            return Ok(tensor);
        }
        let known: Vec<&str> = TensorType::all().filter(|ty| backend.supports(*ty)).map(TensorType::name).collect();
        Err(ModelError::UnsupportedType { name: name.to_owned(), ty: tensor.ty.to_string(), known: known.join(", ") })
    }

    /// Places a matrix of `rows` outputs and `columns` inputs.
    pub fn matrix(
        &mut self,
        backend: &mut dyn Backend,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<Weight, ModelError> {
        let tensor = self.checked(backend, name, &[columns, rows])?;
        Ok(backend.place(tensor))
    }

    /// Places a vector.
    pub fn vector(&mut self, backend: &mut dyn Backend, name: &str, length: usize) -> Result<Weight, ModelError> {
        let tensor = self.checked(backend, name, &[length])?;
        Ok(backend.place(tensor))
    }

    /// Places a vector that a model may lack.
    pub fn optional_vector(
        &mut self,
        backend: &mut dyn Backend,
        name: &str,
        length: usize,
    ) -> Result<Option<Weight>, ModelError> {
        if self.has(name) { self.vector(backend, name, length).map(Some) } else { Ok(None) }
    }

    /// The values of a small vector that the model's own arithmetic needs, where it is there.
    pub fn optional_values(
        &mut self,
        backend: &dyn Backend,
        name: &str,
        length: usize,
    ) -> Result<Option<Arc<[f32]>>, ModelError> {
        if !self.has(name) {
            return Ok(None);
        }
        let tensor = self.checked(backend, name, &[length])?;
        let mut values = vec![0.0; length];
        dequantize_row(tensor.ty, tensor.bytes(), &mut values);
        Ok(Some(values.into()))
    }

    /// Marks a tensor as known although nothing computes with it.
    pub fn ignore(&mut self, name: &str) {
        self.unused.remove(name);
    }

    /// An error that names tensors nobody asked for: the architecture would give wrong answers without them.
    pub fn all_used(&self, architecture: &str) -> Result<(), ModelError> {
        let mut names: Vec<&str> = self.unused.iter().copied().take(4).collect();
        if names.is_empty() {
            return Ok(());
        }
        let more = format!("… {} in all", self.unused.len());
        if self.unused.len() > names.len() {
            names.push(&more);
        }
        Err(ModelError::UnusedTensors { architecture: architecture.to_owned(), names: names.join(", ") })
    }
}
