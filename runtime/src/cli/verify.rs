//! `satchel verify`: checks every hash of a packed file, one line each, and prints a verdict.

use std::path::{Path, PathBuf};

use satchel_packer::shown_bytes;
use satchel_packer::verify::{Checked, PackedFile};
use serde_json::json;

use super::Failure;
use super::out::outln;
use super::pack::own_program;
use super::progress::Progress;
use super::shown::shown_on_one_line;

/// Arguments of `verify`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {
    /// The packed file [default: this one]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Print a JSON object
    #[arg(long)]
    pub json: bool,

    /// Print nothing; only set the exit status
    #[arg(short, long)]
    pub quiet: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let path = match &args.file {
        Some(file) => file.clone(),
        None => own_program()?,
    };
    let packed = PackedFile::open(&path).inspect_err(|error| {
        if args.json {
            let report = json!({ "file": path.display().to_string(), "good": false, "error": error.to_string() });
            // The failure itself goes to stderr.
            let _ = outln!("{report:#}");
        }
    })?;
    let progress = Progress::new("verifying", args.quiet || args.json)?;
    let rows = progress.finish(packed.verify(&progress))?;
    let bad: Vec<_> = rows.iter().filter(|row| !row.is_good()).map(|row| row.name.as_str()).collect();
    if args.json {
        print_json(&path, &packed, &rows)?;
    } else if !args.quiet {
        print_rows(&rows)?;
    }
    if !bad.is_empty() {
        return Err(Failure::new(format!("{}: damaged: {}; get the file again", path.display(), bad.join(", "))));
    }
    if !args.json && !args.quiet {
        outln!("{}: whole, payload sha256 {}", path.display(), packed.bundle.payload_sha256)?;
    }
    Ok(())
}

fn print_rows(rows: &[Checked]) -> Result<(), Failure> {
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    for row in rows {
        let verdict = if row.is_good() { "good" } else { "BAD " };
        let size = shown_bytes(row.size);
        outln!("{verdict}  {:width$}  {size:>9}  sha256 {}", shown_on_one_line(&row.name), row.expected)?;
    }
    Ok(())
}

fn print_json(path: &Path, packed: &PackedFile, rows: &[Checked]) -> Result<(), Failure> {
    let entries: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "name": row.name,
                "size": row.size,
                "sha256": row.expected,
                "found_sha256": row.actual,
                "good": row.is_good(),
            })
        })
        .collect();
    outln!(
        "{:#}",
        json!({
            "file": path.display().to_string(),
            "good": rows.iter().all(Checked::is_good),
            "format": packed.bundle.manifest.format,
            "name": packed.bundle.manifest.name,
            "payload_sha256": packed.bundle.payload_sha256,
            "entries": entries,
        })
    )
}
