//! The stream of an answer, parted into reasoning, text and calls.
//!
//! What has come and is not told apart yet waits in `buffer`. A call is reported when it is complete: arguments that are cut off are
//! no call, and what a client has been told cannot be taken back.

use std::sync::Arc;

use super::Part;
use super::channels::Channels;
use super::families::Format;
use super::reader::{self, Call, Place, Read};
use crate::chat::tools::Tools;

/// Parts the stream of one answer.
#[derive(Debug)]
pub struct OutputParser {
    format: Arc<Format>,
    tools: Tools,
    /// The marks that mean something in text.
    marks: Vec<(String, Means)>,
    state: State,
    channels: Option<Channels>,
    buffer: String,
    /// White space that belongs to the text if text follows.
    held: String,
    /// Nothing but white space has come since the beginning, or since a call.
    fresh: bool,
    /// White space that comes next is not part of the text.
    trims: bool,
    calls: usize,
    out: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Text,
    /// Within reasoning in the format's nth form.
    Reasoning(usize),
    /// Among calls.
    Section,
}

/// What a mark means in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    Reasoning(usize),
    Section,
    Call,
    /// Nothing, and it is no text.
    Dropped,
    /// Nothing after a call, else text.
    End,
}

/// Whether an answer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// More may come.
    Open,
    /// The model ended it.
    Whole,
    /// It was cut off.
    Cut,
}

impl OutputParser {
    pub(super) fn new(format: Arc<Format>, tools: &Tools, prompt_tail: &str) -> Self {
        let offered = tools.are_offered();
        let tail = prompt_tail.trim_end();
        // A prompt may end with the mark that begins a call or, in the same form, text.
        let call = format.calls.open();
        let begun = offered && !call.is_empty() && tail.ends_with(call);
        let buffer = if begun { call.to_owned() } else { String::new() };
        let open = format.reasoning.iter().position(|(open, _)| tail.ends_with(open.trim_end()));
        Self {
            marks: marks(&format, offered),
            state: open.map_or(State::Text, State::Reasoning),
            channels: format.channels.then(|| Channels::new(prompt_tail, offered)),
            format,
            tools: tools.clone(),
            buffer,
            held: String::new(),
            fresh: true,
            trims: open.is_some(),
            calls: 0,
            out: Vec::new(),
        }
    }

    /// The parts that are complete with more of the answer.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        self.buffer.push_str(text);
        self.advance(End::Open);
        std::mem::take(&mut self.out)
    }

    /// The parts that are left at the end of the answer. `whole` is false if it was cut off: an unfinished call is then none.
    pub fn finish(&mut self, whole: bool) -> Vec<Part> {
        self.advance(if whole { End::Whole } else { End::Cut });
        if self.calls == 0 && self.state == State::Text {
            let held = std::mem::take(&mut self.held);
            self.say(held);
        }
        std::mem::take(&mut self.out)
    }

    fn advance(&mut self, end: End) {
        if let Some(channels) = &mut self.channels {
            let calls = &mut self.calls;
            channels.advance(&mut self.buffer, end, &self.tools, &mut |part| report(part, calls, &mut self.out));
            return;
        }
        while match self.state {
            State::Text => self.text(end),
            State::Reasoning(form) => self.reasoning(form, end),
            State::Section => self.section(end),
        } {}
    }

    /// Goes on within text; whether there is more to do.
    fn text(&mut self, end: End) -> bool {
        if self.fresh
            && self.format.calls.is_bare()
            && self.tools.are_offered()
            && let Some(more) = self.bare_call(end)
        {
            return more;
        }
        let found =
            self.marks.iter().filter_map(|(mark, means)| Some((self.buffer.find(mark.as_str())?, mark.len(), *means)));
        let found = found
            .filter(|(at, _, means)| self.counts(*at, *means))
            .min_by_key(|(at, length, _)| (*at, usize::MAX - length));
        let Some((at, length, means)) = found else {
            let keep = if end == End::Open { self.unsure(self.marks.iter().map(|(mark, _)| mark.as_str())) } else { 0 };
            let text: String = self.buffer.drain(..self.buffer.len() - keep).collect();
            self.say_text(&text);
            return false;
        };
        let text: String = self.buffer.drain(..at).collect();
        self.say_text(&text);
        match means {
            Means::Reasoning(form) => {
                self.buffer.drain(..length);
                self.state = State::Reasoning(form);
                self.trims = true;
                true
            }
            Means::Dropped | Means::End => {
                self.buffer.drain(..length);
                // Where calls have no mark of their own, such a mark announces one.
                self.fresh |= self.format.calls.is_bare();
                true
            }
            Means::Section => self.begin_section(length, end),
            Means::Call => self.call(end),
        }
    }

    /// Whether a mark that begins at `at` means something there.
    fn counts(&self, at: usize, means: Means) -> bool {
        match means {
            // In the middle of a text it is a word like others, unless it is a token of its own.
            Means::Reasoning(form) if self.format.reasoning[form].0.starts_with("<think") => {
                self.fresh && self.buffer[..at].trim().is_empty()
            }
            Means::End => self.calls > 0,
            _ => true,
        }
    }

    /// Length of the end of the buffer that may become one of these marks.
    fn unsure<'a>(&self, marks: impl Iterator<Item = &'a str>) -> usize {
        marks.map(|mark| overlap(&self.buffer, mark)).max().unwrap_or(0)
    }

    /// A call that has no mark; `None` if it is not one.
    fn bare_call(&mut self, end: End) -> Option<bool> {
        let separators = |letter: char| letter.is_whitespace() || (self.calls > 0 && (letter == ';' || letter == ','));
        let rest = self.buffer.trim_start_matches(separators);
        if rest.is_empty() {
            return (end == End::Open).then_some(false);
        }
        if !rest.starts_with(['{', '[']) {
            return None;
        }
        let skipped = self.buffer.len() - rest.len();
        match reader::read(&self.format.calls, rest, self.place(end)) {
            Read::Calls(calls, length) => {
                self.buffer.drain(..skipped + length);
                self.report(calls);
                Some(true)
            }
            Read::More if end == End::Open => Some(false),
            Read::More if end == End::Cut => {
                self.buffer.clear();
                Some(false)
            }
            _ => None,
        }
    }

    /// A call's mark begins the buffer.
    fn call(&mut self, end: End) -> bool {
        match reader::read(&self.format.calls, &self.buffer, self.place(end)) {
            Read::Calls(calls, length) => {
                self.buffer.drain(..length);
                self.report(calls);
                true
            }
            Read::More if end == End::Cut => {
                self.buffer.clear();
                self.held.clear();
                false
            }
            Read::More => false,
            Read::Not => {
                let length = self.format.calls.open().len();
                let mark: String = self.buffer.drain(..length).collect();
                self.say_text(&mark);
                self.state = State::Text;
                true
            }
        }
    }

    /// A section's mark begins the buffer. Where that may be text, it is a section only if a call follows.
    fn begin_section(&mut self, length: usize, end: End) -> bool {
        let Some(section) = &self.format.section else { return false };
        let rest = self.buffer[length..].trim_start();
        let open = self.format.calls.open();
        if section.sure || rest.starts_with(open) {
            self.buffer.drain(..length);
            self.state = State::Section;
            return true;
        }
        if open.starts_with(rest) && end != End::Whole {
            if end == End::Cut {
                self.buffer.clear();
            }
            return false;
        }
        let mark: String = self.buffer.drain(..length).collect();
        self.say_text(&mark);
        true
    }

    fn section(&mut self, end: End) -> bool {
        let Some(section) = self.format.section.clone() else { return false };
        let rest = self.buffer.trim_start();
        let (open, close) = (self.format.calls.open(), &*section.close);
        let skipped = self.buffer.len() - rest.len();
        if rest.starts_with(close) {
            self.buffer.drain(..skipped + close.len());
            self.state = State::Text;
            return true;
        }
        if rest.starts_with(open) {
            self.buffer.drain(..skipped);
            return self.call(end);
        }
        if end == End::Open && (open.starts_with(rest) || close.starts_with(rest)) {
            return false;
        }
        if !section.sure {
            self.state = State::Text;
            return true;
        }
        match [open, close].iter().filter_map(|mark| self.buffer.find(mark)).min() {
            Some(at) => {
                self.buffer.drain(..at);
                true
            }
            None => {
                let keep = self.unsure([open, close].into_iter());
                self.buffer.drain(..self.buffer.len() - if end == End::Open { keep } else { 0 });
                false
            }
        }
    }

    fn reasoning(&mut self, form: usize, end: End) -> bool {
        let format = Arc::clone(&self.format);
        let close = &*format.reasoning[form].1;
        let draft = self.draft();
        if draft.is_some() && !self.buffer.contains(close) && end == End::Open {
            let at = draft.unwrap_or_default();
            let text: String = self.buffer.drain(..at).collect();
            self.say_reasoning(&text);
            return false;
        }
        let ends = format.answer.iter().map(|mark| (self.buffer.find(&**mark), 0));
        let ends = ends.chain([(self.buffer.find(close), close.len())]);
        // A call that no end of reasoning follows was one.
        let draft = draft.filter(|_| !self.buffer.contains(close)).map(|at| (Some(at), 0));
        match ends.chain(draft).filter_map(|(at, length)| Some((at?, length))).min_by_key(|(at, _)| *at) {
            Some((at, length)) => {
                let text = self.buffer[..at].to_owned();
                self.buffer.drain(..at + length);
                self.say_reasoning(&text);
                self.held.clear();
                self.trims = true;
                self.state = State::Text;
                true
            }
            None => {
                let marks = format.answer.iter().map(|mark| &**mark).chain([close]).chain(self.call_marks());
                let unsure = self.unsure(marks);
                let keep = if end == End::Open { unsure } else { 0 };
                let text: String = self.buffer.drain(..self.buffer.len() - keep).collect();
                self.say_reasoning(&text);
                if end != End::Open {
                    self.held.clear();
                }
                false
            }
        }
    }

    /// The marks that begin calls.
    fn call_marks(&self) -> impl Iterator<Item = &str> {
        self.marks
            .iter()
            .filter(|(_, means)| matches!(means, Means::Call | Means::Section))
            .map(|(mark, _)| mark.as_str())
    }

    /// Where a call begins within reasoning, on a line of its own. Whether it is one shows when the answer ends without an end
    /// of reasoning: some models forget it.
    fn draft(&self) -> Option<usize> {
        let begins_line = |at: &usize| match self.buffer[..*at].trim_end_matches(' ') {
            "" => self.held.is_empty() && self.trims || self.held.ends_with('\n'),
            before => before.ends_with('\n'),
        };
        let starts = self.call_marks().flat_map(|mark| self.buffer.match_indices(mark).map(|(at, _)| at));
        starts.filter(begins_line).min()
    }

    fn place(&self, end: End) -> Place<'_> {
        let outer = self.format.section.as_ref().map(|section| &*section.close);
        Place { tools: &self.tools, at_end: end == End::Whole, outer }
    }

    fn report(&mut self, calls: Vec<Call>) {
        self.fresh = true;
        for call in calls {
            report(Said::Call(call), &mut self.calls, &mut self.out);
        }
    }

    /// Text, without the white space at its ends that only parts it from other things.
    fn say_text(&mut self, text: &str) {
        let text = if self.trims { text.trim_start() } else { text };
        if text.is_empty() {
            return;
        }
        self.trims = false;
        let said = text.trim_end();
        if !said.is_empty() {
            self.fresh = false;
            let whole = std::mem::take(&mut self.held) + said;
            self.say(whole);
        }
        self.held.push_str(&text[said.len()..]);
        if !self.tools.are_offered() {
            let held = std::mem::take(&mut self.held);
            self.say(held);
        }
    }

    fn say(&mut self, text: String) {
        report(Said::Text(text), &mut self.calls, &mut self.out);
    }

    fn say_reasoning(&mut self, text: &str) {
        let text = if self.trims { text.trim_start() } else { text };
        if text.is_empty() {
            return;
        }
        let said = text.trim_end();
        if !said.is_empty() {
            self.trims = false;
            let whole = std::mem::take(&mut self.held) + said;
            report(Said::Reasoning(whole), &mut self.calls, &mut self.out);
        }
        self.held.push_str(&text[said.len()..]);
    }
}

/// What a part says.
pub(super) enum Said {
    Text(String),
    Reasoning(String),
    Call(Call),
}

/// Adds to the parts; neighbours of the same kind are one.
fn report(said: Said, calls: &mut usize, out: &mut Vec<Part>) {
    match (said, out.last_mut()) {
        (Said::Text(text) | Said::Reasoning(text), _) if text.is_empty() => {}
        (Said::Text(text), Some(Part::Text(last))) => last.push_str(&text),
        (Said::Reasoning(text), Some(Part::Reasoning(last))) => last.push_str(&text),
        (Said::Text(text), _) => out.push(Part::Text(text)),
        (Said::Reasoning(text), _) => out.push(Part::Reasoning(text)),
        (Said::Call(call), _) => {
            out.push(Part::ToolCall { call: *calls, id: call.id, name: call.name });
            out.push(Part::Arguments { call: *calls, json: call.arguments });
            *calls += 1;
        }
    }
}

fn marks(format: &Format, offered: bool) -> Vec<(String, Means)> {
    let reasoning =
        format.reasoning.iter().enumerate().map(|(form, (open, _))| (open.to_string(), Means::Reasoning(form)));
    let mut marks: Vec<_> = reasoning.collect();
    marks.extend(format.dropped.iter().map(|mark| (mark.to_string(), Means::Dropped)));
    if offered {
        if let Some(section) = &format.section {
            marks.push((section.open.to_string(), Means::Section));
            marks.push((section.close.to_string(), Means::End));
        }
        marks.push((format.calls.open().to_owned(), Means::Call));
        marks.push((format.calls.close().to_owned(), Means::End));
    }
    marks.retain(|(mark, _)| !mark.is_empty());
    marks
}

/// Length of the longest end of `text` that begins `mark` without being it.
pub(super) fn overlap(text: &str, mark: &str) -> usize {
    let longest = text.len().min(mark.len() - 1);
    (1..=longest)
        .rev()
        .find(|length| text.is_char_boundary(text.len() - length) && mark.starts_with(&text[text.len() - length..]))
        .unwrap_or(0)
}
