//! Lists that grow: `{% set _ = ns.ids.append(id) %}` and `ns.ids.pop(0)`, as Kimi K2's templates number their calls.
//!
//! Hugging Face's sandbox refuses both, so such a template fails there as soon as a conversation has a call, and here, too, unless
//! the caller asks otherwise. No list changes even then: the namespace gets another one in its place, of which the budget is asked as
//! of any. So a list that another name had before stays as it was, which Python would change with it.

use minijinja::machinery::ast::{CallArg, Expr, GetAttr, Spanned};

use super::budget::{Result, failed};
use super::interpreter::Interpreter;
use super::units::Text;
use super::value::Value;

impl<'a> Interpreter<'a> {
    /// The value of `ns.list.append(item)` or `ns.list.pop([index])`; `None`: it is no such call, or they are not wanted.
    pub(super) fn grown(
        &mut self,
        method: &'a Spanned<GetAttr<'a>>,
        arguments: &'a [CallArg<'a>],
    ) -> Result<Option<Value>> {
        let Expr::GetAttr(place) = &method.expr else { return Ok(None) };
        let Expr::Var(space) = &place.expr else { return Ok(None) };
        if !self.grows || !matches!(method.name, "append" | "pop") {
            return Ok(None);
        }
        let Value::Namespace(space) = self.look_up(space.id) else { return Ok(None) };
        let name = Text::of(place.name)?;
        let arguments = self.arguments(arguments)?;
        let Some(Value::List(list)) = space.get(&name)? else {
            return Err(failed(format!("there is no list '{}' in the namespace", place.name)));
        };
        let [argument] = arguments.take(method.name, ["value"])?;
        let mut items = list.items().to_vec();
        let value = match method.name {
            "append" => {
                items.push(argument.ok_or_else(|| failed("append needs an item"))?);
                Value::None
            }
            _ => {
                let index = argument.map_or(Some(-1), |index| index.as_int());
                let index = index.ok_or_else(|| failed("pop needs an integer"))?;
                let index = if index < 0 { index + items.len() as i128 } else { index };
                let index = usize::try_from(index).ok().filter(|index| *index < items.len());
                items.remove(index.ok_or_else(|| failed("pop from an empty list, or index out of range"))?)
            }
        };
        space.set(name, Value::list(items)?)?;
        Ok(Some(value))
    }
}
