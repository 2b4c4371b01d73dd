//! Which tokens end a generation.
//!
//! The metadata name an end-of-sequence token, but chat models end a turn with another one, and files differ in which of the
//! two they name. So tokens with well-known texts count, too, as in llama.cpp (`special_eog_ids`).

use satchel_gguf::Metadata;

use super::TokenizerError;
use super::special::id_of_key;
use super::vocabulary::{TokenKind, Vocabulary};
use crate::TokenId;

/// Keys whose token ends a generation.
const KEYS: [&str; 6] = [
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_rep_token_id",
    "tokenizer.ggml.fim_sep_token_id",
];

/// Texts that can only mean an end. Some files give them another kind by mistake; they are made control tokens, so that they
/// are recognised in a chat template.
const ALWAYS: [&str; 19] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "<|fim_pad|>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<|file_sep|>",
];

/// Texts that mean an end only if they are control tokens or user-defined ones (Phi-3's `</s>`), which become control tokens.
/// `</s>` is also HTML for struck-out text, and an ordinary token in some vocabularies.
const IF_SPECIAL: [&str; 14] = [
    "</s>",
    "<eos>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "[e~[",
    "<PAD>",
    "[PAD]",
    "<REPO>",
    "<reponame>",
    "<fim_pad>",
    "<fim-pad>",
    "<fim-repo>",
];

/// The tokens that end a generation, in ascending order, including `eos`. Changes their kind to control where needed.
pub(super) fn find(
    metadata: &Metadata,
    vocabulary: &mut Vocabulary,
    eos: Option<TokenId>,
) -> Result<Vec<TokenId>, TokenizerError> {
    let mut ends: Vec<TokenId> = eos.into_iter().collect();
    for key in KEYS {
        ends.extend(id_of_key(metadata, key, vocabulary)?);
    }
    for id in ALWAYS.iter().filter_map(|text| vocabulary.id(text)).collect::<Vec<_>>() {
        vocabulary.make_control(id);
        ends.push(id);
    }
    for id in IF_SPECIAL.iter().filter_map(|text| vocabulary.id(text)).collect::<Vec<_>>() {
        if matches!(vocabulary.kind(id), TokenKind::Control | TokenKind::UserDefined) {
            vocabulary.make_control(id);
            ends.push(id);
        }
    }

    // In formats with messages of several parts, `<|end|>` ends a part and other tokens end the turn.
    let has = |text| vocabulary.id(text).is_some();
    if (has("<|return|>") && has("<|call|>")) || (has("<|calls|>") && has("<|flush|>")) {
        let part_end = vocabulary.id("<|end|>").filter(|&id| Some(id) != eos);
        ends.retain(|&id| Some(id) != part_end);
    }
    ends.sort_unstable();
    ends.dedup();
    Ok(ends)
}
