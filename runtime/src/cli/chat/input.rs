//! Messages from a terminal, with line editing and history, or from piped lines.
//!
//! A message may span several lines: a trailing backslash or an open ``` block continues it.

use std::io::{BufRead, ErrorKind};
use std::path::{Path, PathBuf};

use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor};

use super::at_terminal;
use crate::cli::Failure;
use crate::cli::out::notice;
use crate::cli::text_input::without_mark;

/// The result of reading a line or a message.
#[derive(Debug, PartialEq)]
pub(super) enum Lines {
    Message(String),
    /// Ctrl-C while typing.
    Cancelled,
    /// Invalid UTF-8; the message containing it is dropped.
    NotText,
    /// Ctrl-D, or the end of the pipe.
    End,
}

/// Where messages come from.
pub(super) enum Input {
    Terminal { editor: Box<DefaultEditor>, history: Option<PathBuf>, remember: bool },
    Pipe { stdin: std::io::Stdin, begun: bool },
}

impl Input {
    /// Reads from the terminal if there is one. `history` is the file that keeps the lines.
    pub(super) fn new(history: Option<&Path>, no_history: bool) -> Result<Self, Failure> {
        if !at_terminal() {
            return Ok(Self::Pipe { stdin: std::io::stdin(), begun: false });
        }
        if let Some(path) = history {
            check_history(path)?;
        }
        let config = Config::builder().max_history_size(1000)?.build();
        let mut editor = Box::new(DefaultEditor::with_config(config)?);
        if let Some(path) = history.filter(|path| path.exists()) {
            editor.load_history(path).map_err(|error| Failure::new(trouble(path, &error)))?;
        }
        Ok(Self::Terminal { editor, history: history.map(Path::to_owned), remember: !no_history })
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// The next message, its lines joined.
    pub(super) fn message(&mut self) -> Result<Lines, Failure> {
        let mut message = Message::default();
        loop {
            let whole = match self.line(if message.is_empty() { "> " } else { "… " })? {
                Lines::Message(line) => message.add(&line),
                Lines::End if self.is_terminal() || message.is_empty() => return Ok(Lines::End),
                // A pipe may end within a message: send what has been read.
                Lines::End => true,
                other @ (Lines::Cancelled | Lines::NotText) => return Ok(other),
            };
            if whole {
                let text = message.text();
                self.remember(&text);
                return Ok(Lines::Message(text));
            }
        }
    }

    fn line(&mut self, prompt: &str) -> Result<Lines, Failure> {
        match self {
            Self::Terminal { editor, .. } => match editor.readline(prompt) {
                Ok(line) => Ok(Lines::Message(line)),
                Err(ReadlineError::Interrupted) => Ok(Lines::Cancelled),
                Err(ReadlineError::Eof) => Ok(Lines::End),
                Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => Ok(Lines::NotText),
                #[cfg(windows)]
                Err(ReadlineError::Decode(_)) => Ok(Lines::NotText),
                Err(error) => Err(Failure::new(format!("cannot read from the terminal: {error}"))),
            },
            Self::Pipe { stdin, begun } => {
                let mut line = Vec::new();
                let read = stdin.lock().read_until(b'\n', &mut line);
                if read.map_err(|error| Failure::new(format!("cannot read stdin: {error}")))? == 0 {
                    return Ok(Lines::End);
                }
                let Ok(line) = String::from_utf8(line) else { return Ok(Lines::NotText) };
                let line = if std::mem::replace(begun, true) { &*line } else { without_mark(&line).unwrap_or(&line) };
                Ok(Lines::Message(line.trim_end_matches(['\n', '\r']).to_owned()))
            }
        }
    }

    /// Adds a message to the history. If the file cannot be written, a notice says so and it is not tried again.
    fn remember(&mut self, text: &str) {
        let Self::Terminal { editor, history, remember: true } = self else { return };
        let Ok(true) = editor.add_history_entry(text) else { return };
        let Some(path) = history else { return };
        let appended = if path.exists() { editor.append_history(&*path) } else { editor.save_history(&*path) };
        if let Err(error) = appended {
            notice!("{}; lines are kept until you leave", trouble(path, &error));
            *history = None;
        }
    }
}

fn trouble(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("the history {} cannot be used: {error}", path.display())
}

/// Checks up front that the history file can be written. Devices are refused: saving would change their permissions.
fn check_history(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let reason = match path.metadata() {
        Ok(facts) if !facts.is_file() => "it is not a regular file",
        Err(_) if folder.is_some_and(|folder| !folder.is_dir()) => "its folder does not exist: make it first",
        _ => return Ok(()),
    };
    Err(Failure::new(trouble(path, &reason)))
}

/// A message whose lines are still being read.
#[derive(Default)]
struct Message {
    lines: Vec<String>,
    in_block: bool,
}

impl Message {
    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Adds a line; true if it completes the message.
    fn add(&mut self, line: &str) -> bool {
        let fences = line.matches("```").count();
        self.in_block ^= fences % 2 == 1;
        if !self.in_block
            && let Some(line) = line.strip_suffix('\\')
        {
            self.lines.push(line.to_owned());
            return false;
        }
        self.lines.push(line.to_owned());
        !self.in_block
    }

    fn text(self) -> String {
        self.lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages that lines become.
    fn messages(lines: &[&str]) -> Vec<String> {
        let mut all = Vec::new();
        let mut message = Message::default();
        for line in lines {
            if message.add(line) {
                all.push(std::mem::take(&mut message).text());
            }
        }
        assert!(message.is_empty(), "left over: {:?}", message.lines);
        all
    }

    #[test]
    fn an_unusable_history_is_refused_up_front() {
        let folder = tempfile::tempdir().unwrap();
        let line = |path: &Path| check_history(path).unwrap_err().message;
        assert!(line(&folder.path().join("missing/history")).contains("does not exist: make it first"));
        assert!(line(folder.path()).contains("not a regular file"));
        #[cfg(unix)]
        assert!(line(Path::new("/dev/null")).contains("not a regular file"));
        assert!(check_history(&folder.path().join("new")).is_ok() && check_history(Path::new("new")).is_ok());
    }

    #[test]
    fn a_backslash_and_an_open_block_continue_a_message() {
        assert_eq!(messages(&["one", "two"]), ["one", "two"]);
        assert_eq!(messages(&["one\\", "two\\", "three", "four"]), ["one\ntwo\nthree", "four"]);
        assert_eq!(
            messages(&["explain ```rust", "let x = 1;\\", "", "```", "next"]),
            ["explain ```rust\nlet x = 1;\\\n\n```", "next"]
        );
        assert_eq!(messages(&["a ```b``` c"]), ["a ```b``` c"]);
        assert_eq!(messages(&["", "x"]), ["", "x"]);
    }
}
