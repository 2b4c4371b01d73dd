//! `satchel unpack`: extracts the entries of a packed file, each checked against its hash.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use satchel_packer::Error;
use satchel_packer::verify::PackedFile;

use super::Failure;
use super::out::outln;
use super::pack::own_program;
use super::progress::Progress;

/// Arguments of `unpack`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {
    /// The packed file [default: this one]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Take out this entry only, such as model.gguf; may be repeated
    #[arg(short, long = "entry", value_name = "NAME")]
    pub entries: Vec<String>,

    /// The folder to write to, or - to write one entry to standard output [default: FILE.unpacked]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// Replace files that exist
    #[arg(long)]
    pub force: bool,

    /// Show no progress and no summary
    #[arg(short, long)]
    pub quiet: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let path = match args.file {
        Some(file) => file,
        None => own_program()?,
    };
    let packed = PackedFile::open(&path)?;
    let entries = packed.select(&args.entries)?;
    if args.output.as_deref() == Some(Path::new("-")) {
        let [entry] = entries.as_slice() else {
            return Err(Failure::usage("-o - writes one entry: name it, as in --entry model.gguf"));
        };
        return match packed.extract_to(entry, &mut std::io::stdout().lock()) {
            // The reader closed the pipe.
            Err(Error::File { source, .. }) if source.kind() == ErrorKind::BrokenPipe => Ok(()),
            done => Ok(done?),
        };
    }
    let folder = args.output.unwrap_or_else(|| default_folder(&path));
    let progress = Progress::new("unpacking", args.quiet)?;
    let written = progress.finish(packed.extract(&entries, &folder, args.force, &progress))?;
    if !args.quiet {
        for file in written {
            outln!("{}", file.display())?;
        }
    }
    Ok(())
}

/// A folder in the current one, named after the file.
fn default_folder(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    PathBuf::from(format!("{name}.unpacked"))
}
