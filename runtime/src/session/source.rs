//! Where a model comes from: a GGUF, the parts of a split GGUF, or the bundle of a packed file.
//!
//! Opening maps files and reads their headers; no weight is touched.

use std::path::{Path, PathBuf};

use satchel_container::{Beside, Bundle, Manifest};
use satchel_gguf::{Gguf, PartName};

use super::adapters::{AdapterFile, AdapterOption};
use super::open::OpenOptions;
use crate::device::MappedPart;
use crate::mapping::MappedFile;
use crate::own_file::own_file;
use crate::plan::AdapterSet;

/// A model whose files are mapped and whose headers are valid.
#[derive(Debug)]
pub struct ModelSource {
    /// The given file, or the running executable.
    pub path: PathBuf,
    /// The files (or parts of one) that hold the tensors, in the order of `TensorInfo::part`.
    pub parts: Vec<MappedPart>,
    /// Metadata and tensor table of all parts.
    pub gguf: Gguf,
    /// Adapters of the bundle, followed by those given as options.
    pub adapters: Vec<AdapterFile>,
    /// The bundle that contains it, if any.
    pub packed: Option<Packed>,
}

/// A bundle and the file that carries it.
#[derive(Debug)]
pub struct Packed {
    /// The file that holds the payload.
    pub file: MappedFile,
    /// Its directory and manifest.
    pub bundle: Bundle,
}

impl Packed {
    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.bundle.manifest
    }
}

/// Why no model could be opened. Each message is one line for the user.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SourceError {
    #[error("{path}: {error}")]
    Open { path: PathBuf, error: std::io::Error },
    #[error("{path}: {error}")]
    Gguf { path: PathBuf, error: satchel_gguf::Error },
    #[error("{path}: {error}")]
    Bundle { path: PathBuf, error: satchel_container::Error },
    #[error("{path}: {line}")]
    Beside { path: PathBuf, line: String },
    #[error("{0}")]
    Adapter(String),
    #[error("{path}: {line}")]
    Part { path: PathBuf, line: String },
    #[error("{path}: this packed file carries no model; pack one with: satchel pack MODEL.gguf -o FILE")]
    EmptyBundle { path: PathBuf },
    #[error(
        "there is no model in this program; name one with -m MODEL.gguf, or pack one with: satchel pack MODEL.gguf -o FILE"
    )]
    NoModel,
}

/// The bundle of the running program, if it has one.
pub fn own_bundle() -> Result<Option<Packed>, SourceError> {
    let path = own_file().map_err(|error| SourceError::Open { path: PathBuf::from("the running program"), error })?;
    Packed::of(MappedFile::open(&path).map_err(|error| SourceError::Open { path, error })?)
}

impl Packed {
    /// The bundle of a file, or of its payload if that is a separate file.
    fn of(file: MappedFile) -> Result<Option<Self>, SourceError> {
        let refused = |path: &Path| {
            let path = path.to_owned();
            |error| SourceError::Bundle { path, error }
        };
        let Some(bundle) = Bundle::open(&file).map_err(refused(file.path()))? else { return Ok(None) };
        let Some(beside) = &bundle.manifest.beside else { return Ok(Some(Self { file, bundle })) };
        let path = Beside::path(file.path());
        let unusable = |line: String| SourceError::Beside { path: file.path().to_owned(), line };
        let payload = MappedFile::open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => unusable(Beside::missing(&path)),
            _ => SourceError::Open { path: path.clone(), error },
        })?;
        let found = Bundle::open(&payload).map_err(refused(&path))?;
        let found = found.ok_or_else(|| unusable(format!("{} is not a payload", path.display())))?;
        beside.check(&found).map_err(|line| unusable(format!("{}: {line}", path.display())))?;
        Ok(Some(Self { file: payload, bundle: found }))
    }
}

impl ModelSource {
    /// Opens the model at `path`, or the running executable's own.
    pub fn open(path: Option<&Path>) -> Result<Self, SourceError> {
        match path {
            Some(path) => Self::open_file(path),
            // A release has a bundle of runtimes for other platforms, but no model.
            None => own_bundle()?
                .filter(|packed| packed.manifest().model.is_some())
                .ok_or(SourceError::NoModel)
                .and_then(Self::from_packed),
        }
    }

    /// Opens the model and the adapters that the options name.
    pub fn of(options: &OpenOptions) -> Result<Self, SourceError> {
        Self::open(options.model.as_deref())?.with_adapters(&options.adapters)
    }

    /// Adds adapters.
    pub fn with_adapters(mut self, options: &[AdapterOption]) -> Result<Self, SourceError> {
        for option in options {
            let adapter = AdapterFile::open(option).map_err(SourceError::Adapter)?;
            if self.adapters.iter().any(|other| other.name == adapter.name) {
                let (path, name) = (option.path.display(), &adapter.name);
                let line =
                    format!("{path}: there is another adapter named `{name}`; requests choose by name: rename it");
                return Err(SourceError::Adapter(line));
            }
            self.adapters.push(adapter);
        }
        Ok(self)
    }

    /// All adapters: the default when none is chosen.
    pub fn all_adapters(&self) -> AdapterSet {
        AdapterSet::first(self.adapters.len().min(AdapterSet::MOST))
    }

    /// The mapped parts of the model, then of the adapters, in the order of a plan's part indices.
    pub fn mapped_parts(&self) -> Vec<MappedPart> {
        self.parts.iter().chain(self.adapters.iter().map(|adapter| &adapter.part)).cloned().collect()
    }

    /// Total bytes of [`Self::mapped_parts`].
    pub fn mapped_bytes(&self) -> u64 {
        self.model_bytes() + self.adapters.iter().map(|adapter| adapter.part.length as u64).sum::<u64>()
    }

    fn open_file(path: &Path) -> Result<Self, SourceError> {
        let file = MappedFile::open(path).map_err(|error| SourceError::Open { path: path.to_owned(), error })?;
        if !file.starts_with(b"GGUF")
            && let Some(packed) = Packed::of(file.clone())?
        {
            return Self::from_packed(packed);
        }
        let first = Gguf::parse(&file).map_err(|error| SourceError::Gguf { path: path.to_owned(), error })?;
        let name = path.file_name().and_then(|name| name.to_str()).and_then(PartName::recognise);
        let split = first.split().map_err(|error| SourceError::Gguf { path: path.to_owned(), error })?;
        let Some(split) = split.filter(|split| split.count > 1) else {
            let length = file.len();
            let parts = vec![MappedPart { file, start: 0, length }];
            return Ok(Self { path: path.to_owned(), parts, gguf: first, adapters: Vec::new(), packed: None });
        };
        let Some(name) = name.filter(|name| name.is_of(&split)) else {
            return Err(SourceError::Part { path: path.to_owned(), line: split.misnamed() });
        };
        let mut parts = Vec::new();
        for sibling in name.siblings().map(|name| path.with_file_name(name)) {
            let file = MappedFile::open(&sibling).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    let line = format!("this part of {} is missing: put all of them in one folder", path.display());
                    SourceError::Part { path: sibling.clone(), line }
                }
                _ => SourceError::Open { path: sibling.clone(), error },
            })?;
            let length = file.len();
            parts.push(MappedPart { file, start: 0, length });
        }
        Self::from_parts(path, parts, None)
    }

    fn from_packed(packed: Packed) -> Result<Self, SourceError> {
        let path = packed.file.path().to_owned();
        let parts: Vec<MappedPart> = packed
            .bundle
            .model_entries()
            .iter()
            .map(|entry| MappedPart {
                file: packed.file.clone(),
                // `Bundle::open` checked that the range lies inside the file.
                start: entry.offset as usize,
                length: entry.size as usize,
            })
            .collect();
        if parts.is_empty() {
            return Err(SourceError::EmptyBundle { path });
        }
        let adapters: Vec<_> = packed
            .bundle
            .adapter_entries()
            .map(|(entry, scale)| {
                let name = entry.name.trim_start_matches("adapters/").trim_end_matches(".gguf").to_owned();
                let (start, length) = (entry.offset as usize, entry.size as usize);
                AdapterFile::of_part(name, &path, MappedPart { file: packed.file.clone(), start, length }, scale)
            })
            .collect::<Result<_, _>>()
            .map_err(SourceError::Adapter)?;
        Ok(Self { adapters, ..Self::from_parts(&path, parts, Some(packed))? })
    }

    fn from_parts(path: &Path, parts: Vec<MappedPart>, packed: Option<Packed>) -> Result<Self, SourceError> {
        let fail = |error| SourceError::Gguf { path: path.to_owned(), error };
        let mut headers = Vec::with_capacity(parts.len());
        for part in &parts {
            headers.push(
                Gguf::parse(part.bytes())
                    .map_err(|error| SourceError::Gguf { path: part.file.path().to_owned(), error })?,
            );
        }
        let gguf = if headers.len() == 1 { headers.remove(0) } else { Gguf::join(headers).map_err(fail)? };
        Ok(Self { path: path.to_owned(), parts, gguf, adapters: Vec::new(), packed })
    }

    /// Total bytes of the model's parts.
    pub fn model_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.length as u64).sum()
    }

    /// The model's name: from the manifest, its metadata, or its file name.
    pub fn name(&self) -> String {
        if let Some(packed) = &self.packed {
            return packed.manifest().name.clone();
        }
        match self.gguf.metadata.get_str("general.name") {
            Ok(Some(name)) if !name.trim().is_empty() => name.to_owned(),
            _ => self.path.file_stem().map_or_else(|| "model".into(), |stem| stem.to_string_lossy().into_owned()),
        }
    }
}
