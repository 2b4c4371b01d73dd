//! The context lengths that `inspect` shows memory for.

use satchel_gguf::Metadata;

/// Default context lengths, cut off at the trained one.
const CONTEXTS: [u64; 4] = [2048, 8192, 32_768, 131_072];

/// Positions the model was trained on, if the file says.
pub(super) fn trained_context(metadata: &Metadata) -> Option<u64> {
    let architecture = metadata.get_str("general.architecture").ok()??;
    metadata.get_u64(&format!("{architecture}.context_length")).ok()?.filter(|&length| length > 0)
}

/// The context lengths to show: those requested, or the defaults up to the trained one.
pub(super) fn contexts(asked: &[u64], trained: Option<u64>) -> Vec<u64> {
    if !asked.is_empty() {
        return asked.to_vec();
    }
    let Some(trained) = trained else { return CONTEXTS[..2].to_vec() };
    CONTEXTS.into_iter().filter(|&length| length < trained).chain([trained]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_lengths_go_up_to_the_trained_one() {
        assert_eq!(contexts(&[7, 5], Some(2048)), [7, 5]);
        assert_eq!(contexts(&[], Some(2048)), [2048]);
        assert_eq!(contexts(&[], Some(10_000)), [2048, 8192, 10_000]);
        assert_eq!(contexts(&[], None), [2048, 8192]);
    }
}
