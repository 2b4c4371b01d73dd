//! A model in words: an engine with the tokenizer, the chat template and the defaults that belong to it.
//!
//! `server` and the terminal commands stand on this. Below it there are only token ids; above it only text, messages
//! and events.

pub mod embedding;
pub mod generation;
pub mod hardware;
pub mod memory;
pub mod open;
pub mod prompt;
pub mod source;
pub mod text;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::TokenId;
use crate::chat::{ChatTemplate, builtin};
use crate::engine::{Engine, EngineOptions, Request};
use crate::plan::{CacheType, CacheTypes, Plan};
use crate::sampling::SamplingParams;
use crate::tokenizer::Tokenizer;

pub use crate::engine::SubmitError;
use generation::Stops;
pub use generation::{StopReason, TextEvent, TextFinished, TextGeneration, TextPiece, TextToken};
pub use hardware::Cpus;
pub use memory::{Demand, Memory};
use open::Compute;
pub use open::{OpenError, OpenOptions};
pub use source::{ModelSource, Packed, SourceError};

/// An open model, ready to answer.
pub struct Session {
    /// Generates token ids.
    pub engine: Engine,
    /// Text to ids and back.
    pub tokenizer: Arc<Tokenizer>,
    /// Messages to text; an error line where the model has none that works.
    pub template: Result<ChatTemplate, String>,
    /// The name of the built-in template that stands in for the model's own, where it has none.
    pub built_in_template: Option<&'static str>,
    /// Control tokens that messages spell count as such.
    pub special_in_user_text: bool,
    /// What it is and how it runs.
    pub facts: Facts,
    /// What holds where a request says nothing.
    pub defaults: Defaults,
    /// The bundle it came from.
    pub packed: Option<Packed>,
}

/// What a session is and how it runs.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The model's name.
    pub name: String,
    /// `general.architecture`
    pub architecture: String,
    /// Elements of all tensors.
    pub parameters: u64,
    /// Bytes of the GGUF.
    pub file_bytes: u64,
    /// Positions a sequence may hold.
    pub context_length: usize,
    /// Positions the model was trained on.
    pub trained_context: usize,
    /// Name of the kernel table.
    pub isa: &'static str,
    /// Threads that compute.
    pub threads: usize,
    /// Sequences that run at once.
    pub parallel: usize,
    /// How keys and values are stored.
    pub cache: CacheTypes,
    /// Unix seconds of opening.
    pub created: u64,
    /// What it takes at the most, as foretold from its headers.
    pub memory: Option<Memory>,
}

/// What holds where a request says nothing.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// Put before conversations that have no system message.
    pub system_prompt: Option<String>,
    /// Sampling.
    pub sampling: SamplingParams,
    /// Longest answer.
    pub max_tokens: Option<usize>,
}

/// Why messages became no prompt. Each is one line for the person.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PromptError {
    #[error("{0}")]
    NoTemplate(String),
    #[error("{0}")]
    Template(#[from] crate::chat::TemplateError),
    #[error("{0}")]
    Tokenizer(#[from] crate::tokenizer::TokenizerError),
}

/// What to generate, in text terms.
#[derive(Clone, Debug, Default)]
pub struct TextRequest {
    /// The prompt.
    pub prompt: Vec<TokenId>,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Longest answer in tokens; `None`: what the context holds.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer and are not part of it.
    pub stop: Vec<String>,
    /// Report log-probabilities, with this many alternatives.
    pub logprobs: Option<usize>,
    /// Go on past the model's end tokens.
    pub ignore_end: bool,
    /// The prompt is a conversation, and what is generated an answer: it does not begin with the blank that SPM puts in
    /// front of a text.
    pub is_answer: bool,
}

impl Session {
    /// Opens a model. The tokenizer is read while the weights are placed.
    pub fn open(options: &OpenOptions) -> Result<Self, OpenError> {
        let source = ModelSource::open(options.model.as_deref())?;
        Self::from_source(source, options)
    }

    /// Opens a model that was found before. Settings of its bundle hold where `options` are silent.
    pub fn from_source(source: ModelSource, options: &OpenOptions) -> Result<Self, OpenError> {
        let options = with_packed_settings(&source, options);
        let compute = options.compute()?;
        let parallel = options.parallel()?;
        let (tokenizer, built) = rayon::join(
            || Tokenizer::from_gguf(&source.gguf.metadata),
            || open::load_model(&source, compute, options.context),
        );
        let loaded = built?;
        let tokenizer = tokenizer.map_err(|error| OpenError::Tokenizer { path: source.path.clone(), error })?;
        let context = options.context_for(loaded.plan.trained_context)?;
        let engine_options = EngineOptions { context, parallel, ..EngineOptions::default() };
        let demand = Demand::of_engine(&engine_options, compute.threads, compute.cache);
        let memory = Memory::of_plan(&source, &loaded.plan, demand).ok();
        let facts = facts_of(&source, &loaded.plan, compute, (context, parallel), memory);
        let (template, built_in_template) = chat_template(&source.gguf.metadata, &tokenizer);
        let defaults = packed_defaults(&source);
        let engine = Engine::start(loaded, engine_options).map_err(OpenError::Thread)?;
        Ok(Self {
            engine,
            tokenizer: Arc::new(tokenizer),
            template,
            built_in_template,
            special_in_user_text: false,
            facts,
            defaults,
            packed: source.packed,
        })
    }

    /// Starts to generate.
    pub fn generate(&self, request: TextRequest) -> Result<TextGeneration, SubmitError> {
        let (stop_tokens, stop) = self.stops(request.stop);
        let mut end_tokens = if request.ignore_end { Vec::new() } else { self.tokenizer.end_tokens().to_vec() };
        end_tokens.extend(stop_tokens.iter().map(|(id, _)| *id));
        let generation = self.engine.submit(Request {
            caller: 0,
            constraint: None,
            prompt: request.prompt,
            sampling: request.sampling,
            max_tokens: request.max_tokens,
            end_tokens: end_tokens.into(),
            logprobs: request.logprobs,
        })?;
        let stops = Stops { tokens: stop_tokens, texts: stop, drops_blank: request.is_answer };
        Ok(TextGeneration::new(generation, Arc::clone(&self.tokenizer), stops))
    }

    /// Parts the stop strings that name a control token from the others: such tokens have no text to find them in.
    fn stops(&self, stop: Vec<String>) -> (Vec<(TokenId, String)>, Vec<String>) {
        let (mut tokens, mut texts) = (Vec::new(), Vec::new());
        for text in stop {
            match self.tokenizer.encode(&text, false, true).as_deref() {
                Ok(&[id]) if self.tokenizer.is_control(id) => tokens.push((id, text)),
                _ => texts.push(text),
            }
        }
        (tokens, texts)
    }
}

/// The facts of a model that is loaded for `parallel` sequences of `context` positions.
fn facts_of(
    source: &ModelSource,
    plan: &Plan,
    compute: Compute,
    (context, parallel): (usize, usize),
    memory: Option<Memory>,
) -> Facts {
    Facts {
        name: source.name(),
        architecture: plan.architecture.clone(),
        parameters: source.gguf.tensors.iter().map(satchel_gguf::TensorInfo::elements).sum(),
        file_bytes: source.model_bytes(),
        context_length: context,
        trained_context: plan.trained_context,
        isa: compute.kernels.name,
        threads: compute.threads,
        parallel,
        cache: compute.cache,
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        memory,
    }
}

/// Fills what the flags left open with the bundle's settings.
fn with_packed_settings(source: &ModelSource, options: &OpenOptions) -> OpenOptions {
    let mut options = options.clone();
    if let Some(packed) = &source.packed {
        let settings = &packed.manifest().defaults.settings;
        options.context = options.context.or(settings.context.map(|value| value as usize));
        options.threads = options.threads.or(settings.threads.map(|value| value as usize));
        // The manifest was checked when it was read.
        let named = |name: &Option<String>| name.as_ref().and_then(|name| name.parse::<CacheType>().ok());
        options.cache_type_k = options.cache_type_k.or(named(&settings.cache_type_k));
        options.cache_type_v = options.cache_type_v.or(named(&settings.cache_type_v));
    }
    options
}

/// What the packer chose, over the program's own defaults.
fn packed_defaults(source: &ModelSource) -> Defaults {
    let mut defaults = Defaults { sampling: SamplingParams::for_answers(), ..Defaults::default() };
    let Some(packed) = &source.packed else { return defaults };
    let chosen = &packed.manifest().defaults;
    defaults.system_prompt = chosen.system_prompt.clone();
    let settings = &chosen.settings;
    defaults.max_tokens = settings.max_tokens.map(|value| value as usize);
    let sampling = &mut defaults.sampling;
    sampling.temperature = settings.temperature.unwrap_or(sampling.temperature);
    sampling.top_k = settings.top_k.map_or(sampling.top_k, |value| value as usize);
    sampling.top_p = settings.top_p.unwrap_or(sampling.top_p);
    sampling.min_p = settings.min_p.unwrap_or(sampling.min_p);
    sampling.typical_p = settings.typical_p.unwrap_or(sampling.typical_p);
    sampling.repeat_penalty = settings.repeat_penalty.unwrap_or(sampling.repeat_penalty);
    sampling.repeat_last_n = settings
        .repeat_last_n
        // -1: all tokens.
        .map_or(sampling.repeat_last_n, |value| usize::try_from(value).unwrap_or(usize::MAX));
    sampling.presence_penalty = settings.presence_penalty.unwrap_or(sampling.presence_penalty);
    sampling.frequency_penalty = settings.frequency_penalty.unwrap_or(sampling.frequency_penalty);
    sampling.seed = settings.seed.or(sampling.seed);
    defaults
}

/// The model's template, or the built-in one that its vocabulary tells, with its name.
pub fn chat_template(
    metadata: &satchel_gguf::Metadata,
    tokenizer: &Tokenizer,
) -> (Result<ChatTemplate, String>, Option<&'static str>) {
    let text = |token: Option<TokenId>| token.map_or("", |token| tokenizer.token_text(token));
    let template = |source: &str| {
        ChatTemplate::new(source, text(tokenizer.bos()), text(tokenizer.eos()))
            .map_err(|error| format!("the model's chat template does not work: {error}"))
    };
    let is_special = |text: &str| {
        let ids = tokenizer.encode(text, false, true);
        matches!(ids.as_deref(), Ok(&[id]) if tokenizer.token_text(id) == text)
    };
    match metadata.get_str("tokenizer.chat_template") {
        Ok(Some(source)) => (template(source), None),
        Ok(None) => match builtin::for_vocabulary(is_special) {
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
