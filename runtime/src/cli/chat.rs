//! `satchel chat`: a conversation in the terminal.
//!
//! Answers go to stdout and everything else to stderr, so that it also works in a pipe: each input line is a message,
//! followed by its answer. Only `/save` and `--history` write to disk.

mod command;
mod conversation;
mod input;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use super::Failure;
use super::answer::{Answer, Interrupt, stream};
use super::cache_args::{CacheArgs, kept_in};
use super::model_args::{CheckArgs, ModelArgs};
use super::out::{self, notice};
use super::sampling_args::SamplingArgs;
use super::shown::{shown, shown_on_one_line};
use super::template_args::TemplateArgs;
use crate::chat::RenderRequest;
use crate::chat::tools::Tools;
use crate::engine::Finished;
use crate::sampling::SamplingParams;
use crate::session::gpu::{GpuChoice, GpuStatus};
use crate::session::{
    Facts, ModelSource, OpenOptions, OverflowPolicy, Reader, Reading, Session, StopReason, SubmitError, TextGeneration,
    TextRequest,
};
use command::{Command, HELP};
use conversation::Conversation;
use input::{Input, Lines};

/// Arguments of `chat`.
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
    /// Tokens that the conversation may hold [default: what the model was trained on, 32768 at most]
    #[arg(short, long, value_name = "TOKENS", help_heading = "Model")]
    context: Option<usize>,
    /// What happens when the context is full: `stop` ends the answer, `shift` keeps the system prompt and drops the older half of
    /// the rest, which is read again, and says so [default: stop]
    #[arg(long, value_name = "POLICY", help_heading = "Model")]
    overflow: Option<OverflowPolicy>,
    /// How the model should behave; an empty text removes the packed file's system prompt
    #[arg(long, visible_alias = "system-prompt", value_name = "TEXT")]
    system: Option<String>,
    /// Go on with a conversation that /save wrote
    #[arg(long, value_name = "FILE.json")]
    load: Option<PathBuf>,
    /// Keep the lines you type in this file, for the next time [default: they are kept until you leave]
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Keep no history of lines, not even until you leave
    #[arg(long, conflicts_with = "history")]
    no_history: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let options = OpenOptions { context: args.context, parallel: Some(1), ..args.cache.apply(args.model.options()) };
    crate::mapping::go_on_when_damaged();
    let mut session = args.check.open(ModelSource::of(&options)?, &options)?;
    args.template.apply(&mut session)?;
    session.defaults.overflow = args.overflow.unwrap_or_default();
    tell_gpu(&options.gpu, &session.facts.gpu);
    if let Err(line) = &session.template {
        return Err(Failure::new(line.clone()));
    }
    // From here on the conversation owns the system prompt, so that /system can remove it.
    if args.system.is_some() {
        session.set_system_prompt(args.system.clone());
    }
    let system = session.defaults.system_prompt.take();
    let mut conversation = Conversation::default();
    conversation.set_system(system.as_deref().unwrap_or_default());
    if let Some(path) = &args.load {
        conversation = Conversation::load(path)?;
    }
    let mut chat = Chat {
        sampling: args.sampling.apply(&session.defaults.sampling)?,
        max_tokens: args.sampling.max_tokens.or(session.defaults.max_tokens),
        session,
        conversation,
        interrupt: Interrupt::install()?,
        answers: 0,
        told_shift: false,
        last: None,
    };
    tell_context(&chat.session.facts);
    let mut input = Input::new(args.history.as_deref(), args.no_history)?;
    if input.is_terminal() {
        let facts = &chat.session.facts;
        let cache = kept_in(facts.cache);
        let name = shown_on_one_line(&facts.name);
        notice!("{name}, a context of {} tokens{cache}. /help lists the commands.", facts.context_length);
    }
    loop {
        match input.message()? {
            Lines::End => return Ok(()),
            Lines::Cancelled => notice!("(Ctrl-D or /exit leaves)"),
            Lines::NotText => notice!("(this was not UTF-8 text; it was not sent)"),
            Lines::Message(text) => {
                if chat.take(&text)? == Next::Leave {
                    return Ok(());
                }
            }
        }
    }
}

/// Says which GPU computes, or why none, if the user asked for one or if there is one.
pub(super) fn tell_gpu(asked: &GpuChoice, status: &GpuStatus) {
    if asked.is_told(status) {
        notice!("GPU: {}", shown_on_one_line(&status.said()));
    }
}

/// Says on stderr where memory limits the context.
pub(super) fn tell_context(facts: &Facts) {
    if let Some(note) = &facts.context_note {
        notice!("satchel: the context holds {} tokens, {note}", facts.context_length);
    }
    if let Some(line) = &facts.memory_warning {
        notice!("satchel: {line}");
    }
    tell_warm(facts);
}

/// Says on stderr that what was computed of the system prompt is not used.
pub(super) fn tell_warm(facts: &Facts) {
    if let (Some(Err(_)), Some(words)) = (&facts.warm, facts.warm_words()) {
        notice!("satchel: the system prompt: {words}");
    }
}

/// Whether the conversation goes on.
#[derive(PartialEq)]
enum Next {
    Go,
    Leave,
}

struct Chat {
    session: Session,
    conversation: Conversation,
    sampling: SamplingParams,
    max_tokens: Option<usize>,
    interrupt: Interrupt,
    /// Answers started so far; added to a fixed seed, so that /regen gives another answer.
    answers: u64,
    /// The user has been told that old messages are dropped.
    told_shift: bool,
    /// Figures of the last answer.
    last: Option<Finished>,
}

impl Chat {
    /// Handles a command or a message. Errors are a line on stderr; only a failing stdout ends the program.
    fn take(&mut self, text: &str) -> Result<Next, Failure> {
        if text.trim().is_empty() {
            return Ok(Next::Go);
        }
        match Command::parse(text) {
            None => {
                let before = self.conversation.clone();
                self.conversation.ask(text.trim());
                return self.answer(before);
            }
            Some(Ok(Command::Exit)) => return Ok(Next::Leave),
            Some(Ok(Command::Regenerate)) => {
                let before = self.conversation.clone();
                if self.conversation.take_back_answer() {
                    return self.answer(before);
                }
                notice!("there is nothing to answer again yet");
            }
            Some(Ok(command)) => {
                if let Err(failure) = self.obey(command) {
                    notice!("{}", shown(&failure.message));
                }
            }
            Some(Err(line)) => notice!("{line}"),
        }
        Ok(Next::Go)
    }

    fn obey(&mut self, command: Command<'_>) -> Result<(), Failure> {
        match command {
            Command::Help => notice!("{}", HELP.trim_end()),
            Command::System(None) => match self.conversation.system() {
                Some(text) => notice!("{}", shown(text)),
                None => notice!("there is no system prompt; /system TEXT sets one"),
            },
            Command::System(Some(text)) => {
                self.conversation.set_system(text);
                notice!("{}", if text.is_empty() { "the system prompt is gone" } else { "the system prompt is set" });
            }
            Command::Undo => match self.conversation.undo() {
                Some(question) => notice!("taken back: {}", shown(&shortened(&question))),
                None => notice!("there is nothing to take back"),
            },
            Command::Clear => {
                self.conversation.clear();
                notice!("the conversation begins anew");
            }
            Command::Save { path, overwrite } => {
                self.conversation.save(Path::new(path), overwrite)?;
                notice!("saved {} messages to {path}", self.conversation.messages().len());
            }
            Command::Load(path) => {
                self.conversation = Conversation::load(Path::new(path))?;
                notice!("loaded {} messages from {path}", self.conversation.messages().len());
            }
            Command::Stats => notice!("{}", self.stats()),
            Command::Exit | Command::Regenerate => unreachable!("taken before"),
        }
        Ok(())
    }

    /// Answers the last question. Without an answer, the conversation is reset to `before`.
    fn answer(&mut self, before: Conversation) -> Result<Next, Failure> {
        let mut out = std::io::stdout().lock();
        let answer =
            self.start().and_then(|(generation, reader)| stream(generation, reader, &mut out, &self.interrupt));
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => {
                self.conversation = before;
                notice!("{}", shown(&failure.message));
                return Ok(Next::Go);
            }
        };
        out::outcome(writeln!(out).and_then(|()| out.flush()))?;
        if out::is_gone() || answer.finished.is_none() {
            return Ok(Next::Leave); // broken pipe
        }
        self.report(&answer);
        if answer.text.is_empty() && answer.interrupted {
            self.conversation = before;
        } else {
            self.conversation.answer(&answer.text, &answer.reasoning);
        }
        self.last = answer.finished.map(|finished| finished.engine);
        Ok(Next::Go)
    }

    fn start(&mut self) -> Result<(TextGeneration, Reader), Failure> {
        if let Some(line) = self.session.check.damage() {
            return Err(Failure::new(line));
        }
        let messages = self.conversation.messages().to_vec();
        let request = RenderRequest { messages, add_generation_prompt: true, ..Default::default() };
        let prompt = self.session.chat_prompt(&request)?;
        let overflow = self.session.chat_overflow(&request, &prompt);
        let reader = Reading::new(&self.session, Tools::default(), &prompt).reader();
        let mut sampling = self.sampling.clone();
        sampling.seed = sampling.seed.map(|seed| seed.wrapping_add(self.answers));
        self.answers += 1;
        let request = TextRequest {
            prompt,
            sampling,
            max_tokens: self.max_tokens,
            is_answer: true,
            adapters: self.session.all_adapters(),
            overflow,
            ..Default::default()
        };
        let generation = self.session.generate(request).map_err(|error| match error {
            SubmitError::PromptTooLong { prompt, context } => Failure::new(format!(
                "the conversation has {prompt} tokens, but the context holds {context}, the answer included: /undo or \
                 /clear makes room, and so does starting with a larger --context"
            )),
            other => other.into(),
        })?;
        Ok((generation, reader))
    }

    /// Says why an answer was cut short.
    fn report(&mut self, answer: &Answer) {
        let context = self.session.facts.context_length;
        let shifted = answer.finished.as_ref().map_or(0, |finished| finished.engine.shifted_tokens);
        if shifted > 0 && !std::mem::replace(&mut self.told_shift, true) {
            notice!(
                "(the context of {context} tokens is full: the oldest {shifted} after the system prompt were dropped, and more \
                 will be; /clear begins anew)"
            );
        }
        match answer.finished.as_ref().map(|finished| &finished.reason) {
            _ if answer.interrupted && answer.text.is_empty() => notice!("(stopped; the message is taken back)"),
            _ if answer.interrupted => notice!("(stopped)"),
            Some(StopReason::MaxTokens) => notice!("(stopped at the answer's limit of tokens)"),
            Some(StopReason::ContextFull) => {
                notice!("(the context of {context} tokens is full: the answer stops here; /undo or /clear makes room)");
            }
            _ => {}
        }
    }

    fn stats(&self) -> String {
        let context = self.session.facts.context_length;
        let Some(last) = &self.last else {
            return format!("no answer yet; the context holds {context} tokens");
        };
        let rate = |tokens: usize, seconds: f64| if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
        let read = last.prompt_tokens - last.cached_tokens;
        format!(
            "context: {} of {context} tokens\nlast prompt: {} tokens, {} of them remembered; {:.1} tokens/s\n\
             last answer: {} tokens; {:.1} tokens/s; seed {}",
            last.prompt_tokens + last.generated_tokens,
            last.prompt_tokens,
            last.cached_tokens,
            rate(read, last.prefill_seconds),
            last.generated_tokens,
            rate(last.generated_tokens.saturating_sub(1), last.decode_seconds),
            last.seed,
        )
    }
}

/// The first line of a text, shortened for a notice.
fn shortened(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let shown: String = line.chars().take(60).collect();
    if shown.len() < text.len() { shown + "…" } else { shown }
}

/// Whether the session is interactive: stdin and stdout are both terminals.
fn at_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}
