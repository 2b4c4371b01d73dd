//! A file's tensors by name: gives them out as weights with checked shapes, and records which ones are used.

use std::collections::{BTreeSet, HashMap};

use satchel_gguf::{TensorInfo, TensorType};

use super::ModelError;
use super::error::shown;
use crate::plan::{Role, WeightUse};
use crate::quant;

/// The tensor table of a model file (or of all parts of a split one).
pub struct TensorTable<'a> {
    by_name: HashMap<&'a str, &'a TensorInfo>,
    unused: BTreeSet<&'a str>,
}

fn shape_text(dimensions: &[u64]) -> String {
    let numbers: Vec<String> = dimensions.iter().map(u64::to_string).collect();
    format!("[{}]", numbers.join(", "))
}

/// Whether two shapes are equal, ignoring trailing dimensions of 1.
fn same_shape(found: &[u64], expected: &[u64]) -> bool {
    let at = |shape: &[u64], index: usize| shape.get(index).copied().unwrap_or(1);
    (0..found.len().max(expected.len())).all(|index| at(found, index) == at(expected, index))
}

impl<'a> TensorTable<'a> {
    /// The tensors in `infos`.
    pub fn new(infos: &'a [TensorInfo]) -> Self {
        Self {
            by_name: infos.iter().map(|info| (info.name.as_str(), info)).collect(),
            unused: infos.iter().map(|info| info.name.as_str()).collect(),
        }
    }

    /// Whether the file has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Size of one dimension of a tensor (0: columns), 1 past the last; `None` if there is no such tensor.
    pub fn dimension(&self, name: &str, at: usize) -> Option<u64> {
        Some(self.by_name.get(name)?.dimensions.get(at).copied().unwrap_or(1))
    }

    /// The tensor with exactly these dimensions (GGUF order: columns first).
    fn find(&mut self, name: &str, dimensions: &[usize], role: Role) -> Result<WeightUse, ModelError> {
        let Some(info) = self.by_name.get(name) else {
            return Err(ModelError::MissingTensor { name: name.to_owned() });
        };
        self.unused.remove(name);
        let expected: Vec<u64> = dimensions.iter().map(|&size| size as u64).collect();
        if !same_shape(&info.dimensions, &expected) {
            return Err(ModelError::WrongShape {
                name: name.to_owned(),
                found: shape_text(&info.dimensions),
                expected: shape_text(&expected),
            });
        }
        if !quant::supports(info.ty) {
            let known: Vec<&str> = TensorType::all().filter(|ty| quant::supports(*ty)).map(TensorType::name).collect();
            let (name, ty, known) = (name.to_owned(), info.ty.to_string(), known.join(", "));
            return Err(ModelError::UnsupportedType { name, ty, known });
        }
        let (columns, rows) = (dimensions[0], dimensions.get(1).copied().unwrap_or(1));
        let row_bytes = info.ty.row_bytes(columns as u64).expect("checked when the tensor table was read");
        Ok(WeightUse {
            name: name.to_owned(),
            role,
            part: info.part,
            offset: info.offset,
            ty: info.ty,
            rows,
            first_row: 0,
            columns,
            stack: dimensions[dimensions.len().min(2)..].iter().product(),
            stack_bytes: row_bytes * rows as u64,
        })
    }

    /// A matrix with `rows` outputs and `columns` inputs.
    pub fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<WeightUse, ModelError> {
        self.find(name, &[columns, rows], Role::Matrix)
    }

    /// A matrix for each of `stack` experts or heads.
    pub fn stack(&mut self, name: &str, stack: usize, rows: usize, columns: usize) -> Result<WeightUse, ModelError> {
        self.find(name, &[columns, rows, stack], Role::Matrix)
    }

    /// A lookup table `(rows, columns)`.
    pub fn table(&mut self, name: &str, rows: usize, columns: usize) -> Result<WeightUse, ModelError> {
        self.find(name, &[columns, rows], Role::Table)
    }

    /// A tensor that is used as f32, with these dimensions (columns first).
    pub fn vector(&mut self, name: &str, dimensions: &[usize]) -> Result<WeightUse, ModelError> {
        self.find(name, dimensions, Role::Vector)
    }

    /// Marks a tensor as deliberately unused.
    pub fn ignore(&mut self, name: &str) {
        self.unused.remove(name);
    }

    /// Marks all tensors whose name begins with `prefix` as deliberately unused.
    pub fn ignore_all(&mut self, prefix: &str) {
        self.unused.retain(|name| !name.starts_with(prefix));
    }

    /// An error that names unused tensors: without them the output would be wrong.
    pub fn all_used(&self, architecture: &str) -> Result<(), ModelError> {
        let mut names: Vec<String> = self.unused.iter().take(4).map(|name| shown(name)).collect();
        if names.is_empty() {
            return Ok(());
        }
        if self.unused.len() > names.len() {
            names.push(format!("… {} in total", self.unused.len()));
        }
        Err(ModelError::UnusedTensors { architecture: architecture.to_owned(), names: names.join(", ") })
    }
}

/// Some rows of a matrix, such as a part of a fused one. For a stack, these rows of each matrix.
pub(super) fn rows_of(weight: &WeightUse, rows: std::ops::Range<usize>) -> WeightUse {
    let offset = weight.offset + weight.row_bytes() * rows.start as u64;
    WeightUse { offset, first_row: weight.first_row + rows.start, rows: rows.len(), ..weight.clone() }
}

/// Some elements of a vector; `None` if the range does not consist of whole blocks.
pub(super) fn elements_of(weight: &WeightUse, elements: std::ops::Range<usize>) -> Option<WeightUse> {
    let block = weight.ty.block_elements();
    let whole = elements.start.is_multiple_of(block) && elements.len().is_multiple_of(block);
    let offset = weight.offset + weight.ty.row_bytes(elements.start as u64)?;
    let stack_bytes = weight.ty.row_bytes(elements.len() as u64)?;
    whole.then(|| WeightUse { offset, columns: elements.len(), rows: 1, stack: 1, stack_bytes, ..weight.clone() })
}
