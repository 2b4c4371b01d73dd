//! Text and token ids that a command reads from a file or from stdin.

use std::io::Read;
use std::path::Path;

use super::Failure;
use crate::TokenId;

/// The whole text of a file; `-` is stdin.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let (name, read) = if path == Path::new("-") {
        ("stdin".to_owned(), std::io::stdin().lock().read_to_end(&mut bytes))
    } else {
        (path.display().to_string(), std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)))
    };
    read.map_err(|error| Failure::new(format!("cannot read {name}: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        Failure::new(format!("{name} is not UTF-8 text: byte {} cannot stand there", error.utf8_error().valid_up_to()))
    })
}

/// Token ids divided by white space, each below `vocabulary`; at least one.
pub fn parse_tokens(text: &str, vocabulary: usize) -> Result<Vec<TokenId>, Failure> {
    let mut tokens = Vec::new();
    for (index, word) in text.split_whitespace().enumerate() {
        match word.parse::<TokenId>() {
            Ok(token) if (token as usize) < vocabulary => tokens.push(token),
            Ok(token) => {
                let place = index + 1;
                return Err(Failure::new(format!(
                    "token {place} is {token}, but there are {vocabulary} tokens, numbered from 0"
                )));
            }
            Err(_) => {
                let shown: String = word.chars().take(40).collect();
                return Err(Failure::new(format!("token {} is not a number: {shown:?}", index + 1)));
            }
        }
    }
    if tokens.is_empty() {
        return Err(Failure::new("there are no token ids to read; they are numbers divided by white space"));
    }
    Ok(tokens)
}
