//! Messages from a terminal, with line editing and history, or from piped lines.
//!
//! One message may take several lines: a backslash at the end goes on, and so does a block that ``` has opened.

use std::io::{BufRead, ErrorKind};
use std::path::{Path, PathBuf};

use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor};

use super::at_terminal;
use crate::cli::Failure;
use crate::cli::out::notice;
use crate::cli::text_input::without_mark;

/// A message, or why there is none.
#[derive(Debug, PartialEq)]
pub(super) enum Lines {
    Message(String),
    /// Ctrl-C while typing.
    Cancelled,
    /// Bytes that are no UTF-8; the message that they were in is dropped.
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
    /// The terminal where there is one. `history` names the file that lines are kept in.
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

    /// The next message, put together of its lines.
    pub(super) fn message(&mut self) -> Result<Lines, Failure> {
        let mut message = Message::default();
        loop {
            let whole = match self.line(if message.is_empty() { "> " } else { "… " })? {
                Lines::Message(line) => message.add(&line),
                Lines::End if self.is_terminal() || message.is_empty() => return Ok(Lines::End),
                // A pipe may end inside of a message; what is there is the message.
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

    /// Keeps what was typed. A history that cannot be written ends with a notice, and the conversation goes on.
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

/// Whether lines could be kept in this file, before there are any. A device is none: its permissions would be changed.
fn check_history(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let reason = match path.metadata() {
        Ok(facts) if !facts.is_file() => "it is not a regular file",
        Err(_) if folder.is_some_and(|folder| !folder.is_dir()) => "its folder does not exist: make it first",
        _ => return Ok(()),
    };
    Err(Failure::new(trouble(path, &reason)))
}

/// A message while its lines come in.
#[derive(Default)]
struct Message {
    lines: Vec<String>,
    in_block: bool,
}

impl Message {
    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Adds a line. True: the message is whole.
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
    fn a_history_is_refused_before_the_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let line = |path: &Path| check_history(path).unwrap_err().message;
        assert!(line(&folder.path().join("missing/history")).contains("does not exist: make it first"));
        assert!(line(folder.path()).contains("not a regular file"));
        #[cfg(unix)]
        assert!(line(Path::new("/dev/null")).contains("not a regular file"));
        assert!(check_history(&folder.path().join("new")).is_ok() && check_history(Path::new("new")).is_ok());
    }

    #[test]
    fn a_backslash_and_a_block_go_on() {
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
