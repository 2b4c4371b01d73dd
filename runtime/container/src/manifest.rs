//! `manifest.json`: what a bundle holds. Independent of the program that carries it.
//!
//! It lists the SHA-256 of every entry, so its own SHA-256 is the hash of the whole payload. Unknown fields are errors:
//! they belong to a newer format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    Bundle, Digest, ENTRIES_MAX, Error, FORMAT, MANIFEST_MAX_BYTES, MANIFEST_NAME, RUNTIME_MAX_BYTES,
    SMALL_ENTRIES_MAX_BYTES, STATES_MAX_BYTES, Settings, name,
};

/// The manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format version, the same as the seal's.
    pub format: u32,
    /// The model's name, shown in the page's title and in `/v1/models`.
    pub name: String,
    /// Program and version that wrote it.
    pub packed_by: String,
    /// What the GGUF says about the model; `None` for a bundle without a model.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<ModelFacts>,
    /// Used unless a request or a flag overrides them.
    pub defaults: Defaults,
    /// Set when the payload is a separate file beside this one; see [`Beside`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub beside: Option<Beside>,
    /// Every other entry, in file order: the model's parts first.
    pub entries: Vec<EntryRecord>,
}

/// What the GGUF says about the model, for display only; the engine reads the GGUF itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFacts {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Number of elements of all tensors.
    pub parameters: u64,
    /// Context length it was trained for, in tokens.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub context_length: Option<u64>,
    /// Number of tensors by GGML type name.
    pub block_types: BTreeMap<String, u64>,
    /// `general.license`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub license: Option<String>,
    /// Total size of the model's parts.
    pub size_bytes: u64,
}

/// A payload in a file of its own, named like the program but with [`Beside::EXTENSION`]: Windows does not start an
/// executable of 4 GiB or more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beside {
    /// SHA-256 of that file's manifest.
    pub payload_sha256: Digest,
}

impl Beside {
    /// File extension, in place of `exe`.
    pub const EXTENSION: &str = "satchel";

    /// Path of the payload of the program at `program`.
    pub fn path(program: &Path) -> PathBuf {
        program.with_extension(Self::EXTENSION)
    }

    /// Checks that `payload` is the one that belongs to this program.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn check(&self, payload: &Bundle) -> Result<(), String> {
        let found = payload.payload_sha256;
        if found == self.payload_sha256 {
            return Ok(());
        }
        let wanted = self.payload_sha256;
        Err(format!(
            "this is the payload of another program (payload {found}, expected {wanted}): keep the two files that were packed together in one folder"
        ))
    }

    /// Error message for a missing payload.
    pub fn missing(path: &Path) -> String {
        format!("its payload is missing: put {}, which was packed together with this file, beside it", path.display())
    }
}

/// Defaults chosen when packing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Used when a conversation has no system message.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub system_prompt: Option<String>,
    /// Sampling and serving.
    #[serde(default)]
    pub settings: Settings,
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A GGUF, or one part of a split GGUF. Stored and aligned.
    Model,
    /// An adapter's GGUF, under `adapters/`. Stored and aligned, after the model.
    Adapter,
    /// A file of the page that replaces the built-in one, under `ui/`.
    Page,
    /// A licence text, under `licenses/`.
    License,
    /// A program for another platform, `runtimes/PLATFORM`.
    Runtime,
    /// What the engine has computed in advance, under `states/`. Stored; only the engine reads it, and checks whether it fits.
    State,
    /// `manifest.json`, which does not list itself.
    Manifest,
}

impl EntryKind {
    /// Whether it is used through a mapped file, and so must be stored uncompressed and aligned.
    pub fn is_weights(self) -> bool {
        matches!(self, Self::Model | Self::Adapter)
    }

    /// Whether it may be compressed.
    pub fn may_be_deflated(self) -> bool {
        !self.is_weights() && self != Self::State
    }
}

/// An entry as the manifest lists it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryRecord {
    /// Name in the zip directory.
    pub name: String,
    /// What it is for.
    pub kind: EntryKind,
    /// Uncompressed size in bytes.
    pub size: u64,
    /// SHA-256 of the uncompressed bytes.
    pub sha256: Digest,
    /// An adapter's scale; 1 if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scale: Option<f32>,
}

/// The error as one short line. It quotes the file, so control characters are replaced before it reaches a terminal.
fn shown(error: &serde_json::Error) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    error.to_string().chars().map(printable).take(200).collect()
}

/// Checks a model's name, which is shown in titles, lists and terminals.
///
/// # Errors
/// What is wrong with the name.
pub fn check_name(name: &str) -> Result<(), String> {
    let fits = !name.trim().is_empty() && name.len() <= 256 && !name.chars().any(name::is_deceptive);
    fits.then_some(())
        .ok_or_else(|| format!("the name {name:?} is empty, has control characters or more than 256 bytes"))
}

impl Manifest {
    /// The bytes of `manifest.json`.
    ///
    /// # Errors
    /// [`Error::Unwritable`] for a manifest that [`Manifest::parse`] would refuse.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        self.check().map_err(Error::Unwritable)?;
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|error| Error::Unwritable(error.to_string()))?;
        bytes.push(b'\n');
        if bytes.len() as u64 > MANIFEST_MAX_BYTES {
            return Err(Error::Unwritable(format!(
                "the manifest would have {} bytes, more than {MANIFEST_MAX_BYTES}: shorten the system prompt or the page",
                bytes.len()
            )));
        }
        Ok(bytes)
    }

    /// Parses `manifest.json`.
    ///
    /// # Errors
    /// What is wrong with it: not JSON, unknown fields, forbidden names.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| shown(&error))?;
        if manifest.format != FORMAT {
            return Err(format!("format {} where the seal says {FORMAT}", manifest.format));
        }
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), String> {
        if self.entries.len() >= ENTRIES_MAX {
            return Err(format!("{} entries, more than {}", self.entries.len(), ENTRIES_MAX - 1));
        }
        check_name(&self.name)?;
        self.defaults.settings.check()?;
        self.check_sizes()?;
        let mut names = name::Names::default();
        names.add(MANIFEST_NAME)?;
        let (mut models_over, mut adapters_over) = (false, false);
        for entry in &self.entries {
            name::check(&entry.name).map_err(|reason| format!("entry {:?}: {reason}", entry.name))?;
            names.add(&entry.name)?;
            let place = match entry.kind {
                EntryKind::Model => entry.name.ends_with(".gguf") && !entry.name.contains('/') && !models_over,
                EntryKind::Adapter => {
                    entry.name.starts_with("adapters/") && entry.name.ends_with(".gguf") && !adapters_over
                }
                EntryKind::Page => entry.name.starts_with("ui/"),
                EntryKind::License => entry.name.starts_with("licenses/"),
                EntryKind::Runtime => entry.name.starts_with("runtimes/"),
                EntryKind::State => entry.name.starts_with("states/"),
                EntryKind::Manifest => false,
            };
            models_over |= entry.kind != EntryKind::Model;
            adapters_over |= !entry.kind.is_weights();
            if entry.scale.is_some_and(|scale| entry.kind != EntryKind::Adapter || !scale.is_finite()) {
                return Err(format!("entry {:?} has an invalid scale", entry.name));
            }
            if !place {
                return Err(format!("entry {:?} is not where an entry of kind {:?} belongs", entry.name, entry.kind));
            }
        }
        if self.model.is_some() != self.entries.iter().any(|entry| entry.kind == EntryKind::Model) {
            return Err("model facts without a model entry, or the reverse".to_owned());
        }
        if self.beside.is_some() && !self.entries.is_empty() {
            return Err("a bundle whose payload is a separate file must have no entries".to_owned());
        }
        Ok(())
    }

    /// Checks the limits of entries that are read into memory.
    fn check_sizes(&self) -> Result<(), String> {
        let (mut small_bytes, mut state_bytes) = (0_u64, 0_u64);
        for entry in &self.entries {
            match entry.kind {
                EntryKind::Page | EntryKind::License => small_bytes = small_bytes.saturating_add(entry.size),
                EntryKind::State => state_bytes = state_bytes.saturating_add(entry.size),
                EntryKind::Runtime if entry.size > RUNTIME_MAX_BYTES => {
                    return Err(format!("entry {:?} is too large for a runtime", entry.name));
                }
                EntryKind::Model | EntryKind::Adapter | EntryKind::Runtime | EntryKind::Manifest => {}
            }
        }
        if state_bytes > STATES_MAX_BYTES {
            return Err(format!("computed states have {state_bytes} bytes, more than {STATES_MAX_BYTES}"));
        }
        if small_bytes > SMALL_ENTRIES_MAX_BYTES {
            return Err(format!(
                "page and licences together have {small_bytes} bytes, more than {SMALL_ENTRIES_MAX_BYTES}"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(entries: &[(&str, EntryKind, u64)]) -> Manifest {
        let record = |&(name, kind, size): &(&str, EntryKind, u64)| EntryRecord {
            name: name.to_owned(),
            kind,
            size,
            sha256: Digest([0; 32]),
            scale: None,
        };
        Manifest {
            format: FORMAT,
            name: "x".to_owned(),
            packed_by: "x".to_owned(),
            model: None,
            defaults: Defaults::default(),
            beside: None,
            entries: entries.iter().map(record).collect(),
        }
    }

    #[test]
    fn entries_that_cannot_be_extracted_or_held_in_memory_are_refused() {
        use EntryKind::{License, Page, Runtime, State};
        const MOST: u64 = SMALL_ENTRIES_MAX_BYTES;
        assert_eq!(with(&[("ui/a", Page, MOST - 1), ("licenses/a", License, 1)]).check(), Ok(()));
        for (entries, part) in [
            (&[("ui/a", Page, MOST), ("licenses/a", License, 1)][..], "more than 67108864"),
            (&[("ui/a", Page, u64::MAX), ("ui/b", Page, u64::MAX)], "more than 67108864"),
            (&[("runtimes/x", Runtime, RUNTIME_MAX_BYTES + 1)], "too large for a runtime"),
            (&[("states/a", State, STATES_MAX_BYTES), ("states/b", State, 1)], "computed states have"),
            (&[("ui/state", State, 1)], "not where an entry of kind State belongs"),
            (&[("ui/icon.svg", Page, 1), ("ui/icon.svg/x", Page, 1)], "both a file and a folder"),
            (&[("ui/a/b", Page, 1), ("ui/A", Page, 1)], "both a file and a folder"),
            (&[("licenses/\u{202e}txt.exe", License, 1)], "no control characters"),
        ] {
            let line = with(entries).check().unwrap_err();
            assert!(line.contains(part), "{line}");
        }
        let named = |name: &str| Manifest { name: name.to_owned(), ..with(&[]) }.check();
        assert!(named("a\u{202e}b").is_err() && named("مرحبا").is_ok());
    }

    #[test]
    fn a_bundle_can_only_set_a_loopback_host() {
        for (host, good) in
            [("127.0.0.1", true), ("localhost", true), ("::1", true), ("0.0.0.0", false), ("10.0.0.1", false)]
        {
            let mut manifest = with(&[]);
            manifest.defaults.settings.host = Some(host.to_owned());
            assert_eq!(manifest.check().is_ok(), good, "{host}");
        }
    }
}
