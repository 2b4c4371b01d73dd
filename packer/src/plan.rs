//! What will be packed: every input opened and validated, small ones read. Nothing is written here, and the plan does not
//! depend on the program: the same payload goes with any of them.

use std::path::{Path, PathBuf};

use satchel_container::{
    Defaults, Digest, EntryKind, EntryRecord, FORMAT, Manifest, SMALL_ENTRIES_MAX_BYTES, Settings,
    directory::{Method, Record},
    layout,
};

use crate::files::open_regular;
use crate::verify::PackedFile;
use crate::{Error, Part, model};

/// What to pack.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// A GGUF, or any part of a split one.
    pub model: PathBuf,
    /// Adapters to include, each with its scale.
    pub adapters: Vec<(PathBuf, f32)>,
    /// Name of the model; taken from its file if `None`.
    pub name: Option<String>,
    /// Used when a conversation has no system message.
    pub system_prompt: Option<String>,
    /// Defaults for sampling and serving.
    pub settings: Settings,
    /// Licence files to include, under their file names.
    pub licenses: Vec<PathBuf>,
    /// Licence texts held by the caller: name and text.
    pub own_licenses: Vec<(String, Vec<u8>)>,
    /// A folder with an `index.html` that replaces `own_page`.
    pub ui: Option<PathBuf>,
    /// The page held by the caller: paths below the page's root, and content.
    pub own_page: Vec<(String, Vec<u8>)>,
    /// Program and version, for the manifest.
    pub packed_by: String,
}

/// A payload ready to be written after any program.
#[derive(Debug)]
pub struct Plan {
    pub(crate) parts: Vec<Part>,
    pub(crate) small: Vec<Small>,
    /// Complete but for the hashes of the weights, which are computed while copying.
    manifest: Manifest,
    /// Hash of the payload, if it is taken over from a packed file.
    kept: Option<Digest>,
    inputs: Vec<PathBuf>,
}

/// An entry that is held in memory: a page's file, a licence or a computed state.
#[derive(Debug)]
pub(crate) struct Small {
    pub(crate) record: EntryRecord,
    pub(crate) crc32: u32,
    pub(crate) method: Method,
    pub(crate) stored: Vec<u8>,
}

impl Plan {
    /// Opens and validates everything that `request` names.
    ///
    /// # Errors
    /// The first input that cannot be packed.
    pub fn new(request: &Request) -> Result<Self, Error> {
        let (mut parts, gguf) = model::open(&request.model)?;
        let facts = model::facts(&gguf).map_err(|source| Error::Model { path: request.model.clone(), source })?;
        let name = request.name.clone().unwrap_or_else(|| model::name(&facts, &request.model));
        satchel_container::manifest::check_name(&name).map_err(Error::Unwritable)?;
        request.settings.check().map_err(Error::Unwritable)?;
        let (small, read) = read_small(request)?;
        let mut inputs: Vec<_> = parts.iter().map(|part| part.path.clone()).collect();
        inputs.extend(read);
        let models = parts.len();
        for (path, _) in &request.adapters {
            let adapter = model::open_adapter(path)?;
            if parts.iter().any(|other| other.entry_name.eq_ignore_ascii_case(&adapter.entry_name)) {
                return Err(Error::unfit(path, "there is another adapter of this name: rename it"));
            }
            inputs.push(path.clone());
            parts.push(adapter);
        }
        let unknown = Digest([0; 32]);
        let scales = request.adapters.iter().map(|(_, scale)| Some(*scale).filter(|scale| *scale != 1.0));
        let scales = std::iter::repeat_n(None, models).chain(scales);
        let weights = parts.iter().zip(scales).enumerate().map(|(at, (part, scale))| EntryRecord {
            name: part.entry_name.clone(),
            kind: if at < models { EntryKind::Model } else { EntryKind::Adapter },
            size: part.bytes,
            sha256: unknown,
            scale,
        });
        let manifest = Manifest {
            format: FORMAT,
            name,
            packed_by: request.packed_by.clone(),
            model: Some(facts),
            defaults: Defaults { system_prompt: request.system_prompt.clone(), settings: request.settings.clone() },
            beside: None,
            entries: weights.chain(small.iter().map(|small| small.record.clone())).collect(),
        };
        // Hashes do not change the manifest's length, so its limits can be checked now.
        manifest.to_bytes().map_err(written_wrong)?;
        Ok(Self { parts, small, manifest, kept: None, inputs })
    }

    /// The unchanged payload of a packed file, for use with another program.
    ///
    /// # Errors
    /// The file cannot be read, its small entries are damaged, or it carries no model.
    pub fn kept(packed: &PackedFile) -> Result<Self, Error> {
        let bundle = &packed.bundle;
        let path = &packed.path;
        if bundle.model_entries().is_empty() {
            return Err(Error::unfit(path, "carries no model: give a file that `satchel pack` made"));
        }
        let weights = bundle.model_entries().iter().chain(bundle.adapter_entries().map(|(entry, _)| entry));
        let parts = weights.map(|entry| Part::of_entry(packed, entry));
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        let mut small = Vec::new();
        for entry in &bundle.entries()[parts.len()..] {
            let stored = packed.stored(entry).map_err(Error::file(path))?;
            let crc32 = crc32fast::hash(&entry.decode(&stored).map_err(Error::bundle(path))?);
            let record = EntryRecord {
                name: entry.name.clone(),
                kind: entry.kind,
                size: entry.size,
                sha256: entry.sha256,
                scale: None,
            };
            small.push(Small { record, crc32, method: entry.method, stored });
        }
        let manifest = bundle.manifest.clone();
        if Digest::of(&manifest.to_bytes().map_err(written_wrong)?) != bundle.payload_sha256 {
            return Err(Error::unfit(
                path,
                "its manifest was not written by satchel, so the payload's hash cannot be preserved",
            ));
        }
        Ok(Self { parts, small, manifest, kept: Some(bundle.payload_sha256), inputs: packed.files() })
    }

    /// A bundle of programs for other platforms, without a model.
    pub(crate) fn of_runtimes(small: Vec<Small>, packed_by: &str) -> Self {
        let manifest = Manifest {
            format: FORMAT,
            name: "satchel".to_owned(),
            packed_by: packed_by.to_owned(),
            model: None,
            defaults: Defaults::default(),
            beside: None,
            entries: small.iter().map(|small| small.record.clone()).collect(),
        };
        Self { parts: Vec::new(), small, manifest, kept: None, inputs: Vec::new() }
    }

    /// Adds what the caller has computed of the model in advance, `states/NAME`. Its bytes mean something to the engine only.
    ///
    /// # Errors
    /// There is too much of it, or there is one of this name.
    pub fn carry_state(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let state = Small::stored(format!("states/{name}"), EntryKind::State, bytes);
        let mut manifest = self.manifest.clone();
        manifest.entries.push(state.record.clone());
        manifest.to_bytes().map_err(written_wrong)?;
        self.manifest = manifest;
        self.small.push(state);
        Ok(())
    }

    /// Name that the model will have.
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// The model's size for display.
    pub fn shown_size(&self) -> String {
        model::shown(&self.parts)
    }

    /// Every input file.
    pub(crate) fn inputs(&self) -> &[PathBuf] {
        &self.inputs
    }

    /// Items of the layout: the model's parts, then the small entries.
    pub(crate) fn items(&self) -> Vec<layout::Item> {
        let parts = self.parts.iter().map(|part| layout::Item {
            name: part.entry_name.clone(),
            stored_bytes: part.bytes,
            aligned: true,
        });
        let small = self.small.iter().map(|small| layout::Item {
            name: small.record.name.clone(),
            stored_bytes: small.stored.len() as u64,
            aligned: false,
        });
        parts.chain(small).collect()
    }

    /// The manifest with the hashes of the weights, in the order of `parts`.
    pub(crate) fn manifest(&self, hashes: &[Digest]) -> Manifest {
        let mut manifest = self.manifest.clone();
        for (entry, sha256) in manifest.entries.iter_mut().zip(hashes) {
            entry.sha256 = *sha256;
        }
        manifest
    }

    /// Replaces the manifest; the entries stay the same.
    pub(crate) fn set_manifest(&mut self, manifest: Manifest) {
        self.manifest = manifest;
    }

    /// The hash that the payload must have, if known.
    pub(crate) fn kept_sha256(&self) -> Option<Digest> {
        self.kept
    }
}

/// For `map_err`: the container crate refuses to write the bundle.
pub(crate) fn written_wrong(error: satchel_container::Error) -> Error {
    Error::Unwritable(error.to_string())
}

/// Page and licences, and the files they were read from.
fn read_small(request: &Request) -> Result<(Vec<Small>, Vec<PathBuf>), Error> {
    let own = request.own_licenses.iter().map(|(_, text)| text.len() as u64);
    let own_page = request.own_page.iter().map(|(_, content)| content.len() as u64);
    let own: u64 = own.chain(own_page.filter(|_| request.ui.is_none())).sum();
    let mut room = SMALL_ENTRIES_MAX_BYTES.saturating_sub(own);
    let mut small = Vec::new();
    let mut read = Vec::new();
    if let Some(folder) = &request.ui {
        for (name, path) in page_files(folder)? {
            small.push(Small::new(name, EntryKind::Page, read_small_file(&path, &mut room)?));
            read.push(path);
        }
    } else {
        for (path, content) in &request.own_page {
            small.push(Small::new(format!("ui/{path}"), EntryKind::Page, content.clone()));
        }
    }
    for (name, text) in &request.own_licenses {
        small.push(Small::new(format!("licenses/{name}"), EntryKind::License, text.clone()));
    }
    for path in &request.licenses {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Error::unfit(path, "its name is not Unicode: rename it"))?;
        let name = format!("licenses/{name}");
        if small.iter().any(|other: &Small| other.record.name.eq_ignore_ascii_case(&name)) {
            return Err(Error::unfit(path, format!("there is another licence of this name, {name}: rename it")));
        }
        small.push(Small::new(name, EntryKind::License, read_small_file(path, &mut room)?));
        read.push(path.clone());
    }
    Ok((small, read))
}

impl Small {
    pub(crate) fn new(name: String, kind: EntryKind, bytes: Vec<u8>) -> Self {
        let plain = Self::stored(name, kind, bytes);
        let (method, stored) = layout::compress(plain.stored);
        Self { method, stored, ..plain }
    }

    /// An entry that is read where it lies.
    fn stored(name: String, kind: EntryKind, bytes: Vec<u8>) -> Self {
        let record = EntryRecord { name, kind, size: bytes.len() as u64, sha256: Digest::of(&bytes), scale: None };
        Self { record, crc32: crc32fast::hash(&bytes), method: Method::Stored, stored: bytes }
    }

    /// Its directory record at `header_offset`.
    pub(crate) fn placed(&self, header_offset: u64) -> Record {
        Record {
            name: self.record.name.clone(),
            method: self.method,
            crc32: self.crc32,
            stored_bytes: self.stored.len() as u64,
            size: self.record.size,
            header_offset,
        }
    }
}

fn read_small_file(path: &Path, room: &mut u64) -> Result<Vec<u8>, Error> {
    use std::io::Read;
    let file = open_regular(path, "give a file")?;
    let mut bytes = Vec::new();
    file.take(*room + 1).read_to_end(&mut bytes).map_err(Error::file(path))?;
    *room = room.checked_sub(bytes.len() as u64).ok_or_else(|| {
        let most = crate::error::shown_bytes(SMALL_ENTRIES_MAX_BYTES);
        Error::unfit(path, format!("page and licences together are larger than {most}"))
    })?;
    Ok(bytes)
}

/// The files of a page, sorted by the name of their entry.
fn page_files(folder: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let mut files = Vec::new();
    collect(folder, "ui", &mut files)?;
    if !files.iter().any(|(name, _)| name == "ui/index.html") {
        return Err(Error::unfit(folder, "has no index.html: give the folder of a built page"));
    }
    files.sort();
    Ok(files)
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> Result<(), Error> {
    for entry in folder.read_dir().map_err(Error::file(folder))? {
        let entry = entry.map_err(Error::file(folder))?;
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| Error::unfit(&path, "its name is not Unicode: rename it"))?;
        let name = format!("{prefix}/{name}");
        satchel_container::name::check(&name).map_err(|reason| Error::unfit(&path, reason))?;
        let kind = entry.file_type().map_err(Error::file(&path))?;
        // A link could point outside of the folder, or form a cycle.
        if kind.is_dir() {
            collect(&path, &name, files)?;
        } else if kind.is_file() {
            files.push((name, path));
        } else {
            return Err(Error::unfit(&path, "is neither a file nor a folder: a page must not contain links"));
        }
        if files.len() >= satchel_container::ENTRIES_MAX {
            let most = satchel_container::ENTRIES_MAX;
            return Err(Error::unfit(folder, format!("the page has more than {most} files")));
        }
    }
    Ok(())
}
