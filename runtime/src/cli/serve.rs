//! `satchel serve`, and what a packed file does without arguments: the server and the chat page.
//!
//! One block on stdout announces the server once it can answer. The first Ctrl-C or SIGTERM ends running answers cleanly
//! and exits with 0; a second one exits at once.

mod embeddings;
mod reach;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use satchel_container::Settings;

use super::cache_args::{CacheArgs, Size, kept_in};
use super::model_args::{CheckArgs, ModelArgs};
use super::out::{self, notice};
use super::sampling_args::SamplingArgs;
use super::shown::{shown as shown_text, shown_on_one_line};
use super::template_args::TemplateArgs;
use super::{Failure, browser, signals};
use crate::environment::has_display;
use crate::server::page::PAGE;
use crate::server::{Assets, Endpoint, Limits, Options, Server};
use crate::session::embedding::is_embedding_model;
use crate::session::{CacheFile, Facts, Kept, ModelSource, OpenOptions, OverflowPolicy, Session, SourceError};
use reach::Reach;

/// Without `--port`, the first port tried, and how many follow it.
const FIRST_PORT: u16 = 8080;
const PORTS_TRIED: u16 = 100;

/// Shown when a program without a model is started without `--model`.
const NOTHING_TO_RUN: &str = "there is no model in this program yet.
  Chat with a GGUF file:               satchel serve -m MODEL.gguf
  Make one executable that carries it: satchel pack MODEL.gguf -o FILE, then ./FILE
  See what else there is:              satchel --help";

/// Arguments of `serve`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    check: CheckArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    template: TemplateArgs,
    /// Address to listen on: 127.0.0.1 is this machine only, 0.0.0.0 every network it is in [default: 127.0.0.1]
    #[arg(long, value_name = "IP", help_heading = "Server")]
    host: Option<Address>,
    /// Port to listen on; 0 takes any free one [default: 8080 or the next free one]
    #[arg(long, value_name = "PORT", help_heading = "Server")]
    port: Option<u16>,
    /// Tokens that one conversation may hold, prompt and answer together [default: what the model was trained on, 32768 at most]
    #[arg(short, long, value_name = "TOKENS", help_heading = "Model")]
    context: Option<usize>,
    /// What happens when the context is full: `stop` ends the answer, `shift` keeps the system prompt and drops the older half of
    /// the rest, which is read again, and says so [default: stop]
    #[arg(long, value_name = "POLICY", help_heading = "Model")]
    overflow: Option<OverflowPolicy>,
    /// Tokens of reasoning after which it is ended, so that the answer begins; requests can set their own [default: no limit]
    #[arg(long, value_name = "TOKENS", help_heading = "Model")]
    reasoning_budget: Option<usize>,
    /// Answers generated at once; more wait for their turn [default: 4]
    #[arg(long, value_name = "N", help_heading = "Model")]
    parallel: Option<usize>,
    /// Memory that keeps conversations beside those being answered, such as 2GiB, and no more; the least recently used go first
    /// [default: what idle answers leave of theirs, and a quarter of what is free, 8GiB at most]
    #[arg(long, value_name = "SIZE", help_heading = "Model")]
    cache_ram: Option<Size>,
    /// Keep conversations in FILE when the server stops, and go on from there when it starts again with the same model and
    /// settings; only this user can read it [default: nothing is kept]
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    cache_file: Option<PathBuf>,
    /// Put before conversations that have no system message; an empty one removes the packed one
    #[arg(long, visible_alias = "system", value_name = "TEXT", help_heading = "Answer")]
    system_prompt: Option<String>,
    /// Do not open the chat page in a browser
    #[arg(long, help_heading = "Server")]
    no_browser: bool,
    /// Let web pages of this origin use the API (such as http://localhost:3000; `*`: all); may be given again
    #[arg(long, value_name = "ORIGIN", help_heading = "Server")]
    cors: Vec<String>,
    /// Accept requests with this Host header, as a reverse proxy sends them; may be given again
    #[arg(long, value_name = "NAME", help_heading = "Server")]
    allow_host: Vec<String>,
    /// Accept only requests with one of the keys in FILE, one per line
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    api_key_file: Option<PathBuf>,
    /// Let anyone who can reach the address of --host use the server without a key
    #[arg(long, help_heading = "Server", conflicts_with = "api_key_file")]
    no_auth: bool,
    /// Keep the prompt caches of clients without a key apart, one per connection [default: they share one]
    #[arg(long, help_heading = "Server")]
    isolate: bool,
    /// Listen on a Unix socket that only this user may connect to, in place of a port
    #[cfg(unix)]
    #[arg(long, value_name = "PATH", help_heading = "Server", conflicts_with_all = ["host", "port"])]
    socket: Option<PathBuf>,
    /// Defaults for requests that set none.
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// An address to listen on; `localhost` is accepted without a DNS lookup.
#[derive(Clone, Copy, Debug)]
struct Address(IpAddr);

const LOCALHOST: Address = Address(IpAddr::V4(Ipv4Addr::LOCALHOST));

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ip = satchel_container::settings::host_address(text);
        ip.map(Self).ok_or_else(|| "it must be an IP address, such as 127.0.0.1 or 0.0.0.0".to_string())
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let mut options = OpenOptions {
        context: args.context,
        parallel: args.parallel,
        kept: args.cache_ram.map_or(Kept::Spare, |Size(bytes)| Kept::Bytes(bytes)),
        // The page and `/health` are there while a GPU is looked for and weights go up.
        gpu_beside: true,
        ..args.cache.apply(args.model.options())
    };
    let source = ModelSource::of(&options).map_err(|error| match error {
        SourceError::NoModel => Failure::usage(NOTHING_TO_RUN),
        other => Failure::new(other.to_string()),
    })?;
    // Bind before loading: a port in use fails at once, and early clients wait in the listen backlog.
    let server = bind(&args, source.packed.as_ref().map(|packed| &packed.manifest().defaults.settings))?;
    stop_on_signals(&server)?;
    crate::mapping::go_on_when_damaged();
    options.cache_file = args.cache_file.clone().map(|path| CacheFile {
        path,
        callers: server.lasting_callers(),
        tell: |line| notice!("satchel: {line}"),
    });
    if is_embedding_model(&source) {
        if args.cache_file.is_some() {
            return Err(Failure::usage("--cache-file is for models that answer: an embedding model keeps nothing"));
        }
        return embeddings::serve(server, &source, &options, &args);
    }
    let mut session = args.check.open(source, &options)?;
    args.template.apply(&mut session)?;
    session.defaults.sampling = args.sampling.apply(&session.defaults.sampling)?;
    session.defaults.max_tokens = args.sampling.max_tokens.or(session.defaults.max_tokens);
    if let Some(system_prompt) = &args.system_prompt {
        session.set_system_prompt(Some(system_prompt.clone()).filter(|text| !text.is_empty()));
    }
    session.check.on_damage(|line| notice!("satchel: {line}"));
    session.defaults.overflow = args.overflow.unwrap_or_default();
    session.defaults.reasoning_budget = args.reasoning_budget;
    let page = page(&session)?;
    let reach = Reach::of(&server, &args)?;
    let block = block(&session.facts, &server, &reach);
    let notes = session.facts.memory_warning.clone().into_iter();
    let notes: Vec<String> =
        notes.chain(session.template.as_ref().err().map(|line| shown_text(line).into_owned())).collect();
    // Other users can read a process's arguments, so this link works only once.
    let opens = reach.address.filter(|_| !args.no_browser && has_display());
    let url = opens.map(|address| format!("{}#launch={}", base_url(address), server.launch_secret(true)));
    let announce = move |gpu: &str| {
        say(&block.replace(GPU, &shown_on_one_line(gpu)));
        notes.iter().for_each(|line| notice!("satchel: {line}"));
        reach.warn();
        // Starting a browser can take seconds, hence the thread.
        if let Some(url) = url {
            let opening = std::thread::Builder::new().name("browser".to_owned());
            if let Err(error) = opening.spawn(move || browser::open(&url)) {
                notice!("satchel: cannot start a thread to open a browser ({error}): open the address yourself");
            }
        }
    };
    let gpu = Arc::clone(&session.facts.gpu);
    if gpu.is_decided() {
        announce(&gpu.said());
    } else {
        let (gpu, stopper) = (Arc::clone(&gpu), server.stopper()?);
        let decide = move || match gpu.decided() {
            Some(said) => {
                announce(&said);
                if gpu.loaded().is_some() {
                    stopper.stop();
                }
            }
            None => stopper.stop(),
        };
        let thread = std::thread::Builder::new().name("announce".to_owned());
        thread.spawn(decide).map_err(|error| Failure::new(format!("cannot start a thread: {error}")))?;
    }
    server.run(session, page);
    gpu.failure().map_or(Ok(()), |line| Err(Failure::new(line)))
}

/// The bundle's page if it has one, else the embedded one.
fn page(session: &Session) -> Result<Assets, Failure> {
    let Some(packed) = &session.packed else { return Ok(Assets::embedded(&PAGE)) };
    let mut files = Vec::new();
    for entry in packed.bundle.entries() {
        if let Some(name) = entry.name.strip_prefix("ui/") {
            let content = packed.bundle.read(&packed.file, entry)?;
            files.push((name.to_owned(), content.into_owned()));
        }
    }
    Ok(if files.is_empty() { Assets::embedded(&PAGE) } else { Assets::from_files(files) })
}

/// Binds the requested socket or port, or the first free port starting at the bundle's (or 8080).
fn bind(args: &Args, packed: Option<&Settings>) -> Result<Server, Failure> {
    let keys = args.api_key_file.as_deref().map(read_keys).transpose()?.unwrap_or_default();
    let options = |endpoint| Options {
        endpoint,
        limits: Limits::default(),
        allowed_hosts: args.allow_host.clone(),
        allowed_origins: args.cors.clone(),
        keys: keys.clone(),
        isolate: args.isolate,
    };
    #[cfg(unix)]
    if let Some(path) = &args.socket {
        return Server::bind(options(Endpoint::Unix(path.clone()))).map_err(|error| cannot_bind(path, &error));
    }
    // A packed file may only choose a loopback address; others are up to the user.
    let packed_host = || packed?.host.as_deref()?.parse().ok().filter(|Address(ip)| ip.is_loopback());
    let Address(ip) = args.host.or_else(packed_host).unwrap_or(LOCALHOST);
    if !ip.is_loopback() && keys.is_empty() && !args.no_auth {
        return Err(Failure::usage(format!(
            "other machines can reach {ip}: name a file of keys with --api-key-file, or let everyone in with --no-auth"
        )));
    }
    let first = args.port.or(packed.and_then(|settings| settings.port)).unwrap_or(FIRST_PORT);
    let last = args.port.unwrap_or(first.saturating_add(PORTS_TRIED));
    for port in first..=last {
        let address = SocketAddr::new(ip, port);
        match Server::bind(options(Endpoint::Tcp(address))) {
            Ok(server) => return Ok(server),
            Err(error) if is_taken(&error) && args.port.is_none() => {}
            Err(error) => return Err(cannot_listen(address, &error)),
        }
    }
    Err(Failure::new(format!("the ports {first} to {last} of {ip} are all in use; choose another with --port")))
}

/// The keys in a file, one per line; empty lines and lines that begin with `#` are skipped.
fn read_keys(path: &Path) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    let lines = text.strip_prefix('\u{feff}').unwrap_or(&text).lines().map(str::trim);
    let keys: Vec<String> =
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect();
    if keys.is_empty() {
        return Err(Failure::usage(format!("{}: there is no key in it; write one per line", path.display())));
    }
    if let Some(at) = keys.iter().position(|key| !key.bytes().all(|byte| byte.is_ascii_graphic())) {
        let line = format!("{}: key {} has a space or a non-ASCII character in it", path.display(), at + 1);
        return Err(Failure::usage(line));
    }
    Ok(keys)
}

#[cfg(unix)]
fn cannot_bind(path: &Path, error: &std::io::Error) -> Failure {
    let advice = match error.kind() {
        ErrorKind::AddrInUse => {
            "something listens there already, or it is another file; choose another path".to_string()
        }
        _ => error.to_string(),
    };
    Failure::new(format!("cannot listen on {}: {advice}", path.display()))
}

/// Whether to try another port. Windows reports ports in its reserved ranges as permission denied.
fn is_taken(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::AddrInUse || (cfg!(windows) && error.kind() == ErrorKind::PermissionDenied)
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Failure {
    let advice = match error.kind() {
        ErrorKind::AddrInUse => "it is in use; stop what uses it, or choose another with --port".to_string(),
        ErrorKind::AddrNotAvailable => {
            "this machine does not have that address; choose another with --host".to_string()
        }
        ErrorKind::PermissionDenied if cfg!(windows) => {
            "Windows reserves that port; choose another with --port".to_string()
        }
        ErrorKind::PermissionDenied => {
            "this user may not listen there; choose a port above 1023 with --port".to_string()
        }
        _ => error.to_string(),
    };
    Failure::new(format!("cannot listen on {address}: {advice}"))
}

/// First signal: shut down cleanly. Second: exit at once with status 130.
fn stop_on_signals(server: &Server) -> Result<(), Failure> {
    let stopper = server.stopper()?;
    let asked = AtomicBool::new(false);
    signals::on_end(move || {
        if asked.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        stopper.stop();
    })
    .map_err(|error| Failure::new(format!("cannot watch for Ctrl-C: {error}")))
}

/// The address for a browser on this machine: loopback in place of an unspecified one.
fn shown(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), address.port()),
        _ => address,
    }
}

fn base_url(address: SocketAddr) -> String {
    format!("http://{}/", shown(address))
}

/// Stands for what is said of the GPU.
const GPU: &str = "\u{1}";

/// What is printed once the server can answer, with [`GPU`] in it.
fn block(facts: &Facts, server: &Server, reach: &Reach) -> String {
    let requests = Limits::default().memory_bytes();
    let memory = match &facts.memory {
        Some(memory) => format!(
            "{} at most: {} mapped from the file, {} for the context, {} to work in; requests may take {} more, kept conversations {}",
            bytes(memory.total_bytes()),
            bytes(memory.file_bytes),
            bytes(memory.kv_bytes),
            bytes(memory.working_bytes()),
            bytes(requests),
            bytes(facts.kept_bytes),
        ),
        None => format!("{} mapped from the file; requests may take {}", bytes(facts.file_bytes), bytes(requests)),
    };
    let places = match (reach.address, server.socket()) {
        (Some(address), _) => {
            let url = base_url(address);
            format!("chat      {url}#launch={}\n  API       {url}v1", server.launch_secret(false))
        }
        (None, path) => format!("socket    {}", path.unwrap_or_default()),
    };
    let cache = kept_in(facts.cache);
    let note = facts.context_note.as_ref().map_or(String::new(), |note| format!(", {note}"));
    let trained = match facts.trained_context.cmp(&facts.context_length) {
        std::cmp::Ordering::Greater => format!(" (the model was trained on {})", facts.trained_context),
        _ => String::new(),
    };
    format!(
        "\n{name}\n\
         \n  model     {architecture}, {parameters} parameters, {size}\
         \n  memory    {memory}\
         \n  runs on   {isa}, {threads} {thread_word}\
         \n  GPU       {gpu}\
         \n  context   {context} tokens{trained}{cache}, {parallel} at once{note}\
         {warm}\
         \n  {places}\
         \n  reach     {reach}\
         \n\nCtrl-C stops it.\n\n",
        name = shown_on_one_line(&facts.name),
        architecture = shown_on_one_line(&facts.architecture),
        parameters = count(facts.parameters),
        size = bytes(facts.file_bytes),
        isa = facts.isa,
        gpu = GPU,
        threads = facts.threads,
        thread_word = if facts.threads == 1 { "thread" } else { "threads" },
        context = facts.context_length,
        warm = facts.warm_words().map_or(String::new(), |words| format!("\n  prompt    {words}")),
        parallel = facts.parallel,
        reach = reach.words(),
    )
}

/// Writes the first block. The server runs even if stdout cannot be written.
fn say(block: &str) {
    if let Err(failure) = out::bytes(block.as_bytes()) {
        notice!("satchel: {}", failure.message);
    }
}

/// 134515008 -> "134.5 M"
fn count(number: u64) -> String {
    scaled(number, 1000.0, &["", " K", " M", " B", " T"])
}

/// 94371840 -> "90.0 MiB"
fn bytes(number: u64) -> String {
    scaled(number, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

fn scaled(number: u64, step: f64, units: &[&str]) -> String {
    let mut value = number as f64;
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = usize::from(unit > 0);
    format!("{value:.digits$}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let parse = |text: &str| text.parse::<Address>().map(|address| address.0.to_string());
        assert_eq!(parse("localhost").unwrap(), "127.0.0.1");
        assert_eq!(parse("[::1]").unwrap(), "::1");
        assert!(parse("example.com").unwrap_err().contains("IP address"));
    }

    #[test]
    fn keys_are_read_from_lines() {
        let folder = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            let path = folder.path().join("keys");
            std::fs::write(&path, text).unwrap();
            read_keys(&path).map_err(|failure| (failure.code, failure.message))
        };
        assert_eq!(read("\u{feff}# ours\r\none \r\n\r\ntwo").unwrap(), ["one", "two"]);
        assert!(read("# none\n").is_err_and(|(code, line)| code == 2 && line.contains("no key")));
        assert!(read("a b\n").is_err_and(|(code, line)| code == 2 && line.contains("key 1")));
        assert!(read_keys(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn figures_are_readable() {
        assert_eq!(count(134_515_008), "134.5 M");
        assert_eq!(bytes(94_371_840), "90.0 MiB");
        assert_eq!(bytes(512), "512 B");
    }

    #[test]
    fn unspecified_addresses_are_shown_as_loopback() {
        assert_eq!(shown("0.0.0.0:8080".parse().unwrap()).to_string(), "127.0.0.1:8080");
        assert_eq!(shown("[::]:80".parse().unwrap()).to_string(), "[::1]:80");
        assert_eq!(shown("10.0.0.1:80".parse().unwrap()).to_string(), "10.0.0.1:80");
    }
}
