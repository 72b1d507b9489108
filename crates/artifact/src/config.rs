//! `config.json`: typed, bounded reads whose errors name file, field, value and expectation.
//!
//! Knows no family's keys. Every number has a bound, because sizes come from downloaded data and end up in allocations.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};

use super::error::{ArtifactError, ErrorKind, shown, shown_value};
use super::hint::Hint;
use super::json;

/// Largest `config.json` in bytes (per-module quantization of large models takes megabytes).
pub(super) const MAX_CONFIG: usize = 16 << 20;
/// Most values of a configuration, about: a large model whose every expert has quantization of its own has a third of it.
const MAX_VALUES: usize = 1 << 20;
/// Longest array that is read.
const MAX_ITEMS: usize = 65_536;
/// Largest absolute value of a number: what f32 holds with room to spare.
const MAX_NUMBER: f64 = 1e30;
/// Largest number that may be right where its bound is not known.
const SENSIBLE: usize = 1 << 20;
/// Keys by which a checkpoint names code of its repository.
const CODE_KEYS: [&str; 4] = ["auto_map", "custom_pipelines", "model_file", "trust_remote_code"];

/// `config.json`, or an object within it.
#[derive(Debug, Clone)]
pub struct Config {
    file: Arc<str>,
    /// The object's path in the file, with a dot at its end, or nothing.
    prefix: String,
    fields: Arc<Map<String, Value>>,
    /// `text_config`, where this is the top level.
    text: Option<Arc<Map<String, Value>>>,
    /// Where faults are noted instead of returned.
    notes: Option<ConfigNotes>,
}

/// Faults of a configuration that is read to its end: a field that cannot be read is noted, and something harmless stands
/// in for it.
#[derive(Debug, Clone, Default)]
pub struct ConfigNotes(Arc<Mutex<Vec<ArtifactError>>>);

impl ConfigNotes {
    fn list(&self) -> MutexGuard<'_, Vec<ArtifactError>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was noted so far.
    pub fn take(&self) -> Vec<ArtifactError> {
        std::mem::take(&mut self.list())
    }
}

impl Config {
    /// Parses the file; `path` names it in errors.
    ///
    /// # Errors
    /// Not a JSON object; no `model_type`.
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, ArtifactError> {
        let (config, faults) = Self::read(path, bytes);
        faults.into_iter().next().map_or(Ok(config), Err)
    }

    /// As much of the file as can be read, which may be nothing, and why it is not a configuration.
    pub fn read(path: &str, bytes: &[u8]) -> (Self, Vec<ArtifactError>) {
        let of = |fields: Map<String, Value>| {
            let text = fields.get("text_config").and_then(Value::as_object).cloned().map(Arc::new);
            Self { file: path.into(), prefix: String::new(), fields: Arc::new(fields), text, notes: None }
        };
        let nothing = |what: String| (of(Map::new()), vec![ArtifactError::damaged(path, what)]);
        // In memory a value takes up to a hundred times its place in the file.
        if bytes.iter().filter(|byte| b"[{,".contains(byte)).count() > MAX_VALUES {
            return nothing(format!("more than {MAX_VALUES} values"));
        }
        let (fields, twice) = match json::object(bytes) {
            Ok(read) => read,
            Err(error) => return nothing(format!("not a JSON object: {error}")),
        };
        let config = of(fields);
        let twice = twice.first().map(|first| {
            ArtifactError::damaged(path, format!("{first}: stated twice: readers differ on which one holds"))
        });
        let fields = [config.section("text_config").err(), config.string("model_type").err()];
        let faults = twice.into_iter().chain(fields.into_iter().flatten()).collect();
        (config, faults)
    }

    /// The same, with faults noted instead of returned; for what can be told of a configuration that is at fault. What is
    /// read of it stands for nothing.
    pub fn noting(mut self) -> (Self, ConfigNotes) {
        let notes = self.notes.insert(ConfigNotes::default()).clone();
        (self, notes)
    }

    /// ConfigNotes or returns the error of a field; `stand_in` takes the field's place.
    fn fail<T>(&self, field: &str, what: &str, stand_in: T) -> Result<T, ArtifactError> {
        let error = self.error(field, what);
        let Some(notes) = &self.notes else { return Err(error) };
        notes.list().push(error);
        Ok(stand_in)
    }

    /// The keys that name code of the repository. Nothing follows them: an architecture that claims the checkpoint reads it itself.
    pub fn code_keys(&self) -> Vec<String> {
        let of = |level: &Self| -> Vec<String> {
            let keys = CODE_KEYS.iter().filter(|key| level.fields.get(**key).is_some_and(names_something));
            keys.map(|key| format!("{}{key}", level.prefix)).collect()
        };
        let inner = self.text.as_ref().map(|_| of(&self.text()));
        of(self).into_iter().chain(inner.into_iter().flatten()).collect()
    }

    /// The top level's `model_type`.
    pub fn model_type(&self) -> &str {
        self.fields.get("model_type").and_then(Value::as_str).unwrap_or_default()
    }

    /// The object that holds the text model's fields: `text_config` where there is one, else this one.
    pub fn text(&self) -> Config {
        match &self.text {
            Some(text) => Self {
                file: Arc::clone(&self.file),
                prefix: format!("{}text_config.", self.prefix),
                fields: Arc::clone(text),
                text: None,
                notes: self.notes.clone(),
            },
            None => self.clone(),
        }
    }

    /// An object among the fields, such as `rope_parameters`; `None` where absent or null.
    ///
    /// # Errors
    /// The field is something else.
    pub fn section(&self, field: &str) -> Result<Option<Config>, ArtifactError> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Self {
                file: Arc::clone(&self.file),
                prefix: format!("{}{field}.", self.prefix),
                fields: Arc::new(fields.clone()),
                text: None,
                notes: self.notes.clone(),
            })),
            Some(_) => self.fail(field, "expected an object", None),
        }
    }

    /// A field's raw value.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field)
    }

    /// Every field, in the file's order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether a field is there and not null.
    pub fn has(&self, field: &str) -> bool {
        self.fields.get(field).is_some_and(|value| !value.is_null())
    }

    /// A required positive integer within `1..=max`.
    ///
    /// # Errors
    /// Absent, null, not an integer, or out of bounds.
    pub fn size(&self, field: &str, max: usize) -> Result<usize, ArtifactError> {
        self.integer(field, 1..=max)?.map_or_else(|| self.fail(field, &between(1, max), 1), Ok)
    }

    /// A positive integer within `1..=max`, or the default where the field is absent or null.
    ///
    /// # Errors
    /// Not an integer, or out of bounds.
    pub fn size_or(&self, field: &str, default: usize, max: usize) -> Result<usize, ArtifactError> {
        Ok(self.integer(field, 1..=max)?.unwrap_or(default))
    }

    /// An integer within `0..=max`, or the default where the field is absent or null: for counts that may be zero.
    ///
    /// # Errors
    /// Not an integer, or out of bounds.
    pub fn count_or(&self, field: &str, default: usize, max: usize) -> Result<usize, ArtifactError> {
        Ok(self.integer(field, 0..=max)?.unwrap_or(default))
    }

    /// An integer within `range`; `None` where the field is absent or null.
    fn integer(&self, field: &str, range: RangeInclusive<usize>) -> Result<Option<usize>, ArtifactError> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match whole(value).filter(|value| range.contains(value)) {
                Some(value) => Ok(Some(value)),
                None => self.out_of_range(field, value, range).map(Some),
            },
        }
    }

    fn out_of_range(&self, field: &str, value: &Value, range: RangeInclusive<usize>) -> Result<usize, ArtifactError> {
        let (low, high) = (*range.start(), *range.end());
        // A bound may follow from what stands in for another field: then a sensible number is not at fault.
        let bound_may_be_off = self.notes.as_ref().is_some_and(|notes| !notes.list().is_empty());
        match whole(value).filter(|&value| bound_may_be_off && value >= low && value <= SENSIBLE) {
            Some(_) => Ok(high),
            None => self.fail(field, &between(low, high), low),
        }
    }

    /// Integers within `0..=max`, empty where the field is absent or null.
    ///
    /// # Errors
    /// Not an array of such integers.
    pub fn counts(&self, field: &str, max: usize) -> Result<Vec<usize>, ArtifactError> {
        let what = || format!("expected an array of integers from 0 to {max}");
        self.items(field, what, |value| whole(value).filter(|&value| value <= max))
    }

    /// Token ids: one integer or an array of them, each below `vocab`; empty where absent or null.
    ///
    /// # Errors
    /// Anything else.
    pub fn token_ids(&self, field: &str, vocab: usize) -> Result<Vec<u32>, ArtifactError> {
        let id = |value: &Value| whole(value).filter(|&id| id < vocab).and_then(|id| u32::try_from(id).ok());
        let what = || format!("expected a token id below {vocab}, or an array of them");
        match self.fields.get(field) {
            Some(value @ Value::Number(_)) => {
                id(value).map_or_else(|| self.fail(field, &what(), Vec::new()), |id| Ok(vec![id]))
            }
            _ => self.items(field, what, id),
        }
    }

    /// Strings, empty where the field is absent or null.
    ///
    /// # Errors
    /// Not an array of strings.
    pub fn strings(&self, field: &str) -> Result<Vec<&str>, ArtifactError> {
        self.items(field, || "expected an array of strings".to_owned(), Value::as_str)
    }

    /// An array's items, each read by `read`.
    fn items<'a, T>(
        &'a self,
        field: &str,
        what: impl Fn() -> String,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Vec<T>, ArtifactError> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) if items.len() <= MAX_ITEMS => {
                let read: Option<Vec<T>> = items.iter().map(read).collect();
                read.map_or_else(|| self.fail(field, &what(), Vec::new()), Ok)
            }
            Some(_) => self.fail(field, &what(), Vec::new()),
        }
    }

    /// A finite number, or the default where the field is absent or null.
    ///
    /// # Errors
    /// Not a number, or beyond ±1e30.
    pub fn number_or(&self, field: &str, default: f64) -> Result<f64, ArtifactError> {
        self.number_in(field, default, -MAX_NUMBER..=MAX_NUMBER)
    }

    /// A number within `range`, or the default where the field is absent or null.
    ///
    /// # Errors
    /// Not a number, or out of range.
    pub fn number_in(&self, field: &str, default: f64, range: RangeInclusive<f64>) -> Result<f64, ArtifactError> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => match value.as_f64().filter(|value| range.contains(value)) {
                Some(value) => Ok(value),
                None => {
                    let what = format!("expected a number from {:?} to {:?}", range.start(), range.end());
                    self.fail(field, &what, default)
                }
            },
        }
    }

    /// A boolean, or the default where absent or null.
    ///
    /// # Errors
    /// Something else.
    pub fn flag_or(&self, field: &str, default: bool) -> Result<bool, ArtifactError> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value.as_bool().map_or_else(|| self.fail(field, "expected true or false", default), Ok),
        }
    }

    /// A required string.
    ///
    /// # Errors
    /// Absent, null or something else.
    pub fn string(&self, field: &str) -> Result<&str, ArtifactError> {
        let text = self.fields.get(field).and_then(Value::as_str);
        text.map_or_else(|| self.fail(field, "expected a string", ""), Ok)
    }

    /// A string; `None` where absent or null.
    ///
    /// # Errors
    /// Something else.
    pub fn string_opt(&self, field: &str) -> Result<Option<&str>, ArtifactError> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => self.fail(field, "expected a string", None),
        }
    }

    /// A field's path in the file.
    pub fn path_of(&self, field: &str) -> String {
        shown(&format!("{}{field}", self.prefix))
    }

    /// An error about a value that makes no sense: `config.json: text_config.FIELD: VALUE: WHAT`.
    pub fn error(&self, field: &str, what: &str) -> ArtifactError {
        let hint = "correct the field, or download the checkpoint again: config.json does not describe a model";
        self.fault(field, what.to_owned(), ErrorKind::Damaged, hint)
    }

    /// An error about a value that makes sense and is not supported, in the same words.
    pub fn unsupported(&self, field: &str, what: &str) -> ArtifactError {
        self.fault(
            field,
            what.to_owned(),
            ErrorKind::Incompatible,
            "this program has no code for it: use another checkpoint",
        )
    }

    /// [`Config::unsupported`] with a hint of its own.
    pub fn unsupported_with(&self, field: &str, what: String, hint: impl Into<Hint>) -> ArtifactError {
        self.fault(field, what, ErrorKind::Incompatible, hint)
    }

    fn fault(&self, field: &str, what: String, kind: ErrorKind, hint: impl Into<Hint>) -> ArtifactError {
        ArtifactError::Field {
            file: self.file.as_ref().into(),
            field: self.path_of(field).into(),
            value: shown_value(self.fields.get(field)).into(),
            what: what.into(),
            kind,
            hint: hint.into(),
        }
    }
}

/// True where the value of a key that names code names any.
fn names_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    }
}

/// A non-negative integer. `64.0` is not one: a writer that turns sizes into floats may have rounded them.
fn whole(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|value| usize::try_from(value).ok())
}

fn between(low: usize, high: usize) -> String {
    format!("expected an integer from {low} to {high}")
}
