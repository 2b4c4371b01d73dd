//! Arguments in Lark's notation: members in any order, each at most once, none missing that is required.
//!
//! A rule carries a bit for each member that has come, as `llguidance`'s parametric rules do.

use serde_json::{Map, Value};

use super::super::families::Fields;
use super::super::tree::Notation;
use super::{Refused, Spelled, TERMINALS, quoted};

/// Most members whose order is free; of more, it is the schema's.
const MOST_FREE: usize = 60;

/// Keywords beside which the members of an object can be written one by one.
const PLAIN: [&str; 12] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "title",
    "description",
    "$schema",
    "$defs",
    "definitions",
    "examples",
    "default",
    "$id",
];

/// Writes rules.
pub(super) struct Writer<'a> {
    lark: String,
    rules: usize,
    spell: &'a dyn Fn(&str) -> Vec<Spelled>,
}

/// A member of an object.
pub(super) struct Member {
    pub(super) name: String,
    /// Complete: it has the definitions that it refers to.
    pub(super) schema: Value,
    pub(super) required: bool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(spell: &'a dyn Fn(&str) -> Vec<Spelled>) -> Self {
        Self { lark: TERMINALS.to_owned(), rules: 0, spell }
    }

    /// All rules, with the first.
    pub(super) fn finish(self, start: &str) -> String {
        format!("start: {start}\n{}", self.lark)
    }

    /// Adds a rule; returns its name.
    pub(super) fn rule(&mut self, body: &str) -> String {
        self.rule_with("", body)
    }

    /// Adds a rule that ends as soon as it can.
    pub(super) fn lazy(&mut self, body: &str) -> String {
        self.rule_with("[lazy]", body)
    }

    fn rule_with(&mut self, attributes: &str, body: &str) -> String {
        let name = format!("r{}", self.rules);
        self.rules += 1;
        self.lark += &format!("{name}{attributes}: {body}\n");
        name
    }

    /// Adds a rule of this name, once.
    pub(super) fn define(&mut self, name: &str, body: &str) {
        if !self.lark.contains(&format!("\n{name}: ")) {
            self.lark += &format!("{name}: {body}\n");
        }
    }

    /// A mark, its control tokens by number.
    pub(super) fn mark(&self, mark: &str) -> String {
        let part = |part: Spelled| match part {
            Spelled::Token(id) => format!("<[{id}]>"),
            Spelled::Text(text) => quoted(&text),
        };
        (self.spell)(mark).into_iter().map(part).collect::<Vec<_>>().join(" ")
    }

    /// Whether a mark begins with a control token, which ends any text.
    pub(super) fn begins_with_token(&self, mark: &str) -> bool {
        matches!((self.spell)(mark).first(), Some(Spelled::Token(_)))
    }

    pub(super) fn json(&mut self, schema: &Value) -> String {
        self.rule(&format!("%json {schema}"))
    }

    pub(super) fn any_object(&mut self, notation: Notation) -> String {
        match notation {
            Notation::Json => self.json(&serde_json::json!({"type": "object"})),
            Notation::Gemma => self.any_gemma_object(),
        }
    }

    /// An object that satisfies the schema.
    pub(super) fn object(&mut self, schema: &Value, notation: Notation) -> Result<String, Refused> {
        let prepared = crate::grammar::prepared(schema).map_err(|error| error.to_string())?;
        match (notation, members(schema)) {
            (Notation::Json, Some(members)) if members.len() <= MOST_FREE => {
                self.members(&members, &mut |writer, member| {
                    let value =
                        writer.json(&crate::grammar::prepared(&member.schema).map_err(|error| error.to_string())?);
                    Ok(format!("{} WS? \":\" WS? {value}", quoted(&Value::from(&*member.name).to_string())))
                })
            }
            (Notation::Json, _) => Ok(self.json(&prepared)),
            (Notation::Gemma, Some(members)) if members.len() <= MOST_FREE => self.gemma_object(&members),
            (Notation::Gemma, _) => Err("the schema cannot be enforced in this model's notation".to_owned()),
        }
    }

    /// Members in braces, with commas between.
    pub(super) fn members(
        &mut self,
        members: &[Member],
        write: &mut dyn FnMut(&mut Self, &Member) -> Result<String, Refused>,
    ) -> Result<String, Refused> {
        self.in_any_order(members, ("\"{\" WS?", "WS? \",\" WS?", "WS? \"}\""), write)
    }

    /// Members between `open` and `close`, each pair parted by `between`, in any order.
    pub(super) fn in_any_order(
        &mut self,
        members: &[Member],
        (open, between, close): (&str, &str, &str),
        write: &mut dyn FnMut(&mut Self, &Member) -> Result<String, Refused>,
    ) -> Result<String, Refused> {
        let mut ordered: Vec<&Member> = members.iter().collect();
        ordered.sort_by_key(|member| !member.required);
        let required = ordered.iter().filter(|member| member.required).count();
        let mut written = Vec::with_capacity(ordered.len());
        for member in ordered {
            let body = write(self, member)?;
            written.push(self.rule(&body));
        }
        let mut first: Vec<String> = Vec::new();
        if !written.is_empty() {
            let rest = format!("r{}", self.rules);
            self.rules += 1;
            let all = if required > 0 { format!(" %if is_ones([0:{required}])") } else { String::new() };
            let mut lines = format!("{rest}::_ : {close}{all}\n");
            for (bit, member) in written.iter().enumerate() {
                lines += &format!("    | {between} {member} {rest}::set_bit({bit}) %if bit_clear({bit})\n");
                first.push(format!("{open} {member} {rest}::0x{:x}", 1u64 << bit));
            }
            self.lark += &lines;
        }
        if required == 0 {
            first.push(format!("{open} {close}"));
        }
        Ok(self.rule(&first.join(" | ")))
    }

    /// Python's keyword arguments and the parenthesis that ends them.
    pub(super) fn keywords(&mut self, schema: &Value, relaxed: bool) -> Result<String, Refused> {
        let members = if relaxed { relaxed_members(schema) } else { self.checked_members(schema)? };
        self.in_any_order(&members, ("", "\", \"", "\")\""), &mut |writer, member| {
            let value = match member.schema.get("type").and_then(Value::as_str) {
                Some("boolean") => "(\"True\" | \"False\")".to_owned(),
                Some("null") => "\"None\"".to_owned(),
                _ => writer.json(&crate::grammar::prepared(&member.schema).map_err(|error| error.to_string())?),
            };
            Ok(format!("{} {value}", quoted(&format!("{}=", member.name))))
        })
    }

    /// A field for each argument, and the end of the call.
    pub(super) fn fields(
        &mut self,
        format: &Fields,
        schema: &Value,
        relaxed: bool,
        dsml: bool,
    ) -> Result<String, Refused> {
        let members = if relaxed { relaxed_members(schema) } else { self.checked_members(schema)? };
        let close = format!("WS? {}", self.mark(&format.close));
        self.in_any_order(&members, ("", "WS?", &close), &mut |writer, member| writer.field(format, member, dsml))
    }

    fn checked_members(&self, schema: &Value) -> Result<Vec<Member>, Refused> {
        crate::grammar::prepared(schema).map_err(|error| error.to_string())?;
        let line =
            "the schema of the arguments cannot be enforced in this model's notation, which has a field for each";
        let members = members(schema).ok_or(line)?;
        if members.len() > MOST_FREE {
            return Err(format!("a tool has {MOST_FREE} parameters at most, not {}", members.len()));
        }
        Ok(members)
    }
}

/// The members of an object's schema, if they are all that it says.
pub(super) fn members(schema: &Value) -> Option<Vec<Member>> {
    let map = schema.as_object()?;
    let properties = map.get("properties")?.as_object()?;
    let plain = map.keys().all(|key| PLAIN.contains(&key.as_str()));
    let closed = map.get("additionalProperties").is_none_or(|more| more == &Value::Bool(false));
    let is_object = map.get("type").is_none_or(|kind| kind == "object");
    let required: Vec<&str> = match map.get("required") {
        None => Vec::new(),
        Some(names) => names.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?,
    };
    let known = required.iter().all(|name| properties.contains_key(*name));
    (plain && closed && is_object && known).then(|| {
        let member = |(name, own): (&String, &Value)| Member {
            name: name.clone(),
            schema: with_definitions(own, map),
            required: required.contains(&name.as_str()),
        };
        properties.iter().map(member).collect()
    })
}

/// The parameters that there are, and nothing said of their values.
fn relaxed_members(schema: &Value) -> Vec<Member> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|own| own == name));
    let member = |(name, own): (&String, &Value)| {
        let kind = own.get("type").filter(|kind| *kind == "string");
        let schema = kind.map_or_else(|| serde_json::json!({}), |kind| serde_json::json!({ "type": kind }));
        Member { name: name.clone(), schema, required: is_required(name) }
    };
    properties.into_iter().flatten().take(MOST_FREE).map(member).collect()
}

fn with_definitions(schema: &Value, root: &Map<String, Value>) -> Value {
    let Value::Object(own) = schema else { return schema.clone() };
    let mut schema = own.clone();
    if refers(&Value::Object(schema.clone())) {
        for name in ["$defs", "definitions"] {
            if let Some(definitions) = root.get(name) {
                schema.insert(name.to_owned(), definitions.clone());
            }
        }
    }
    schema.into()
}

fn refers(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => map.contains_key("$ref") || map.values().any(refers),
        Value::Array(items) => items.iter().any(refers),
        _ => false,
    }
}
