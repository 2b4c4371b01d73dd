//! Why a valid GGUF cannot be run as a model.

/// Each message is one line for the user.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ModelError {
    #[error("architecture `{name}` is not supported; this build runs: {known}")]
    UnknownArchitecture { name: String, known: String },
    #[error("architecture `{architecture}`: {what}")]
    Unsupported { architecture: String, what: String },
    #[error("tensor `{name}` is missing; the file is incomplete or was made for another architecture")]
    MissingTensor { name: String },
    #[error("tensor `{name}` has shape {found}, expected {expected} from the hyperparameters")]
    WrongShape { name: String, found: String, expected: String },
    #[error("tensor `{name}` is stored as {ty}, which this build does not support; it supports: {known}")]
    UnsupportedType { name: String, ty: String, known: String },
    #[error(
        "the file has tensors that architecture `{architecture}` does not use, so the output would be wrong: {names}"
    )]
    UnusedTensors { architecture: String, names: String },
    #[error("{key} is {value}, which is invalid: {why}")]
    Hyperparameter { key: String, value: String, why: String },
    #[error("{0}")]
    Metadata(String),
}

/// Text from a file for an error line: escaped, and truncated after 80 characters.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 80;
    let mut shown: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}
