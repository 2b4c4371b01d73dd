//! The state of a running template: scopes, macros, loops, and the output so far.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use minijinja::machinery::ast::{Block, ForLoop, Macro, Spanned, Stmt};

use super::Variable;
use super::budget::{Result, limit};
use super::functions;
use super::json::from_json;
use super::units::{Out, Text};
use super::value::{Dict, Value};

/// Deepest nesting of statements and expressions, calls included; each level takes less than 4 KiB of stack.
const MAX_DEPTH: usize = if cfg!(fuzzing) { 4_000 } else { 12_000 };
/// Deepest nesting of macro calls.
const MAX_CALLS: usize = 200;

/// Variables of a block, and its enclosing scope.
#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    variables: RefCell<Vec<(&'a str, Value)>>,
    parent: Option<Rc<Scope<'a>>>,
}

impl<'a> Scope<'a> {
    pub(super) fn inside(parent: &Rc<Scope<'a>>) -> Rc<Scope<'a>> {
        Rc::new(Scope { variables: RefCell::default(), parent: Some(Rc::clone(parent)) })
    }

    pub(super) fn set(&self, name: &'a str, value: Value) {
        let mut variables = self.variables.borrow_mut();
        match variables.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => variables.push((name, value)),
        }
    }

    fn get(&self, name: &str) -> Option<Value> {
        let mut scope = Some(self);
        while let Some(this) = scope {
            if let Some((_, value)) = this.variables.borrow().iter().find(|(known, _)| *known == name) {
                return Some(value.clone());
            }
            scope = this.parent.as_deref();
        }
        None
    }
}

/// A macro with its defining scope.
#[derive(Clone)]
pub(super) struct Defined<'a> {
    pub(super) node: &'a Spanned<Macro<'a>>,
    /// Weak, since the scope owns the macro. A macro that outlives its scope sees the root scope.
    pub(super) scope: Weak<Scope<'a>>,
    pub(super) takes_varargs: bool,
    pub(super) takes_kwargs: bool,
    pub(super) takes_caller: bool,
}

/// Roles that templates splice into a control token, as in `'<|' + message.role + '|>'`.
const ROLES: [&str; 9] =
    ["system", "developer", "user", "assistant", "tool", "function", "ipython", "model", "environment"];

/// Converts a variable. In `messages`, known roles are trusted as if the template had written them.
fn variable_value(variable: &Variable) -> Result<Value> {
    let serde_json::Value::Array(messages) = &variable.value else {
        return from_json(&variable.value, variable.untrusted);
    };
    if variable.name != "messages" {
        return from_json(&variable.value, variable.untrusted);
    }
    let message = |message: &serde_json::Value| {
        let Some(object) = message.as_object() else { return from_json(message, variable.untrusted) };
        let pair = |(key, value): (&String, &serde_json::Value)| {
            let known = key == "role" && value.as_str().is_some_and(|role| ROLES.contains(&role));
            Ok((Value::text(key)?, from_json(value, variable.untrusted && !known)?))
        };
        Dict::new(object.iter().map(pair).collect::<Result<_>>()?).map(Value::Dict)
    };
    Value::list(messages.iter().map(message).collect::<Result<_>>()?)
}

/// A running template.
pub(super) struct Interpreter<'a> {
    pub(super) out: Out,
    pub(super) scope: Rc<Scope<'a>>,
    pub(super) root: Rc<Scope<'a>>,
    pub(super) macros: Vec<Defined<'a>>,
    /// Active recursive loops.
    pub(super) loops: Vec<(&'a Spanned<ForLoop<'a>>, Rc<Scope<'a>>)>,
    pub(super) blocks: HashMap<&'a str, &'a Spanned<Block<'a>>>,
    pub(super) now: Option<jiff::civil::DateTime>,
    /// Whether lists of a namespace may be appended to.
    pub(super) grows: bool,
    /// `{% autoescape true %}`
    pub(super) escapes: bool,
    depth: usize,
    calls: usize,
}

impl<'a> Interpreter<'a> {
    /// Renders a syntax tree to units.
    pub(super) fn run(
        tree: &'a Stmt<'a>,
        variables: &'a [Variable],
        now: Option<jiff::civil::DateTime>,
        grows: bool,
    ) -> Result<Vec<u32>> {
        let root = Rc::new(Scope::default());
        for variable in variables {
            root.set(&variable.name, variable_value(variable)?);
        }
        let scope = Scope::inside(&root);
        let mut this = Interpreter {
            out: Out::default(),
            root: Rc::clone(&scope),
            scope,
            macros: Vec::new(),
            loops: Vec::new(),
            blocks: HashMap::new(),
            now,
            grows,
            escapes: false,
            depth: 0,
            calls: 0,
        };
        this.collect_blocks(tree);
        this.statement(tree)?;
        Ok(std::mem::take(&mut this.out).into_units())
    }

    fn collect_blocks(&mut self, statement: &'a Stmt<'a>) {
        if let Stmt::Block(block) = statement {
            self.blocks.insert(block.name, block);
        }
        for body in super::tree::bodies(statement) {
            body.iter().for_each(|inner| self.collect_blocks(inner));
        }
    }

    /// Looks up a name: a variable, or else a global function.
    pub(super) fn look_up(&self, name: &str) -> Value {
        if let Some(value) = self.scope.get(name) {
            return value;
        }
        match functions::by_name(name) {
            Some(name) => Value::Function(name),
            None => Value::undefined(format!("'{name}'")),
        }
    }

    /// Runs `work` one nesting level deeper.
    pub(super) fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            return Err(limit("it calls itself without end"));
        }
        self.depth += 1;
        let result = work(self);
        self.depth -= 1;
        result
    }

    /// Runs the body of a call.
    pub(super) fn calling<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.calls >= MAX_CALLS {
            return Err(limit("it calls itself without end"));
        }
        self.calls += 1;
        let result = self.deeper(work);
        self.calls -= 1;
        result
    }

    /// Runs `work` in another scope.
    pub(super) fn scoped<T>(&mut self, scope: Rc<Scope<'a>>, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let outer = std::mem::replace(&mut self.scope, scope);
        let result = work(self);
        self.scope = outer;
        result
    }

    /// Runs `work`, and returns its output as a text.
    pub(super) fn captured(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<Text> {
        let outer = std::mem::take(&mut self.out);
        let result = work(self);
        let inner = std::mem::replace(&mut self.out, outer);
        result?;
        inner.text()?.into_safe(self.escapes)
    }
}
