//! `satchel run`: one prompt, one answer. Only the answer goes to stdout, so that it works in a pipe.

use std::io::{IsTerminal, Write};
use std::path::Path;

use serde_json::json;

use super::Failure;
use super::answer::{Interrupt, stream};
use super::cache_args::CacheArgs;
use super::format_args::FormatArgs;
use super::model_args::{CheckArgs, ModelArgs};
use super::out::{self, notice};
use super::sampling_args::SamplingArgs;
use super::template_args::TemplateArgs;
use super::text_input::read_text;
use crate::TokenId;
use crate::chat::RenderRequest;
use crate::chat::tools::Tools;
use crate::session::{ModelSource, OpenOptions, Overflow, OverflowPolicy, Reading, Session, StopReason, TextRequest};

/// Exit status of a program ended by Ctrl-C (128 + SIGINT).
const INTERRUPTED: u8 = 130;

/// Arguments of `run`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {
    /// What to ask; text piped in is appended on a new line, or is the whole prompt if none is given or it is - (one line
    /// break at its end is dropped)
    prompt: Option<String>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    check: CheckArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    template: TemplateArgs,
    /// Tokens that prompt and answer may hold together [default: what the model was trained on, 32768 at most]
    #[arg(short, long, value_name = "TOKENS", help_heading = "Model")]
    context: Option<usize>,
    /// What happens when the context is full: `stop` ends the answer, `shift` keeps the system prompt and drops the older half of
    /// the rest, which is read again, and says so [default: stop]
    #[arg(long, value_name = "POLICY", help_heading = "Model")]
    overflow: Option<OverflowPolicy>,
    /// How the model should behave
    #[arg(long, visible_alias = "system-prompt", value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    /// Continue the prompt as it is, without the chat template
    #[arg(long)]
    raw: bool,
    /// End the answer before this text; may be given again
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let prompt = read_prompt(args.prompt.as_deref())?;
    let options = OpenOptions { context: args.context, parallel: Some(1), ..args.cache.apply(args.model.options()) };
    let mut session = args.check.open(ModelSource::of(&options)?, &options)?;
    args.template.apply(&mut session)?;
    session.defaults.overflow = args.overflow.unwrap_or_default();
    super::chat::tell_context(&session.facts);
    super::chat::tell_gpu(&options.gpu, &session.facts.gpu);
    let (prompt, overflow) = tokens(&session, &prompt, &args)?;
    let reasoning = if args.raw { None } else { session.output.reasoning(&session.tail(&prompt)) };
    let request = TextRequest {
        prompt,
        reasoning,
        overflow,
        adapters: session.all_adapters(),
        sampling: args.sampling.apply(&session.defaults.sampling)?,
        max_tokens: args.sampling.max_tokens.or(session.defaults.max_tokens),
        stop: args.stop,
        is_answer: !args.raw,
        grammar: args.format.compile(&session)?,
        ..Default::default()
    };
    let interrupt = Interrupt::install()?;
    let mut out = std::io::stdout().lock();
    let reading = if args.raw { Reading::default() } else { Reading::new(&session, Tools::default(), &request.prompt) };
    let answer = stream(session.generate(request)?, reading.reader(), &mut out, &interrupt)?;
    if !answer.text.ends_with('\n') {
        out::outcome(writeln!(out).and_then(|()| out.flush()))?;
    }
    if answer.interrupted {
        return Err(Failure { message: "stopped by Ctrl-C".into(), code: INTERRUPTED });
    }
    let context = session.facts.context_length;
    if let Some(shifted) =
        answer.finished.as_ref().map(|finished| finished.engine.shifted_tokens).filter(|count| *count > 0)
    {
        notice!("satchel: the context of {context} tokens was full; {shifted} of the oldest were dropped");
    }
    if let Some(StopReason::ContextFull) = answer.finished.map(|finished| finished.reason) {
        notice!("satchel: the answer ends here because the context of {context} tokens is full");
    }
    Ok(())
}

/// The prompt argument followed by piped input. With an argument, a terminal is not read: the prompt is already complete.
fn read_prompt(argument: Option<&str>) -> Result<String, Failure> {
    let given = argument.filter(|&prompt| prompt != "-");
    let is_terminal = std::io::stdin().is_terminal();
    if argument.is_none() && is_terminal {
        return Err(Failure::usage("there is no prompt; give one (run \"Why is the sky blue?\") or pipe it in"));
    }
    let piped = if given.is_some() && is_terminal { String::new() } else { read_text(Path::new("-"))? };
    let piped = piped.strip_suffix('\n').map_or(&*piped, |text| text.strip_suffix('\r').unwrap_or(text));
    let prompt = match given {
        Some(given) if piped.is_empty() => given.to_owned(),
        Some(given) => format!("{given}\n{piped}"),
        None => piped.to_owned(),
    };
    if prompt.is_empty() { Err(Failure::usage("the prompt is empty")) } else { Ok(prompt) }
}

fn tokens(session: &Session, prompt: &str, args: &Args) -> Result<(Vec<TokenId>, Overflow), Failure> {
    if args.raw {
        let tokens = session.text_prompt(prompt)?;
        let overflow = session.text_overflow(&tokens);
        return Ok((tokens, overflow));
    }
    let system = args.system.iter().map(|text| json!({"role": "system", "content": text}));
    let messages = system.chain([json!({"role": "user", "content": prompt})]).collect();
    let request = RenderRequest { messages, add_generation_prompt: true, ..Default::default() };
    let tokens = session.chat_prompt(&request)?;
    let overflow = session.chat_overflow(&request, &tokens);
    Ok((tokens, overflow))
}
