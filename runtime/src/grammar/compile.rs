//! Formats to compiled grammars, within limits.

use std::fmt;
use std::sync::{Arc, Mutex};

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;

use super::words::Words;
use super::{Format, Grammar, GrammarError, first_line, gbnf, schema};

/// Longest schema, expression or grammar, in bytes of its text.
const LONGEST_TEXT: usize = 64 << 10;

/// Most texts of a choice.
const MOST_CHOICES: usize = 1000;

/// The stack of a compilation, which recurses as deep as a grammar's rules lead.
const STACK: usize = 256 << 20;

/// Compiles grammars for one vocabulary.
pub(super) struct Compiler {
    factory: ParserFactory,
    words: Arc<Words>,
}

/// Bounds for a compilation, a fraction of a second, and for a mask, some milliseconds; a lexer state takes 1 to 2 kB.
fn limits() -> ParserLimits {
    ParserLimits {
        max_lexer_states: 50_000,
        max_grammar_size: 200_000,
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// Sets of tokens that are allowed at once where a text may be any of them, as expressions, each within the one before or apart
/// from it: the library's own, which are for texts in JSON, within those for any text, as arguments in tags and other quotes are.
fn slices() -> Vec<String> {
    let mut slices = llguidance::earley::SlicedBiasComputer::general_slices();
    slices.push("(?s:.)+".to_owned());
    slices
}

impl Compiler {
    pub(super) fn new(words: Words) -> Result<Self, String> {
        let mut factory = ParserFactory::new(&words.trie, InferenceCapabilities::default(), &slices())
            .map_err(|error| first_line(&error))?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(Self { factory, words: Arc::new(words) })
    }

    pub(super) fn compile(&self, format: &Format) -> Result<Grammar, GrammarError> {
        let matcher = on_a_stack_of_its_own(|| match format {
            Format::Schema(document) => schema::compile(document, &|schema| self.matcher_of_schema(schema)),
            Format::Regex(regex) => self.matcher_of_regex(regex),
            Format::Choice(texts) => self.matcher_of_choice(texts),
            Format::Lark(lark) => self.matcher_of_lark(lark),
            Format::Gbnf(gbnf) => self.matcher_of_gbnf(gbnf),
            Format::Rules(lark) => self.matcher(TopLevelGrammar::from_lark(lark.clone())),
        })?;
        let trusted = matches!(format, Format::Rules(_));
        Ok(Grammar { matcher: Arc::new(Mutex::new(matcher)), words: Arc::clone(&self.words), trusted })
    }

    fn matcher(&self, grammar: TopLevelGrammar) -> Result<Matcher, GrammarError> {
        let parser = self.factory.create_parser(grammar).map_err(|error| GrammarError(first_line(&error)))?;
        let mut matcher = Matcher::new(Ok(parser));
        // Lexers are made at the first mask: one that grows beyond its limit is refused here, not within an answer.
        matcher.compute_mask_or_eos().map_err(|error| GrammarError(first_line(&error)))?;
        Ok(matcher)
    }

    fn matcher_of_schema(&self, schema: Value) -> Result<Matcher, GrammarError> {
        refuse_long("schema", schema.to_string().len())?;
        self.matcher(TopLevelGrammar::from_json_schema(schema))
    }

    fn matcher_of_regex(&self, regex: &str) -> Result<Matcher, GrammarError> {
        refuse_long("regular expression", regex.len())?;
        self.matcher(TopLevelGrammar::from_regex(regex))
            .map_err(|error| GrammarError(format!("the regular expression cannot be used: {error}")))
    }

    fn matcher_of_choice(&self, texts: &[String]) -> Result<Matcher, GrammarError> {
        if texts.is_empty() || texts.len() > MOST_CHOICES {
            return Err(GrammarError(format!("a choice has 1 to {MOST_CHOICES} texts, not {}", texts.len())));
        }
        if texts.iter().any(String::is_empty) {
            return Err(GrammarError("a choice cannot be an empty text".to_owned()));
        }
        let texts: Vec<String> = texts.iter().map(|text| literal(text)).collect();
        self.matcher_of_regex(&format!("(?:{})", texts.join("|")))
    }

    fn matcher_of_lark(&self, lark: &str) -> Result<Matcher, GrammarError> {
        refuse_long("grammar", lark.len())?;
        if lark.contains("%json") {
            let line = "a grammar cannot contain a schema (%json); give the schema alone";
            return Err(GrammarError(line.to_owned()));
        }
        self.matcher_of_rules(lark.to_owned())
    }

    fn matcher_of_gbnf(&self, gbnf: &str) -> Result<Matcher, GrammarError> {
        refuse_long("grammar", gbnf.len())?;
        self.matcher_of_rules(gbnf::to_lark(gbnf)?)
    }

    fn matcher_of_rules(&self, lark: String) -> Result<Matcher, GrammarError> {
        self.matcher(TopLevelGrammar::from_lark(lark))
            .map_err(|error| GrammarError(format!("the grammar cannot be used: {error}")))
    }
}

fn refuse_long(what: &str, bytes: usize) -> Result<(), GrammarError> {
    if bytes > LONGEST_TEXT {
        return Err(GrammarError(format!("a {what} has {LONGEST_TEXT} bytes at most, not {bytes}")));
    }
    Ok(())
}

/// A regular expression for exactly this text.
fn literal(text: &str) -> String {
    let mut regex = String::with_capacity(text.len());
    for letter in text.chars() {
        // `\<` and `\>` are not letters but the ends of words.
        if letter.is_ascii_punctuation() && !matches!(letter, '<' | '>') {
            regex.push('\\');
        }
        regex.push(letter);
    }
    regex
}

fn on_a_stack_of_its_own<T: Send>(work: impl FnOnce() -> Result<T, GrammarError> + Send) -> Result<T, GrammarError> {
    let failed = |reason: &dyn fmt::Display| GrammarError(format!("the grammar cannot be compiled: {reason}"));
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("grammar".to_owned()).stack_size(STACK);
        let thread = thread.spawn_scoped(scope, work).map_err(|error| failed(&error))?;
        thread.join().unwrap_or_else(|_| Err(failed(&"this is a bug in Satchel")))
    })
}
