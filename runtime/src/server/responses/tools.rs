//! `tools` and `tool_choice` in the Responses API's forms, and the names that its calls go by.
//!
//! A model knows a tool by one name. Those of a namespace are qualified by it, so that two namespaces may have tools of the
//! same name; `ToolNames` says what the caller calls the tool, for the calls that come out and those of earlier turns.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::chat::tools::{Tool, ToolChoice, Tools};
use crate::server::openai::{ApiError, Fields, read_choice, read_custom, read_function, shown, take_array, wrong_type};

/// Between a namespace and a tool's name. Some models' formats give a meaning to the dot.
const SEPARATOR: &str = "__";

/// What the caller calls a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Called {
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    /// It takes a text rather than an object.
    pub(super) custom: bool,
}

/// The tools by the names that the model knows.
#[derive(Clone, Debug, Default)]
pub(super) struct ToolNames {
    known: HashMap<String, Called>,
}

impl ToolNames {
    /// What the caller calls the tool; a name that is not among the tools stands for itself.
    pub(super) fn called(&self, name: &str) -> Called {
        let itself = || Called { namespace: None, name: name.to_owned(), custom: false };
        self.known.get(name).cloned().unwrap_or_else(itself)
    }

    /// The name by which the model knows the tool. A function outside of namespaces may come back with its own name as one.
    pub(super) fn qualified(&self, namespace: Option<&str>, name: &str) -> String {
        let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) else { return name.to_owned() };
        let qualified = qualify(namespace, name);
        if namespace == name && !self.known.contains_key(&qualified) { name.to_owned() } else { qualified }
    }

    /// The names of all tools that the caller calls so, with or without the namespace.
    fn matching(&self, namespace: Option<&str>, name: &str) -> Vec<String> {
        let matches =
            |called: &Called| called.name == name && (namespace.is_none() || called.namespace.as_deref() == namespace);
        self.known.iter().filter(|(_, called)| matches(called)).map(|(known, _)| known.clone()).collect()
    }

    fn of_namespace(&self, namespace: &str) -> Vec<String> {
        let within = |called: &Called| called.namespace.as_deref() == Some(namespace);
        self.known.iter().filter(|(_, called)| within(called)).map(|(known, _)| known.clone()).collect()
    }
}

fn qualify(namespace: &str, name: &str) -> String {
    format!("{namespace}{SEPARATOR}{name}")
}

/// The tools of a request.
#[derive(Clone, Debug)]
pub(super) struct Offered {
    pub(super) tools: Tools,
    pub(super) names: ToolNames,
    /// `tools` as the response repeats them: those that the model is told of.
    pub(super) shown: Vec<Value>,
    /// `tool_choice` as the response repeats it.
    pub(super) choice: Value,
}

/// Takes all parameters about tools.
///
/// # Errors
/// 400 with the path of the first invalid value.
pub(super) fn take_offered(fields: &mut Fields) -> Result<Offered, ApiError> {
    let items = take_array(fields, "tools")?;
    let mut offered =
        Offered { tools: Tools::default(), names: ToolNames::default(), shown: Vec::new(), choice: "auto".into() };
    let mut search = None;
    for (index, item) in items.into_iter().enumerate() {
        let at = format!("tools[{index}]");
        if is_search(&item) {
            search = search.or(Some(at));
            continue;
        }
        offered.add(&at, &item)?;
        offered.shown.push(item);
    }
    if let Some(at) = search.filter(|_| offered.tools.list.is_empty()) {
        return Err(hosted(&at, "web_search"));
    }
    offered.tools.parallel = fields.take_bool("parallel_tool_calls")?.unwrap_or(true);
    if let Some(choice) = fields.take("tool_choice") {
        offered.choose(&choice)?;
        offered.choice = choice;
    }
    Ok(offered)
}

/// Agents offer a search of the web beside their own tools by default. An offer obliges to nothing, so beside others it is
/// left out, which the response shows; alone, it is what the caller wants.
fn is_search(item: &Value) -> bool {
    item.get("type").and_then(Value::as_str).is_some_and(|kind| kind.starts_with("web_search"))
}

fn hosted(at: &str, kind: &str) -> ApiError {
    let message = format!(
        "`{at}` is a tool of type `{}`, which this server does not run; it takes `function`, `custom` and `namespace`",
        shown(kind)
    );
    ApiError::parameter(format!("{at}.type"), message).code("unsupported_parameter")
}

impl Offered {
    fn add(&mut self, at: &str, item: &Value) -> Result<(), ApiError> {
        let Value::Object(map) = item else { return Err(wrong_type(at, "an object with `type` and `name`", item)) };
        match map.get("type").and_then(Value::as_str).unwrap_or_default() {
            "namespace" => self.add_namespace(at, map),
            _ => self.add_tool(at, map, None),
        }
    }

    fn add_namespace(&mut self, at: &str, map: &Map<String, Value>) -> Result<(), ApiError> {
        // Checks the name; a namespace has neither parameters nor a format.
        let namespace = read_custom(at, map)?;
        let Some(Value::Array(items)) = map.get("tools") else {
            return Err(ApiError::parameter(format!("{at}.tools"), format!("`{at}.tools` must be an array of tools")));
        };
        let first = self.tools.list.len();
        for (index, item) in items.iter().enumerate() {
            let at = format!("{at}.tools[{index}]");
            let Value::Object(map) = item else { return Err(wrong_type(&at, "an object", item)) };
            self.add_tool(&at, map, Some(&namespace.name))?;
        }
        // The model is told once what the tools have in common.
        if let (Some(tool), Some(about)) = (self.tools.list.get_mut(first), namespace.description) {
            let own = tool.description.take().unwrap_or_default();
            tool.description = Some(format!("{}: {about}\n\n{own}", namespace.name).trim_end().to_owned());
        }
        Ok(())
    }

    fn add_tool(&mut self, at: &str, map: &Map<String, Value>, namespace: Option<&str>) -> Result<(), ApiError> {
        let mut tool: Tool = match map.get("type").and_then(Value::as_str).unwrap_or_default() {
            "function" => read_function(at, map)?,
            "custom" => read_custom(at, map)?,
            other => return Err(hosted(at, other)),
        };
        if map.get("async").is_some_and(|flag| *flag == Value::Bool(true)) {
            let message = format!("`{at}.async` is not supported by this server; leave it out");
            return Err(ApiError::parameter(format!("{at}.async"), message).code("unsupported_parameter"));
        }
        let called = Called { namespace: namespace.map(str::to_owned), name: tool.name.clone(), custom: tool.custom };
        if let Some(namespace) = namespace {
            tool.name = qualify(namespace, &tool.name);
        }
        if self.names.known.insert(tool.name.clone(), called).is_some() {
            let message = format!("`{at}`: there is a tool named `{}` already", shown(&tool.name));
            return Err(ApiError::parameter(at, message));
        }
        self.tools.list.push(tool);
        Ok(())
    }

    fn choose(&mut self, choice: &Value) -> Result<(), ApiError> {
        let mut choice = choice.clone();
        let is_allowed = choice.get("type").and_then(Value::as_str) == Some("allowed_tools");
        if is_allowed && let Some(Value::Array(allowed)) = choice.get_mut("tools") {
            let entries = allowed.iter().flat_map(|entry| self.entries(entry)).collect();
            *allowed = entries;
        } else if choice.is_object() && !is_allowed {
            let mut entries = self.entries(&choice);
            choice = if entries.len() == 1 { entries.swap_remove(0) } else { choice };
        }
        read_choice("tool_choice", &choice, &mut self.tools)?;
        if self.tools.choice == ToolChoice::Auto && self.tools.allowed.as_ref().is_some_and(Vec::is_empty) {
            return Err(ApiError::parameter("tool_choice", "`tool_choice.tools` allows no tool; use `none`"));
        }
        Ok(())
    }

    /// A tool that a choice names, by the names that the model knows.
    fn entries(&self, entry: &Value) -> Vec<Value> {
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        let names = match (text("type"), text("namespace"), text("name")) {
            (Some("namespace"), _, Some(name)) => self.names.of_namespace(name),
            (_, namespace, Some(name)) => self.names.matching(namespace, name),
            _ => Vec::new(),
        };
        match names.is_empty() {
            true => vec![entry.clone()],
            false => names.into_iter().map(|name| json!({ "type": "function", "name": name })).collect(),
        }
    }
}
