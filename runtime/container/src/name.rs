//! Which entry names a bundle may hold, so that extraction writes only inside the chosen folder.
//!
//! The same rules hold on every platform, so that a bundle packed on one system can be extracted on all others.

use std::collections::HashSet;

/// Longest name, in bytes.
pub const NAME_MAX_BYTES: usize = 512;

/// Longest path component, in bytes: the limit of common file systems.
const PART_MAX_BYTES: usize = 255;

/// Device names that Windows reserves in every folder, whatever the extension.
const RESERVED: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9", "lpt1", "lpt2",
    "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// Checks that `name` is a `/`-separated relative path that stays inside the folder it is extracted to, on every platform.
///
/// # Errors
/// What is wrong with the name.
pub fn check(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > NAME_MAX_BYTES {
        return Err("a name must have 1 to 512 bytes");
    }
    if name.chars().any(|c| is_deceptive(c) || matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')) {
        return Err("a name must have no control characters and none of \\ : * ? \" < > |");
    }
    name.split('/').try_for_each(check_part)
}

fn check_part(part: &str) -> Result<(), &'static str> {
    if part.is_empty() || part == "." || part == ".." {
        return Err("a name must be a relative path without empty parts, `.` or `..`");
    }
    if part.len() > PART_MAX_BYTES {
        return Err("no part of a name may have more than 255 bytes");
    }
    if part.ends_with('.') || part.ends_with(' ') {
        return Err("no part of a name may end with a dot or a space");
    }
    let stem = part.split('.').next().unwrap_or(part).trim_end();
    if RESERVED.iter().any(|reserved| stem.eq_ignore_ascii_case(reserved)) {
        return Err("Windows reserves this name for a device");
    }
    Ok(())
}

/// Whether a character can disguise text or disturb a terminal: control characters, bidirectional controls and
/// zero-width characters, except for the joiners that scripts and emoji need.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}' // bidirectional
            | '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Case-folded form: names that are equal in it may be the same file on some platform.
pub fn folded(name: &str) -> String {
    name.to_lowercase()
}

/// The names of one bundle, checked for collisions when all are extracted into one folder, on every platform.
#[derive(Default)]
pub(crate) struct Names {
    files: HashSet<String>,
    folders: HashSet<String>,
}

impl Names {
    /// Adds a name.
    ///
    /// # Errors
    /// The name is taken, or a path would have to be both a file and a folder.
    pub(crate) fn add(&mut self, name: &str) -> Result<(), String> {
        let folded = folded(name);
        let both = |folder: &str| Err(format!("entry {name:?} needs {folder:?} to be both a file and a folder"));
        for (at, _) in folded.match_indices('/') {
            if self.files.contains(&folded[..at]) {
                return both(&folded[..at]);
            }
            self.folders.insert(folded[..at].to_owned());
        }
        if self.folders.contains(&folded) {
            return both(&folded);
        }
        if !self.files.insert(folded) {
            return Err(format!("two entries are named {name:?}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Names, check};

    #[test]
    fn only_names_that_stay_inside_the_folder_pass() {
        for good in [
            "model.gguf",
            "ui/assets/index-a1b2.js",
            "licenses/LICENSE",
            ".well-known/x",
            "ui/日本👩\u{200d}🔬.html",
            "a..b",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let (long, long_part) = ("x/".repeat(256) + "x", "x".repeat(256));
        for bad in [
            "",
            "/etc/passwd",
            "../up",
            "ui/../../up",
            "ui//x",
            "ui/",
            "./x",
            "C:/x",
            "a\\b",
            "a\0b",
            "a\nb",
            "nul",
            "ui/CON.txt",
            "x.",
            "x ",
            "aux .txt",
            "licenses/\u{202e}txt.exe",
            "ui/a\u{200f}b",
            "ui/a\u{feff}",
            &long,
            &long_part,
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_collide_in_one_folder_are_refused() {
        for (names, part) in [
            (&["ui/icon.svg", "ui/icon.svg/x"][..], "\"ui/icon.svg\" to be both"),
            (&["ui/a/b/c", "ui/A"], "\"ui/a\" to be both"),
            (&["ui/x", "UI/X"], "two entries are named"),
        ] {
            let mut all = Names::default();
            let added: Vec<_> = names.iter().map(|name| all.add(name)).collect();
            assert!(added[0].is_ok() && added[1].as_ref().unwrap_err().contains(part), "{added:?}");
        }
        let mut all = Names::default();
        for name in ["ui/a/b", "ui/a/c", "ui/ab", "model.gguf"] {
            all.add(name).unwrap();
        }
    }
}
