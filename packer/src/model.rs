//! Opens the model's files and validates their headers before anything is written.
//!
//! Only headers are read (metadata and tensor table), not tensor data. Any part of a split model stands for all of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use satchel_container::{Digest, Entry, ModelFacts};
use satchel_gguf::{Gguf, PartName};

use crate::files::{disk_bytes, open_regular, read_exact_at};
use crate::output::folder_of;
use crate::verify::PackedFile;
use crate::{Error, error};

/// First guess at a header's length; it grows until the tensor table fits.
const HEAD_BYTES: u64 = 4 << 20;
/// One byte past the limit, so that the parser reports a header that exceeds it.
const HEAD_MAX_BYTES: u64 = satchel_gguf::limits::HEADER_BYTES as u64 + 1;

/// One file of the model.
#[derive(Debug)]
pub struct Part {
    /// The file it is read from.
    pub path: PathBuf,
    /// Name of its entry in the bundle.
    pub entry_name: String,
    pub(crate) file: File,
    /// Offset in the file: 0 unless the file is a packed one.
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) disk_bytes: u64,
    /// Expected hash, if known.
    pub(crate) sha256: Option<Digest>,
    file_bytes: u64,
    modified: Option<SystemTime>,
}

impl Part {
    fn open(path: PathBuf, entry_name: String) -> Result<Self, Error> {
        let file = open_regular(&path, "give a GGUF file")?;
        let facts = file.metadata().map_err(Error::file(&path))?;
        let disk_bytes = disk_bytes(&file).map_err(Error::file(&path))?;
        let bytes = facts.len();
        let modified = facts.modified().ok();
        Ok(Self { path, entry_name, file, offset: 0, bytes, disk_bytes, sha256: None, file_bytes: bytes, modified })
    }

    /// A part that is an entry of a packed file.
    pub(crate) fn of_entry(packed: &PackedFile, entry: &Entry) -> Result<Self, Error> {
        let facts = packed.file.metadata().map_err(Error::file(&packed.path))?;
        let on_disk = disk_bytes(&packed.file).map_err(Error::file(&packed.path))?;
        Ok(Self {
            path: packed.path.clone(),
            entry_name: entry.name.clone(),
            file: packed.file.try_clone().map_err(Error::file(&packed.path))?,
            offset: entry.offset,
            bytes: entry.size,
            disk_bytes: on_disk.min(entry.size),
            sha256: Some(entry.sha256),
            file_bytes: facts.len(),
            modified: facts.modified().ok(),
        })
    }

    /// Reads and validates metadata and tensor table, without mapping the file or reading tensor data.
    fn parse(&self) -> Result<Gguf, Error> {
        let mut head = Vec::new();
        let mut head_bytes = HEAD_BYTES;
        loop {
            let have = head.len();
            let want = head_bytes.min(self.bytes);
            head.resize(want as usize, 0);
            read_exact_at(&self.file, &mut head[have..], have as u64).map_err(Error::file(&self.path))?;
            match Gguf::parse_head(&head, self.bytes) {
                Err(satchel_gguf::Error::Ended { .. }) if want < self.bytes && want < HEAD_MAX_BYTES => {
                    head_bytes = (head_bytes * 4).min(HEAD_MAX_BYTES);
                }
                done => return done.map_err(|source| Error::Model { path: self.path.clone(), source }),
            }
        }
    }

    /// Checks that the file's length and modification time are those at validation.
    pub(crate) fn check_unchanged(&self) -> Result<(), Error> {
        let facts = self.path.metadata().map_err(Error::file(&self.path))?;
        if facts.len() != self.file_bytes || facts.modified().ok() != self.modified {
            return Err(Error::unfit(&self.path, "changed while it was being packed: pack it again"));
        }
        Ok(())
    }
}

/// All parts of the model that `path` belongs to, and their joined header.
pub(crate) fn open(path: &Path) -> Result<(Vec<Part>, Gguf), Error> {
    let file_name = path.file_name().and_then(|name| name.to_str());
    let given = Part::open(path.to_owned(), "model.gguf".to_owned())?;
    let parsed = given.parse()?;
    let refused = |source| Error::Model { path: path.to_owned(), source };
    let Some(split) = parsed.split().map_err(refused)?.filter(|split| split.count > 1) else {
        return Ok((vec![given], parsed));
    };
    let name = file_name.and_then(PartName::recognise).filter(|name| name.is_of(&split));
    let Some(name) = name else { return Err(Error::unfit(path, split.misnamed())) };
    let entries = PartName { prefix: "model".to_owned(), ..name };
    let mut parts = Vec::new();
    let mut parsed = Vec::new();
    for (file_name, entry_name) in name.siblings().zip(entries.siblings()) {
        let part_path = folder_of(path).join(file_name);
        let part = Part::open(part_path.clone(), entry_name).map_err(|error| match error {
            Error::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Error::unfit(
                &part_path,
                format!("this part of {} is missing: put all of them in one folder", path.display()),
            ),
            other => other,
        })?;
        parsed.push(part.parse()?);
        parts.push(part);
    }
    Ok((parts, Gguf::join(parsed).map_err(refused)?))
}

/// Opens an adapter as the entry that it will be in the bundle.
pub(crate) fn open_adapter(path: &Path) -> Result<Part, Error> {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let stem = stem.ok_or_else(|| Error::unfit(path, "its name is not Unicode: rename it"))?;
    let name = format!("adapters/{stem}.gguf");
    satchel_container::name::check(&name).map_err(|reason| Error::unfit(path, reason))?;
    let part = Part::open(path.to_owned(), name)?;
    part.parse()?;
    Ok(part)
}

/// What the manifest says about the model.
pub(crate) fn facts(gguf: &Gguf) -> Result<ModelFacts, satchel_gguf::Error> {
    let text = |key| Ok::<_, satchel_gguf::Error>(gguf.metadata.get_str(key)?.map(str::to_owned));
    let architecture = gguf.metadata.require_str("general.architecture")?.to_owned();
    let mut block_types = BTreeMap::new();
    for tensor in &gguf.tensors {
        *block_types.entry(tensor.ty.name().to_owned()).or_insert(0) += 1;
    }
    Ok(ModelFacts {
        name: text("general.name")?,
        parameters: gguf.parameters(),
        context_length: gguf.metadata.get_u64(&format!("{architecture}.context_length"))?,
        block_types,
        license: text("general.license")?,
        size_bytes: gguf.part_bytes.iter().sum(),
        architecture,
    })
}

/// Default name of the model: `general.name`, or the file's stem.
pub(crate) fn name(facts: &ModelFacts, first: &Path) -> String {
    let printable = |name: &str| {
        name.chars().map(|c| if satchel_container::name::is_deceptive(c) { ' ' } else { c }).collect::<String>()
    };
    let stem = first.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = match PartName::recognise(&format!("{stem}.gguf")) {
        Some(part) => part.prefix,
        None => stem,
    };
    let names = [facts.name.clone().unwrap_or_default(), stem, "model".to_owned()];
    let mut fitting = names.iter().map(|name| printable(name).trim().to_owned());
    fitting.find(|name| satchel_container::manifest::check_name(name).is_ok()).unwrap_or_default()
}

/// The model's total size for display.
pub(crate) fn shown(parts: &[Part]) -> String {
    error::shown_bytes(parts.iter().map(|part| part.bytes).sum())
}
