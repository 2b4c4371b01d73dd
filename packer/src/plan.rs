//! What will be packed: every input opened, read where it is small, and validated. Nothing is written here.

use std::fs::File;
use std::path::{Path, PathBuf};

use satchel_container::{
    Bundle, Defaults, Digest, EntryKind, EntryRecord, FORMAT, Manifest, ModelFacts, Settings, directory::Method, layout,
};
use satchel_gguf::Gguf;

use crate::files::{disk_bytes, read_at};
use crate::{Error, Part, model};

/// Most bytes of page and licences together; they are held in memory while the bundle is written.
const SMALL_ENTRIES_MAX_BYTES: u64 = 64 << 20;

/// What to pack.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The executable to stand in front: any `satchel`, also one that carries a bundle.
    pub program: PathBuf,
    /// A GGUF, or any part of a split one.
    pub model: PathBuf,
    /// What to call the model; by default what its file says.
    pub name: Option<String>,
    /// Used when a conversation has no system message.
    pub system_prompt: Option<String>,
    /// Defaults for sampling and serving.
    pub settings: Settings,
    /// Licence texts to carry, by their file names.
    pub licenses: Vec<PathBuf>,
    /// Licence texts that the caller has: name and text.
    pub own_licenses: Vec<(String, Vec<u8>)>,
    /// A folder with an `index.html` that replaces `own_page`.
    pub ui: Option<PathBuf>,
    /// The page that the caller has: paths below the page's root, and content.
    pub own_page: Vec<(String, Vec<u8>)>,
    /// Program and version, for the manifest.
    pub packed_by: String,
}

/// A bundle that can be written.
#[derive(Debug)]
pub struct Plan {
    pub(crate) program: Program,
    pub(crate) parts: Vec<Part>,
    pub(crate) small: Vec<Small>,
    pub(crate) facts: ModelFacts,
    gguf: Gguf,
    name: String,
    packed_by: String,
    defaults: Defaults,
    inputs: Vec<PathBuf>,
}

/// The executable, or the first bytes of a packed file.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) bytes: u64,
    pub(crate) disk_bytes: u64,
    /// What a packed file says its program's hash is.
    pub(crate) sha256: Option<Digest>,
}

/// An entry that is held in memory: a page's file or a licence.
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
    /// One line about the first input that cannot be packed.
    pub fn new(request: &Request) -> Result<Self, Error> {
        let program = Program::open(&request.program)?;
        let (parts, gguf) = model::open(&request.model)?;
        let facts = model::facts(&gguf).map_err(|source| Error::Model { path: request.model.clone(), source })?;
        let name = request.name.clone().unwrap_or_else(|| model::name(&facts, &request.model));
        satchel_container::manifest::check_name(&name).map_err(Error::Unwritable)?;
        request.settings.check().map_err(Error::Unwritable)?;
        let (small, read) = read_small(request)?;
        let mut inputs = vec![request.program.clone()];
        inputs.extend(parts.iter().map(|part| part.path.clone()));
        inputs.extend(read);
        let defaults = Defaults { system_prompt: request.system_prompt.clone(), settings: request.settings.clone() };
        let plan =
            Self { program, parts, small, facts, gguf, name, packed_by: request.packed_by.clone(), defaults, inputs };
        // The manifest with any hashes is as long as the real one: whatever does not fit shows here.
        plan.manifest(&vec![Digest([0; 32]); plan.parts.len()]).to_bytes().map_err(written_wrong)?;
        Ok(plan)
    }

    /// The model's validated metadata and tensor table.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// The model's files in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What the model will be called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Size of the model for people.
    pub fn shown_size(&self) -> String {
        model::shown(&self.parts)
    }

    /// Every file that is read.
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

    /// The manifest, with the hashes of the model's parts.
    pub(crate) fn manifest(&self, hashes: &[Digest]) -> Manifest {
        let parts = self.parts.iter().zip(hashes).map(|(part, sha256)| EntryRecord {
            name: part.entry_name.clone(),
            kind: EntryKind::Model,
            size: part.bytes,
            sha256: *sha256,
        });
        Manifest {
            format: FORMAT,
            name: self.name.clone(),
            packed_by: self.packed_by.clone(),
            model: Some(self.facts.clone()),
            defaults: self.defaults.clone(),
            entries: parts.chain(self.small.iter().map(|small| small.record.clone())).collect(),
        }
    }
}

/// A refusal by the container crate of what is to be written.
pub(crate) fn written_wrong(error: satchel_container::Error) -> Error {
    Error::Unwritable(error.to_string())
}

impl Program {
    fn open(path: &Path) -> Result<Self, Error> {
        let mut file = File::open(path).map_err(Error::file(path))?;
        let facts = file.metadata().map_err(Error::file(path))?;
        let mut head = [0; 64];
        let read = if facts.is_file() { read_at(&file, &mut head, 0).map_err(Error::file(path))? } else { 0 };
        if !satchel_container::is_executable(&head[..read]) {
            return Err(Error::unfit(path, "is not an executable: give a satchel, or a file that satchel packed"));
        }
        let bundle = Bundle::open_from(&mut file).map_err(Error::bundle(path))?;
        let disk_bytes = disk_bytes(&file).map_err(Error::file(path))?;
        let (bytes, sha256) = match bundle {
            Some(bundle) => (bundle.program_bytes, Some(bundle.program_sha256)),
            None => (facts.len(), None),
        };
        Ok(Self { path: path.to_owned(), file, bytes, disk_bytes: disk_bytes.min(bytes), sha256 })
    }
}

/// Page and licences, and the files they were read from.
fn read_small(request: &Request) -> Result<(Vec<Small>, Vec<PathBuf>), Error> {
    let mut room = SMALL_ENTRIES_MAX_BYTES;
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
    fn new(name: String, kind: EntryKind, bytes: Vec<u8>) -> Self {
        let record = EntryRecord { name, kind, size: bytes.len() as u64, sha256: Digest::of(&bytes) };
        let crc32 = crc32fast::hash(&bytes);
        let (method, stored) = layout::compress(bytes);
        Self { record, crc32, method, stored }
    }
}

fn read_small_file(path: &Path, room: &mut u64) -> Result<Vec<u8>, Error> {
    use std::io::Read;
    let file = File::open(path).map_err(Error::file(path))?;
    if !file.metadata().map_err(Error::file(path))?.is_file() {
        return Err(Error::unfit(path, "is not a regular file"));
    }
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
        // A link could lead out of the folder, and in a circle.
        if kind.is_dir() {
            collect(&path, &name, files)?;
        } else if kind.is_file() {
            files.push((name, path));
        } else {
            return Err(Error::unfit(&path, "is neither a file nor a folder: a page holds no links"));
        }
        if files.len() >= satchel_container::ENTRIES_MAX {
            let most = satchel_container::ENTRIES_MAX;
            return Err(Error::unfit(folder, format!("the page has more than {most} files")));
        }
    }
    Ok(())
}
