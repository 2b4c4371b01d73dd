//! Calls as tags with a field for each argument, `<function=f><parameter=a>1</parameter></function>`.
//!
//! Values are bare text and may contain the very marks that end them. A mark counts where what follows it can follow it:
//! another field, or the end of the call.

use super::super::families::Fields;
use super::super::tree::Tree;
use super::super::types;
use super::{Begins, Call, LONGEST_HEADER, Place, Read, begins, is_name};

/// How far reading has come.
enum Step<T> {
    Done(T),
    More,
    Not,
}

pub(super) fn read(format: &Fields, text: &str, place: Place<'_>) -> Read {
    let mut call = Reader { format, text, at: format.open.len(), place, name: String::new() };
    let members = match call.all() {
        Step::Done(members) => members,
        Step::More => return Read::More,
        Step::Not => return Read::Not,
    };
    let arguments = Tree::Object(members).json();
    Read::Calls(vec![Call { id: None, name: call.name, arguments }], call.at)
}

struct Reader<'a> {
    format: &'a Fields,
    text: &'a str,
    at: usize,
    place: Place<'a>,
    name: String,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) -> &'a str {
        let rest = self.rest().trim_start();
        self.at = self.text.len() - rest.len();
        rest
    }

    fn all(&mut self) -> Step<Vec<(String, Tree)>> {
        match self.opening() {
            Step::Done(true) => return Step::Done(Vec::new()),
            Step::Done(false) => {}
            Step::More => return Step::More,
            Step::Not => return Step::Not,
        }
        let mut members: Vec<(String, Tree)> = Vec::new();
        loop {
            let rest = self.skip_space();
            let outer = self.place.outer.unwrap_or(&self.format.close);
            let [field, close, outer] = [&*self.format.key, &*self.format.close, outer].map(|mark| begins(rest, mark));
            match (field, close, outer) {
                (_, Begins::Yes, _) => {
                    self.at += self.format.close.len();
                    return Step::Done(members);
                }
                (_, _, Begins::Yes) => return Step::Done(members),
                (Begins::Yes, ..) => {}
                _ if rest.is_empty() && self.place.at_end => return Step::Done(members),
                (Begins::Maybe, ..) | (_, Begins::Maybe, _) | (_, _, Begins::Maybe) => return Step::More,
                _ => return Step::Not,
            }
            match self.field(&members) {
                Step::Done((name, value)) => {
                    members.retain(|(own, _)| *own != name);
                    members.push((name, value));
                }
                Step::More => return Step::More,
                Step::Not => return Step::Not,
            }
        }
    }

    /// Text up to a mark that must come soon.
    fn up_to(&mut self, mark: &str) -> Step<&'a str> {
        let rest = self.rest();
        match rest.find(mark) {
            Some(end) => {
                self.at += end + mark.len();
                Step::Done(&rest[..end])
            }
            None if rest.len() > LONGEST_HEADER => Step::Not,
            None => Step::More,
        }
    }

    /// The name; and whether the call is over with it, as in `<invoke name="f"/>`.
    fn opening(&mut self) -> Step<bool> {
        let name = match &*self.format.name_end {
            "" => self.name_before_fields(),
            mark => self.up_to(mark),
        };
        let name = match name {
            Step::Done(name) => name.trim(),
            Step::More => return Step::More,
            Step::Not => return Step::Not,
        };
        self.name = self.unescaped(name);
        if !is_name(&self.name) {
            return Step::Not;
        }
        match &*self.format.body {
            "" => Step::Done(false),
            mark => match self.up_to(mark) {
                Step::Done(between) => Step::Done(between.trim_end().ends_with('/')),
                Step::More => Step::More,
                Step::Not => Step::Not,
            },
        }
    }

    fn name_before_fields(&mut self) -> Step<&'a str> {
        let rest = self.rest();
        let Some(end) = rest.trim_start().find(['\n', '<']).map(|end| end + rest.len() - rest.trim_start().len())
        else {
            return if rest.len() > LONGEST_HEADER { Step::Not } else { Step::More };
        };
        self.at += end;
        Step::Done(&rest[..end])
    }

    fn unescaped(&self, name: &str) -> String {
        if !self.format.escaped {
            return name.to_owned();
        }
        name.replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&apos;", "'")
            .replace("&amp;", "&")
    }

    fn field(&mut self, before: &[(String, Tree)]) -> Step<(String, Tree)> {
        self.at += self.format.key.len();
        let key = match self.up_to(&self.format.key_end) {
            Step::Done(key) => self.unescaped(key.trim()),
            Step::More => return Step::More,
            Step::Not => return Step::Not,
        };
        let attributes = match &*self.format.value {
            "" => "",
            mark => match self.up_to(mark) {
                Step::Done(attributes) => attributes,
                Step::More => return Step::More,
                Step::Not => return Step::Not,
            },
        };
        match self.value(&key, before) {
            Step::Done(value) => {
                let value = if self.format.lines { without_line_breaks(value) } else { value };
                Step::Done((key.clone(), self.tree(&key, attributes, value)))
            }
            Step::More => Step::More,
            Step::Not => Step::Not,
        }
    }

    fn value(&mut self, key: &str, before: &[(String, Tree)]) -> Step<&'a str> {
        let end_mark = self.format.value_end.replace("{}", key);
        let rest = self.rest();
        let missing = self.missing_end(rest, key, before);
        let mut from = 0;
        while let Some(end) = rest[from..].find(&end_mark).map(|end| from + end) {
            if missing.as_ref().is_some_and(|missing| *missing < end) {
                break;
            }
            match self.can_end(&rest[end + end_mark.len()..]) {
                Begins::Yes => {
                    self.at += end + end_mark.len();
                    return Step::Done(&rest[..end]);
                }
                Begins::Maybe => return Step::More,
                Begins::No => from = end + end_mark.len(),
            }
        }
        let missing = missing.or_else(|| self.last_close(rest));
        let Some(end) = missing else { return Step::More };
        self.at += end;
        Step::Done(&rest[..end])
    }

    /// Whether a field can end before this text.
    fn can_end(&self, text: &str) -> Begins {
        let next = text.trim_start();
        if next.is_empty() && self.place.at_end {
            return Begins::Yes;
        }
        let outer = self.place.outer.unwrap_or(&self.format.close);
        let marks = [&*self.format.key, &*self.format.close, outer].map(|mark| begins(next, mark));
        *[Begins::Yes, Begins::Maybe].iter().find(|found| marks.contains(found)).unwrap_or(&Begins::No)
    }

    /// Where a value ends whose end mark was left out: at a line that begins another field that the tool has, or ends the call.
    fn missing_end(&self, rest: &str, key: &str, before: &[(String, Tree)]) -> Option<usize> {
        if !self.format.lines {
            return None;
        }
        let properties = self.place.tool(&self.name)?.parameters.get("properties")?.as_object()?;
        let next = rest.match_indices(&format!("\n{}", self.format.key)).find_map(|(at, mark)| {
            let (name, _) = rest[at + mark.len()..].split_once(&*self.format.key_end)?;
            let is_new = name != key && properties.contains_key(name) && before.iter().all(|(own, _)| own != name);
            is_new.then_some(at)
        });
        let close = rest.match_indices(&format!("\n{}", self.format.close)).find_map(|(at, mark)| {
            let after = rest[at + mark.len()..].trim_start();
            let outer = self.place.outer?;
            after.starts_with(outer).then_some(at)
        });
        next.into_iter().chain(close).min()
    }

    /// At the end of an answer: where the call's end mark ends it, too.
    fn last_close(&self, rest: &str) -> Option<usize> {
        let whole = rest.trim_end();
        let before = whole.strip_suffix(self.place.outer.unwrap_or_default()).unwrap_or(whole).trim_end();
        before.strip_suffix(&*self.format.close).filter(|_| self.place.at_end).map(str::len)
    }

    fn tree(&self, key: &str, attributes: &str, value: &str) -> Tree {
        if let Some(nested) = self.nested(value) {
            return nested;
        }
        if let Some(raw) = value.strip_prefix("<![CDATA[").and_then(|rest| rest.strip_suffix("]]>")) {
            return Tree::Text(raw.to_owned());
        }
        let parsed = || super::super::tree::whole(value).unwrap_or_else(|| Tree::Text(value.to_owned()));
        match attribute(attributes, "string").or_else(|| attribute(attributes, "type")) {
            Some("true" | "string") => Tree::Text(value.to_owned()),
            Some(_) => parsed(),
            None => match self.place.tool(&self.name) {
                Some(tool) => types::typed(value, &tool.parameters, key),
                None => parsed(),
            },
        }
    }
}

impl Reader<'_> {
    /// A value of tags within tags, in a format whose tags have the keys' names; the members of a list are called `item`.
    fn nested(&self, value: &str) -> Option<Tree> {
        let format = self.format;
        let mut rest = value.trim();
        if !format.value_end.contains("{}") || !rest.starts_with(&*format.key) {
            return None;
        }
        let mut members: Vec<(String, Tree)> = Vec::new();
        while !rest.is_empty() {
            let (name, inner) = rest.strip_prefix(&*format.key)?.split_once(&*format.key_end)?;
            let end_mark = format.value_end.replace("{}", name);
            let begin_mark = format!("{}{name}{}", format.key, format.key_end);
            let end = matching(inner, &begin_mark, &end_mark)?;
            let text = &inner[..end];
            let leaf = || super::super::tree::whole(text).unwrap_or_else(|| Tree::Text(text.to_owned()));
            members.push((name.to_owned(), self.nested(text).unwrap_or_else(leaf)));
            rest = inner[end + end_mark.len()..].trim_start();
        }
        let is_list = members.iter().all(|(name, _)| name == "item");
        Some(if is_list {
            Tree::List(members.into_iter().map(|(_, item)| item).collect())
        } else {
            Tree::Object(members)
        })
    }
}

/// Where the mark is that ends what a mark of the same name began before `text`.
fn matching(text: &str, begin: &str, end: &str) -> Option<usize> {
    let (mut depth, mut at) = (0, 0);
    loop {
        let close = at + text[at..].find(end)?;
        depth += text[at..close].matches(begin).count();
        if depth == 0 {
            return Some(close);
        }
        depth -= 1;
        at = close + end.len();
    }
}

/// An attribute in ` string="false"`.
fn attribute<'t>(attributes: &'t str, name: &str) -> Option<&'t str> {
    let (_, value) = attributes.split_once(&format!("{name}=\""))?;
    value.split_once('"').map(|(value, _)| value)
}

/// Without the line breaks that the format puts around a value.
fn without_line_breaks(value: &str) -> &str {
    let value = value.strip_prefix('\n').unwrap_or(value);
    value.strip_suffix('\n').unwrap_or(value)
}
