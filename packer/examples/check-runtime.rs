//! `check-runtime PLATFORM=FILE …`: checks built runtimes, and lists what each requires of its system.
//!
//! `tools/release.sh` ends with it. Exit status 1 if one of them is not fit for distribution.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool of the build, read by a person")]

use std::process::ExitCode;

use satchel_packer::Platform;
use satchel_packer::platform::{Facts, check};

fn main() -> ExitCode {
    let mut sound = true;
    for argument in std::env::args().skip(1) {
        if let Err(faults) = check_argument(&argument) {
            sound = false;
            for fault in faults {
                eprintln!("check-runtime: {argument}: {fault}");
            }
        }
    }
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check_argument(argument: &str) -> Result<(), Vec<String>> {
    let (name, path) = argument.split_once('=').ok_or_else(|| vec!["write it as PLATFORM=FILE".to_owned()])?;
    let platform: Platform = name.parse().map_err(|error| vec![format!("{error}")])?;
    let program = std::fs::read(path).map_err(|error| vec![format!("cannot be read: {error}")])?;
    let facts = check(platform, &program)?;
    println!("{platform:<20} {:>9} bytes  {}", program.len(), summary(&facts));
    Ok(())
}

fn summary(facts: &Facts) -> String {
    let mut words = Vec::new();
    if let Some((major, minor)) = facts.newest_glibc {
        words.push(format!("glibc {major}.{minor}"));
    }
    if let Some((major, minor)) = facts.oldest_macos {
        words.push(format!("macOS {major}.{minor}"));
    }
    if let Some(signature) = &facts.signature {
        words.push(format!("{} pages signed", signature.pages));
    }
    words.push(if facts.libraries.is_empty() { "no libraries".to_owned() } else { facts.libraries.join(" ") });
    words.join(", ")
}
