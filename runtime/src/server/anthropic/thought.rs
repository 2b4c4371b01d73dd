//! Signatures of thinking blocks.
//!
//! Clients send a thinking block back as they got it. Its signature is opaque to them; here it has the text of a thought that
//! was not shown, so that the model's template can put it before the next turn as it does with any other.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;

/// What a signature of ours begins with.
const OURS: &str = "satchel.";

/// The signature of a thought; `shown` if the client has its text.
pub(super) fn signature(text: &str, shown: bool) -> String {
    format!("{OURS}{}", BASE64.encode(if shown { "" } else { text }))
}

/// The thought in a signature; `None` if it has none, or is another server's.
pub(super) fn thought(signature: &str) -> Option<String> {
    let bytes = BASE64.decode(signature.strip_prefix(OURS)?).ok()?;
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_thought_comes_back_and_others_have_none() {
        assert_eq!(thought(&signature("so: é", false)).as_deref(), Some("so: é"));
        assert_eq!(thought(&signature("shown", true)), None);
        for other in ["", "EqQBCgIYAhIM1gbcDa9GJwZA2b3h", "satchel.?", "satchel./w"] {
            assert_eq!(thought(other), None, "{other}");
        }
    }
}
