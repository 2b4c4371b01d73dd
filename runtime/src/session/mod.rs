//! An open model at the level of text: an engine with its tokenizer, chat template and defaults.
//!
//! `server` and the terminal commands build on this. Below it there are only token ids; above it only text, messages and
//! events.

pub mod adapters;
pub mod available;
mod calling;
pub mod card;
pub mod check;
pub mod context;
mod draft;
pub mod embedding;
pub mod generation;
pub mod gpu;
pub mod hardware;
mod indent;
pub mod labels;
pub mod memory;
pub mod open;
pub mod prompt;
pub mod reading;
pub mod source;
mod store;
pub mod text;
pub mod warm;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::TokenId;
use crate::chat::output::{OutputFormat, ReasoningMarks};
use crate::chat::{ChatTemplate, builtin};
pub use crate::engine::Overflow;
use crate::engine::{Companions, Engine, EngineOptions, Request};
use crate::grammar::{Calls, Channelled, Either, Grammar, Grammars, Reasoned};
use crate::plan::{AdapterSet, CacheType, CacheTypes, Plan};
use crate::sampling::{Constraint, Infill, SamplingParams, TokenTexts};
use crate::tokenizer::Tokenizer;

pub use crate::engine::SubmitError;
pub use adapters::{AdapterFile, AdapterOption};
pub use card::Card;
pub use check::{WeightCheck, Weights};
use generation::Stops;
pub use generation::{StopReason, TextEvent, TextFinished, TextGeneration, TextPiece, TextToken};
pub use gpu::GpuStatus;
pub use hardware::Cpus;
pub use memory::{Demand, Memory};
use open::Compute;
pub use open::{CacheFile, Kept, OpenError, OpenOptions, Speculation};
pub use prompt::{Gap, OverflowPolicy};
pub use reading::{Delta, Reader, Reading};
pub use source::{ModelSource, Packed, SourceError};

/// An open model, ready to answer.
pub struct Session {
    /// Generates token ids.
    pub engine: Engine,
    /// Text to ids and back.
    pub tokenizer: Arc<Tokenizer>,
    /// What answers can be made to follow.
    pub grammars: Arc<Grammars>,
    /// Messages to text; an error line if the model has no usable template.
    pub template: Result<ChatTemplate, String>,
    /// How answers write reasoning and tool calls.
    pub output: OutputFormat,
    /// Control tokens that mean something in it.
    marks: Arc<[TokenId]>,
    /// Name of the built-in template used because the model has none.
    pub built_in_template: Option<&'static str>,
    /// Whether control tokens spelled out in messages are encoded as such.
    pub special_in_user_text: bool,
    /// Properties of the model and its configuration.
    pub facts: Facts,
    /// Used where a request sets nothing.
    pub defaults: Defaults,
    /// The bundle it came from.
    pub packed: Option<Packed>,
    /// Names of the adapters, in the order of an [`AdapterSet`].
    pub adapters: Vec<String>,
    /// The factor that each was loaded with.
    pub adapter_scales: Vec<f32>,
    /// Verification of the weights against the manifest.
    pub check: Arc<WeightCheck>,
}

/// Properties of a session's model and its configuration.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The model's name.
    pub name: String,
    /// Name of the file that it came from, without its folder.
    pub file: String,
    /// `general.architecture`
    pub architecture: String,
    /// Number of elements of all tensors.
    pub parameters: u64,
    /// Size of the GGUF.
    pub file_bytes: u64,
    /// Context length of a sequence, in tokens.
    pub context_length: usize,
    /// Why memory made it shorter than the default.
    pub context_note: Option<String>,
    /// That memory may not suffice.
    pub memory_warning: Option<String>,
    /// Positions the model was trained on.
    pub trained_context: usize,
    /// Name of the kernel table.
    pub isa: &'static str,
    /// Which GPU is used, or why none.
    pub gpu: Arc<GpuStatus>,
    /// Number of compute threads.
    pub threads: usize,
    /// Maximum number of concurrent sequences.
    pub parallel: usize,
    /// How keys and values are stored.
    pub cache: CacheTypes,
    /// Time of opening, in Unix seconds.
    pub created: u64,
    /// Predicted peak memory.
    pub memory: Option<Memory>,
    /// Memory for conversations that are kept beyond the running ones.
    pub kept_bytes: u64,
    /// How many tokens of the system prompt its file has computed, or why they are not used; `None`: it has none.
    pub warm: Option<Result<usize, String>>,
    /// What its file says of itself.
    pub card: Arc<Card>,
}

impl Facts {
    /// What was computed of the system prompt is of no use any more.
    fn drop_warm(&mut self, why: &str) {
        if let Some(warm @ Ok(_)) = &mut self.warm {
            *warm = Err(why.to_owned());
        }
    }

    /// What the file has computed of the system prompt, in a few words, if anything.
    pub fn warm_words(&self) -> Option<String> {
        Some(match self.warm.as_ref()? {
            Ok(tokens) => format!("{tokens} tokens of the system prompt are computed already"),
            Err(why) => format!("what the file has computed of it is not used: {why}"),
        })
    }
}

/// Used where a request sets nothing.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// Put before conversations that have no system message.
    pub system_prompt: Option<String>,
    /// Sampling parameters.
    pub sampling: SamplingParams,
    /// Maximum length of an answer, in tokens.
    pub max_tokens: Option<usize>,
    /// What happens when the context is full.
    pub overflow: OverflowPolicy,
    /// Most tokens of reasoning; `None`: no limit.
    pub reasoning_budget: Option<usize>,
}

/// Why messages could not be turned into a prompt. Each message is one line for the user.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PromptError {
    #[error("{0}")]
    NoTemplate(String),
    #[error("{0}")]
    Template(#[from] crate::chat::TemplateError),
    #[error("{0}")]
    Tokenizer(#[from] crate::tokenizer::TokenizerError),
    #[error("this model cannot fill a gap in a text: its vocabulary has no tokens for that")]
    NoInfill,
}

/// A request for generation.
#[derive(Clone, Debug, Default)]
pub struct TextRequest {
    /// The prompt.
    pub prompt: Vec<TokenId>,
    /// Sampling parameters.
    pub sampling: SamplingParams,
    /// Maximum length of the answer, in tokens; `None`: what the context holds.
    pub max_tokens: Option<usize>,
    /// Stop strings: they end the answer and are not part of it.
    pub stop: Vec<String>,
    /// Once so much time has passed since the first token, the answer ends at the next line feed.
    pub time_limit: Option<Duration>,
    /// A line that is not the first ends the answer, and is not part of it, if fewer blanks and tabs come before its text.
    pub least_indent: usize,
    /// Report log-probabilities, with this many alternatives.
    pub logprobs: Option<usize>,
    /// Of what sampling left to draw from, in place of the model's own.
    pub after_sampling: bool,
    /// Continue past the model's end tokens.
    pub ignore_end: bool,
    /// The output is an answer in a conversation rather than a continued text, so the space that SPM adds before the first
    /// word is dropped.
    pub is_answer: bool,
    /// What the answer must follow.
    pub grammar: Option<Grammar>,
    /// What calls in it must follow. Beside a grammar, an answer is one or the other: calls alone, or what the grammar allows.
    pub calls: Option<Calls>,
    /// What is around the reasoning that comes before what the grammar is about; `None` if there is none.
    pub reasoning: Option<ReasoningMarks>,
    /// Most tokens of reasoning.
    pub reasoning_budget: Option<usize>,
    /// The adapters to use.
    pub adapters: AdapterSet,
    /// What happens when the context is full.
    pub overflow: Overflow,
    /// Identifies the caller; no state is shared between callers. The server derives it from the API key, the page's session
    /// or the connection; callers that cannot be distinguished share 0.
    pub caller: u64,
}

impl Session {
    /// Opens a model. The tokenizer is built while the weights are loaded.
    pub fn open(options: &OpenOptions) -> Result<Self, OpenError> {
        let source = ModelSource::of(options)?;
        Self::from_source(source, options)
    }

    /// Opens a model from an open source. Settings of its bundle apply where `options` sets nothing.
    pub fn from_source(source: ModelSource, options: &OpenOptions) -> Result<Self, OpenError> {
        let options = with_packed_settings(&source, options);
        let compute = options.compute()?;
        let parallel = options.parallel()?;
        let speculate = options.speculation.into();
        let engine_of = |context| EngineOptions { context, parallel, speculate, ..EngineOptions::default() };
        let (tokenizer, built) = concurrently(
            || Tokenizer::from_gguf(&source.gguf.metadata),
            || -> Result<_, OpenError> {
                let demand = |context| {
                    Demand::of_engine(&engine_of(context), compute.threads, compute.cache).on(compute.kernels)
                };
                let (plan, chosen) = context::choose(&source, &options, &demand)?;
                open::check_generates(&source, &plan)?;
                let demand = demand(chosen.context);
                let (loaded, gpu) = gpu::load(&source, compute, plan, demand, &options)?;
                Ok((loaded, gpu, chosen))
            },
        );
        let (loaded, gpu, chosen) = built?;
        let tokenizer = tokenizer.map_err(|error| OpenError::Tokenizer { path: source.path.clone(), error })?;
        let context = chosen.context;
        let mut engine_options = engine_of(context);
        let demand = Demand::of_engine(&engine_options, compute.threads, compute.cache).on(compute.kernels);
        let mut memory = Memory::of_plan(&source, &loaded.plan, demand).ok();
        let mut draft = None;
        if let Some(path) = &options.draft {
            let opened = draft::open(path, (&source, &loaded.plan), compute, &engine_options)?;
            memory = memory.zip(opened.memory).map(|(memory, more)| memory.and(more));
            draft = Some((opened.loaded, opened.context));
        }
        let kept_bytes = match options.kept {
            Kept::Left => 0,
            Kept::Bytes(bytes) => bytes,
            Kept::Spare => memory.as_ref().map_or(0, context::default_kept),
        };
        engine_options.kept = memory::kept_positions(&loaded.plan, kept_bytes, &engine_options, compute.cache);
        let mut facts = Facts {
            kept_bytes,
            context_note: chosen.note,
            memory_warning: chosen.warning,
            gpu,
            ..facts_of(&source, &loaded.plan, compute, (context, parallel), memory)
        };
        let (template, built_in_template) = chat_template(&source.gguf.metadata, &tokenizer);
        let output = output_format(template.as_ref().ok(), &tokenizer);
        let marks = marks(&output, &tokenizer);
        let defaults = packed_defaults(&source);
        let shared = prompt::shared_prefix(template.as_ref().ok(), &tokenizer, defaults.system_prompt.as_deref());
        let store = options.cache_file.as_ref().map(|file| store::open(file, &source, &loaded.plan, compute, context));
        let check = WeightCheck::new(source.packed.as_ref());
        let warm = warm::open(&source, &loaded, compute, &shared, WeightCheck::teller(&check));
        facts.warm = warm.as_ref().map(|warm| warm.as_ref().map(|warm| warm.tokens.len()).map_err(Clone::clone));
        let warm = warm.and_then(Result::ok);
        let limit = match options.kept {
            Kept::Bytes(bytes) => memory::kept_limit(&loaded.plan, bytes, compute.cache),
            Kept::Left | Kept::Spare => None,
        };
        let companions = Companions { store: store.transpose()?, draft, warm, limit };
        let engine = Engine::start_with(loaded, engine_options, shared, companions).map_err(OpenError::Thread)?;
        let tokenizer = Arc::new(tokenizer);
        Ok(Self {
            engine,
            grammars: Arc::new(Grammars::new(Arc::clone(&tokenizer))),
            tokenizer,
            template,
            marks,
            output,
            built_in_template,
            special_in_user_text: false,
            facts,
            defaults,
            adapters: source.adapters.iter().map(|adapter| adapter.name.clone()).collect(),
            adapter_scales: source.adapters.iter().map(|adapter| adapter.scale).collect(),
            packed: source.packed,
            check,
        })
    }

    /// Lets reasoning come before what `inner` is about, and ends it in time. `ends` may not end the answer before it.
    fn reasoned(
        &self,
        marks: &ReasoningMarks,
        budget: Option<usize>,
        inner: Option<Box<dyn Constraint>>,
        ends: Arc<[TokenId]>,
    ) -> Option<Box<dyn Constraint>> {
        let budget = budget.or(self.defaults.reasoning_budget);
        if inner.is_none() && budget.is_none() {
            return None;
        }
        let opens = match &marks.open {
            // A model that has no token to begin reasoning with does not reason before this answer.
            Some(open) => match self.tokenizer.encode(open, false, true).as_deref() {
                Ok(&[token]) => Some(token),
                _ => return inner,
            },
            None => None,
        };
        let end = self.grammars.mark(&marks.end);
        let forced = self.tokenizer.encode(&marks.forced, false, true).unwrap_or_default().into();
        let tokenizer = Arc::clone(&self.tokenizer);
        Some(Box::new(Reasoned::new(tokenizer, (end, forced), opens, budget, inner, ends)))
    }

    /// What a chat's answer must follow, its reasoning included.
    fn chat_constraint(&self, request: &mut TextRequest, ends: &Arc<[TokenId]>) -> Option<Box<dyn Constraint>> {
        let (grammar, calls, budget) = (request.grammar.take(), request.calls.take(), request.reasoning_budget);
        let requires_call = calls.as_ref().is_some_and(Calls::are_required);
        let reasoning = request.reasoning.take();
        if let (Some(_), Some(marks)) = (&reasoning, self.output.channels()) {
            let format = grammar.map(|grammar| grammar.constraint(Arc::clone(ends)));
            let budget = budget.or(self.defaults.reasoning_budget);
            let wanted = Channelled { calls, format, budget, ends: Arc::clone(ends) };
            return wanted.constraint(Arc::clone(&self.tokenizer), self.grammars.channel_rules(&marks, requires_call));
        }
        let must_answer = grammar.is_some() || requires_call;
        let called = |calls: Calls| calls.constraint(Arc::clone(&self.tokenizer), Arc::clone(ends));
        let follow = |grammar: Grammar| grammar.constraint(Arc::clone(ends));
        let constraint = match (grammar, calls) {
            (Some(grammar), Some(beside)) => {
                let beside = Calls { required: true, ..beside };
                Some(Box::new(Either::new(follow(grammar), called(beside))) as Box<dyn Constraint>)
            }
            (Some(grammar), None) => Some(follow(grammar)),
            (None, alone) => alone.map(called),
        };
        let kept = if must_answer { Arc::clone(ends) } else { Arc::default() };
        match reasoning {
            Some(marks) => self.reasoned(&marks, budget, constraint, kept),
            None => constraint,
        }
    }

    /// Replaces what is put before conversations that have no system message.
    pub fn set_system_prompt(&mut self, text: Option<String>) {
        if text != self.defaults.system_prompt {
            self.facts.drop_warm("another system prompt was given");
        }
        self.defaults.system_prompt = text;
    }

    /// Replaces the chat template.
    pub fn set_template(&mut self, template: ChatTemplate) {
        if self.template.as_ref().ok().is_none_or(|known| known.source() != template.source()) {
            self.facts.drop_warm("another chat template was given");
        }
        self.output = output_format(Some(&template), &self.tokenizer);
        self.marks = marks(&self.output, &self.tokenizer);
        self.template = Ok(template.with_growing_lists());
    }

    /// All adapters: the terminal commands use them.
    pub fn all_adapters(&self) -> AdapterSet {
        AdapterSet::first(self.adapters.len())
    }

    /// Name by which a request selects the model with one adapter.
    pub fn adapted_name(&self, adapter: &str) -> String {
        format!("{}:{adapter}", self.facts.name)
    }

    /// Name of the model with these adapters.
    pub fn name_with(&self, adapters: AdapterSet) -> String {
        let used = self.adapters.iter().enumerate().filter(|(at, _)| adapters.has(*at));
        let names: Vec<&str> = used.map(|(_, name)| name.as_str()).collect();
        if names.is_empty() { self.facts.name.clone() } else { self.adapted_name(&names.join("+")) }
    }

    /// The adapters that a model name in a request selects: an empty set for the model's own name, `None` for an unknown name.
    /// If the session has no adapters, every name selects the model.
    pub fn adapters_named(&self, model: Option<&str>) -> Option<AdapterSet> {
        let Some(model) = model.filter(|name| !self.adapters.is_empty() && *name != self.facts.name) else {
            return Some(AdapterSet::default());
        };
        let named = |adapter: &String| *adapter == *model || self.adapted_name(adapter) == *model;
        self.adapters.iter().position(named).map(AdapterSet::one)
    }

    /// Starts generation.
    pub fn generate(&self, mut request: TextRequest) -> Result<TextGeneration, SubmitError> {
        let stops = std::mem::take(&mut request.stop);
        let (stop_tokens, stop) = prompt::split_stops(&self.tokenizer, stops);
        let mut end_tokens = if request.ignore_end { Vec::new() } else { self.tokenizer.end_tokens().to_vec() };
        end_tokens.extend(stop_tokens.iter().map(|(id, _)| *id));
        let end_tokens: Arc<[TokenId]> = end_tokens.into();
        let constraint = self.chat_constraint(&mut request, &end_tokens);
        // A grammar has seen the space that SPM would add as part of the answer.
        let drops_blank = request.is_answer && constraint.is_none();
        let texts = || Arc::clone(&self.tokenizer) as Arc<dyn TokenTexts>;
        let infill = request.sampling.infill.then(|| Infill::new(texts(), Arc::clone(&end_tokens)));
        let generation = self.engine.submit(Request {
            caller: request.caller,
            overflow: request.overflow,
            adapters: request.adapters,
            constraint,
            prompt: request.prompt,
            sampling: request.sampling,
            max_tokens: request.max_tokens,
            end_tokens,
            logprobs: request.logprobs,
            after_sampling: request.after_sampling,
            infill,
        })?;
        let marks = if request.is_answer { Arc::clone(&self.marks) } else { Arc::default() };
        let stops = Stops {
            tokens: stop_tokens,
            texts: stop,
            time: request.time_limit,
            indent: request.least_indent,
            drops_blank,
            marks,
        };
        Ok(TextGeneration::new(generation, Arc::clone(&self.tokenizer), Arc::clone(&self.check), stops))
    }
}

impl TokenTexts for Tokenizer {
    fn bytes(&self, token: TokenId) -> Cow<'_, [u8]> {
        self.token_bytes(token, false)
    }
}

/// Runs `aside` on a new thread and `here` on this one; if no thread can be started, one after the other.
fn concurrently<A: Send, B>(aside: impl Fn() -> A + Sync, here: impl FnOnce() -> B) -> (A, B) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("aside".to_owned()).spawn_scoped(scope, &aside);
        let here = here();
        let aside = match thread.map(|thread| thread.join()) {
            Ok(Ok(aside)) => aside,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => aside(),
        };
        (aside, here)
    })
}

/// Facts of a model loaded for `parallel` sequences of `context` positions.
fn facts_of(
    source: &ModelSource,
    plan: &Plan,
    compute: Compute,
    (context, parallel): (usize, usize),
    memory: Option<Memory>,
) -> Facts {
    Facts {
        file: source.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        name: source.name(),
        architecture: plan.architecture.clone(),
        parameters: source.gguf.tensors.iter().map(satchel_gguf::TensorInfo::elements).sum(),
        file_bytes: source.model_bytes(),
        context_length: context,
        context_note: None,
        memory_warning: None,
        trained_context: plan.trained_context,
        isa: compute.kernels.name,
        gpu: GpuStatus::settled("none: embedding models run on the CPU"),
        threads: compute.threads,
        parallel,
        cache: compute.cache,
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        memory,
        kept_bytes: 0,
        warm: None,
        card: Arc::new(Card::of(source)),
    }
}

/// Fills unset options with the bundle's settings.
fn with_packed_settings(source: &ModelSource, options: &OpenOptions) -> OpenOptions {
    let mut options = options.clone();
    if let Some(packed) = &source.packed {
        let settings = &packed.manifest().defaults.settings;
        options.context = options.context.or(settings.context.map(|value| value as usize));
        options.threads = options.threads.or(settings.threads.map(|value| value as usize));
        // Parsing the manifest has checked the names.
        let named = |name: &Option<String>| name.as_ref().and_then(|name| name.parse::<CacheType>().ok());
        options.cache_type_k = options.cache_type_k.or(named(&settings.cache_type_k));
        options.cache_type_v = options.cache_type_v.or(named(&settings.cache_type_v));
    }
    options
}

/// The program's defaults, overridden by the bundle's settings.
fn packed_defaults(source: &ModelSource) -> Defaults {
    let mut defaults = Defaults { sampling: SamplingParams::for_answers(), ..Defaults::default() };
    let Some(packed) = &source.packed else { return defaults };
    let chosen = &packed.manifest().defaults;
    defaults.system_prompt = chosen.system_prompt.clone();
    defaults.max_tokens = chosen.settings.max_tokens.map(|value| value as usize);
    for (parameter, value) in chosen.settings.sampling() {
        defaults.sampling.set(parameter, value);
    }
    defaults
}

/// How a model with this template writes its answers.
fn output_format(template: Option<&ChatTemplate>, tokenizer: &Tokenizer) -> OutputFormat {
    OutputFormat::of(template.map_or("", ChatTemplate::source), &|text| is_token(tokenizer, text))
}

/// Control tokens that mean something in answers of this format.
fn marks(output: &OutputFormat, tokenizer: &Tokenizer) -> Arc<[TokenId]> {
    let tokens = 0..tokenizer.vocab_size() as TokenId;
    tokens.filter(|&id| tokenizer.is_control(id) && output.reads(tokenizer.token_text(id))).collect()
}

/// Whether the vocabulary has this text as a special token.
fn is_token(tokenizer: &Tokenizer, text: &str) -> bool {
    let ids = tokenizer.encode(text, false, true);
    matches!(ids.as_deref(), Ok(&[id]) if tokenizer.token_text(id) == text)
}

/// The model's template, or a built-in one chosen by the vocabulary, with the built-in's name.
pub fn chat_template(
    metadata: &satchel_gguf::Metadata,
    tokenizer: &Tokenizer,
) -> (Result<ChatTemplate, String>, Option<&'static str>) {
    let text = |token: Option<TokenId>| token.map_or("", |token| tokenizer.token_text(token));
    let template = |source: &str| {
        ChatTemplate::new(source, text(tokenizer.bos()), text(tokenizer.eos()))
            .map(ChatTemplate::with_growing_lists)
            .map_err(|error| format!("the model's chat template cannot be used: {error}"))
    };
    match metadata.get_str("tokenizer.chat_template") {
        Ok(Some(source)) => (template(source), None),
        Ok(None) => match builtin::for_vocabulary(|text| is_token(tokenizer, text)) {
            Some(built_in) => (template(built_in.source), Some(built_in.name)),
            None => {
                let line = "the model has no chat template, so it cannot take messages; name one with --chat-template \
                            FILE.jinja, or continue plain text with /v1/completions or `run --raw`";
                (Err(line.into()), None)
            }
        },
        Err(error) => (Err(error.to_string()), None),
    }
}
