//! Arguments of filters, tests, functions and methods, bound to Python's parameters.

use minijinja::Value;

use super::value::{Result, error};

/// Positional and named arguments of one call.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(String, Value)>,
}

impl Arguments {
    pub(super) fn of(values: &[Value]) -> Self {
        let (named, positional) = match values.split_last() {
            Some((last, rest)) if last.is_kwargs() => (Some(last), rest),
            _ => (None, values),
        };
        let pairs = named.and_then(Value::as_object).and_then(|object| object.try_iter_pairs()).into_iter().flatten();
        Self { positional: positional.to_vec(), named: pairs.map(|(name, value)| (name.to_string(), value)).collect() }
    }

    /// A named argument, taken out.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.named.iter().position(|(given, _)| given == name)?;
        Some(self.named.remove(at).1)
    }

    /// The arguments in the order of `parameters`: names apart by spaces, those with a leading `_` positional only.
    pub(super) fn bind(self, callee: &str, parameters: &str, required: usize) -> Result<Bound> {
        let names: Vec<&str> = parameters.split_whitespace().collect();
        if self.positional.len() > names.len() {
            return Err(error(format!(
                "{callee}() takes at most {} arguments ({} given)",
                names.len(),
                self.positional.len()
            )));
        }
        let mut bound: Vec<Option<Value>> = self.positional.into_iter().map(Some).collect();
        bound.resize(names.len(), None);
        for (name, value) in self.named {
            match names.iter().position(|known| *known == name) {
                Some(at) if bound[at].is_none() => bound[at] = Some(value),
                Some(_) => return Err(error(format!("{callee}() got multiple values for argument '{name}'"))),
                None => return Err(error(format!("{callee}() got an unexpected keyword argument '{name}'"))),
            }
        }
        if let Some(missing) = bound.iter().take(required).position(Option::is_none) {
            return Err(error(format!("{callee}() misses the argument '{}'", names[missing].trim_start_matches('_'))));
        }
        Ok(Bound(bound))
    }
}

/// Arguments by the position of their parameters.
#[derive(Debug)]
pub(super) struct Bound(Vec<Option<Value>>);

impl Bound {
    /// An argument, if it was given.
    pub(super) fn given(&self, at: usize) -> Option<&Value> {
        self.0.get(at).and_then(Option::as_ref)
    }

    /// An argument, if it was given and is not `None`.
    pub(super) fn some(&self, at: usize) -> Option<&Value> {
        self.given(at).filter(|value| !value.is_none())
    }

    /// A required argument.
    pub(super) fn value(&self, at: usize) -> Value {
        self.given(at).cloned().unwrap_or_default()
    }

    /// Truth of an argument; false if it was not given.
    pub(super) fn flag(&self, at: usize) -> bool {
        self.given(at).is_some_and(Value::is_true)
    }
}
