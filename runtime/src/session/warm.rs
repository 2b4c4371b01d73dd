//! The computed system prompt that a packed file can carry: what it is bound to, and whether it fits here.
//!
//! A line of JSON says what the states behind it were computed with. A state gives the same answers only where a first conversation
//! would have computed the same bits, so all that decides about them is compared: the program's version, weights, operations (some
//! rotary embeddings depend on the context), kernels, cache types, and the prompt's tokens. An architecture's vector kernels agree as
//! long as weights are quantised, prompts are not multiplied in tiles and no state is recurrent; otherwise, and for scalar ones, the
//! table itself must be the same.

use satchel_container::{Digest, STATES_MAX_BYTES};
use satchel_gguf::TensorType;
use serde::{Deserialize, Serialize};

use super::open::{Compute, OpenError, OpenOptions, load_plan, plan_of};
use super::prompt::shared_prefix;
use super::source::ModelSource;
use super::{chat_template, store};
use crate::TokenId;
use crate::device::MappedPart;
use crate::engine::{Loaded, Warm, computed};
use crate::kernels;
use crate::plan::{BLOCK_TOKENS, Plan, Role};
use crate::state::Identity;
use crate::tokenizer::Tokenizer;

/// Name of its entry below `states/`.
pub const NAME: &str = "system-prompt";
const ENTRY: &str = "states/system-prompt";

/// Begins it; the last character is the version of the format.
const MAGIC: &[u8] = b"satchel warm 1\n";
/// Most bytes of the line behind.
const LINE_MOST: usize = 4096;

/// What was computed when packing.
pub struct Computed {
    /// The entry.
    pub bytes: Vec<u8>,
    /// How many tokens that is.
    pub tokens: usize,
    /// Where it is of use, for the user.
    pub fits: String,
}

/// What the states were computed with.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bound {
    version: String,
    weights: Digest,
    plan: Digest,
    kernels: String,
    keys: String,
    values: String,
    prompt: Digest,
}

impl Bound {
    fn new(source: &ModelSource, plan: &Plan, compute: Compute, tokens: &[TokenId]) -> Self {
        let prompt: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            weights: Digest::of(&store::weights(source).concat()),
            plan: Digest::of(format!("{:?} {:?}", plan.state, plan.ops).as_bytes()),
            kernels: kernels_of(plan, compute),
            keys: compute.cache.keys.to_string(),
            values: compute.cache.values.to_string(),
            prompt: Digest::of(&prompt),
        }
    }

    /// Why states that were computed so are of no use where it is `here`.
    fn differs_from(&self, here: &Self) -> Option<String> {
        let checks = [
            (self.version != here.version, format!("satchel {} computed it, this is {}", self.version, here.version)),
            (self.weights != here.weights, "it was computed of other weights".to_owned()),
            (self.prompt != here.prompt, "the system prompt or the chat template is another".to_owned()),
            (
                (&self.keys, &self.values) != (&here.keys, &here.values),
                format!(
                    "it was computed with a KV cache in {} and {}, this one is in {} and {}",
                    self.keys, self.values, here.keys, here.values
                ),
            ),
            (
                self.kernels != here.kernels,
                format!("it was computed by {} kernels, here compute those of {}", self.kernels, here.kernels),
            ),
            (self.plan != here.plan, "it was computed for another context length".to_owned()),
        ];
        checks.into_iter().find_map(|(differs, line)| differs.then_some(line))
    }

    /// The line, and what follows from it for the states behind it.
    fn line(&self) -> (Vec<u8>, Identity) {
        let mut line = serde_json::to_vec(self).expect("texts only");
        line.push(b'\n');
        let identity = Digest::of(&line).0;
        (line, identity)
    }
}

/// The kernels whose bits these are.
fn kernels_of(plan: &Plan, compute: Compute) -> String {
    let is_plain =
        |ty: TensorType| matches!(ty, TensorType::F32 | TensorType::F16 | TensorType::BF16 | TensorType::F64);
    let differs = |ty| is_plain(ty) || compute.kernels.tiles(ty);
    let agree = plan.weights.iter().all(|weight| weight.role != Role::Matrix || !differs(weight.ty));
    match agree && !plan.state.has_recurrent() && compute.kernels.name != "scalar" {
        true => std::env::consts::ARCH.to_owned(),
        false => format!("{} {}", std::env::consts::ARCH, compute.kernels.name),
    }
}

/// Computes what every conversation with this system prompt begins with, as the packed file's first conversation would.
///
/// # Errors
/// There is nothing to compute, or too much of it, or the model cannot be run.
pub fn compute(options: &OpenOptions, system: Option<&str>) -> Result<Computed, OpenError> {
    let refused = |line: String| OpenError::Warm(line);
    let system = system.filter(|text| !text.is_empty());
    let system =
        system.ok_or_else(|| refused("it is the system prompt that is computed: give --system-prompt".into()))?;
    let source = ModelSource::of(options)?;
    if !source.adapters.is_empty() {
        return Err(refused("with adapters nothing is computed in advance: leave it out, or --lora".to_owned()));
    }
    let with = options.compute()?;
    // A file is for other processors, too.
    let kernels = if options.isa.is_some() { with.kernels } else { kernels::best_without_tiles() };
    let with = Compute { kernels, ..with };
    let plan = plan_of(&source, options.context)?;
    let tokenizer = Tokenizer::from_gguf(&source.gguf.metadata)
        .map_err(|error| OpenError::Tokenizer { path: source.path.clone(), error })?;
    let (template, _) = chat_template(&source.gguf.metadata, &tokenizer);
    let template = template.map_err(refused)?;
    let tokens = shared_prefix(Some(&template), &tokenizer, Some(system));
    if tokens.is_empty() {
        return Err(refused("the chat template puts nothing before the user's text".to_owned()));
    }
    let context = options.context_for(plan.trained_context)?;
    if tokens.len() + 1 >= context {
        let count = tokens.len();
        return Err(refused(format!("the system prompt has {count} tokens, and the context holds {context}")));
    }
    check_size(&plan, with, tokens.len())?;
    let bound = Bound::new(&source, &plan, with, &tokens);
    let fits = format!("{} with a KV cache in {}", bound.kernels, with.cache);
    let (line, identity) = bound.line();
    let loaded = load_plan(&source, with, plan)?;
    let states = computed(loaded, &tokens, &identity).map_err(|error| refused(error.to_string()))?;
    Ok(Computed { bytes: [MAGIC, &line, &states].concat(), tokens: tokens.len(), fits })
}

/// Refuses what no file should carry before it is computed.
fn check_size(plan: &Plan, with: Compute, tokens: usize) -> Result<(), OpenError> {
    let pages = |recurrent: bool| if recurrent { 1 } else { tokens.div_ceil(BLOCK_TOKENS) as u64 };
    let groups = plan.state.groups.iter();
    let sizes = groups.map(|group| Ok(group.page_bytes(with.cache)?.saturating_mul(pages(group.is_recurrent()))));
    let bytes = sizes.sum::<Result<u64, String>>().map_err(OpenError::Warm)?;
    match bytes > STATES_MAX_BYTES {
        true => Err(OpenError::Warm(format!(
            "the states of the system prompt's {tokens} tokens would add {}, and {} is the most: shorten it, or keep them smaller \
             with --set cache_type_k=q8_0 --set cache_type_v=q8_0",
            satchel_packer::shown_bytes(bytes),
            satchel_packer::shown_bytes(STATES_MAX_BYTES),
        ))),
        false => Ok(()),
    }
}

/// What a bundle has of the prefix `tokens`, or in a few words why it is of no use; `None` if it carries nothing of the kind.
pub(super) fn open(
    source: &ModelSource,
    loaded: &Loaded,
    compute: Compute,
    tokens: &[TokenId],
    tell: impl Fn(&str) + Send + 'static,
) -> Option<Result<Warm, String>> {
    let packed = source.packed.as_ref()?;
    let entry = packed.bundle.state_entries().find(|entry| entry.name == ENTRY)?;
    if !source.adapters.is_empty() {
        return Some(Err("it was computed without adapters".to_owned()));
    }
    if !loaded.program.gives_pages() {
        return Some(Err("a GPU computes here".to_owned()));
    }
    if tokens.is_empty() {
        return Some(Err("this model has no system prompt".to_owned()));
    }
    let here = Bound::new(source, &loaded.plan, compute, tokens);
    let read = entry.stored_in(&packed.file).and_then(parse);
    Some(read.ok_or_else(|| "it is damaged".to_owned()).and_then(|(bound, identity, at)| {
        if let Some(line) = bound.differs_from(&here) {
            return Err(line);
        }
        // Opening the bundle has checked that the range lies inside the file.
        let (start, length) = (entry.offset as usize + at, entry.size as usize - at);
        let part = MappedPart { file: packed.file.clone(), start, length };
        Ok(Warm { part, identity, tokens: tokens.to_vec(), tell: Box::new(tell) })
    }))
}

/// What the states were computed with, what they are bound to for that, and where they begin.
fn parse(bytes: &[u8]) -> Option<(Bound, Identity, usize)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let end = rest.iter().take(LINE_MOST).position(|&byte| byte == b'\n')?;
    let bound: Bound = serde_json::from_slice(&rest[..end]).ok()?;
    let (line, identity) = bound.line();
    (line == rest[..=end]).then(|| (bound, identity, MAGIC.len() + line.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound() -> Bound {
        Bound {
            version: "1".to_owned(),
            weights: Digest([1; 32]),
            plan: Digest([2; 32]),
            kernels: "x86_64".to_owned(),
            keys: "f16".to_owned(),
            values: "f16".to_owned(),
            prompt: Digest([3; 32]),
        }
    }

    #[test]
    fn whatever_differs_is_named() {
        assert_eq!(bound().differs_from(&bound()), None);
        for (other, part) in [
            (Bound { version: "2".to_owned(), ..bound() }, "satchel 1 computed it"),
            (Bound { weights: Digest([9; 32]), ..bound() }, "other weights"),
            (Bound { plan: Digest([9; 32]), ..bound() }, "context length"),
            (Bound { kernels: "aarch64".to_owned(), ..bound() }, "x86_64 kernels, here compute those of aarch64"),
            (Bound { values: "q8_0".to_owned(), ..bound() }, "f16 and f16, this one is in f16 and q8_0"),
            (Bound { prompt: Digest([9; 32]), ..bound() }, "system prompt or the chat template"),
        ] {
            let line = bound().differs_from(&other).expect("it differs");
            assert!(line.contains(part), "{line}");
        }
    }

    #[test]
    fn a_header_is_read_as_it_was_written_and_not_otherwise() {
        let (line, identity) = bound().line();
        let whole = [MAGIC, &line, b"states"].concat();
        let (read, bound_to, at) = parse(&whole).expect("it is whole");
        assert_eq!((read, bound_to, &whole[at..]), (bound(), identity, &b"states"[..]));
        for length in 0..MAGIC.len() + line.len() {
            assert!(parse(&whole[..length]).is_none(), "{length} bytes of it");
        }
        let mut random = oorandom::Rand32::new(3);
        for _ in 0..500 {
            let mut damaged = whole.clone();
            let at = random.rand_range(0..(whole.len() - 6) as u32) as usize;
            damaged[at] ^= 1 << random.rand_range(0..8);
            // A flipped letter may be another value, never the same one.
            assert!(parse(&damaged).is_none_or(|(read, other, _)| read != bound() && other != identity), "byte {at}");
        }
        assert!(parse(&[MAGIC, &[b' '; 2 * LINE_MOST], b"\n"].concat()).is_none());
    }
}
