//! The file this process stands for: its executable, or the universal file that contains its program.
//!
//! A universal file starts as a shell script, which runs the right program from a cache folder with `--bundle FILE`. From then on
//! that program stands for FILE: its model is FILE's, and what it packs starts with FILE's program.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;

/// The first argument of a program that stands for another file, followed by that file.
const FLAG: &str = "--bundle";

static STANDS_FOR: OnceLock<PathBuf> = OnceLock::new();

/// Removes `--bundle FILE`, which a universal file's script adds, from the arguments.
pub fn take_flag(arguments: &mut Vec<OsString>) {
    if arguments.len() > 2 && arguments[1] == FLAG {
        let file = arguments.drain(1..3).nth(1).unwrap_or_default();
        STANDS_FOR.get_or_init(|| file.into());
    }
}

/// The file that this process stands for.
///
/// # Errors
/// If the system does not say.
pub fn own_file() -> io::Result<PathBuf> {
    if let Some(file) = STANDS_FOR.get() {
        return Ok(file.clone());
    }
    std::env::current_exe().or_else(|error| started_as().ok_or(error))
}

/// The path that the program was started by, used where there is no /proc, as in an empty container.
#[cfg(target_os = "linux")]
fn started_as() -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let path = rustix::param::linux_execfn();
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(path.to_bytes()));
    path.is_file().then_some(path)
}

#[cfg(not(target_os = "linux"))]
fn started_as() -> Option<PathBuf> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_a_file() {
        assert!(own_file().unwrap().is_file());
        #[cfg(target_os = "linux")]
        assert!(started_as().is_some_and(|path| path.is_file()));
    }

    #[test]
    fn only_a_first_argument_is_the_script_s() {
        for given in [vec!["satchel"], vec!["satchel", "--bundle"], vec!["satchel", "run", "--bundle", "x"]] {
            let mut arguments: Vec<OsString> = given.iter().map(OsString::from).collect();
            take_flag(&mut arguments);
            assert_eq!(arguments, given);
        }
    }
}
