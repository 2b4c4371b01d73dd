//! `satchel serve`, and what a packed file does without arguments: the server and the chat page.
//!
//! Everything it has to say is one block on stdout, written when the server can answer. Ctrl-C or SIGTERM ends running
//! answers properly and exits with 0; a second one exits at once.

mod embeddings;

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use satchel_container::Settings;

use super::cache_args::{CacheArgs, kept_in};
use super::environment::has_display;
use super::model_args::ModelArgs;
use super::sampling_args::SamplingArgs;
use super::shown::{shown as shown_text, shown_on_one_line};
use super::template_args::TemplateArgs;
use super::{Failure, browser, signals};
use crate::server::page::PAGE;
use crate::server::{Assets, Limits, Options, Server};
use crate::session::embedding::is_embedding_model;
use crate::session::{Facts, ModelSource, OpenOptions, Session, SourceError};

/// The port that is tried first when none is asked for, and how many after it.
const FIRST_PORT: u16 = 8080;
const PORTS_TRIED: u16 = 100;

/// What a program without a model says when it is asked for nothing.
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
    /// Answers generated at once; more wait for their turn [default: 4]
    #[arg(long, value_name = "N", help_heading = "Model")]
    parallel: Option<usize>,
    /// Put before conversations that have no system message; an empty one takes the packed one away
    #[arg(long, visible_alias = "system", value_name = "TEXT", help_heading = "Answer")]
    system_prompt: Option<String>,
    /// Do not open the chat page in a browser
    #[arg(long, help_heading = "Server")]
    no_browser: bool,
    /// Let web pages of this origin use the API (such as http://localhost:3000; `*`: all); may be given again
    #[arg(long, value_name = "ORIGIN", help_heading = "Server")]
    cors: Vec<String>,
    /// Take requests that name this host, as a reverse proxy sends them; may be given again
    #[arg(long, value_name = "NAME", help_heading = "Server")]
    allow_host: Vec<String>,
    /// What holds where a request says nothing.
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// An address to listen on; `localhost` is one too, without asking a name server.
#[derive(Clone, Copy, Debug)]
struct Address(IpAddr);

const LOCALHOST: Address = Address(IpAddr::V4(Ipv4Addr::LOCALHOST));

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("localhost") {
            return Ok(LOCALHOST);
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        bare.parse().map(Self).map_err(|_| "it must be an IP address, such as 127.0.0.1 or 0.0.0.0".to_string())
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let options =
        OpenOptions { context: args.context, parallel: args.parallel, ..args.cache.apply(args.model.options()) };
    let source = ModelSource::open(options.model.as_deref()).map_err(|error| match error {
        SourceError::NoModel => Failure::usage(NOTHING_TO_RUN),
        other => Failure::new(other.to_string()),
    })?;
    // Before the weights are placed: a port in use is said at once, and early clients wait in the socket's queue.
    let server = bind(&args, source.packed.as_ref().map(|packed| &packed.manifest().defaults.settings))?;
    stop_on_signals(&server)?;
    if is_embedding_model(&source) {
        return embeddings::serve(server, &source, &options);
    }
    let mut session = Session::from_source(source, &options)?;
    args.template.apply(&mut session)?;
    session.defaults.sampling = args.sampling.apply(&session.defaults.sampling)?;
    session.defaults.max_tokens = args.sampling.max_tokens.or(session.defaults.max_tokens);
    if let Some(system_prompt) = args.system_prompt {
        session.defaults.system_prompt = Some(system_prompt).filter(|text| !text.is_empty());
    }
    let page = page(&session)?;
    let address = server.local_addr()?;
    let url = format!("http://{}/", shown(address));
    announce(&session.facts, address, &url);
    if let Err(line) = &session.template {
        eprintln!("satchel: {}", shown_text(line));
    }
    if !args.no_browser && has_display() {
        // Starting a browser can take seconds; the server answers meanwhile.
        std::thread::spawn(move || browser::open(&url));
    }
    server.run(session, page);
    Ok(())
}

/// The page: the bundle's own, or the one in this program.
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

/// Binds the port that was asked for, or the first free one from the bundle's (or 8080) on.
fn bind(args: &Args, packed: Option<&Settings>) -> Result<Server, Failure> {
    let packed_host = || match packed.and_then(|settings| settings.host.as_deref()) {
        Some(host) => host.parse().map_err(|error| Failure::new(format!("the packed setting host={host}: {error}"))),
        None => Ok(LOCALHOST),
    };
    let Address(ip) = args.host.map_or_else(packed_host, Ok)?;
    let first = args.port.or(packed.and_then(|settings| settings.port)).unwrap_or(FIRST_PORT);
    let last = args.port.unwrap_or(first.saturating_add(PORTS_TRIED));
    for port in first..=last {
        let address = SocketAddr::new(ip, port);
        let options = Options {
            address,
            limits: Limits::default(),
            allowed_hosts: args.allow_host.clone(),
            allowed_origins: args.cors.clone(),
        };
        match Server::bind(options) {
            Ok(server) => return Ok(server),
            Err(error) if is_taken(&error) && args.port.is_none() => {}
            Err(error) => return Err(cannot_listen(address, &error)),
        }
    }
    Err(Failure::new(format!("the ports {first} to {last} of {ip} are all in use; choose another with --port")))
}

/// Whether another port may do. Windows refuses the ports that it keeps for itself, in whole ranges, as not permitted.
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
            "Windows keeps that port for itself; choose another with --port".to_string()
        }
        ErrorKind::PermissionDenied => {
            "this user may not listen there; choose a port above 1023 with --port".to_string()
        }
        _ => error.to_string(),
    };
    Failure::new(format!("cannot listen on {address}: {advice}"))
}

/// First signal: stop properly. Second: exit with the shell's code for an interrupted program.
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

/// The address to type into a browser on this machine.
fn shown(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), address.port()),
        _ => address,
    }
}

fn announce(facts: &Facts, address: SocketAddr, url: &str) {
    let memory = match &facts.memory {
        Some(memory) => format!(
            "{} at most: {} mapped from the file, {} for the context, {} to work in",
            bytes(memory.total_bytes()),
            bytes(memory.file_bytes),
            bytes(memory.kv_bytes),
            bytes(memory.working_bytes()),
        ),
        None => format!("{} mapped from the file", bytes(facts.file_bytes)),
    };
    let cache = kept_in(facts.cache);
    let trained = match facts.trained_context.cmp(&facts.context_length) {
        std::cmp::Ordering::Greater => format!(" (the model was trained on {})", facts.trained_context),
        _ => String::new(),
    };
    let reach = match (address.ip().is_unspecified(), address.ip().is_loopback()) {
        (true, _) => "every network this machine is in",
        (_, true) => "this machine only",
        _ => "the network of this address",
    };
    let text = format!(
        "\n{name}\n\
         \n  model     {architecture}, {parameters} parameters, {size}\
         \n  memory    {memory}\
         \n  runs on   {isa}, {threads} {thread_word}\
         \n  context   {context} tokens{trained}{cache}, {parallel} at once\
         \n  chat      {url}\
         \n  API       {url}v1\
         \n  reach     {reach}\
         \n\nCtrl-C stops it.\n\n",
        name = shown_on_one_line(&facts.name),
        architecture = shown_on_one_line(&facts.architecture),
        parameters = count(facts.parameters),
        size = bytes(facts.file_bytes),
        isa = facts.isa,
        threads = facts.threads,
        thread_word = if facts.threads == 1 { "thread" } else { "threads" },
        context = facts.context_length,
        parallel = facts.parallel,
    );
    // A closed stdout is no reason not to serve.
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
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
    fn figures_are_readable() {
        assert_eq!(count(134_515_008), "134.5 M");
        assert_eq!(bytes(94_371_840), "90.0 MiB");
        assert_eq!(bytes(512), "512 B");
    }

    #[test]
    fn the_url_can_be_opened_here() {
        assert_eq!(shown("0.0.0.0:8080".parse().unwrap()).to_string(), "127.0.0.1:8080");
        assert_eq!(shown("[::]:80".parse().unwrap()).to_string(), "[::1]:80");
        assert_eq!(shown("10.0.0.1:80".parse().unwrap()).to_string(), "10.0.0.1:80");
    }
}
