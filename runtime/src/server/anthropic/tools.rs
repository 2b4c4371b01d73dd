//! `tools` and `tool_choice`, checked.
//!
//! A tool is a function with a schema. Two kinds that clients carry out themselves come without one and get it here; tools
//! that run on Anthropic's servers are refused by name. A tool whose loading is deferred is offered once the conversation
//! refers to it.

use serde_json::{Map, Value, json};

use super::messages::{not_a, only, wrong};
use crate::chat::tools::{Tool, ToolChoice, Tools};
use crate::server::openai::{ApiError, Fields, check_names, read_function, shown};

const KNOWN: [&str; 11] = [
    "type",
    "name",
    "description",
    "input_schema",
    "strict",
    "cache_control",
    "eager_input_streaming",
    "defer_loading",
    "allowed_callers",
    "input_examples",
    "max_characters",
];

/// Takes both parameters; `changes` are the conversation's (name, added or removed).
///
/// # Errors
/// 400 with the path of the first invalid value.
pub(super) fn take(fields: &mut Fields, changes: &[(String, bool)]) -> Result<Tools, ApiError> {
    let items = match fields.take("tools") {
        None => Vec::new(),
        Some(Value::Array(items)) => items,
        Some(other) => return Err(not_a("tools", "an array of tools", &other)),
    };
    let mut list = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let at = format!("tools[{index}]");
        let Value::Object(item) = item else { return Err(not_a(&at, "an object", item)) };
        let tool = read(&at, item)?;
        let deferred = item.get("defer_loading").and_then(Value::as_bool).unwrap_or(false);
        list.push((tool, deferred));
    }
    let all: Vec<Tool> = list.iter().map(|(tool, _)| tool.clone()).collect();
    check_names("tools", &all)?;
    let is_offered = |(tool, deferred): &(Tool, bool)| {
        let last = changes.iter().rev().find(|(name, _)| *name == tool.name);
        last.map_or(!deferred, |(_, added)| *added)
    };
    let list: Vec<Tool> = list.into_iter().filter(is_offered).map(|(tool, _)| tool).collect();
    let mut tools = Tools { list, ..Tools::default() };
    if let Some(choice) = fields.take_object("tool_choice")? {
        read_choice(&choice, &mut tools)?;
    }
    Ok(tools)
}

fn read(at: &str, item: &Map<String, Value>) -> Result<Tool, ApiError> {
    only(at, item, &KNOWN)?;
    if let Some(callers) = item.get("allowed_callers").and_then(Value::as_array)
        && !callers.iter().any(|caller| caller == "direct")
    {
        return Err(wrong(&format!("{at}.allowed_callers"), "must contain `direct`: tools are called by the model"));
    }
    let kind = item.get("type").and_then(Value::as_str).unwrap_or("custom");
    let mut function = Map::new();
    for name in ["name", "description", "strict"] {
        function.extend(item.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    let schema = match kind {
        "custom" => match item.get("input_schema") {
            Some(schema) => schema.clone(),
            None => return Err(wrong(&format!("{at}.input_schema"), "is missing")),
        },
        _ => {
            let Some((description, schema)) = of_client(kind) else {
                let line =
                    format!("is `{}`, which is not supported here: send tools with an `input_schema`", shown(kind));
                return Err(wrong(&format!("{at}.type"), &line).code("unsupported_parameter"));
            };
            function.insert("description".into(), description.into());
            schema
        }
    };
    function.insert("parameters".into(), schema);
    let mut tool = read_function(at, &function).map_err(|error| ApiError {
        param: error.param.map(|param| param.replace(".parameters", ".input_schema")),
        message: error.message.replace(".parameters`", ".input_schema`"),
        ..error
    })?;
    if let Some(examples) = item.get("input_examples").and_then(Value::as_array) {
        let lines = examples.iter().map(|example| format!("\n- {example}")).collect::<String>();
        tool.description = Some(format!("{}\n\nExamples of its input:{lines}", tool.description.unwrap_or_default()));
    }
    Ok(tool)
}

/// Description and schema of a tool that clients carry out and know by its type.
fn of_client(kind: &str) -> Option<(&'static str, Value)> {
    match kind {
        "bash_20241022" | "bash_20250124" => {
            let properties = json!({
                "command": {"type": "string", "description": "The command to run."},
                "restart": {"type": "boolean", "description": "Restarts the shell instead."},
            });
            Some(("Runs a command in a shell that lasts.", json!({"type": "object", "properties": properties})))
        }
        _ if kind.starts_with("text_editor_2025") || kind == "text_editor_20241022" => {
            let mut commands = vec!["view", "create", "str_replace", "insert"];
            if kind < "text_editor_20250429" {
                commands.push("undo_edit");
            }
            let text = |description: &str| json!({"type": "string", "description": description});
            let properties = json!({
                "command": {"type": "string", "enum": commands},
                "path": text("The file, or with `view` a folder."),
                "view_range": {"type": "array", "items": {"type": "integer"}, "description": "First and last line to view."},
                "file_text": text("What `create` writes."),
                "old_str": text("What `str_replace` replaces; it must occur once."),
                "new_str": text("What takes its place."),
                "insert_line": {"type": "integer", "description": "The line after which `insert` inserts."},
                "insert_text": text("What `insert` inserts."),
            });
            let schema = json!({"type": "object", "properties": properties, "required": ["command", "path"]});
            Some(("Views and edits text files.", schema))
        }
        _ => None,
    }
}

fn read_choice(choice: &Map<String, Value>, tools: &mut Tools) -> Result<(), ApiError> {
    only("tool_choice", choice, &["type", "name", "disable_parallel_tool_use"])?;
    tools.choice = match choice.get("type").and_then(Value::as_str) {
        Some("auto") => ToolChoice::Auto,
        Some("none") => ToolChoice::None,
        Some("any") => ToolChoice::Required,
        Some("tool") => match choice.get("name").and_then(Value::as_str) {
            Some(name) => ToolChoice::Named(name.to_owned()),
            None => return Err(wrong("tool_choice.name", "is missing; it must be a string")),
        },
        _ => return Err(wrong("tool_choice.type", "must be `auto`, `any`, `tool` or `none`")),
    };
    match choice.get("disable_parallel_tool_use") {
        None | Some(Value::Null) => {}
        Some(Value::Bool(disabled)) => tools.parallel = !disabled,
        Some(other) => return Err(not_a("tool_choice.disable_parallel_tool_use", "true or false", other)),
    }
    match &tools.choice {
        ToolChoice::Required if tools.list.is_empty() => {
            Err(wrong("tool_choice", "requires a call, but there are no tools"))
        }
        ToolChoice::Named(name) if tools.list.iter().all(|tool| tool.name != *name) => {
            Err(wrong("tool_choice.name", &format!("is `{}`, which is not among the tools", shown(name))))
        }
        _ => Ok(()),
    }
}
