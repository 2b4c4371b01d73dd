//! `satchel pack`: one executable made of this program and a model.
//!
//! The packer does the work; here are the flags, the default names and the summary. Before anything is written, `trial`
//! opens the model as the packed file will.

use std::path::{Path, PathBuf};

use include_dir::Dir;
use satchel_container::Settings;
use satchel_packer::{Form, Packed, Plan, Request, shown_bytes};

use super::Failure;
use super::out::outln;
use super::shown::shown_on_one_line;
use super::trial::{as_packed, try_model};
use super::writing::{PACKED_BY, Writing};
use crate::own_file::own_file;
use crate::server::page::PAGE;
use crate::session::{AdapterOption, warm};

/// Arguments of `pack`.
#[derive(clap::Args, Debug, Default)]
#[command(
    after_help = "Example:\n  satchel pack smollm2.gguf -o smollm2 --system-prompt 'Be brief.' --set temperature=0.2"
)]
pub struct Args {
    /// The model: a GGUF file, or any part of a split one (all parts are taken)
    #[arg(value_name = "MODEL.gguf", required_unless_present = "model_flag", conflicts_with = "model_flag")]
    pub model: Option<PathBuf>,

    /// The same, as in the other commands
    #[arg(short = 'm', long = "model", value_name = "MODEL.gguf", id = "model_flag")]
    pub model_flag: Option<PathBuf>,

    /// The file to write [default: the model's name, in this folder]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// What to call the model in the page and in /v1/models [default: what its file says]
    #[arg(long)]
    pub name: Option<String>,

    /// Used when a conversation has no system message
    #[arg(long, value_name = "TEXT")]
    pub system_prompt: Option<String>,

    /// Compute the system prompt now and carry the result, so that the first answer begins as soon as later ones do
    #[arg(long, requires = "system_prompt")]
    pub warm: bool,

    /// An adapter (LoRA) to carry, and what to multiply it with [default: 1]; may be repeated
    #[arg(long = "lora", value_name = "FILE[=SCALE]")]
    pub adapters: Vec<AdapterOption>,

    /// A default for sampling or serving; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", long_help = settings_help())]
    pub set: Vec<String>,

    /// A licence text to carry, such as the model's; may be repeated
    #[arg(long = "license", value_name = "FILE")]
    pub licenses: Vec<PathBuf>,

    /// A folder with an index.html that replaces the chat page
    #[arg(long, value_name = "DIR")]
    pub ui: Option<PathBuf>,

    /// What to pack for: a list of platforms (`satchel targets` shows them), `all`, or `universal` for one file that runs
    /// on all of them; several files are named after OUTPUT and their platform [default: the platform of this program]
    #[arg(long = "for", value_name = "LIST", value_parser = parse_forms)]
    pub forms: Option<Forms>,

    /// The satchel to take programs from; a packed file is one, too [default: this one]
    #[arg(long, value_name = "FILE", alias = "program")]
    pub engine: Option<PathBuf>,

    /// Replace FILE if it exists
    #[arg(long)]
    pub force: bool,

    /// Show no progress and no summary
    #[arg(short, long)]
    pub quiet: bool,
}

fn settings_help() -> String {
    format!("A default for sampling or serving; may be repeated. Keys: {}", Settings::KEYS.join(", "))
}

/// The value of one `--for`.
pub(super) type Forms = Box<[Form]>;

pub(super) fn parse_forms(list: &str) -> Result<Forms, String> {
    Form::parse_list(list).map(Vec::into_boxed_slice)
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let model = args.model.or(args.model_flag).ok_or_else(|| Failure::usage("pack: name the model"))?;
    let engine = args.engine.map_or_else(own_program, Ok)?;
    let settings = settings(&args.set)?;
    let mut plan = Plan::new(&Request {
        model: model.clone(),
        adapters: args.adapters.iter().map(|adapter| (adapter.path.clone(), adapter.scale)).collect(),
        name: args.name,
        system_prompt: args.system_prompt.clone(),
        settings: settings.clone(),
        licenses: args.licenses,
        own_licenses: vec![("Satchel-LICENSE.txt".to_owned(), include_bytes!("../../../LICENSE").to_vec())],
        ui: args.ui,
        own_page: page_files(&PAGE),
        packed_by: PACKED_BY.to_owned(),
    })?;
    let output = args.output.unwrap_or_else(|| default_output(plan.name()));
    let how = (args.force, args.quiet);
    let files = writing(&plan, &engine, how).files(args.forms.as_deref(), &output)?;
    writing(&plan, &engine, how).check(&files)?;
    let notes = try_model(model.clone(), args.adapters.clone(), &settings)?;
    let mut carried = None;
    if args.warm {
        let computed = warm::compute(&as_packed(model, args.adapters, &settings)?, args.system_prompt.as_deref())?;
        let adds = shown_bytes(computed.bytes.len() as u64);
        carried = Some(format!("{} tokens of the system prompt, {adds}, for {}", computed.tokens, computed.fits));
        plan.carry_state(warm::NAME, computed.bytes)?;
        writing(&plan, &engine, how).check(&files)?;
    }
    let packed = writing(&plan, &engine, how).write(files)?;
    if !args.quiet {
        if let Some(carried) = carried {
            outln!("  computed: {carried}")?;
        }
        print_next(&packed)?;
        for note in notes {
            outln!("Note: {}", shown_on_one_line(&note))?;
        }
    }
    Ok(())
}

fn writing<'a>(plan: &'a Plan, engine: &'a Path, (force, quiet): (bool, bool)) -> Writing<'a> {
    Writing { plan, engine, force, quiet, verb: "packing" }
}

/// The files of the embedded page, sorted by path. They are packed as entries, so that `unpack` yields the page, too.
fn page_files(page: &'static Dir<'static>) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = page
        .files()
        .filter_map(|file| Some((file.path().to_str()?.replace('\\', "/"), file.contents().to_vec())))
        .chain(page.dirs().flat_map(page_files))
        .collect();
    files.sort();
    files
}

/// The path of this executable.
pub(super) fn own_program() -> Result<PathBuf, Failure> {
    own_file().map_err(|error| Failure::new(format!("cannot find this program's own file: {error}")))
}

fn settings(set: &[String]) -> Result<Settings, Failure> {
    let mut settings = Settings::default();
    for pair in set {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Failure::usage(format!("--set {pair}: write it as KEY=VALUE")));
        };
        settings.set(key.trim(), value).map_err(|line| Failure::usage(format!("--set {pair}: {line}")))?;
    }
    Ok(settings)
}

/// The model's name as a file name that needs no quoting.
fn default_output(name: &str) -> PathBuf {
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    let name = name.trim_matches(['-', '.']);
    let name = if name.is_empty() { "model" } else { name };
    PathBuf::from(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

fn print_next(packed: &[Packed]) -> Result<(), Failure> {
    let [packed] = packed else { return Ok(()) };
    let command = command(&packed.path);
    outln!("Next: {command} opens the chat in a browser, {command} chat talks here, {command} --help lists the rest.")
}

/// The shell command that starts a file from the current folder.
fn command(path: &Path) -> String {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new(".").join(path).display().to_string(),
        _ => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_a_file_name() {
        for (name, file) in
            [("SmolLM2 135M / Instruct", "SmolLM2-135M---Instruct"), ("../up", "up"), ("模型", "模型"), ("..", "model")]
        {
            assert_eq!(default_output(name), PathBuf::from(format!("{file}{}", std::env::consts::EXE_SUFFIX)));
        }
    }

    #[test]
    fn a_refused_setting_is_named_in_the_error() {
        let given = |pairs: &[&str]| settings(&pairs.iter().map(|pair| (*pair).to_owned()).collect::<Vec<_>>());
        let read = given(&["temperature=0.5", "host = 127.0.0.2"]).unwrap();
        assert_eq!((read.temperature, read.host.as_deref()), (Some(0.5), Some("127.0.0.2")));
        for (pair, part) in
            [("temperature", "KEY=VALUE"), ("top_p=2", "between 0 and 1"), ("heat=1", "known are temperature")]
        {
            let failure = given(&[pair]).unwrap_err();
            assert!(failure.code == 2 && failure.message.contains(part) && failure.message.contains(pair));
        }
    }
}
