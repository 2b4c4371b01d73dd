//! Executes statements.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use minijinja::machinery::ast::{Expr, ForLoop, IfCond, Macro, Spanned, Stmt};

use super::budget::{MAX_ITEMS, Result, check_items, failed, step};
use super::interpreter::{Defined, Interpreter, Scope};
use super::print::{write_escaped, write_str};
use super::tree::{line_of, mention};
use super::units::{Text, units};
use super::value::{List, Loop, Value};
use crate::chat::TemplateError;

/// Control flow after a statement.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Flow {
    Next,
    Continue,
    Break,
}

/// Adds the line to an error, unless an inner node has already set it.
pub(super) fn at_line(error: TemplateError, at: usize) -> TemplateError {
    match error {
        TemplateError::Failed { line: None, message } => TemplateError::Failed { line: Some(at), message },
        other => other,
    }
}

impl<'a> Interpreter<'a> {
    pub(super) fn statements(&mut self, statements: &'a [Stmt<'a>]) -> Result<Flow> {
        for statement in statements {
            let flow = self.statement(statement)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    pub(super) fn statement(&mut self, statement: &'a Stmt<'a>) -> Result<Flow> {
        step()?;
        self.deeper(|this| this.run_statement(statement)).map_err(|error| at_line(error, line_of(statement)))
    }

    fn run_statement(&mut self, statement: &'a Stmt<'a>) -> Result<Flow> {
        match statement {
            Stmt::Template(s) => return self.statements(&s.children),
            Stmt::EmitRaw(s) => self.out.extend(&units(s.raw))?,
            Stmt::EmitExpr(s) => {
                let value = self.expression(&s.expr)?;
                if self.escapes { write_escaped(&value, &mut self.out)? } else { write_str(&value, &mut self.out)? }
            }
            Stmt::ForLoop(s) => {
                let scope = Rc::clone(&self.scope);
                let items = self.expression(&s.iter)?;
                self.for_loop(s, scope, &items, 0)?;
            }
            Stmt::IfCond(s) => return self.if_condition(s),
            Stmt::WithBlock(s) => {
                let scope = Scope::inside(&self.scope);
                let mut values = Vec::with_capacity(s.assignments.len());
                for (_, value) in &s.assignments {
                    values.push(self.expression(value)?);
                }
                return self.scoped(scope, |this| {
                    for ((target, _), value) in s.assignments.iter().zip(values) {
                        this.assign(target, value)?;
                    }
                    this.statements(&s.body)
                });
            }
            Stmt::Set(s) => {
                let value = self.expression(&s.expr)?;
                self.assign(&s.target, value)?;
            }
            Stmt::SetBlock(s) => {
                let text = Value::Text(self.captured_body(&s.body)?);
                let value =
                    s.filter.as_ref().map_or(Ok(text.clone()), |filter| self.filter_chain(filter, text.clone()))?;
                self.assign(&s.target, value)?;
            }
            Stmt::AutoEscape(s) => {
                let escapes = self.expression(&s.enabled)?.is_true();
                let outer = std::mem::replace(&mut self.escapes, escapes);
                let scope = Scope::inside(&self.scope);
                let flow = self.scoped(scope, |this| this.statements(&s.body));
                self.escapes = outer;
                return flow;
            }
            Stmt::FilterBlock(s) => {
                let text = Value::Text(self.captured_body(&s.body)?);
                let value = self.filter_chain(&s.filter, text)?;
                write_str(&value, &mut self.out)?;
            }
            Stmt::Block(s) => {
                let scope = Scope::inside(&self.root);
                self.calling(|this| this.scoped(scope, |this| this.statements(&s.body)))?;
            }
            Stmt::Macro(s) => {
                let defined = self.define(s)?;
                self.scope.set(s.name, defined);
            }
            Stmt::CallBlock(s) => {
                let caller = self.define(&s.macro_decl)?;
                let value = self.call_with(&s.call, Some(caller))?;
                write_str(&value, &mut self.out)?;
            }
            Stmt::Do(s) => drop(self.call_with(&s.call, None)?),
            Stmt::Continue(_) => return Ok(Flow::Continue),
            Stmt::Break(_) => return Ok(Flow::Break),
            Stmt::Import(_) | Stmt::FromImport(_) | Stmt::Extends(_) | Stmt::Include(_) => {
                return Err(failed("other templates cannot be loaded"));
            }
        }
        Ok(Flow::Next)
    }

    /// Iterates over `elif`s, which are nested in the tree, instead of recursing.
    fn if_condition(&mut self, condition: &'a Spanned<IfCond<'a>>) -> Result<Flow> {
        let mut condition = condition;
        loop {
            if self.expression(&condition.expr)?.is_true() {
                return self.statements(&condition.true_body);
            }
            match condition.false_body.as_slice() {
                [Stmt::IfCond(next)] => condition = next,
                body => return self.statements(body),
            }
        }
    }

    fn captured_body(&mut self, body: &'a [Stmt<'a>]) -> Result<Text> {
        let scope = Scope::inside(&self.scope);
        self.captured(|this| this.scoped(scope, |this| this.statements(body).map(drop)))
    }

    /// Registers a macro and returns it as a value.
    fn define(&mut self, node: &'a Spanned<Macro<'a>>) -> Result<Value> {
        check_items(self.macros.len() * 8)?;
        let reads = |name| mention(&node.body, name);
        self.macros.push(Defined {
            node,
            scope: Rc::downgrade(&self.scope),
            takes_varargs: reads("varargs"),
            takes_kwargs: reads("kwargs"),
            takes_caller: reads("caller"),
        });
        Ok(Value::Macro(self.macros.len() - 1))
    }

    /// Assigns to a name or attribute, or unpacks into several.
    pub(super) fn assign(&mut self, target: &'a Expr<'a>, value: Value) -> Result<()> {
        match target {
            Expr::Var(name) => {
                self.scope.set(name.id, value);
                Ok(())
            }
            Expr::GetAttr(attribute) => match self.expression(&attribute.expr)? {
                Value::Namespace(space) => space.set(Text::of(attribute.name)?, value),
                _ => Err(failed("cannot assign attribute on non-namespace object")),
            },
            Expr::List(list) => self.unpack(&list.items, &value),
            Expr::Tuple(tuple) => self.unpack(&tuple.items, &value),
            _ => Err(failed("this cannot be assigned to")),
        }
    }

    fn unpack(&mut self, targets: &'a [Expr<'a>], value: &Value) -> Result<()> {
        if value.is_undefined() {
            return Err(failed(format!("not enough values to unpack (expected {}, got 0)", targets.len())));
        }
        let items = value.items()?;
        if items.len() != targets.len() {
            let trouble = if items.len() < targets.len() { "not enough" } else { "too many" };
            return Err(failed(format!("{trouble} values to unpack (expected {})", targets.len())));
        }
        targets.iter().zip(items.items()).try_for_each(|(target, item)| self.assign(target, item.clone()))
    }

    /// Runs a loop over `items`, in scopes within `outer`.
    pub(super) fn for_loop(
        &mut self,
        node: &'a Spanned<ForLoop<'a>>,
        outer: Rc<Scope<'a>>,
        items: &Value,
        depth: usize,
    ) -> Result<()> {
        let mut items = items.items()?;
        if let Some(filter) = &node.filter_expr {
            items = self.filtered(node, filter, &outer, &items)?;
        }
        if items.len() == 0 {
            let scope = Scope::inside(&outer);
            return self.scoped(scope, |this| this.statements(&node.else_body).map(drop));
        }
        let running = self.loops.len();
        let recursive = node.recursive.then_some(running);
        if node.recursive {
            self.loops.push((node, Rc::clone(&outer)));
        }
        let this = Rc::new(Loop { items, index: Cell::new(0), depth, recursive, seen: RefCell::new(None) });
        let result = self.iterate(node, &outer, &this);
        self.loops.truncate(running);
        result
    }

    fn iterate(&mut self, node: &'a Spanned<ForLoop<'a>>, outer: &Rc<Scope<'a>>, this: &Rc<Loop>) -> Result<()> {
        for index in 0..this.items.len().min(MAX_ITEMS) {
            step()?;
            this.index.set(index);
            let scope = Scope::inside(outer);
            scope.set("loop", Value::Loop(Rc::clone(this)));
            let flow = self.scoped(scope, |interpreter| {
                interpreter.assign(&node.target, this.items.items()[index].clone())?;
                interpreter.statements(&node.body)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    fn filtered(
        &mut self,
        node: &'a Spanned<ForLoop<'a>>,
        filter: &'a Expr<'a>,
        outer: &Rc<Scope<'a>>,
        items: &List,
    ) -> Result<List> {
        let mut kept = Vec::new();
        for item in items.items() {
            let scope = Scope::inside(outer);
            let keeps = self.scoped(scope, |this| {
                this.assign(&node.target, item.clone())?;
                this.expression(filter)
            })?;
            if keeps.is_true() {
                kept.push(item.clone());
            }
        }
        List::new(kept)
    }
}
