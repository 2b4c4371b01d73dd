//! How much a model is asked to reason before it answers, whichever API says so.

use serde_json::{Map, Value};

/// What a request says of reasoning; by default, nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thinking {
    /// Whether to reason at all.
    pub enabled: Option<bool>,
    /// How much, in a word: `low`, `medium`, `high`, …
    pub effort: Option<String>,
    /// Most tokens of reasoning; it is then ended.
    pub budget: Option<usize>,
}

impl Thinking {
    /// From a word for the effort; `none` means not at all.
    pub fn of_effort(effort: String) -> Self {
        let enabled = effort != "none";
        Self { enabled: Some(enabled), effort: enabled.then_some(effort), budget: None }
    }

    /// Adds the variables by which chat templates ask for it. What the caller has set by name stays.
    pub fn put_into(&self, variables: &mut Map<String, Value>) {
        let mut put = |name: &str, value: Value| {
            variables.entry(name).or_insert(value);
        };
        if let Some(enabled) = self.enabled {
            // Qwen's, GLM's and most others' name; DeepSeek's and Granite's.
            put("enable_thinking", enabled.into());
            put("thinking", enabled.into());
        }
        if let Some(effort) = &self.effort {
            put("reasoning_effort", effort.as_str().into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_effort_becomes_variables_and_what_is_set_by_name_stays() {
        let mut variables = Map::new();
        Thinking::of_effort("none".into()).put_into(&mut variables);
        assert_eq!(Value::from(variables), json!({"enable_thinking": false, "thinking": false}));
        let mut variables = Map::new();
        variables.insert("enable_thinking".into(), false.into());
        Thinking::of_effort("high".into()).put_into(&mut variables);
        let all = json!({"enable_thinking": false, "thinking": true, "reasoning_effort": "high"});
        assert_eq!(Value::from(variables), all);
    }
}
