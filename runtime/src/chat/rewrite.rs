//! A template's syntax tree, rebuilt so that everything that makes a value passes a limit.
//!
//! `minijinja` counts steps, but one step may double a text, and constants are even folded before the first step. So
//! `+`, `*`, `~` and slices become calls of `operators`, which do them Python's way within the limits; results of
//! filters and calls, and list and dict literals, go through `limits::bounded`; text between tags is written by the same
//! formatter as values, which counts it. Names with a blank in them cannot be written in a template.
//!
//! Other templates cannot be loaded: there is only this one, and no file is ever opened.

use std::collections::BTreeMap;

use minijinja::machinery::ast::{self, CallArg, Expr, Spanned, Stmt};
use minijinja::machinery::{CodeGenerator, Instructions, Span, Token, parse, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Error, ErrorKind};

/// Function that a template's `+` becomes.
pub(super) const ADD: &str = "operator +";
/// Function that a template's `*` becomes.
pub(super) const MULTIPLY: &str = "operator *";
/// Function that a template's `~` becomes.
pub(super) const CONCATENATE: &str = "operator ~";
/// Function that `x[a:b:c]` becomes.
pub(super) const SLICE: &str = "operator slice";
/// Function that everything which makes a value is passed through.
pub(super) const BOUNDED: &str = "bounded value";
/// Function that `{% set ns.x = … %}` becomes.
pub(super) const SET_ATTRIBUTE: &str = "set attribute";
/// Variable that holds a block's text between `{% set ns.x %}` and the assignment.
const CAPTURED: &str = "captured block";

/// Words and signs in one tag; the longest known has about 200.
const MAX_TAG_TOKENS: usize = 5000;
/// `elif`s in a template.
const MAX_ELIFS: usize = 2000;

/// Instructions of a template and of its blocks.
pub(super) type Compiled<'a> = (Instructions<'a>, BTreeMap<&'a str, Instructions<'a>>);

/// Parses and compiles a template. `name` is what errors call it.
pub(super) fn compile<'a>(name: &'a str, source: &'a str, syntax: SyntaxConfig) -> Result<Compiled<'a>, Error> {
    check_tokens(source, &syntax)?;
    let tree = parse(source, name, syntax)?;
    let mut rebuilt = Vec::new();
    statement(&tree, &mut rebuilt)?;
    let mut generator = CodeGenerator::new(name, source);
    rebuilt.iter().for_each(|statement| generator.compile_stmt(statement));
    Ok(generator.finish())
}

/// Bounds what the parser and the tree recurse over without a limit of their own: operators of one expression, and
/// `elif` after `elif`.
fn check_tokens(source: &str, syntax: &SyntaxConfig) -> Result<(), Error> {
    let (mut in_tag, mut elifs) = (0, 0);
    for token in tokenize(source, false, syntax.clone()) {
        let (token, span) = token?;
        in_tag = if matches!(token, Token::BlockEnd | Token::VariableEnd) { 0 } else { in_tag + 1 };
        elifs += usize::from(matches!(token, Token::Ident("elif")));
        if in_tag > MAX_TAG_TOKENS || elifs > MAX_ELIFS {
            let message = format!("line {} goes beyond what a template may hold", span.start_line);
            return Err(Error::new(ErrorKind::SyntaxError, message));
        }
    }
    Ok(())
}

fn body<'a>(statements: &[Stmt<'a>]) -> Result<Vec<Stmt<'a>>, Error> {
    let mut rebuilt = Vec::with_capacity(statements.len());
    for each in statements {
        statement(each, &mut rebuilt)?;
    }
    Ok(rebuilt)
}

/// Rebuilds a statement; one may become two.
fn statement<'a>(old: &Stmt<'a>, out: &mut Vec<Stmt<'a>>) -> Result<(), Error> {
    let new = match old {
        Stmt::Template(s) => Stmt::Template(Spanned::new(ast::Template { children: body(&s.children)? }, s.span())),
        Stmt::EmitExpr(s) => Stmt::EmitExpr(Spanned::new(ast::EmitExpr { expr: expression(&s.expr) }, s.span())),
        Stmt::EmitRaw(s) => Stmt::EmitExpr(Spanned::new(ast::EmitExpr { expr: constant(s.raw, s.span()) }, s.span())),
        Stmt::ForLoop(s) => Stmt::ForLoop(Spanned::new(
            ast::ForLoop {
                target: copy(&s.target),
                iter: expression(&s.iter),
                filter_expr: s.filter_expr.as_ref().map(expression),
                recursive: s.recursive,
                body: body(&s.body)?,
                else_body: body(&s.else_body)?,
            },
            s.span(),
        )),
        Stmt::IfCond(s) => Stmt::IfCond(Spanned::new(
            ast::IfCond { expr: expression(&s.expr), true_body: body(&s.true_body)?, false_body: body(&s.false_body)? },
            s.span(),
        )),
        Stmt::WithBlock(s) => {
            let assignments = s.assignments.iter().map(|(target, value)| (copy(target), expression(value))).collect();
            Stmt::WithBlock(Spanned::new(ast::WithBlock { assignments, body: body(&s.body)? }, s.span()))
        }
        Stmt::Set(s) => match &s.target {
            Expr::GetAttr(target) => set_attribute(target, expression(&s.expr)),
            target => Stmt::Set(Spanned::new(ast::Set { target: copy(target), expr: expression(&s.expr) }, s.span())),
        },
        Stmt::SetBlock(s) => set_block(s, out)?,
        Stmt::AutoEscape(s) => Stmt::AutoEscape(Spanned::new(
            ast::AutoEscape { enabled: expression(&s.enabled), body: body(&s.body)? },
            s.span(),
        )),
        Stmt::FilterBlock(s) => Stmt::FilterBlock(Spanned::new(
            ast::FilterBlock { filter: expression(&s.filter), body: body(&s.body)? },
            s.span(),
        )),
        Stmt::Block(s) => {
            Stmt::Block(Spanned::new(ast::Block { name: s.name, required: s.required, body: body(&s.body)? }, s.span()))
        }
        Stmt::Macro(s) => Stmt::Macro(rebuild_macro(s)?),
        Stmt::CallBlock(s) => Stmt::CallBlock(Spanned::new(
            ast::CallBlock { call: call(&s.call), macro_decl: rebuild_macro(&s.macro_decl)? },
            s.span(),
        )),
        Stmt::Do(s) => Stmt::Do(Spanned::new(ast::Do { call: call(&s.call) }, s.span())),
        Stmt::Continue(s) => Stmt::Continue(Spanned::new(ast::Continue, s.span())),
        Stmt::Break(s) => Stmt::Break(Spanned::new(ast::Break, s.span())),
        Stmt::Import(_) | Stmt::FromImport(_) | Stmt::Extends(_) | Stmt::Include(_) => {
            let message = "it loads another template (include, import, extends), and there is no other";
            return Err(Error::new(ErrorKind::SyntaxError, message));
        }
    };
    out.push(new);
    Ok(())
}

/// `{% set x %}…{% endset %}`; with an attribute as its target the text goes into a variable first.
fn set_block<'a>(s: &Spanned<ast::SetBlock<'a>>, out: &mut Vec<Stmt<'a>>) -> Result<Stmt<'a>, Error> {
    let block = |target| -> Result<Stmt<'a>, Error> {
        let filter = s.filter.as_ref().map(expression);
        Ok(Stmt::SetBlock(Spanned::new(ast::SetBlock { target, filter, body: body(&s.body)? }, s.span())))
    };
    match &s.target {
        Expr::GetAttr(target) => {
            out.push(block(variable(CAPTURED, s.span()))?);
            Ok(set_attribute(target, variable(CAPTURED, s.span())))
        }
        target => block(copy(target)),
    }
}

fn set_attribute<'a>(target: &Spanned<ast::GetAttr<'a>>, value: Expr<'a>) -> Stmt<'a> {
    let span = target.span();
    let args = vec![expression(&target.expr), constant(target.name, span), value];
    Stmt::Do(Spanned::new(ast::Do { call: function(SET_ATTRIBUTE, args, span) }, span))
}

fn rebuild_macro<'a>(s: &Spanned<ast::Macro<'a>>) -> Result<Spanned<ast::Macro<'a>>, Error> {
    let rebuilt = ast::Macro {
        name: s.name,
        args: s.args.iter().map(copy).collect(),
        defaults: expressions(&s.defaults),
        body: body(&s.body)?,
    };
    Ok(Spanned::new(rebuilt, s.span()))
}

fn expressions<'a>(old: &[Expr<'a>]) -> Vec<Expr<'a>> {
    old.iter().map(expression).collect()
}

/// Rebuilds an expression that is read.
fn expression<'a>(old: &Expr<'a>) -> Expr<'a> {
    match old {
        Expr::Slice(s) => {
            let part = |e: &Option<Expr<'a>>| e.as_ref().map_or_else(|| constant((), s.span()), expression);
            let args = vec![expression(&s.expr), part(&s.start), part(&s.stop), part(&s.step)];
            Expr::Call(function(SLICE, args, s.span()))
        }
        Expr::BinOp(s) => {
            let (left, right) = (expression(&s.left), expression(&s.right));
            let name = match s.op {
                ast::BinOpKind::Add => ADD,
                ast::BinOpKind::Mul => MULTIPLY,
                ast::BinOpKind::Concat => CONCATENATE,
                op => return Expr::BinOp(Spanned::new(ast::BinOp { op, left, right }, s.span())),
            };
            Expr::Call(function(name, vec![left, right], s.span()))
        }
        Expr::Filter(s) => bounded(Expr::Filter(Spanned::new(
            ast::Filter { name: s.name, expr: s.expr.as_ref().map(expression), args: arguments(&s.args) },
            s.span(),
        ))),
        Expr::Call(s) => bounded(Expr::Call(call(s))),
        Expr::List(s) => bounded(Expr::List(Spanned::new(ast::List { items: expressions(&s.items) }, s.span()))),
        Expr::Tuple(s) => bounded(Expr::Tuple(Spanned::new(ast::Tuple { items: expressions(&s.items) }, s.span()))),
        Expr::Map(s) => bounded(Expr::Map(Spanned::new(
            ast::Map { keys: expressions(&s.keys), values: expressions(&s.values) },
            s.span(),
        ))),
        Expr::Test(s) => Expr::Test(Spanned::new(
            ast::Test { name: s.name, expr: expression(&s.expr), args: arguments(&s.args) },
            s.span(),
        )),
        Expr::Compare(s) => {
            let ops = s.ops.iter().map(|o| ast::CompareOp { op: o.op, expr: expression(&o.expr) }).collect();
            Expr::Compare(Spanned::new(ast::Compare { expr: expression(&s.expr), ops }, s.span()))
        }
        Expr::IfExpr(s) => Expr::IfExpr(Spanned::new(
            ast::IfExpr {
                test_expr: expression(&s.test_expr),
                true_expr: expression(&s.true_expr),
                false_expr: s.false_expr.as_ref().map(expression),
            },
            s.span(),
        )),
        Expr::UnaryOp(s) => {
            let not = matches!(s.op, ast::UnaryOpKind::Not);
            let op = if not { ast::UnaryOpKind::Not } else { ast::UnaryOpKind::Neg };
            Expr::UnaryOp(Spanned::new(ast::UnaryOp { op, expr: expression(&s.expr) }, s.span()))
        }
        Expr::GetAttr(s) => {
            Expr::GetAttr(Spanned::new(ast::GetAttr { expr: expression(&s.expr), name: s.name }, s.span()))
        }
        Expr::GetItem(s) => Expr::GetItem(Spanned::new(
            ast::GetItem { expr: expression(&s.expr), subscript_expr: expression(&s.subscript_expr) },
            s.span(),
        )),
        Expr::Var(s) => variable(s.id, s.span()),
        Expr::Const(s) => constant(s.value.clone(), s.span()),
    }
}

/// Copies what is assigned to: names, and tuples or lists of them.
fn copy<'a>(target: &Expr<'a>) -> Expr<'a> {
    match target {
        Expr::List(s) => Expr::List(Spanned::new(ast::List { items: s.items.iter().map(copy).collect() }, s.span())),
        Expr::Tuple(s) => Expr::Tuple(Spanned::new(ast::Tuple { items: s.items.iter().map(copy).collect() }, s.span())),
        other => expression(other),
    }
}

fn arguments<'a>(old: &[CallArg<'a>]) -> Vec<CallArg<'a>> {
    let argument = |arg: &CallArg<'a>| match arg {
        CallArg::Pos(e) => CallArg::Pos(expression(e)),
        CallArg::Kwarg(name, e) => CallArg::Kwarg(name, expression(e)),
        CallArg::PosSplat(e) => CallArg::PosSplat(expression(e)),
        CallArg::KwargSplat(e) => CallArg::KwargSplat(expression(e)),
    };
    old.iter().map(argument).collect()
}

/// A call without its bound: what is called stays in the form that the code generator looks at.
fn call<'a>(s: &Spanned<ast::Call<'a>>) -> Spanned<ast::Call<'a>> {
    Spanned::new(ast::Call { expr: expression(&s.expr), args: arguments(&s.args) }, s.span())
}

fn function<'a>(name: &'static str, args: Vec<Expr<'a>>, span: Span) -> Spanned<ast::Call<'a>> {
    let args = args.into_iter().map(CallArg::Pos).collect();
    Spanned::new(ast::Call { expr: variable(name, span), args }, span)
}

fn bounded(inner: Expr<'_>) -> Expr<'_> {
    let span = inner.span();
    Expr::Call(function(BOUNDED, vec![inner], span))
}

fn variable(id: &str, span: Span) -> Expr<'_> {
    Expr::Var(Spanned::new(ast::Var { id }, span))
}

fn constant<'a>(value: impl Into<Value>, span: Span) -> Expr<'a> {
    Expr::Const(Spanned::new(ast::Const { value: value.into() }, span))
}
