//! Answers that follow a JSON schema, a regular expression or a grammar, or an error.
//!
//! `llguidance` computes which tokens may come next. What is ours: which schemas may reach it (`schema`), the trie of the
//! vocabulary (`words`), the engine's constraint (`matcher`), and limits (`compile`): a grammar is compiled within bounds, on a
//! stack of its own, and the last few stay compiled.

mod calling;
mod channels;
mod compile;
mod compiling;
mod either;
mod gbnf;
mod mark;
mod matcher;
mod reasoning;
mod schema;
#[cfg(test)]
mod tests;
mod words;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use llguidance::Matcher;
use serde_json::Value;

use self::calling::CallKind;
pub use self::calling::Calls;
pub use self::channels::{ChannelRules, Channelled};
use self::compile::Compiler;
use self::compiling::KeptCalls;
pub use self::compiling::Wanted;
pub use self::either::Either;
pub use self::mark::Mark;
use self::matcher::GrammarConstraint;
pub use self::reasoning::Reasoned;
pub(crate) use self::schema::prepared;
use self::words::Words;
use crate::TokenId;
use crate::chat::output::{CallRule, ChannelMarks};
use crate::sampling::Constraint;
use crate::tokenizer::Tokenizer;

/// Grammars that stay compiled.
const KEPT: usize = 8;

/// What an answer must follow.
#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    /// A JSON schema.
    Schema(Value),
    /// A regular expression for the whole answer.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A grammar in Lark's notation.
    Lark(String),
    /// A grammar in llama.cpp's notation.
    Gbnf(String),
    /// A grammar in Lark's notation that the program has written: it may contain schemas and name control tokens by number.
    Rules(String),
}

impl Format {
    /// Any JSON object.
    pub fn any_object() -> Self {
        Self::Schema(serde_json::json!({"type": "object"}))
    }

    /// What tells it from others. The order of a schema's properties, which answers keep, counts.
    fn key(&self) -> String {
        match self {
            Self::Schema(schema) => format!("schema {schema}"),
            Self::Regex(regex) => format!("regex {regex}"),
            Self::Choice(texts) => format!("choice {texts:?}"),
            Self::Lark(lark) => format!("lark {lark}"),
            Self::Gbnf(gbnf) => format!("gbnf {gbnf}"),
            Self::Rules(lark) => format!("rules {lark}"),
        }
    }
}

/// Why a format is refused: one line, which names keyword and place where it is a schema's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GrammarError(pub String);

/// A compiled format.
#[derive(Clone)]
pub struct Grammar {
    matcher: Arc<Mutex<Matcher>>,
    words: Arc<Words>,
    /// Whether it may name control tokens.
    trusted: bool,
}

impl Grammar {
    /// A constraint at the beginning of an answer that one of `ends` may end.
    pub fn constraint(&self, ends: Arc<[TokenId]>) -> Box<dyn Constraint> {
        let matcher = self.matcher.lock().unwrap_or_else(PoisonError::into_inner);
        Box::new(GrammarConstraint::new(&matcher, Arc::clone(&self.words), ends, self.trusted))
    }
}

impl fmt::Debug for Grammar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Grammar")
    }
}

/// A tokenizer's grammars. The trie of its vocabulary is made when the first is asked for.
pub struct Grammars {
    tokenizer: Arc<Tokenizer>,
    compiler: OnceLock<Result<Compiler, String>>,
    /// The last used ones, newest first.
    kept: Mutex<VecDeque<(String, Grammar)>>,
    /// Those of the model's format: a few.
    marks: Mutex<Vec<(String, Mark)>>,
    /// The tokens that begin with a letter, as calls without a mark do.
    begins: Mutex<Vec<(char, Arc<[TokenId]>)>>,
    calls: KeptCalls,
}

impl Grammars {
    /// None yet.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        let (compiler, kept, marks) = (OnceLock::new(), Mutex::default(), Mutex::default());
        Self { tokenizer, compiler, kept, marks, begins: Mutex::default(), calls: KeptCalls::default() }
    }

    /// The compiled form of a format.
    ///
    /// # Errors
    /// One line, if it cannot be enforced to the letter or is too large.
    pub fn compile(&self, format: &Format) -> Result<Grammar, GrammarError> {
        let key = format.key();
        if let Some(grammar) = self.take_kept(&key) {
            return Ok(grammar);
        }
        let compiler = self.compiler.get_or_init(|| Words::new(&self.tokenizer).and_then(Compiler::new));
        let compiler = compiler.as_ref().map_err(|line| GrammarError(line.clone()))?;
        let grammar = compiler.compile(format)?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_front((key, grammar.clone()));
        kept.truncate(KEPT);
        Ok(grammar)
    }

    /// A mark, which is looked for in the vocabulary once.
    pub fn mark(&self, text: &str) -> Mark {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, mark)) = marks.iter().find(|(own, _)| own == text) {
            return mark.clone();
        }
        let mark = Mark::new(&self.tokenizer, text);
        marks.push((text.to_owned(), mark.clone()));
        mark
    }

    /// What leads through an answer in channels to its final message, or to a call if one is required.
    pub fn channel_rules(&self, marks: &ChannelMarks, requires_call: bool) -> ChannelRules {
        let opening = if requires_call { marks.call } else { marks.answer };
        let next = marks.next.strip_prefix(marks.end).unwrap_or(marks.next);
        let tokens = |text: &str| self.tokenizer.encode(text, false, true).unwrap_or_default().into();
        ChannelRules {
            channel: marks.channel,
            start: next,
            message: self.mark(marks.message),
            recipient: self.mark(marks.recipient),
            end: self.mark(marks.end),
            opening: tokens(opening),
            next: tokens(&format!("{next}{opening}")),
            forced: tokens(&format!("{}{opening}", marks.next)),
        }
    }

    /// The calls that a format's rules describe; see [`OutputFormat::call_rules`](crate::chat::output::OutputFormat::call_rules).
    /// `compile` makes the grammars of them, on this thread.
    ///
    /// # Errors
    /// Those of `compile`, and as from [`Self::compile`].
    pub fn calls<E: From<GrammarError>>(
        &self,
        wanted: Wanted,
        required: bool,
        parallel: bool,
        compile: impl FnOnce(&[CallRule]) -> Result<Vec<Grammar>, E>,
    ) -> Result<Calls, E> {
        let kinds = self.kinds(&wanted.rules)?;
        let grammars = match self.calls.find(&wanted) {
            Some(grammars) => {
                grammars.wait(0).map_err(GrammarError)?;
                grammars
            }
            None => {
                let grammars = compile(&wanted.rules)?;
                self.calls.add(wanted, grammars)
            }
        };
        Ok(Calls { kinds, grammars, required, parallel })
    }

    /// The same where the model talks before it calls: `compile` runs beside the prompt, and what is wrong shows in the answer.
    ///
    /// # Errors
    /// One line, if a mark cannot be written.
    pub fn calls_beside(
        &self,
        wanted: Wanted,
        parallel: bool,
        compile: impl FnOnce(&[CallRule]) -> Result<Vec<Grammar>, String> + Send + 'static,
    ) -> Result<Calls, GrammarError> {
        let kinds = self.kinds(&wanted.rules)?;
        let grammars = self.calls.find(&wanted).unwrap_or_else(|| {
            let rules = wanted.rules.clone();
            self.calls.start(wanted, move || compile(&rules).map(Into::into))
        });
        Ok(Calls { kinds, grammars, required: false, parallel })
    }

    /// A grammar for each rule.
    ///
    /// # Errors
    /// As from [`Self::compile`].
    pub fn compile_rules(&self, rules: &[CallRule]) -> Result<Vec<Grammar>, GrammarError> {
        rules.iter().map(|rule| self.compile(&Format::Rules(rule.lark.clone()))).collect()
    }

    fn kinds(&self, rules: &[CallRule]) -> Result<Arc<[CallKind]>, GrammarError> {
        rules.iter().map(|rule| self.kind(rule)).collect()
    }

    fn kind(&self, rule: &CallRule) -> Result<CallKind, GrammarError> {
        let forced = self.tokenizer.encode(&rule.forced, false, true);
        Ok(CallKind {
            mark: rule.mark.as_deref().map(|mark| self.mark(mark)),
            begins: if rule.mark.is_some() { Arc::default() } else { self.beginning_with(rule.first) },
            forced: forced.map_err(|error| GrammarError(error.to_string()))?.into(),
            last: rule.last,
        })
    }

    /// The tokens that begin with white space and this letter.
    fn beginning_with(&self, letter: char) -> Arc<[TokenId]> {
        let mut known = self.begins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, tokens)) = known.iter().find(|(own, _)| *own == letter) {
            return Arc::clone(tokens);
        }
        let tokenizer = &self.tokenizer;
        let begins = |id: &TokenId| {
            let bytes = tokenizer.token_bytes(*id, false);
            bytes.trim_ascii_start().first() == Some(&(letter as u8))
        };
        let tokens: Arc<[TokenId]> = (0..tokenizer.vocab_size() as TokenId).filter(begins).collect();
        known.push((letter, Arc::clone(&tokens)));
        tokens
    }

    fn take_kept(&self, key: &str) -> Option<Grammar> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(own, _)| own == key)?;
        let found = kept.remove(at)?;
        let grammar = found.1.clone();
        kept.push_front(found);
        Some(grammar)
    }
}

/// An error's first line; what follows is the library's own state.
fn first_line(error: &impl fmt::Display) -> String {
    let text = error.to_string();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given");
    line.chars().filter(|letter| !letter.is_control()).take(300).collect()
}
