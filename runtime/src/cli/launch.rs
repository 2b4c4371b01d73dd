//! `satchel launch CLIENT`: starts another program, a coding agent for instance, against this model.
//!
//! The server listens on a free port of this machine with a key made for this run. What the client needs - addresses, key,
//! names, files - is a row of the table in `clients.rs`; its files and its state are in a temporary folder that goes when it
//! ends. Nothing else is written, and the client's exit status is this command's.

mod clients;
mod shell;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::thread;

use super::cache_args::CacheArgs;
use super::chat::{tell_gpu, tell_warm};
use super::model_args::{CheckArgs, ModelArgs};
use super::out::{self, notice};
use super::sampling_args::SamplingArgs;
use super::template_args::TemplateArgs;
use super::{Failure, signals};
use crate::environment::{find_program, without_proxy};
use crate::server::page::PAGE;
use crate::server::{Assets, Endpoint, Limits, Options, Server, Stopper};
use crate::session::embedding::is_embedding_model;
use crate::session::open::plan_of;
use crate::session::{ModelSource, OpenOptions, Session};
use clients::{CLIENTS, Client, Place, Setup};

/// The port of `satchel serve` where nothing else is asked for.
const USUAL_PORT: u16 = 8080;

/// Arguments of `launch`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {
    /// The program to start
    #[arg(value_name = "CLIENT", value_parser = client_named, help = client_help())]
    client: Option<&'static Client>,
    /// Print what would be set, as lines for a shell, instead of starting anything; it is meant for a `satchel serve` at --port
    #[arg(long)]
    print: bool,
    /// Port of 127.0.0.1 to listen on [default: any free one; with --print 8080]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    check: CheckArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    template: TemplateArgs,
    /// Tokens that one conversation may hold, prompt and answer together [default: what the model was trained on, 32768 at
    /// most]
    #[arg(short, long, value_name = "TOKENS", help_heading = "Model")]
    context: Option<usize>,
    /// Answers generated at once; more wait for their turn [default: 4]
    #[arg(long, value_name = "N", help_heading = "Model")]
    parallel: Option<usize>,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Arguments for the client
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

fn client_named(name: &str) -> Result<&'static Client, String> {
    CLIENTS.iter().find(|client| client.name == name).ok_or_else(|| format!("it must be {}", names()))
}

fn names() -> String {
    let names: Vec<&str> = CLIENTS.iter().map(|client| client.name).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

fn client_help() -> String {
    format!("The program to start: {}", names())
}

/// Runs the command. The exit status is the client's.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let Some(client) = args.client else {
        return Err(Failure::usage(format!("name the program to start: {}", names())));
    };
    let options =
        OpenOptions { context: args.context, parallel: args.parallel, ..args.cache.apply(args.model.options()) };
    let source = ModelSource::of(&options)?;
    if is_embedding_model(&source) {
        let line = format!("this is an embedding model, which writes no answers: {} needs one that does", client.name);
        return Err(Failure::new(line));
    }
    if args.print {
        return print(client, &source, &options, &args);
    }
    let program = find_program(client.program).ok_or_else(|| not_installed(client))?;
    let key = crate::server::secret();
    let server = bind(args.port.unwrap_or(0), &key)?;
    crate::mapping::go_on_when_damaged();
    let session = open(source, &options, &args)?;
    let url = format!("http://127.0.0.1:{}", server.local_addr()?.map_or(0, |address| address.port()));
    let held = signals::hold().map_err(|error| Failure::new(format!("cannot watch for Ctrl-C: {error}")))?;
    let folder = tempfile::Builder::new().prefix("satchel-").tempdir();
    let folder = folder.map_err(|error| Failure::new(format!("cannot make a temporary folder: {error}")))?;
    let context = session.facts.context_length;
    let output = output_tokens(session.defaults.max_tokens, context);
    let place = Place { url: &url, key: &key, model: &session.facts.name, context, output, folder: folder.path() };
    let setup = (client.setup)(&place);
    write_files(&setup, folder.path())?;
    let mut command = Command::new(&program);
    command.args(&setup.arguments).args(&args.arguments).envs(setup.environment).envs(without_proxy());
    setup.unset.iter().for_each(|name| _ = command.env_remove(name));
    let status = beside(server, session, || {
        let mut child = command.spawn()?;
        held.pass_to(&mut child)
    })?;
    let status = status.map_err(|error| Failure::new(format!("{}: {error}", program.display())))?;
    folder.close().map_err(|error| Failure::new(format!("cannot remove the temporary folder: {error}")))?;
    Ok(exit_code(status))
}

/// The longest answer that a client should ask for: a quarter of the context, unless something else is set.
fn output_tokens(set: Option<usize>, context: usize) -> usize {
    set.unwrap_or(context / 4).max(1)
}

fn not_installed(client: &Client) -> Failure {
    let Client { program, install, .. } = client;
    Failure::new(format!("{program} is not installed, or not in PATH; install it with `{install}`"))
}

fn bind(port: u16, key: &str) -> Result<Server, Failure> {
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    let options = Options {
        endpoint: Endpoint::Tcp(address),
        limits: Limits::default(),
        allowed_hosts: Vec::new(),
        allowed_origins: Vec::new(),
        keys: vec![key.to_owned()],
        isolate: false,
    };
    Server::bind(options).map_err(|error| Failure::new(format!("cannot listen on {address}: {error}")))
}

/// The model with what the flags say.
fn open(source: ModelSource, options: &OpenOptions, args: &Args) -> Result<Session, Failure> {
    let mut session = args.check.open(source, options)?;
    args.template.apply(&mut session)?;
    session.defaults.sampling = args.sampling.apply(&session.defaults.sampling)?;
    session.defaults.max_tokens = args.sampling.max_tokens.or(session.defaults.max_tokens);
    if let Some(line) = &session.facts.memory_warning {
        notice!("satchel: {line}");
    }
    tell_warm(&session.facts);
    tell_gpu(&options.gpu, &session.facts.gpu);
    Ok(session)
}

fn write_files(setup: &Setup, folder: &Path) -> Result<(), Failure> {
    for (name, content) in &setup.files {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, content))
            .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

/// Runs the work while the server answers.
fn beside<T>(server: Server, session: Session, work: impl FnOnce() -> T) -> Result<T, Failure> {
    let stopper: Stopper = server.stopper()?;
    let serving = thread::Builder::new().name("server".to_owned());
    let serving = serving.spawn(move || server.run(session, Assets::embedded(&PAGE)))?;
    let result = work();
    stopper.stop();
    // It panics on its own account, and the client's end counts.
    let _ = serving.join();
    Ok(result)
}

/// The status of a program that a signal ended is 128 and the signal's number, as shells have it.
fn exit_code(status: ExitStatus) -> ExitCode {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX));
    }
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// The lines for a shell in which the client then finds a `satchel serve`.
fn print(client: &Client, source: &ModelSource, options: &OpenOptions, args: &Args) -> Result<ExitCode, Failure> {
    let context = match options.context {
        Some(context) => context,
        None => options.context_for(plan_of(source, None)?.trained_context)?,
    };
    let url = format!("http://127.0.0.1:{}", args.port.unwrap_or(USUAL_PORT));
    let folder = PathBuf::from(shell::FOLDER);
    let output = output_tokens(args.sampling.max_tokens, context);
    let place = Place { url: &url, key: "none", model: &source.name(), context, output, folder: &folder };
    out::bytes(shell::lines(client, &(client.setup)(&place), &args.arguments).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
