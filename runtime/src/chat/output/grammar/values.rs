//! Values in notations that are not JSON: bare text in fields, and Gemma 4's.

use serde_json::{Value, json};

use super::super::families::Fields;
use super::arguments::{Member, Writer, members};
use super::{Refused, quoted};

/// Quotes a string of Gemma 4.
const GEMMA_QUOTE: &str = "<|\"|>";

impl Writer<'_> {
    /// A field with its value.
    pub(super) fn field(&mut self, format: &Fields, member: &Member, dsml: bool) -> Result<String, Refused> {
        let text = is_text(&member.schema);
        let key = format!("{} {} {}", self.mark(&format.key), quoted(&member.name), self.mark(&format.key_end));
        let between = match &*format.value {
            "" => String::new(),
            mark if mark.starts_with('<') && !self.begins_with_token(mark) => format!("WS? {}", self.mark(mark)),
            mark if dsml => {
                let is = if text { "true" } else { "false" };
                format!("{} {}", quoted(&format!(" string=\"{is}\"")), self.mark(mark))
            }
            // Kimi K3 writes a value's type.
            mark if format.escaped => format!("/( type=\"[a-z]{{1,12}}\")?/ {}", self.mark(mark)),
            mark => self.mark(mark),
        };
        let end = format.value_end.replace("{}", &member.name);
        let value =
            if text { self.text(member, format.lines, &end)? } else { self.json_field(member, format.lines, &end)? };
        Ok(format!("{key} {between} {value}"))
    }

    fn json_field(&mut self, member: &Member, lines: bool, end: &str) -> Result<String, Refused> {
        let value = self.json(&crate::grammar::prepared(&member.schema).map_err(|error| error.to_string())?);
        let line = if lines { "\"\\n\"" } else { "" };
        Ok(format!("{line} {value} {line} {}", self.mark(end)))
    }

    /// Bare text, and the mark that ends it.
    fn text(&mut self, member: &Member, lines: bool, end: &str) -> Result<String, Refused> {
        let (before, after) = if lines { ("\"\\n\"", "\n") } else { ("", "") };
        if let Some(texts) = choices(&member.schema) {
            let texts: Vec<String> = texts.iter().map(|text| quoted(&format!("{text}{after}"))).collect();
            return Ok(format!("{before} ({}) {}", texts.join(" | "), self.mark(end)));
        }
        let letters = letters(&member.schema)?;
        let value = match self.begins_with_token(end) {
            true => format!("/(?s:.){letters}/ {}", self.mark(end)),
            false => self.lazy(&format!("/(?s:.){letters}{}/", escaped(&format!("{after}{end}")))),
        };
        Ok(format!("{before} {value}"))
    }

    pub(super) fn gemma_object(&mut self, members: &[Member]) -> Result<String, Refused> {
        self.in_any_order(members, ("\"{\"", "\",\"", "\"}\""), &mut |writer, member| {
            let value = writer.gemma(&member.schema)?;
            Ok(format!("{} {value}", quoted(&format!("{}:", member.name))))
        })
    }

    /// A value in Gemma's notation.
    fn gemma(&mut self, schema: &Value) -> Result<String, Refused> {
        let quote = self.mark(GEMMA_QUOTE);
        if let Some(texts) = choices(schema) {
            let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
            return Ok(self.rule(&format!("{quote} ({}) {quote}", texts.join(" | "))));
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("string") => {
                let text = self.gemma_text(&letters(schema)?);
                Ok(self.rule(&text))
            }
            Some("integer" | "number" | "boolean" | "null") => {
                Ok(self.json(&crate::grammar::prepared(schema).map_err(|error| error.to_string())?))
            }
            Some("array") if schema.get("items").is_some() && plain_array(schema) => {
                let item = self.gemma(&schema["items"])?;
                Ok(self.rule(&format!("\"[\" ({item} (\",\" {item})*)? \"]\"")))
            }
            Some("object") => match members(schema) {
                Some(members) => self.gemma_object(&members),
                None => Err("an object without `properties` cannot be enforced in this model's notation".to_owned()),
            },
            _ => {
                Err("a value whose `type` is not one of JSON's cannot be enforced in this model's notation".to_owned())
            }
        }
    }

    /// Text between quotes, which are a control token where the vocabulary has it.
    fn gemma_text(&mut self, letters: &str) -> String {
        let quote = self.mark(GEMMA_QUOTE);
        if self.begins_with_token(GEMMA_QUOTE) {
            return format!("{quote} /(?s:.){letters}/ {quote}");
        }
        let text = self.lazy(&format!("/(?s:.){letters}{}/", escaped(GEMMA_QUOTE)));
        format!("{quote} {text}")
    }

    /// Any object in Gemma's notation.
    pub(super) fn any_gemma_object(&mut self) -> String {
        let text = self.gemma_text("*");
        let number = self.json(&json!({"type": ["number", "boolean", "null"]}));
        let key = "/[^:{}\\[\\],\\s]{1,100}/ \":\"";
        // Rules may come after their use; these two use each other.
        let value = self.rule(&format!("{text} | {number} | any_list | any_object"));
        self.define("any_list", &format!("\"[\" ({value} (\",\" {value})*)? \"]\""));
        self.define("any_object", &format!("\"{{\" ({key} {value} (\",\" {key} {value})*)? \"}}\""));
        "any_object".to_owned()
    }
}

/// Whether a parameter is written as bare text.
fn is_text(schema: &Value) -> bool {
    let is_string = |kind: &Value| kind == "string";
    match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(is_string),
        Some(kind) => is_string(kind),
        None => choices(schema).is_some(),
    }
}

/// The texts that a schema allows, if it lists them.
fn choices(schema: &Value) -> Option<Vec<&str>> {
    let values = match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => std::slice::from_ref(value),
        (None, Some(values)) => values.as_array()?.as_slice(),
        (None, None) => return None,
    };
    values.iter().map(Value::as_str).collect()
}

/// How many letters a text may have, as a regular expression counts them.
fn letters(schema: &Value) -> Result<String, Refused> {
    if let Some(keyword) =
        ["pattern", "format", "allOf", "anyOf", "oneOf"].into_iter().find(|key| schema.get(*key).is_some())
    {
        return Err(format!("`{keyword}` of a text cannot be enforced in this model's notation"));
    }
    let count = |name: &str| schema.get(name).and_then(Value::as_u64);
    Ok(match (count("minLength"), count("maxLength")) {
        (None, None) => "*".to_owned(),
        (least, None) => format!("{{{},}}", least.unwrap_or(0)),
        (least, Some(most)) => format!("{{{},{most}}}", least.unwrap_or(0)),
    })
}

fn plain_array(schema: &Value) -> bool {
    ["minItems", "maxItems", "prefixItems"].iter().all(|name| schema.get(*name).is_none())
}

/// A text within a regular expression.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '\n' => out += "\\n",
            // `\<` and `\>` are not letters but the ends of words.
            '<' | '>' => out.push(letter),
            letter if letter.is_ascii_punctuation() => out.extend(['\\', letter]),
            letter => out.push(letter),
        }
    }
    out
}
