//! Adapter files: LoRA in GGUF, as llama.cpp's converter writes it.
//!
//! A file names its architecture and has two tensors for each one that it changes, `NAME.lora_a` and `NAME.lora_b`. This module
//! checks them and makes the [`Adapter`] from which `plan::adapt` creates operations.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use satchel_gguf::{Gguf, Metadata};

use crate::device::MappedPart;
use crate::mapping::MappedFile;
use crate::model::{ModelError, TensorTable};
use crate::plan::{Adapter, LowRank, WeightUse};

/// `FILE[=SCALE]`
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterOption {
    /// The GGUF.
    pub path: PathBuf,
    /// Factor for the adapter's output.
    pub scale: f32,
}

impl FromStr for AdapterOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let scaled = text.rsplit_once('=').and_then(|(path, scale)| Some((path, scale.trim().parse::<f32>().ok()?)));
        let (path, scale) = scaled.unwrap_or((text, 1.0));
        if path.is_empty() {
            return Err("it must be FILE or FILE=SCALE".to_owned());
        }
        if !scale.is_finite() {
            return Err(format!("the scale of {path} must be a finite number"));
        }
        Ok(Self { path: PathBuf::from(path), scale })
    }
}

/// An open adapter file with valid headers.
#[derive(Debug)]
pub struct AdapterFile {
    /// Name used in requests: the file's stem.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Its mapped bytes.
    pub part: MappedPart,
    /// Factor for the adapter's output.
    pub scale: f32,
    gguf: Gguf,
}

impl AdapterFile {
    /// Opens the file that an option names.
    ///
    /// # Errors
    /// One line for the user.
    pub fn open(option: &AdapterOption) -> Result<Self, String> {
        let fail = |error: String| format!("{}: {error}", option.path.display());
        let file = MappedFile::open(&option.path).map_err(|error| fail(error.to_string()))?;
        let (start, length) = (0, file.len());
        let name = option.path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Self::of_part(name, &option.path, MappedPart { file, start, length }, option.scale)
    }

    /// The adapter in a part of a file.
    ///
    /// # Errors
    /// One line for the user.
    pub fn of_part(name: String, path: &Path, part: MappedPart, scale: f32) -> Result<Self, String> {
        let gguf = Gguf::parse(part.bytes()).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { name, path: path.to_owned(), part, scale, gguf })
    }

    /// The adapter's tensors, for a model of this architecture; `part` is the file's index among the mapped parts.
    ///
    /// # Errors
    /// One line for the user: the file is not an adapter for the architecture, or is incomplete.
    pub fn adapter(&self, architecture: &str, part: usize) -> Result<Adapter, String> {
        let fail = |line: String| format!("{}: {line}", self.path.display());
        let alpha = check(&self.gguf.metadata, architecture).map_err(fail)?;
        let mut table = TensorTable::new(&self.gguf.tensors);
        let mut tensors = BTreeMap::new();
        for name in self.changed().map_err(fail)? {
            let (a, b) = factors(&mut table, &name).map_err(|error| fail(error.to_string()))?;
            let [a, b] = [a, b].map(|factor| WeightUse { part, ..factor });
            let rank = b.columns;
            // As in llama.cpp, an alpha of 0 means it is not set.
            let scale = if alpha == 0.0 { self.scale } else { self.scale * alpha / rank as f32 };
            tensors.insert(name, LowRank { a, b, scale });
        }
        Ok(Adapter { name: self.name.clone(), tensors })
    }

    /// Names of the tensors that it changes. Norms trained along with it are ignored, as in llama.cpp.
    fn changed(&self) -> Result<BTreeSet<String>, String> {
        let mut changed = BTreeSet::new();
        for tensor in self.gguf.tensors.iter().filter(|tensor| !tensor.name.ends_with("_norm.weight")) {
            let name = tensor.name.strip_suffix(".lora_a").or_else(|| tensor.name.strip_suffix(".lora_b"));
            let Some(name) = name else {
                return Err(format!("tensor `{}` is neither a .lora_a nor a .lora_b", tensor.name));
            };
            changed.insert(name.to_owned());
        }
        match changed.is_empty() {
            true => Err("the adapter has no tensors".to_owned()),
            false => Ok(changed),
        }
    }
}

/// `A` and `B` of a tensor. Those of the token table have rows for tokens in `A`, which is a table itself.
fn factors(table: &mut TensorTable<'_>, name: &str) -> Result<(WeightUse, WeightUse), ModelError> {
    let (a_name, b_name) = (format!("{name}.lora_a"), format!("{name}.lora_b"));
    let sizes = |tensor: &str| [0, 1, 2].map(|at| table.dimension(tensor, at).unwrap_or(0) as usize);
    let ([columns, rows, experts], [_, outputs, _]) = (sizes(&a_name), sizes(&b_name));
    if name == "token_embd.weight" {
        return Ok((table.table(&a_name, rows, columns)?, table.matrix(&b_name, outputs, columns)?));
    }
    Ok((table.stack(&a_name, experts, rows, columns)?, table.stack(&b_name, experts, outputs, rows)?))
}

/// Checks that the metadata are those of an adapter for the architecture, and returns its alpha.
fn check(metadata: &Metadata, architecture: &str) -> Result<f32, String> {
    let text = |key| metadata.get_str(key).map_err(|error| error.to_string());
    if text("general.type")? != Some("adapter") {
        return Err("it is not an adapter (general.type is not `adapter`); name models with -m".to_owned());
    }
    match text("adapter.type")? {
        Some("lora") => {}
        other => {
            return Err(format!("the adapter has type `{}`; only `lora` is supported", other.unwrap_or("unknown")));
        }
    }
    let made_for = text("general.architecture")?.unwrap_or("");
    if made_for != architecture {
        return Err(format!("the adapter was made for `{made_for}`, the model is `{architecture}`"));
    }
    if metadata.contains("adapter.alora.invocation_tokens") {
        return Err("the adapter is activated by invocation tokens (aLoRA), which is not supported yet".to_owned());
    }
    let alpha = metadata.get_f32("adapter.lora.alpha").map_err(|error| error.to_string())?.unwrap_or(0.0);
    if !alpha.is_finite() {
        return Err(format!("adapter.lora.alpha is {alpha}"));
    }
    Ok(alpha)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_a_file_with_an_optional_scale() {
        let parse = |text: &str| text.parse::<AdapterOption>().map(|option| (option.path, option.scale));
        assert_eq!(parse("a.gguf"), Ok(("a.gguf".into(), 1.0)));
        assert_eq!(parse("a.gguf=-0.5"), Ok(("a.gguf".into(), -0.5)));
        assert_eq!(parse("of=two.gguf"), Ok(("of=two.gguf".into(), 1.0)), "a file name may contain `=`");
        assert_eq!(parse("of=two.gguf=2"), Ok(("of=two.gguf".into(), 2.0)));
        assert!(parse("=1").is_err() && parse("").is_err() && parse("a.gguf=inf").is_err());
    }
}
