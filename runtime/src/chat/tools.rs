//! Tools that a model is offered, and which of them it may call, whichever API they came by.
//!
//! A tool is a name and a JSON schema. The APIs' other kinds of tools become functions before they get here, and their calls
//! become theirs again in the API's dialect.

use serde_json::{Value, json};

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// JSON schema of its arguments, an object.
    pub parameters: Value,
    /// Whether the caller asked for the schema to be enforced. It always is; only this one refuses what cannot be enforced.
    pub strict: bool,
    /// Whether the API knows it as a tool that takes one text, which is `input` here.
    pub custom: bool,
}

/// Whether the model calls tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it sees fit.
    #[default]
    Auto,
    /// It does not, and is not told of them.
    None,
    /// At least one call, and nothing else.
    Required,
    /// A call of this tool.
    Named(String),
}

/// The tools of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Tools {
    /// In the caller's order.
    pub list: Vec<Tool>,
    /// Whether they are called.
    pub choice: ToolChoice,
    /// Whether an answer may have more than one call.
    pub parallel: bool,
    /// Names of those that may be called, where that is not all.
    pub allowed: Option<Vec<String>>,
}

impl Default for Tools {
    fn default() -> Self {
        Self { list: Vec::new(), choice: ToolChoice::Auto, parallel: true, allowed: None }
    }
}

impl Tools {
    /// Whether the model may call something.
    pub fn are_offered(&self) -> bool {
        !self.list.is_empty() && self.choice != ToolChoice::None
    }

    /// Whether this tool may be called.
    pub fn may_call(&self, tool: &Tool) -> bool {
        match (&self.choice, &self.allowed) {
            (ToolChoice::None, _) => false,
            (ToolChoice::Named(name), _) => tool.name == *name,
            (_, Some(allowed)) => allowed.contains(&tool.name),
            (_, None) => true,
        }
    }

    /// The tools that may be called.
    pub fn callable(&self) -> impl Iterator<Item = &Tool> {
        self.list.iter().filter(|tool| self.may_call(tool))
    }

    /// The tools as chat templates read them, in OpenAI's form; `None` if none are offered.
    pub fn for_template(&self) -> Option<Value> {
        self.are_offered().then(|| self.list.iter().map(Tool::for_template).collect())
    }
}

impl Tool {
    fn for_template(&self) -> Value {
        let mut function = json!({"name": self.name});
        if let Some(description) = &self.description {
            function["description"] = description.as_str().into();
        }
        function["parameters"] = self.parameters.clone();
        json!({"type": "function", "function": function})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(choice: ToolChoice, allowed: Option<Vec<String>>) -> Tools {
        let tool = |name: &str| Tool {
            name: name.into(),
            description: None,
            parameters: json!({}),
            strict: false,
            custom: false,
        };
        Tools { list: vec![tool("a"), tool("b")], choice, allowed, ..Tools::default() }
    }

    #[test]
    fn the_choice_says_which_tools_may_be_called_and_the_template_sees_all() {
        let names = |tools: &Tools| tools.callable().map(|tool| tool.name.clone()).collect::<Vec<_>>();
        for (choice, allowed, callable) in [
            (ToolChoice::Auto, None, vec!["a", "b"]),
            (ToolChoice::Required, Some(vec!["b".to_owned()]), vec!["b"]),
            (ToolChoice::Named("a".into()), None, vec!["a"]),
        ] {
            let tools = tools(choice, allowed);
            assert_eq!(names(&tools), callable);
            assert_eq!(tools.for_template().and_then(|list| list.as_array().map(Vec::len)), Some(2));
        }
        let silent = tools(ToolChoice::None, None);
        assert!(names(&silent).is_empty() && silent.for_template().is_none());
    }
}
