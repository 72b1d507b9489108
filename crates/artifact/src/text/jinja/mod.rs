//! Jinja2 as transformers sets it up: its immutable sandbox over Python's values.
//!
//! minijinja parses templates, and runs scopes, loops and macros. Operators, attributes, methods, filters, tests and printing
//! are here, because templates are written against Python's.

mod access;
mod arguments;
mod attributes;
mod filters;
mod float_repr;
mod format;
mod json;
mod markup;
mod methods;
mod operators;
mod predicates;
mod syntax;
mod time;
mod value;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use minijinja::machinery::{eval, make_string_output};
use minijinja::value::{Enumerator, Object, ObjectRepr, Rest, ValueOrKwargs};
use minijinja::{AutoEscape, Environment, Error, State, Value};

use arguments::Arguments;
use value::{Dict, Kind, Range, Result, error, int, iterate, kind, str, text};

/// Marks the template's own objections, which need no talk of invalid operations around them.
pub(super) const REFUSED: &str = "the template refuses these messages: ";

/// A few templates by name, ready to run.
#[derive(Debug)]
pub(super) struct Templates {
    environment: Environment<'static>,
    sources: Vec<(String, String)>,
}

impl Templates {
    /// `fuel` bounds the instructions of one rendering, and the bytes that they make.
    pub(super) fn new(fuel: u64, recursion: usize) -> Self {
        let mut environment = Environment::empty();
        environment.set_fuel(Some(fuel));
        environment.set_recursion_limit(recursion);
        environment.set_formatter(|out, _state, value| {
            let text = if kind(value) == Kind::Str { text(value).map(Into::into) } else { str(value) }?;
            out.write_str(&text).map_err(Error::from)
        });
        syntax::install(&mut environment);
        filters::install(&mut environment);
        predicates::install(&mut environment);
        functions(&mut environment);
        Self { environment, sources: Vec::new() }
    }

    /// Adds a template.
    ///
    /// # Errors
    /// It does not compile.
    pub(super) fn add(&mut self, name: String, source: &str) -> Result<()> {
        let source = syntax::normalized(source)?;
        syntax::compile(&name, &source)?;
        self.sources.push((name, source));
        Ok(())
    }

    /// Source of the template of this name, or else of `default`.
    pub(super) fn source(&self, name: &str, default: &str) -> &str {
        let named = |name: &str| self.sources.iter().find(|(known, _)| known == name);
        named(name).or_else(|| named(default)).map_or("", |(_, source)| source)
    }

    /// The output of the template of this name, or else of `default`.
    pub(super) fn render(&self, name: &str, default: &str, variables: Value) -> Result<String> {
        let named = |name: &str| self.sources.iter().find(|(known, _)| known == name);
        let found = named(name).or_else(|| named(default));
        let (name, source) = found.ok_or_else(|| error(format!("no template is named {default}")))?;
        let (instructions, blocks) = syntax::compile(name, source)?;
        let mut out = String::new();
        eval(
            &self.environment,
            &instructions,
            variables,
            &blocks,
            &mut make_string_output(&mut out),
            AutoEscape::None,
        )?;
        Ok(out)
    }
}

fn functions(environment: &mut Environment<'static>) {
    let mut add = |name: &'static str, function: fn(Arguments) -> Result<Value>| {
        environment
            .add_function(name, move |values: Rest<ValueOrKwargs>| function(Arguments::of(&values.into_values())));
    };
    add("raise_exception", |arguments| {
        let arguments = arguments.bind("raise_exception", "message", 1)?;
        Err(error(format!("{REFUSED}{}", str(&arguments.value(0))?)))
    });
    add("strftime_now", |arguments| {
        let arguments = arguments.bind("strftime_now", "format", 1)?;
        Ok(time::strftime(SystemTime::now(), text(&arguments.value(0))?).into())
    });
    add("range", |arguments| {
        let bounds = arguments.bind("range", "_start _stop _step", 1)?;
        let start = int(&bounds.value(0))?;
        let step = bounds.given(2).map_or(Ok(1), int)?;
        match bounds.given(1) {
            Some(stop) => Range::value(start, int(stop)?, step),
            None => Range::value(0, start, step),
        }
    });
    add("dict", dict);
    add("cycler", |arguments| {
        if arguments.positional.is_empty() {
            return Err(error("at least one item has to be provided"));
        }
        Ok(Value::from_object(Cycler { items: arguments.positional, at: Mutex::new(0) }))
    });
    add("joiner", |arguments| {
        let separator = arguments.bind("joiner", "sep", 0)?.given(0).cloned().unwrap_or_else(|| ", ".into());
        Ok(Value::from_object(Joiner { separator, used: Mutex::new(false) }))
    });
    environment.add_function("namespace", |values: Rest<ValueOrKwargs>| {
        let pairs = dict(Arguments::of(&values.into_values()))?;
        minijinja::functions::namespace(Some(pairs.into()))
    });
}

/// `dict(mapping or pairs, **named)`.
fn dict(mut arguments: Arguments) -> Result<Value> {
    let named = std::mem::take(&mut arguments.named);
    let given = arguments.bind("dict", "_mapping", 0)?;
    let mut pairs: Dict = match given.given(0) {
        Some(nothing) if nothing.is_undefined() => return Err(error("dict() takes a mapping or pairs")),
        Some(mapping) if kind(mapping) == Kind::Dict => methods::pairs(mapping)?.into_iter().collect(),
        Some(items) => {
            let pair = |item: &Value| match &iterate(item)?[..] {
                [key, value] => value::hashable(key).map(|()| (key.clone(), value.clone())),
                _ => Err(error("dict() takes a mapping or pairs")),
            };
            iterate(items)?.iter().map(pair).collect::<Result<_>>()?
        }
        None => Dict::new(),
    };
    pairs.extend(named.into_iter().map(|(name, value)| (name.into(), value)));
    Ok(Value::from_object(pairs))
}

/// `cycler(...)`: its items in turn.
#[derive(Debug)]
struct Cycler {
    items: Vec<Value>,
    at: Mutex<usize>,
}

impl Cycler {
    fn turn(&self, change: fn(usize, usize) -> usize) -> Value {
        let Ok(mut at) = self.at.lock() else { return Value::UNDEFINED };
        let current = self.items.get(*at).cloned().unwrap_or_default();
        *at = change(*at, self.items.len());
        current
    }
}

impl Object for Cycler {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        (key.as_str() == Some("current")).then(|| self.turn(|at, _| at))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&["current"])
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, name: &str, _: &[Value]) -> Result<Value> {
        match name {
            "next" => Ok(self.turn(|at, count| (at + 1) % count)),
            "reset" => {
                self.turn(|_, _| 0);
                Ok(Value::from(()))
            }
            _ => Err(error(format!("a cycler has no method '{name}'"))),
        }
    }
}

/// `joiner(sep)`: nothing when first called, then the separator.
#[derive(Debug)]
struct Joiner {
    separator: Value,
    used: Mutex<bool>,
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, _: &[Value]) -> Result<Value> {
        let used = self.used.lock().is_ok_and(|mut used| std::mem::replace(&mut *used, true));
        Ok(if used { self.separator.clone() } else { "".into() })
    }
}
