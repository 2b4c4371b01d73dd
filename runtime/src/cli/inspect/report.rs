//! Facts about a model, gathered from its headers; `text` and `json` format them.

use std::collections::BTreeMap;

use satchel_gguf::{Gguf, TensorType};

use serde_json::json;

use super::memory;
use crate::chat::RenderRequest;
use crate::cli::Failure;
use crate::engine::EngineOptions;
use crate::kernels;
use crate::plan::{CacheTypes, Plan};
use crate::session::hardware::default_threads;
use crate::session::memory::{Unknown, kv_bytes_per_token, state_bytes};
use crate::session::open::plan_of;
use crate::session::{Demand, Memory, ModelSource, Packed, chat_template};
use crate::tokenizer::Tokenizer;

/// Everything but the hashes.
pub(super) struct Report<'a> {
    /// The file as it was named.
    pub path: String,
    /// What the model is called.
    pub name: String,
    /// Metadata and tensor table.
    pub gguf: &'a Gguf,
    /// The GGUF files, in order of the parts.
    pub files: Vec<PartFile>,
    /// The bundle around them.
    pub packed: Option<&'a Packed>,
    /// Elements of all tensors.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// By type, the one with the most bytes first.
    pub block_types: Vec<TypeSum>,
    /// Positions the model was trained on.
    pub trained_context: Option<u64>,
    /// How the KV cache is stored.
    pub cache: CacheTypes,
    /// How it is computed, or why this build cannot run it.
    pub plan: Result<Plan, Unknown>,
    /// Bytes of keys and values per position.
    pub kv_bytes_per_token: Result<u64, Unknown>,
    /// Context lengths to show memory for.
    pub contexts: Vec<u64>,
    source: &'a ModelSource,
}

/// One GGUF of the model.
pub(super) struct PartFile {
    /// Name of the file, or of the entry in a bundle.
    pub name: String,
    /// Offset in the bundle; 0 for a file of its own.
    pub offset: u64,
    /// Its size.
    pub bytes: u64,
}

/// The tensors of one type.
pub(super) struct TypeSum {
    /// The type.
    pub ty: TensorType,
    /// How many tensors.
    pub tensors: u64,
    /// Their elements.
    pub elements: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl<'a> Report<'a> {
    /// Reads the headers. `contexts` are the lengths to show memory for (empty: the defaults), with keys and values stored as
    /// `cache` says.
    pub(super) fn new(source: &'a ModelSource, contexts: &[u64], cache: CacheTypes) -> Result<Self, Failure> {
        let gguf = &source.gguf;
        let trained_context = memory::trained_context(&gguf.metadata);
        let plan = plan_of(source, None).map_err(|error| Unknown(without_path(&error.to_string(), source)));
        Ok(Self {
            path: source.path.display().to_string(),
            name: source.name(),
            gguf,
            files: part_files(source),
            packed: source.packed.as_ref(),
            parameters: gguf.parameters(),
            tensor_bytes: gguf.tensor_bytes(),
            block_types: block_types(gguf),
            trained_context,
            cache,
            kv_bytes_per_token: plan.as_ref().map_err(Clone::clone).and_then(|plan| kv_bytes_per_token(plan, cache)),
            plan,
            contexts: memory::contexts(contexts, trained_context),
            source,
        })
    }

    /// Average bits per parameter; `None` without tensors.
    pub(super) fn bits_per_weight(&self) -> Option<f64> {
        (self.parameters > 0).then(|| self.tensor_bytes as f64 * 8.0 / self.parameters as f64)
    }

    /// Bytes of one sequence's KV cache and other state at a context length.
    pub(super) fn kv_bytes(&self, context: u64) -> Option<u64> {
        state_bytes(self.plan.as_ref().ok()?, context, self.cache).ok()
    }

    /// All the memory of one sequence at a context length, with the threads of this machine.
    pub(super) fn memory(&self, context: u64) -> Result<Memory, Unknown> {
        let step = EngineOptions::default().batch_tokens;
        let plan = self.plan.as_ref().map_err(Clone::clone)?;
        Memory::of_plan(
            self.source,
            plan,
            Demand::of_one(context, step, default_threads(), self.cache).on(kernels::best()),
        )
    }

    /// The sample conversation, rendered, if there is a template.
    pub(super) fn conversation(&self) -> Option<Conversation> {
        let metadata = &self.gguf.metadata;
        let tokenizer = Tokenizer::from_gguf(metadata).ok()?;
        let (template, built_in) = chat_template(metadata, &tokenizer);
        if template.is_err() && !metadata.contains("tokenizer.chat_template") {
            return None;
        }
        let text = template.and_then(|template| template.render(&sample()).map_err(|error| error.to_string()));
        Some(Conversation { built_in, text })
    }

    /// Chat templates as (name, text); the default one has no name.
    pub(super) fn templates(&self) -> impl Iterator<Item = (Option<&str>, &str)> {
        const KEY: &str = "tokenizer.chat_template";
        self.gguf.metadata.iter().filter_map(|(key, value)| {
            let satchel_gguf::Value::String(text) = value else { return None };
            let name = match key.strip_prefix(KEY)? {
                "" => None,
                rest => Some(rest.strip_prefix('.')?),
            };
            Some((name, text.as_str()))
        })
    }
}

/// An error without the path it begins with, which the report already shows.
fn without_path(error: &str, source: &ModelSource) -> String {
    error.strip_prefix(&format!("{}: ", source.path.display())).unwrap_or(error).to_owned()
}

/// A short conversation as the model will see it.
pub(super) struct Conversation {
    /// The built-in template used in place of a missing one.
    pub built_in: Option<&'static str>,
    /// The rendering, or why it failed.
    pub text: Result<String, String>,
}

/// The conversation that is rendered: question, answer, question, and the generation prompt.
fn sample() -> RenderRequest {
    let messages = [("user", "Hello!"), ("assistant", "Hello. How can I help?"), ("user", "Who are you?")];
    let messages = messages.map(|(role, content)| json!({"role": role, "content": content})).into();
    RenderRequest { messages, add_generation_prompt: true, ..RenderRequest::default() }
}

fn part_files(source: &ModelSource) -> Vec<PartFile> {
    let entries = source.packed.as_ref().map(|packed| packed.bundle.model_entries()).unwrap_or_default();
    let file = |(at, part): (usize, &crate::device::MappedPart)| {
        let name = match entries.get(at) {
            Some(entry) => entry.name.clone(),
            None => part.file.path().file_name().unwrap_or_default().to_string_lossy().into_owned(),
        };
        PartFile { name, offset: part.start as u64, bytes: part.length as u64 }
    };
    source.parts.iter().enumerate().map(file).collect()
}

fn block_types(gguf: &Gguf) -> Vec<TypeSum> {
    let mut by_type = BTreeMap::new();
    for tensor in &gguf.tensors {
        let sum = by_type.entry(tensor.ty).or_insert(TypeSum { ty: tensor.ty, tensors: 0, elements: 0, bytes: 0 });
        sum.tensors += 1;
        sum.elements = sum.elements.saturating_add(tensor.elements());
        sum.bytes = sum.bytes.saturating_add(tensor.bytes);
    }
    let mut sums: Vec<TypeSum> = by_type.into_values().collect();
    sums.sort_by_key(|sum| std::cmp::Reverse(sum.bytes));
    sums
}
