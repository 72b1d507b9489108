//! A parsed template, compiled so that every operator, subscript and method call is one of ours.
//!
//! The engine's own ones cannot be replaced from outside, and differ from Python's: any two values have an order, `%` does
//! not format, a list is no list once it was sliced. So they are rewritten between its parser and its code generator. It
//! exports both as `machinery`, without a promise to keep them as they are: hence the exact version in Cargo.toml.

use minijinja::machinery::ast::{self, BinOpKind, CallArg, CompareOpKind, Expr, Spanned, Stmt, UnaryOpKind};
use minijinja::machinery::{CodeGenerator, Instructions, Span, Token, parse, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value};

use super::value::{CALL, Result, error, text};
use super::{attributes, filters, methods, operators};

/// Names that no template can spell, of the filters that stand for operators.
const ITERATE: &str = "iterate()";
const NEGATIVE: &str = "negative()";
const ATTRIBUTE: &str = "attribute()";
const ITEM: &str = "item()";
const SLICE: &str = "slice()";
const KEY: &str = "key()";

/// A template's instructions, and those of its blocks.
pub(super) type Compiled<'a> = (Instructions<'a>, std::collections::BTreeMap<&'a str, Instructions<'a>>);

fn syntax() -> Result<SyntaxConfig> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

/// The source in terms that the engine's parser knows: line ends as Jinja2's lexer makes them, a scope for the tag that
/// marks the assistant's part for training, two signs `-` for a `+`, and its own escapes in strings.
pub(super) fn normalized(source: &str) -> Result<String> {
    let source = &*source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut copied = 0;
    let mut before = Token::BlockEnd;
    for token in tokenize(source, false, syntax()?) {
        // A wrong token is the parser's to report, with its line.
        let Ok((token, span)) = token else { break };
        let replacement = match (&before, &token) {
            (Token::BlockStart, Token::Ident("generation")) => "with".into(),
            (Token::BlockStart, Token::Ident("endgeneration")) => "endwith".into(),
            (before, Token::Plus) if wants_operand(before) => " - -".into(),
            // Allocated, so it holds escapes.
            (_, Token::String(_)) => escapes(&source[span.start_offset as usize..span.end_offset as usize]),
            _ => String::new(),
        };
        before = token;
        if !replacement.is_empty() {
            out.push_str(&source[copied..span.start_offset as usize]);
            out.push_str(&replacement);
            copied = span.end_offset as usize;
        }
    }
    out.push_str(&source[copied..]);
    Ok(out)
}

/// A string literal with Python's escapes as those that the engine knows; it reads the others as JSON does.
fn escapes(literal: &str) -> String {
    let mut out = String::with_capacity(literal.len());
    let mut rest = literal;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let mut after = rest[at + 1..].chars();
        let escape = after.next();
        rest = after.as_str();
        let code = rest.get(..8).and_then(|code| char::from_u32(u32::from_str_radix(code, 16).ok()?));
        match (escape, code) {
            (Some('/'), _) => out.push_str("\\\\/"),
            (Some('a'), _) => out.push_str("\\x07"),
            (Some('v'), _) => out.push_str("\\x0b"),
            (Some('U'), Some(c)) if !matches!(c, '\\' | '\'' | '"' | '\n') => {
                out.push(c);
                rest = &rest[8..];
            }
            (escape, _) => {
                out.push('\\');
                out.extend(escape);
            }
        }
    }
    out + rest
}

/// Truth of "an operand comes behind this token", so that a `+` there is a sign.
fn wants_operand(token: &Token<'_>) -> bool {
    match token {
        Token::Ident(word) => ["and", "or", "not", "in", "if", "elif", "else"].contains(word),
        Token::TemplateData(_) | Token::VariableEnd | Token::BlockStart | Token::BlockEnd => false,
        Token::Str(_) | Token::String(_) | Token::Int(_) | Token::Int128(_) | Token::Float(_) => false,
        Token::ParenClose | Token::BracketClose | Token::BraceClose => false,
        _ => true,
    }
}

/// Compiles a normalized source.
pub(super) fn compile<'a>(name: &'a str, source: &'a str) -> Result<Compiled<'a>> {
    let parsed = parse(source, name, syntax()?)?;
    let mut generator = CodeGenerator::new(name, source);
    generator.compile_stmt(&statement(&parsed)?);
    Ok(generator.finish())
}

/// Adds the filters that rewritten operators call.
pub(super) fn install(environment: &mut Environment<'static>) {
    fn one(rest: &[Value]) -> Result<&Value> {
        rest.first().ok_or_else(|| error("an operand is missing"))
    }
    for operator in OPERATORS {
        filters::add(environment, operator, move |_, left, rest| {
            operators::binary(operator.trim_end_matches("()"), left, one(rest)?)
        });
    }
    filters::add(environment, ITERATE, |_, value, _| super::value::iterate(value).map(Value::from));
    filters::add(environment, KEY, |_, value, _| super::value::hashable(value).map(|()| value.clone()));
    filters::add(environment, NEGATIVE, |_, value, _| operators::negative(value));
    filters::add(environment, ATTRIBUTE, |_, value, rest| attributes::attribute(value, text(one(rest)?)?));
    filters::add(environment, ITEM, |_, value, rest| attributes::item(value, one(rest)?));
    filters::add(environment, SLICE, |_, value, rest| match rest {
        [start, stop, step] => attributes::slice(value, start, stop, step),
        _ => Err(error("a slice has three bounds")),
    });
    filters::add(environment, CALL, |state, value, rest| match rest.split_first() {
        Some((name, arguments)) => methods::call(state, value, text(name)?, arguments),
        None => Err(error("a method's name is missing")),
    });
}

const OPERATORS: [&str; 15] =
    ["+()", "-()", "*()", "/()", "//()", "%()", "**()", "~()", "==()", "!=()", "<()", "<=()", ">()", ">=()", "in()"];

fn operator(kind: BinOpKind) -> Option<&'static str> {
    Some(match kind {
        BinOpKind::ScAnd | BinOpKind::ScOr => return None,
        BinOpKind::Eq => "==()",
        BinOpKind::Ne => "!=()",
        BinOpKind::Lt => "<()",
        BinOpKind::Lte => "<=()",
        BinOpKind::Gt => ">()",
        BinOpKind::Gte => ">=()",
        BinOpKind::Add => "+()",
        BinOpKind::Sub => "-()",
        BinOpKind::Mul => "*()",
        BinOpKind::Div => "/()",
        BinOpKind::FloorDiv => "//()",
        BinOpKind::Rem => "%()",
        BinOpKind::Pow => "**()",
        BinOpKind::Concat => "~()",
        BinOpKind::In => "in()",
    })
}

fn statements<'a>(list: &[Stmt<'a>]) -> Result<Vec<Stmt<'a>>> {
    list.iter().map(statement).collect()
}

fn statement<'a>(stmt: &Stmt<'a>) -> Result<Stmt<'a>> {
    Ok(match stmt {
        Stmt::Template(s) => Stmt::Template(spanned(s, ast::Template { children: statements(&s.children)? })),
        Stmt::EmitExpr(s) => Stmt::EmitExpr(spanned(s, ast::EmitExpr { expr: expression(&s.expr) })),
        Stmt::EmitRaw(s) => Stmt::EmitRaw(spanned(s, ast::EmitRaw { raw: s.raw })),
        Stmt::ForLoop(s) => Stmt::ForLoop(spanned(
            s,
            ast::ForLoop {
                target: target(&s.target),
                iter: call(ITERATE, s.iter.span(), expression(&s.iter), Vec::new()),
                filter_expr: s.filter_expr.as_ref().map(expression),
                recursive: s.recursive,
                body: statements(&s.body)?,
                else_body: statements(&s.else_body)?,
            },
        )),
        Stmt::IfCond(s) => Stmt::IfCond(spanned(
            s,
            ast::IfCond {
                expr: expression(&s.expr),
                true_body: statements(&s.true_body)?,
                false_body: statements(&s.false_body)?,
            },
        )),
        Stmt::WithBlock(s) => {
            let assignments = s.assignments.iter().map(|(to, value)| (target(to), expression(value))).collect();
            Stmt::WithBlock(spanned(s, ast::WithBlock { assignments, body: statements(&s.body)? }))
        }
        Stmt::Set(s) => Stmt::Set(spanned(s, ast::Set { target: target(&s.target), expr: expression(&s.expr) })),
        Stmt::SetBlock(s) => Stmt::SetBlock(spanned(
            s,
            ast::SetBlock {
                target: target(&s.target),
                filter: s.filter.as_ref().map(expression),
                body: statements(&s.body)?,
            },
        )),
        Stmt::AutoEscape(s) => Stmt::AutoEscape(spanned(
            s,
            ast::AutoEscape { enabled: expression(&s.enabled), body: statements(&s.body)? },
        )),
        Stmt::FilterBlock(s) => Stmt::FilterBlock(spanned(
            s,
            ast::FilterBlock { filter: expression(&s.filter), filter_span: s.filter_span, body: statements(&s.body)? },
        )),
        Stmt::Block(s) => {
            Stmt::Block(spanned(s, ast::Block { name: s.name, required: s.required, body: statements(&s.body)? }))
        }
        Stmt::Import(s) => Stmt::Import(spanned(s, ast::Import { expr: expression(&s.expr), name: target(&s.name) })),
        Stmt::FromImport(s) => {
            let names = s.names.iter().map(|(name, alias)| (target(name), alias.as_ref().map(target))).collect();
            Stmt::FromImport(spanned(s, ast::FromImport { expr: expression(&s.expr), names }))
        }
        Stmt::Extends(s) => Stmt::Extends(spanned(s, ast::Extends { name: expression(&s.name) })),
        Stmt::Include(s) => {
            Stmt::Include(spanned(s, ast::Include { name: expression(&s.name), ignore_missing: s.ignore_missing }))
        }
        Stmt::Macro(s) => Stmt::Macro(spanned(s, macro_declaration(s)?)),
        Stmt::CallBlock(s) => Stmt::CallBlock(spanned(
            s,
            ast::CallBlock {
                call: spanned(&s.call, plain_call(&s.call)),
                call_expr_span: s.call_expr_span,
                macro_decl: spanned(&s.macro_decl, macro_declaration(&s.macro_decl)?),
            },
        )),
        Stmt::Continue(s) => Stmt::Continue(spanned(s, ast::Continue)),
        Stmt::Break(s) => Stmt::Break(spanned(s, ast::Break)),
        Stmt::Do(s) => {
            let what = format!("line {}: unknown tag 'do'", s.span().start_line);
            return Err(Error::new(ErrorKind::SyntaxError, what));
        }
    })
}

fn spanned<T, U>(like: &Spanned<T>, node: U) -> Spanned<U> {
    Spanned::new(node, like.span())
}

fn macro_declaration<'a>(s: &ast::Macro<'a>) -> Result<ast::Macro<'a>> {
    Ok(ast::Macro {
        name: s.name,
        args: s.args.iter().map(target).collect(),
        defaults: s.defaults.iter().map(expression).collect(),
        body: statements(&s.body)?,
    })
}

/// The left side of an assignment: names, lists of names, attributes of namespaces.
fn target<'a>(expr: &Expr<'a>) -> Expr<'a> {
    match expr {
        Expr::List(s) => Expr::List(spanned(s, ast::List { items: s.items.iter().map(target).collect() })),
        Expr::Tuple(s) => Expr::Tuple(spanned(s, ast::Tuple { items: s.items.iter().map(target).collect() })),
        Expr::GetAttr(s) => Expr::GetAttr(spanned(s, ast::GetAttr { expr: target(&s.expr), name: s.name })),
        other => expression(other),
    }
}

fn constant<'a>(value: Value, span: Span) -> Expr<'a> {
    Expr::Const(Spanned::new(ast::Const { value }, span))
}

/// A call of one of the filters that stand for operators.
fn call<'a>(name: &'a str, span: Span, first: Expr<'a>, rest: Vec<Expr<'a>>) -> Expr<'a> {
    let args = rest.into_iter().map(CallArg::Pos).collect();
    Expr::Filter(Spanned::new(ast::Filter { name, expr: Some(first), args }, span))
}

fn arguments<'a>(args: &[CallArg<'a>]) -> Vec<CallArg<'a>> {
    let argument = |arg: &CallArg<'a>| match arg {
        CallArg::Pos(expr) => CallArg::Pos(expression(expr)),
        CallArg::Kwarg(name, expr) => CallArg::Kwarg(name, expression(expr)),
        CallArg::PosSplat(expr) => CallArg::PosSplat(call(ITERATE, expr.span(), expression(expr), Vec::new())),
        CallArg::KwargSplat(expr) => CallArg::KwargSplat(expression(expr)),
    };
    args.iter().map(argument).collect()
}

/// A call that the engine makes: of a name, of a block, or what `{% call %}` hands its body to.
fn plain_call<'a>(s: &ast::Call<'a>) -> ast::Call<'a> {
    ast::Call { expr: target(&s.expr), args: arguments(&s.args) }
}

fn expression<'a>(expr: &Expr<'a>) -> Expr<'a> {
    match expr {
        Expr::Var(s) => Expr::Var(spanned(s, ast::Var { id: s.id })),
        Expr::Const(s) => constant(s.value.clone(), s.span()),
        Expr::Slice(s) => {
            let bound = |bound: &Option<Expr<'a>>| match bound {
                Some(bound) => expression(bound),
                None => constant(Value::from(()), s.span()),
            };
            call(SLICE, s.span(), expression(&s.expr), vec![bound(&s.start), bound(&s.stop), bound(&s.step)])
        }
        Expr::UnaryOp(s) => match s.op {
            UnaryOpKind::Not => {
                Expr::UnaryOp(spanned(s, ast::UnaryOp { op: UnaryOpKind::Not, expr: expression(&s.expr) }))
            }
            UnaryOpKind::Neg => call(NEGATIVE, s.span(), expression(&s.expr), Vec::new()),
        },
        Expr::BinOp(s) => match operator(s.op) {
            Some(name) => call(name, s.span(), expression(&s.left), vec![expression(&s.right)]),
            None => {
                let (left, right) = (expression(&s.left), expression(&s.right));
                Expr::BinOp(spanned(s, ast::BinOp { op: s.op, left, right }))
            }
        },
        Expr::Compare(s) => comparisons(s),
        Expr::IfExpr(s) => Expr::IfExpr(spanned(
            s,
            ast::IfExpr {
                test_expr: expression(&s.test_expr),
                true_expr: expression(&s.true_expr),
                false_expr: s.false_expr.as_ref().map(expression),
            },
        )),
        Expr::Filter(s) => Expr::Filter(spanned(
            s,
            ast::Filter { name: s.name, expr: s.expr.as_ref().map(expression), args: arguments(&s.args) },
        )),
        Expr::Test(s) => {
            Expr::Test(spanned(s, ast::Test { name: s.name, expr: expression(&s.expr), args: arguments(&s.args) }))
        }
        Expr::GetAttr(s) => {
            call(ATTRIBUTE, s.span(), expression(&s.expr), vec![constant(Value::from(s.name), s.span())])
        }
        Expr::GetItem(s) => call(ITEM, s.span(), expression(&s.expr), vec![expression(&s.subscript_expr)]),
        Expr::Call(s) => match &s.expr {
            Expr::GetAttr(method) if !matches!(&method.expr, Expr::Var(name) if name.id == "self") => {
                let name = constant(Value::from(method.name), s.span());
                let args = std::iter::once(CallArg::Pos(name)).chain(arguments(&s.args)).collect();
                Expr::Filter(spanned(s, ast::Filter { name: CALL, expr: Some(expression(&method.expr)), args }))
            }
            Expr::Var(_) | Expr::GetAttr(_) => Expr::Call(spanned(s, plain_call(s))),
            called => Expr::Call(spanned(s, ast::Call { expr: expression(called), args: arguments(&s.args) })),
        },
        Expr::List(s) => Expr::List(spanned(s, ast::List { items: s.items.iter().map(expression).collect() })),
        Expr::Tuple(s) => Expr::Tuple(spanned(s, ast::Tuple { items: s.items.iter().map(expression).collect() })),
        Expr::Map(s) => Expr::Map(spanned(
            s,
            ast::Map { keys: s.keys.iter().map(key).collect(), values: s.values.iter().map(expression).collect() },
        )),
    }
}

/// A key of a mapping, which has to be hashable; constants that are no lists are.
fn key<'a>(expr: &Expr<'a>) -> Expr<'a> {
    match expr {
        Expr::Const(_) => expression(expr),
        _ => call(KEY, expr.span(), expression(expr), Vec::new()),
    }
}

/// `a < b < c` as `a < b and b < c`: evaluating `b` twice changes nothing.
fn comparisons<'a>(s: &Spanned<ast::Compare<'a>>) -> Expr<'a> {
    let mut left = &s.expr;
    let mut all: Option<Expr<'a>> = None;
    for step in &s.ops {
        let (name, negated) = match step.op {
            CompareOpKind::Eq => ("==()", false),
            CompareOpKind::Ne => ("!=()", false),
            CompareOpKind::Lt => ("<()", false),
            CompareOpKind::Lte => ("<=()", false),
            CompareOpKind::Gt => (">()", false),
            CompareOpKind::Gte => (">=()", false),
            CompareOpKind::In => ("in()", false),
            CompareOpKind::NotIn => ("in()", true),
        };
        let mut compared = call(name, s.span(), expression(left), vec![expression(&step.expr)]);
        if negated {
            compared = Expr::UnaryOp(spanned(s, ast::UnaryOp { op: UnaryOpKind::Not, expr: compared }));
        }
        all = Some(match all {
            Some(before) => Expr::BinOp(spanned(s, ast::BinOp { op: BinOpKind::ScAnd, left: before, right: compared })),
            None => compared,
        });
        left = &step.expr;
    }
    all.unwrap_or_else(|| expression(&s.expr))
}
