//! Parses a template's source into its syntax tree.
//!
//! Loading other templates is refused; no file is ever opened.

use minijinja::machinery::ast::{Expr, Stmt};
use minijinja::machinery::{Token, parse as parse_source, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::budget::Result;
use crate::chat::TemplateError;

/// Template name for the parser; never shown.
const NAME: &str = "chat_template";
/// Most tokens in one tag; the longest known has about 200.
const MAX_TAG_TOKENS: usize = 5000;
/// Most `elif`s in a template.
const MAX_ELIFS: usize = 2000;

/// Checks the source's syntax.
pub(in crate::chat) fn check(source: &str) -> Result<()> {
    super::on_own_stack(&mut || false, || parse(source).map(drop))
}

/// Parses a template.
pub(super) fn parse(source: &str) -> Result<Stmt<'_>> {
    // Hugging Face's settings.
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    let syntax = syntax.map_err(|error| wrong(None, error.to_string()))?;
    let from_parser = |error: minijinja::Error| wrong(error.line(), error.detail().unwrap_or("bad escape").to_owned());
    let (mut in_tag, mut elifs) = (0, 0);
    // The parser's recursion over operators and `elif`s is unbounded.
    for token in tokenize(source, false, syntax.clone()) {
        let (token, span) = token.map_err(from_parser)?;
        in_tag = if matches!(token, Token::BlockEnd | Token::VariableEnd) { 0 } else { in_tag + 1 };
        elifs += usize::from(matches!(token, Token::Ident("elif")));
        if in_tag > MAX_TAG_TOKENS || elifs > MAX_ELIFS {
            let message = format!("line {} exceeds what a template may contain", span.start_line);
            return Err(wrong(None, message));
        }
    }
    let tree = parse_source(source, NAME, syntax).map_err(from_parser)?;
    refuse_loading(&tree)?;
    Ok(tree)
}

fn wrong(line: Option<usize>, message: String) -> TemplateError {
    TemplateError::Syntax { line, message }
}

fn refuse_loading(statement: &Stmt<'_>) -> Result<()> {
    if matches!(statement, Stmt::Import(_) | Stmt::FromImport(_) | Stmt::Extends(_) | Stmt::Include(_)) {
        let message = "it loads another template (include, import, extends), which is not supported";
        return Err(wrong(None, message.into()));
    }
    bodies(statement).into_iter().flatten().try_for_each(refuse_loading)
}

/// The statements nested in a statement.
pub(super) fn bodies<'t, 'a>(statement: &'t Stmt<'a>) -> [&'t [Stmt<'a>]; 2] {
    match statement {
        Stmt::Template(s) => [&s.children, &[]],
        Stmt::ForLoop(s) => [&s.body, &s.else_body],
        Stmt::IfCond(s) => [&s.true_body, &s.false_body],
        Stmt::WithBlock(s) => [&s.body, &[]],
        Stmt::SetBlock(s) => [&s.body, &[]],
        Stmt::AutoEscape(s) => [&s.body, &[]],
        Stmt::FilterBlock(s) => [&s.body, &[]],
        Stmt::Block(s) => [&s.body, &[]],
        Stmt::Macro(s) => [&s.body, &[]],
        Stmt::CallBlock(s) => [&s.macro_decl.body, &[]],
        _ => [&[], &[]],
    }
}

/// The 1-based line of a statement.
pub(super) fn line_of(statement: &Stmt<'_>) -> usize {
    let span = match statement {
        Stmt::Template(s) => s.span(),
        Stmt::EmitExpr(s) => s.span(),
        Stmt::EmitRaw(s) => s.span(),
        Stmt::ForLoop(s) => s.span(),
        Stmt::IfCond(s) => s.span(),
        Stmt::WithBlock(s) => s.span(),
        Stmt::Set(s) => s.span(),
        Stmt::SetBlock(s) => s.span(),
        Stmt::AutoEscape(s) => s.span(),
        Stmt::FilterBlock(s) => s.span(),
        Stmt::Block(s) => s.span(),
        Stmt::Import(s) => s.span(),
        Stmt::FromImport(s) => s.span(),
        Stmt::Extends(s) => s.span(),
        Stmt::Include(s) => s.span(),
        Stmt::Macro(s) => s.span(),
        Stmt::CallBlock(s) => s.span(),
        Stmt::Continue(s) => s.span(),
        Stmt::Break(s) => s.span(),
        Stmt::Do(s) => s.span(),
    };
    usize::from(span.start_line)
}

/// Whether statements read the variable `name`.
pub(super) fn mention(statements: &[Stmt<'_>], name: &str) -> bool {
    statements.iter().any(|statement| {
        own_expressions(statement).into_iter().any(|expression| reads(expression, name))
            || bodies(statement).into_iter().any(|body| mention(body, name))
    })
}

fn own_expressions<'t, 'a>(statement: &'t Stmt<'a>) -> Vec<&'t Expr<'a>> {
    match statement {
        Stmt::EmitExpr(s) => vec![&s.expr],
        Stmt::ForLoop(s) => std::iter::once(&s.iter).chain(&s.filter_expr).collect(),
        Stmt::IfCond(s) => vec![&s.expr],
        Stmt::WithBlock(s) => s.assignments.iter().map(|(_, value)| value).collect(),
        Stmt::Set(s) => vec![&s.expr],
        Stmt::SetBlock(s) => s.filter.iter().collect(),
        Stmt::FilterBlock(s) => vec![&s.filter],
        Stmt::CallBlock(s) => std::iter::once(&s.call.expr).chain(arguments(&s.call.args)).collect(),
        Stmt::Do(s) => std::iter::once(&s.call.expr).chain(arguments(&s.call.args)).collect(),
        _ => Vec::new(),
    }
}

fn arguments<'t, 'a>(arguments: &'t [minijinja::machinery::ast::CallArg<'a>]) -> impl Iterator<Item = &'t Expr<'a>> {
    use minijinja::machinery::ast::CallArg;
    arguments.iter().map(|argument| match argument {
        CallArg::Pos(e) | CallArg::Kwarg(_, e) | CallArg::PosSplat(e) | CallArg::KwargSplat(e) => e,
    })
}

fn reads(expression: &Expr<'_>, name: &str) -> bool {
    let any = |expressions: &[Expr<'_>]| expressions.iter().any(|e| reads(e, name));
    let maybe = |expression: &Option<Expr<'_>>| expression.as_ref().is_some_and(|e| reads(e, name));
    match expression {
        Expr::Var(s) => s.id == name,
        Expr::Const(_) => false,
        Expr::Slice(s) => reads(&s.expr, name) || maybe(&s.start) || maybe(&s.stop) || maybe(&s.step),
        Expr::UnaryOp(s) => reads(&s.expr, name),
        Expr::BinOp(s) => reads(&s.left, name) || reads(&s.right, name),
        Expr::Compare(s) => reads(&s.expr, name) || s.ops.iter().any(|op| reads(&op.expr, name)),
        Expr::IfExpr(s) => reads(&s.test_expr, name) || reads(&s.true_expr, name) || maybe(&s.false_expr),
        Expr::Filter(s) => maybe(&s.expr) || arguments(&s.args).any(|e| reads(e, name)),
        Expr::Test(s) => reads(&s.expr, name) || arguments(&s.args).any(|e| reads(e, name)),
        Expr::GetAttr(s) => reads(&s.expr, name),
        Expr::GetItem(s) => reads(&s.expr, name) || reads(&s.subscript_expr, name),
        Expr::Call(s) => reads(&s.expr, name) || arguments(&s.args).any(|e| reads(e, name)),
        Expr::List(s) => any(&s.items),
        Expr::Tuple(s) => any(&s.items),
        Expr::Map(s) => any(&s.keys) || any(&s.values),
    }
}
