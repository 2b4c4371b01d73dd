//! Output forms: an executable for one platform, or one file for all of them.

use std::path::{Path, PathBuf};

use crate::platform::Platform;
use crate::runtimes::Runtimes;
use crate::universal::{self, EXE_SUFFIX};
use crate::{Error, Program};

/// A form that a payload can be packed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An executable of one platform.
    Native(Platform),
    /// A macOS executable with the payload in a segment of its own, to be signed with a certificate.
    Signable(Platform),
    /// One file that starts on every platform.
    Universal,
}

/// The name of the form for all platforms.
const UNIVERSAL: &str = "universal";
/// Stands for the native form of every platform.
const ALL: &str = "all";

/// Suffix of the signable forms' names.
const SIGNABLE: &str = "-signable";

impl Form {
    /// The name used on the command line and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native(platform) => platform.name(),
            Self::Signable(Platform::MacosX86_64) => "macos-x86_64-signable",
            Self::Signable(_) => "macos-aarch64-signable",
            Self::Universal => UNIVERSAL,
        }
    }

    /// Parses a list such as `linux-x86_64,windows-x86_64`; duplicates are dropped. `all` is every platform, except for the
    /// static Linux form, which must be named.
    ///
    /// # Errors
    /// An unknown name, with the list of known ones.
    pub fn parse_list(list: &str) -> Result<Vec<Self>, String> {
        let mut forms = Vec::new();
        for name in list.split(',').map(str::trim) {
            let named = match name {
                UNIVERSAL => vec![Self::Universal],
                ALL => {
                    let common = |platform: &Platform| *platform != Platform::LinuxX86_64Static;
                    Platform::ALL.into_iter().filter(common).map(Self::Native).collect()
                }
                name if name.ends_with(SIGNABLE) => vec![signable(name)?],
                name => vec![Self::Native(name.parse().map_err(|_| unknown(name))?)],
            };
            for form in named {
                if !forms.contains(&form) {
                    forms.push(form);
                }
            }
        }
        Ok(forms)
    }

    /// The program that precedes the payload in this form.
    ///
    /// # Errors
    /// `runtimes` lacks the program, or it is damaged.
    pub fn program(self, runtimes: &Runtimes, packed_by: &str) -> Result<Program, Error> {
        match self {
            Self::Native(platform) => runtimes.program(platform),
            Self::Signable(platform) => Ok(Program { signable: true, ..runtimes.program(platform)? }),
            Self::Universal => universal::program(runtimes, packed_by),
        }
    }

    /// File name when several forms are written: `base`, the form's name, and `.exe` where Windows needs it.
    pub fn file_name(self, base: &Path) -> PathBuf {
        let name = base.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.strip_suffix(EXE_SUFFIX).unwrap_or(&name);
        base.with_file_name(format!("{stem}-{}{}", self.name(), self.exe_suffix()))
    }

    /// File name when only this form is written: `path`, with `.exe` added for Windows.
    pub fn only_name(self, path: PathBuf) -> PathBuf {
        let is_exe = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("exe"));
        if is_exe || self != Self::Native(Platform::WindowsX86_64) {
            return path;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        path.with_file_name(name + EXE_SUFFIX)
    }

    fn exe_suffix(self) -> &'static str {
        match self {
            Self::Native(platform) | Self::Signable(platform) => platform.exe_suffix(),
            Self::Universal => EXE_SUFFIX,
        }
    }
}

fn signable(name: &str) -> Result<Form, String> {
    [Platform::MacosAarch64, Platform::MacosX86_64]
        .map(Form::Signable)
        .into_iter()
        .find(|form| form.name() == name)
        .ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> String {
    let known: Vec<_> = Platform::ALL.iter().map(|platform| platform.name()).collect();
    format!("unknown target `{name}`; known are {}, {ALL}, {UNIVERSAL}, macos-…{SIGNABLE}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_parsed_without_duplicates() {
        let names = |list| Form::parse_list(list).map(|forms| forms.iter().map(|form| form.name()).collect::<Vec<_>>());
        assert_eq!(names("linux-x86_64, universal,linux-x86_64"), Ok(vec!["linux-x86_64", "universal"]));
        let all = ["linux-x86_64", "linux-aarch64", "windows-x86_64", "macos-aarch64", "macos-x86_64"];
        assert_eq!(names("all"), Ok(all.to_vec()));
        let error = Form::parse_list("linux-x86_64,amiga").unwrap_err();
        assert!(error.contains("`amiga`") && error.contains("macos-aarch64") && error.contains("universal"), "{error}");
        assert!(Form::parse_list("").is_err());
    }

    #[test]
    fn files_are_named_by_their_form() {
        let windows = Form::Native(Platform::WindowsX86_64);
        let linux = Form::Native(Platform::LinuxX86_64);
        assert_eq!(windows.file_name(Path::new("out/chat")), Path::new("out/chat-windows-x86_64.exe"));
        assert_eq!(linux.file_name(Path::new("chat.exe")), Path::new("chat-linux-x86_64"));
        assert_eq!(Form::Universal.file_name(Path::new("v1.5")), Path::new("v1.5-universal.exe"));
        assert_eq!(windows.only_name("chat".into()), Path::new("chat.exe"));
        assert_eq!(windows.only_name("chat.EXE".into()), Path::new("chat.EXE"));
        assert_eq!(linux.only_name("chat".into()), Path::new("chat"));
    }
}
