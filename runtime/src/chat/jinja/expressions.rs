//! Evaluates expressions.

use minijinja::machinery::ast::{BinOpKind, CompareOpKind, Const, Expr, UnaryOpKind};
use minijinja::value::ValueKind;

use super::budget::{Result, failed, step};
use super::call::Arguments;
use super::interpreter::Interpreter;
use super::statements::at_line;
use super::value::{Dict, Value};
use super::{filters, lookup, operators, predicates};

impl<'a> Interpreter<'a> {
    pub(super) fn expression(&mut self, expression: &'a Expr<'a>) -> Result<Value> {
        step()?;
        let value = self.deeper(|this| this.evaluate(expression));
        value.map_err(|error| at_line(error, usize::from(expression.span().start_line)))
    }

    fn evaluate(&mut self, expression: &'a Expr<'a>) -> Result<Value> {
        match expression {
            Expr::Var(s) => Ok(self.look_up(s.id)),
            Expr::Const(s) => constant(s),
            Expr::Slice(s) => {
                let value = self.expression(&s.expr)?;
                let mut part =
                    |part: &'a Option<Expr<'a>>| part.as_ref().map_or(Ok(Value::None), |e| self.expression(e));
                let (start, stop, step) = (part(&s.start)?, part(&s.stop)?, part(&s.step)?);
                operators::slice(&value, &start, &stop, &step)
            }
            Expr::UnaryOp(s) => {
                let value = self.expression(&s.expr)?;
                match s.op {
                    UnaryOpKind::Not => Ok(Value::Bool(!value.is_true())),
                    UnaryOpKind::Neg => operators::negate(&value),
                }
            }
            Expr::BinOp(s) => self.binary(s.op, &s.left, &s.right),
            Expr::Compare(s) => {
                let mut left = self.expression(&s.expr)?;
                for op in &s.ops {
                    let right = self.expression(&op.expr)?;
                    if !compare(op.op, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expr::IfExpr(s) => match (self.expression(&s.test_expr)?.is_true(), &s.false_expr) {
                (true, _) => self.expression(&s.true_expr),
                (false, Some(other)) => self.expression(other),
                (false, None) => Ok(Value::undefined("the inline if-expression without an else")),
            },
            Expr::Filter(s) => {
                let value = s.expr.as_ref().ok_or_else(|| failed("a filter without a value"))?;
                let value = self.expression(value)?;
                let arguments = self.arguments(&s.args)?;
                filters::apply(s.name, &value, arguments)
            }
            Expr::Test(s) => {
                let value = self.expression(&s.expr)?;
                let arguments = self.arguments(&s.args)?;
                predicates::apply(s.name, &value, &arguments).map(Value::Bool)
            }
            Expr::GetAttr(s) => {
                let value = self.expression(&s.expr)?;
                lookup::attribute(&value, s.name)
            }
            Expr::GetItem(s) => {
                let value = self.expression(&s.expr)?;
                let key = self.expression(&s.subscript_expr)?;
                lookup::item(&value, &key)
            }
            Expr::Call(s) => self.call_with(s, None),
            Expr::List(s) => self.all(&s.items).and_then(Value::list),
            Expr::Tuple(s) => self.all(&s.items).and_then(Value::tuple),
            Expr::Map(s) => {
                let keys = self.all(&s.keys)?;
                let values = self.all(&s.values)?;
                Dict::new(keys.into_iter().zip(values).collect()).map(Value::Dict)
            }
        }
    }

    pub(super) fn all(&mut self, expressions: &'a [Expr<'a>]) -> Result<Vec<Value>> {
        expressions.iter().map(|expression| self.expression(expression)).collect()
    }

    fn binary(&mut self, op: BinOpKind, left: &'a Expr<'a>, right: &'a Expr<'a>) -> Result<Value> {
        let left = self.expression(left)?;
        match op {
            BinOpKind::ScAnd if !left.is_true() => return Ok(left),
            BinOpKind::ScOr if left.is_true() => return Ok(left),
            _ => {}
        }
        let right = self.expression(right)?;
        let compared = |op| compare(op, &left, &right).map(Value::Bool);
        match op {
            BinOpKind::ScAnd | BinOpKind::ScOr => Ok(right),
            BinOpKind::Eq => compared(CompareOpKind::Eq),
            BinOpKind::Ne => compared(CompareOpKind::Ne),
            BinOpKind::Lt => compared(CompareOpKind::Lt),
            BinOpKind::Lte => compared(CompareOpKind::Lte),
            BinOpKind::Gt => compared(CompareOpKind::Gt),
            BinOpKind::Gte => compared(CompareOpKind::Gte),
            BinOpKind::In => compared(CompareOpKind::In),
            BinOpKind::Add => operators::add(&left, &right),
            BinOpKind::Sub => operators::subtract(&left, &right),
            BinOpKind::Mul => operators::multiply(&left, &right),
            BinOpKind::Div => operators::divide(&left, &right),
            BinOpKind::FloorDiv => operators::floor_divide(&left, &right),
            BinOpKind::Rem => operators::remainder(&left, &right),
            BinOpKind::Pow => operators::power(&left, &right),
            BinOpKind::Concat => operators::concatenate(&left, &right),
        }
    }

    /// Applies the filters of a filter block or a block `set` to its text.
    pub(super) fn filter_chain(&mut self, filter: &'a Expr<'a>, text: Value) -> Result<Value> {
        let Expr::Filter(s) = filter else { return Ok(text) };
        let value = match &s.expr {
            Some(inner) => self.filter_chain(inner, text)?,
            None => text,
        };
        let arguments: Arguments = self.arguments(&s.args)?;
        filters::apply(s.name, &value, arguments)
    }
}

fn constant(constant: &Const) -> Result<Value> {
    let value = &constant.value;
    Ok(match value.kind() {
        ValueKind::None => Value::None,
        ValueKind::Bool => Value::Bool(value.is_true()),
        ValueKind::Number if value.is_integer() => {
            let integer = i128::try_from(value.clone());
            Value::Int(integer.map_err(|_| failed(format!("{value} is too large")))?)
        }
        ValueKind::Number => Value::Float(f64::try_from(value.clone()).unwrap_or(f64::NAN)),
        _ => Value::text(value.as_str().unwrap_or_default())?,
    })
}

/// `left op right` for comparison operators.
pub(super) fn compare(op: CompareOpKind, left: &Value, right: &Value) -> Result<bool> {
    let ordered = |sign| operators::order(sign, left, right);
    match op {
        CompareOpKind::Eq => operators::equal(left, right),
        CompareOpKind::Ne => operators::equal(left, right).map(|equal| !equal),
        CompareOpKind::Lt => Ok(ordered("<")?.is_some_and(|order| order.is_lt())),
        CompareOpKind::Lte => Ok(ordered("<=")?.is_some_and(|order| order.is_le())),
        CompareOpKind::Gt => Ok(ordered(">")?.is_some_and(|order| order.is_gt())),
        CompareOpKind::Gte => Ok(ordered(">=")?.is_some_and(|order| order.is_ge())),
        CompareOpKind::In => operators::contains(right, left),
        CompareOpKind::NotIn => operators::contains(right, left).map(|inside| !inside),
    }
}
