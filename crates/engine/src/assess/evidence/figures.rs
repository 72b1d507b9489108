//! Figures, read one by one from an object, with everything that is wrong with them.

use serde_json::{Map, Value};

use crate::assess::doubts::Doubts;
use mtplx_runtime::artifact::shown_value;
use mtplx_runtime::speculation::statistics::tail;
use mtplx_runtime::verify::LEVEL;

/// How far a figure may be from what follows from others, relatively: digits of printed numbers.
pub(super) const DIGITS: f64 = 1e-6;
/// Most degrees of freedom of a test: many times what any gate's cells give.
const MOST_DEGREES: f64 = 4096.0;

/// An object that figures are read from, and what is wrong with them.
pub(super) struct Figures<'a> {
    pub(super) path: String,
    fields: &'a Map<String, Value>,
    /// Fields that are not there: said in one line.
    missing: Vec<&'static str>,
    doubts: Doubts,
}

impl<'a> Figures<'a> {
    pub(super) fn of(path: &str, fields: &'a Map<String, Value>) -> Self {
        Self { path: path.to_owned(), fields, missing: Vec::new(), doubts: Doubts::default() }
    }

    pub(super) fn end(mut self) -> Doubts {
        if !self.missing.is_empty() {
            self.doubts.lacking.insert(0, format!("{}: {} missing", self.path, self.missing.join(", ")));
        }
        self.doubts
    }

    /// Adds what was found in an object within this one.
    pub(super) fn absorb(&mut self, inner: Doubts) {
        self.doubts.extend(inner);
    }

    pub(super) fn fault(&mut self, field: &str, what: &str) {
        self.doubts.against.push(format!("{}.{field}: {what}", self.path));
    }

    /// Null is how a figure is written that no gate measured.
    pub(super) fn get(&mut self, field: &'static str) -> Option<&'a Value> {
        let value = self.fields.get(field).filter(|value| !value.is_null());
        if value.is_none() && !self.missing.contains(&field) {
            self.missing.push(field);
        }
        value
    }

    pub(super) fn read<T>(
        &mut self,
        field: &'static str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(field)?;
        let result = read(value);
        if result.is_none() {
            self.fault(field, &format!("{}: expected {expected}", shown_value(Some(value))));
        }
        result
    }

    pub(super) fn number(&mut self, field: &'static str) -> Option<f64> {
        self.read(field, "a number from 0", |value| value.as_f64().filter(|value| (0.0..=f64::MAX).contains(value)))
    }

    pub(super) fn at_most(&mut self, field: &'static str, limit: f64) -> Option<f64> {
        let value = self.number(field)?;
        if value > limit {
            self.fault(field, &format!("{value}: expected at most {limit}"));
            return None;
        }
        Some(value)
    }

    /// A limit, which is this engine's own.
    pub(super) fn just(&mut self, field: &'static str, limit: f64) -> Option<f64> {
        let value = self.at_most(field, limit)?;
        if value < limit {
            self.fault(field, &format!("{value}: expected {limit}, as it is for this dtype"));
        }
        Some(value)
    }

    pub(super) fn count(&mut self, field: &'static str) -> Option<u64> {
        self.read(field, "a whole number from 0", Value::as_u64)
    }

    /// A count of what was measured, which was not nothing.
    pub(super) fn some(&mut self, field: &'static str) -> Option<u64> {
        self.read(field, "a whole number from 1", |value| value.as_u64().filter(|&count| count > 0))
    }

    pub(super) fn text(&mut self, field: &'static str) -> Option<&'a str> {
        self.read(field, "a text", |value| value.as_str().filter(|text| !text.trim().is_empty()))
    }

    pub(super) fn one_of(&mut self, field: &'static str, choices: &[&'static str]) -> Option<&'static str> {
        let expected = choices.join(" or ");
        self.read(field, &expected, |value| choices.iter().copied().find(|choice| value.as_str() == Some(*choice)))
    }

    pub(super) fn object(&mut self, field: &'static str) -> Option<&'a Map<String, Value>> {
        self.read(field, "an object", Value::as_object)
    }

    /// An array of objects.
    pub(super) fn list(&mut self, field: &'static str) -> Option<&'a [Value]> {
        self.read(field, "an array of objects", |value| {
            value.as_array().map(Vec::as_slice).filter(|items| items.iter().all(Value::is_object))
        })
    }

    /// Tests against a law: each is named by the field `name`, those `wanted` among them, and drew `fewest` or more, which the
    /// field `count` says. Returns what they state.
    pub(super) fn fits(
        &mut self,
        field: &'static str,
        (name, wanted): (&'static str, &[&str]),
        (count, fewest): (&'static str, usize),
    ) -> Vec<&'a Map<String, Value>> {
        let level = self.level();
        let mut named = Vec::new();
        let Some(fits) = self.list(field) else { return Vec::new() };
        let fits: Vec<_> = fits.iter().filter_map(Value::as_object).collect();
        for (index, figures) in fits.iter().enumerate() {
            let mut fit = Self::of(&format!("{}.{field}[{index}]", self.path), figures);
            named.extend(fit.text(name));
            if let Some(drawn) = fit.some(count).filter(|&drawn| drawn < fewest as u64) {
                fit.fault(count, &format!("{drawn}: expected at least {fewest}"));
            }
            if let Some(p) = fit.at_most("p_value", 1.0).filter(|&p| p < level) {
                fit.fault("p_value", &format!("{p}: expected at least {level}"));
            }
            self.absorb(fit.end());
        }
        for missing in wanted.iter().filter(|wanted| !named.contains(wanted)) {
            self.doubts.lacking.push(format!("{}.{field}: {missing} is missing", self.path));
        }
        fits
    }

    /// Chi-square tests among them: what each states as its p-value follows from its statistic.
    pub(super) fn tails(&mut self, field: &'static str, fits: Vec<&'a Map<String, Value>>) {
        for (index, figures) in fits.into_iter().enumerate() {
            let mut fit = Self::of(&format!("{}.{field}[{index}]", self.path), figures);
            if let (Some(statistic), Some(degrees)) = (fit.number("statistic"), fit.at_most("degrees", MOST_DEGREES)) {
                let follows = tail(statistic, degrees as usize);
                let stated = figures.get("p_value").and_then(Value::as_f64);
                if let Some(stated) = stated.filter(|stated| (stated - follows).abs() > DIGITS * follows) {
                    fit.fault("p_value", &format!("{stated}: {statistic} at {degrees} degrees gives {follows}"));
                }
            }
            self.absorb(fit.end());
        }
    }

    /// The probability with which a gate fails a model that is right: a smaller one hides more.
    pub(super) fn level(&mut self) -> f64 {
        let level = self.number("level");
        if let Some(level) = level.filter(|&level| level < LEVEL) {
            self.fault("level", &format!("{level}: expected at least {LEVEL}"));
        }
        level.unwrap_or(LEVEL).max(LEVEL)
    }
}
