//! Calls: their arguments, and macros.

use std::rc::Rc;

use minijinja::machinery::ast::{Call, CallArg, Expr, Spanned};

use super::budget::{Result, check_items, failed};
use super::interpreter::{Interpreter, Scope};
use super::value::{Dict, List, Loop, Value};
use super::{functions, lookup, methods};

/// The arguments of a call.
#[derive(Clone, Debug, Default)]
pub(super) struct Arguments {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(String, Value)>,
}

impl Arguments {
    pub(super) fn of(positional: Vec<Value>) -> Arguments {
        Arguments { positional, named: Vec::new() }
    }

    /// Matches the arguments to a function's parameters.
    pub(super) fn take<const N: usize>(self, function: &str, parameters: [&str; N]) -> Result<[Option<Value>; N]> {
        let mut taken = [const { None }; N];
        if self.positional.len() > N {
            let given = self.positional.len();
            return Err(failed(format!("{function} takes {N} arguments at most, and {given} were given")));
        }
        for (slot, value) in taken.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (name, value) in self.named {
            match parameters.iter().position(|parameter| *parameter == name) {
                Some(at) if taken[at].is_none() => taken[at] = Some(value),
                Some(_) => return Err(failed(format!("{function} got multiple values for argument '{name}'"))),
                None => return Err(failed(format!("{function} got an unexpected keyword argument '{name}'"))),
            }
        }
        Ok(taken)
    }
}

impl<'a> Interpreter<'a> {
    pub(super) fn arguments(&mut self, arguments: &'a [CallArg<'a>]) -> Result<Arguments> {
        let mut taken = Arguments::default();
        for argument in arguments {
            match argument {
                CallArg::Pos(e) => taken.positional.push(self.expression(e)?),
                CallArg::Kwarg(name, e) => taken.named.push(((*name).to_owned(), self.expression(e)?)),
                CallArg::PosSplat(e) => {
                    let items = self.expression(e)?.items()?;
                    check_items(taken.positional.len() + items.len())?;
                    taken.positional.extend_from_slice(items.items());
                }
                CallArg::KwargSplat(e) => match self.expression(e)? {
                    Value::Dict(dict) => {
                        for (key, value) in dict.entries() {
                            let key = key.as_text().ok_or_else(|| failed("keywords must be strings"))?;
                            taken.named.push((key.to_plain(), value.clone()));
                        }
                    }
                    _ => return Err(failed("argument after ** must be a mapping")),
                },
            }
        }
        Ok(taken)
    }

    /// Evaluates a call expression. `caller` is the body of a `{% call %}`.
    pub(super) fn call_with(&mut self, call: &'a Spanned<Call<'a>>, caller: Option<Value>) -> Result<Value> {
        if let Expr::GetAttr(attribute) = &call.expr
            && matches!(&attribute.expr, Expr::Var(name) if name.id == "self")
            && let Some(block) = self.blocks.get(attribute.name).copied()
        {
            let scope = Scope::inside(&self.root);
            let body = |this: &mut Self| this.scoped(scope, |this| this.statements(&block.body).map(drop));
            return self.calling(|this| this.captured(body)).map(Value::Text);
        }
        // Calls methods directly, without creating a bound method.
        let function = match &call.expr {
            Expr::GetAttr(attribute) => {
                if let Some(value) = self.grown(attribute, &call.args)? {
                    return Ok(value);
                }
                let of = self.expression(&attribute.expr)?;
                match methods::by_name(&of, attribute.name) {
                    Some(method) => {
                        let arguments = self.arguments(&call.args)?;
                        return methods::call(&of, method, arguments);
                    }
                    None => lookup::attribute(&of, attribute.name)?,
                }
            }
            other => self.expression(other)?,
        };
        let mut arguments = self.arguments(&call.args)?;
        if let Some(caller) = caller {
            arguments.named.push(("caller".into(), caller));
        }
        self.call_value(&function, arguments)
    }

    fn call_value(&mut self, function: &Value, arguments: Arguments) -> Result<Value> {
        match function {
            Value::Function(name) => functions::call(name, arguments, self.now),
            Value::Macro(at) => self.call_macro(*at, arguments),
            Value::Method(of, method) => methods::call(of, method, arguments),
            Value::Joiner(joiner) => {
                let [] = arguments.take("joiner", [])?;
                Ok(Value::Text(if joiner.1.replace(true) { joiner.0.clone() } else { super::units::Text::of("")? }))
            }
            Value::Loop(this) => self.call_loop(this, arguments),
            Value::Undefined(what) => Err(failed(format!("{what} is undefined"))),
            other => Err(failed(format!("'{}' object is not callable", other.type_name()))),
        }
    }

    /// `loop(items)` in a recursive loop.
    fn call_loop(&mut self, this: &Rc<Loop>, arguments: Arguments) -> Result<Value> {
        let [items] = arguments.take("loop", ["iterable"])?;
        let items = items.ok_or_else(|| failed("loop needs something to loop over"))?;
        let running = this.recursive.and_then(|at| self.loops.get(at).cloned());
        let (node, scope) =
            running.ok_or_else(|| failed("The loop must have the 'recursive' marker to be called recursively."))?;
        let depth = this.depth + 1;
        let text = self.calling(|inner| inner.captured(|inner| inner.for_loop(node, scope, &items, depth)));
        text.map(Value::Text)
    }

    fn call_macro(&mut self, at: usize, arguments: Arguments) -> Result<Value> {
        let defined = self.macros[at].clone();
        let (node, name) = (defined.node, defined.node.name);
        let outer = defined.scope.upgrade().unwrap_or_else(|| Rc::clone(&self.root));
        let scope = Scope::inside(&outer);
        let Arguments { positional, mut named } = arguments;
        let caller = named.iter().position(|(name, _)| name == "caller").map(|at| named.remove(at).1);
        if caller.is_some() && !defined.takes_caller {
            return Err(failed(format!("macro '{name}' takes no caller")));
        }
        if positional.len() > node.args.len() && !defined.takes_varargs {
            return Err(failed(format!("macro '{name}' takes not more than {} argument(s)", node.args.len())));
        }
        let extra = positional.get(node.args.len()..).unwrap_or_default().to_vec();
        let text = self.calling(|this| {
            this.scoped(Rc::clone(&scope), |this| {
                let without_default = node.args.len() - node.defaults.len();
                for (i, target) in node.args.iter().enumerate() {
                    let Expr::Var(parameter) = target else { return Err(failed("a parameter must be a name")) };
                    let by_name = named.iter().position(|(name, _)| name == parameter.id).map(|at| named.remove(at).1);
                    let value = match (positional.get(i), by_name) {
                        (Some(_), Some(_)) => {
                            let message = format!("macro '{name}' got multiple values for argument '{}'", parameter.id);
                            return Err(failed(message));
                        }
                        (Some(value), None) => value.clone(),
                        (None, Some(value)) => value,
                        (None, None) if i >= without_default => this.expression(&node.defaults[i - without_default])?,
                        (None, None) => Value::undefined(format!("parameter '{}'", parameter.id)),
                    };
                    this.scope.set(parameter.id, value);
                }
                if let Some((unknown, _)) = named.first().filter(|_| !defined.takes_kwargs) {
                    return Err(failed(format!("macro '{name}' takes no keyword argument '{unknown}'")));
                }
                if defined.takes_caller {
                    this.scope.set("caller", caller.unwrap_or_else(|| Value::undefined("No caller defined")));
                }
                if defined.takes_varargs {
                    this.scope.set("varargs", Value::Tuple(List::new(extra)?));
                }
                if defined.takes_kwargs {
                    let pairs = named.into_iter().map(|(name, value)| Ok((Value::text(&name)?, value)));
                    this.scope.set("kwargs", Value::Dict(Dict::new(pairs.collect::<Result<_>>()?)?));
                }
                this.captured(|this| this.statements(&node.body).map(drop))
            })
        });
        text.map(Value::Text)
    }
}
