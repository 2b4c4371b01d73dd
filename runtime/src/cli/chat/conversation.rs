//! The messages of a conversation in OpenAI's format, and saving and loading them.

use std::io::Write;
use std::path::Path;

use satchel_packer::{Error, Output};
use serde_json::{Value, json};

use crate::chat::message::read_messages;
use crate::cli::Failure;
use crate::cli::text_input::read_text;
use crate::server::json::parse_text;

/// Messages in order; a system message, where there is one, is the first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Conversation {
    messages: Vec<Value>,
}

fn role(message: &Value) -> &str {
    message["role"].as_str().unwrap_or_default()
}

impl Conversation {
    pub(super) fn messages(&self) -> &[Value] {
        &self.messages
    }

    /// The system prompt.
    pub(super) fn system(&self) -> Option<&str> {
        self.messages.first().filter(|first| role(first) == "system").and_then(|first| first["content"].as_str())
    }

    /// Sets the system prompt; an empty text removes it.
    pub(super) fn set_system(&mut self, text: &str) {
        self.messages.retain(|message| role(message) != "system");
        if !text.is_empty() {
            self.messages.insert(0, json!({"role": "system", "content": text}));
        }
    }

    /// Adds a question.
    pub(super) fn ask(&mut self, text: &str) {
        self.messages.push(json!({"role": "user", "content": text}));
    }

    /// Adds an answer.
    pub(super) fn answer(&mut self, text: &str, reasoning: &str) {
        let mut message = json!({"role": "assistant", "content": text});
        if !reasoning.is_empty() {
            message["reasoning_content"] = reasoning.into();
        }
        self.messages.push(message);
    }

    fn last_question(&self) -> Option<usize> {
        self.messages.iter().rposition(|message| role(message) == "user")
    }

    /// Drops everything after the last question; false if there is none.
    pub(super) fn take_back_answer(&mut self) -> bool {
        self.last_question().is_some_and(|last| {
            self.messages.truncate(last + 1);
            true
        })
    }

    /// Drops the last question and everything after it; returns the question.
    pub(super) fn undo(&mut self) -> Option<String> {
        let last = self.last_question()?;
        let question = self.messages[last]["content"].as_str().unwrap_or_default().to_owned();
        self.messages.truncate(last);
        Some(question)
    }

    /// Drops everything but the system prompt.
    pub(super) fn clear(&mut self) {
        self.messages.retain(|message| role(message) == "system");
    }

    /// Writes `{"messages": […]}` atomically.
    pub(super) fn save(&self, path: &Path, overwrite: bool) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(&json!({"messages": self.messages}))?;
        let told = |error| match error {
            Error::Exists(path) => Failure::new(format!("{} exists; /save! {0} overwrites it", path.display())),
            other => other.into(),
        };
        let output = Output::create_or_stream(path, overwrite).map_err(told)?;
        let bytes = text.len() as u64 + 1;
        writeln!(output.file(), "{text}").map_err(|error| output.write_failed(error, bytes))?;
        output.commit().map_err(told)
    }

    /// Reads what `save` writes, or a bare array of messages.
    pub(super) fn load(path: &Path) -> Result<Self, Failure> {
        let failed = |message: String| Failure::new(format!("{}: {message}", path.display()));
        let value = parse_text(&read_text(path)?).map_err(|error| failed(format!("this is not JSON: {error}")))?;
        let messages = match value {
            Value::Object(mut object) => object.remove("messages"),
            other => Some(other),
        };
        match messages {
            // `save` writes this for an empty conversation.
            Some(Value::Array(messages)) if messages.is_empty() => Ok(Self::default()),
            messages => Ok(Self { messages: read_messages(messages).map_err(|error| failed(error.message))? }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk() -> Conversation {
        let mut talk = Conversation::default();
        talk.set_system("Be brief.");
        talk.ask("One?");
        talk.answer("1", "");
        talk.ask("Two?");
        talk.answer("2", "So it is two.");
        talk
    }

    #[test]
    fn questions_and_answers_are_taken_back() {
        let mut other = talk();
        assert!(other.take_back_answer());
        assert_eq!(other.messages().len(), 4);
        assert_eq!(other.undo().as_deref(), Some("Two?"));
        assert_eq!(other.undo().as_deref(), Some("One?"));
        assert_eq!((other.undo(), other.take_back_answer()), (None, false));
        assert_eq!(other.system(), Some("Be brief."));
        other.set_system("");
        assert_eq!(other, Conversation::default());
        let mut third = talk();
        third.set_system("Be long.");
        third.clear();
        assert_eq!((third.system(), third.messages().len()), (Some("Be long."), 1));
    }

    #[test]
    fn a_saved_conversation_comes_back_and_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("talk.json");
        talk().save(&path, false).unwrap();
        assert_eq!(Conversation::load(&path).unwrap(), talk());
        let line = Conversation::default().save(&path, false).unwrap_err().message;
        assert_eq!(line, format!("{0} exists; /save! {0} overwrites it", path.display()));
        assert_eq!(Conversation::load(&path).unwrap(), talk());
        Conversation::default().save(&path, true).unwrap();
        assert_eq!(Conversation::load(&path).unwrap(), Conversation::default());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_malformed_conversation_is_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        for (text, end) in [
            ("{\n oops", "this is not JSON: key must be a string at line 2 column 2"),
            ("[{\"role\": \"user\", \"role\": 1}]", "the key `role` comes twice at line 1 column 24"),
            ("{}", "`messages` is missing; a chat needs at least one message"),
            ("[{\"role\": \"user\"}]", "`messages[0].content` is missing; it must be a string"),
            (
                "[{\"role\": \"king\", \"content\": \"\"}]",
                "must be `system`, `developer`, `user`, `assistant` or `tool`",
            ),
            ("[{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]", "not images, audio or files"),
        ] {
            std::fs::write(&path, text).unwrap();
            let line = Conversation::load(&path).unwrap_err().message;
            assert!(line.ends_with(end) && line.starts_with(path.to_str().unwrap()), "{line}");
        }
        std::fs::write(&path, "[{\"role\": \"user\", \"content\": \"Hi\"}]").unwrap();
        assert_eq!(Conversation::load(&path).unwrap().messages().len(), 1);
        // As over HTTP: parts are joined, and `developer` is the newer name of `system`.
        let parts = r#"[{"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]}]"#;
        std::fs::write(&path, parts).unwrap();
        assert_eq!(Conversation::load(&path).unwrap().system(), Some("Be brief."));
    }
}
