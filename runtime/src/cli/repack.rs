//! `satchel upgrade` and `satchel extract`: a packed file's payload, byte for byte, behind another program.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use satchel_packer::Platform;
use satchel_packer::runtimes::Runtimes;
use satchel_packer::verify::PackedFile;
use satchel_packer::{Form, Plan, universal};

use super::Failure;
use super::pack::{Forms, own_program, parse_forms};
use super::writing::Writing;

/// Bytes from the start of a file that are enough to detect its form.
const HEAD_BYTES: u64 = 64 * 1024;

/// Arguments of `upgrade`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  satchel upgrade old-chat -o chat")]
pub struct UpgradeArgs {
    /// The packed file
    #[arg(value_name = "OLD")]
    pub file: PathBuf,

    /// The file to write
    #[arg(short, long, value_name = "NEW")]
    pub output: PathBuf,

    /// The satchel whose engine it gets [default: this one]
    #[arg(long, value_name = "SATCHEL")]
    pub engine: Option<PathBuf>,

    /// Replace NEW if it exists
    #[arg(long)]
    pub force: bool,

    /// Show no progress and no summary
    #[arg(short, long)]
    pub quiet: bool,
}

/// Arguments of `extract`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  satchel extract chat-universal.exe --for linux-aarch64 -o chat")]
pub struct ExtractArgs {
    /// The packed file; a universal one carries every platform's program
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// What to make: a list of platforms (`satchel targets` shows them), `all`, or `universal`
    #[arg(long = "for", value_name = "LIST", value_parser = parse_forms)]
    pub forms: Forms,

    /// The file to write; several are named after it and their platform
    #[arg(short, long, value_name = "OUTPUT")]
    pub output: PathBuf,

    /// The satchel to take programs from [default: FILE if it has them, or this one]
    #[arg(long, value_name = "SATCHEL")]
    pub engine: Option<PathBuf>,

    /// Replace files that exist
    #[arg(long)]
    pub force: bool,

    /// Show no progress and no summary
    #[arg(short, long)]
    pub quiet: bool,
}

/// Runs `upgrade`.
pub fn upgrade(args: UpgradeArgs) -> Result<(), Failure> {
    let packed = PackedFile::open(&args.file)?;
    let form = form_of(&args.file, &packed)?;
    let engine = args.engine.map_or_else(own_program, Ok)?;
    let plan = Plan::kept(&packed)?;
    let writing = Writing { plan: &plan, engine: &engine, force: args.force, quiet: args.quiet, verb: "upgrading" };
    let files = writing.files(Some(&[form]), &args.output)?;
    writing.write(files)?;
    Ok(())
}

/// Runs `extract`.
pub fn extract(args: ExtractArgs) -> Result<(), Failure> {
    let packed = PackedFile::open(&args.file)?;
    let engine = match args.engine {
        Some(engine) => engine,
        None if has_all(&args.file, &args.forms)? => args.file.clone(),
        None => own_program()?,
    };
    let plan = Plan::kept(&packed)?;
    let writing = Writing { plan: &plan, engine: &engine, force: args.force, quiet: args.quiet, verb: "extracting" };
    let files = writing.files(Some(&args.forms), &args.output)?;
    writing.check(&files)?;
    writing.write(files)?;
    Ok(())
}

/// Whether the file carries the programs for all these forms.
fn has_all(file: &Path, forms: &[Form]) -> Result<bool, Failure> {
    let has = Runtimes::open(file)?.platforms();
    Ok(forms.iter().all(|form| match form {
        Form::Native(platform) | Form::Signable(platform) => has.contains(platform),
        Form::Universal => Platform::ALL.iter().all(|platform| has.contains(platform)),
    }))
}

/// The form of a packed file.
fn form_of(path: &Path, packed: &PackedFile) -> Result<Form, Failure> {
    let mut head = Vec::new();
    let mut file = File::open(path)?;
    file.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
    if universal::is_universal(&head) {
        return Ok(Form::Universal);
    }
    let form = if packed.bundle.in_segment { Form::Signable } else { Form::Native };
    let unknown = || Failure::new(format!("{}: its program is for no platform that satchel knows", path.display()));
    Platform::detect(&head).map(form).ok_or_else(unknown)
}
