//! Settings of a chat by name: changed, shown with their sources, saved and loaded.

use std::error::Error as _;

use clap::builder::PossibleValue;
use clap::error::{ContextKind, ContextValue};
use clap::{Parser as _, ValueEnum as _};
use mtplx_engine::settings::{Depth, MAX_DEPTH, Overrides, Settings, Source};
use mtplx_runtime::speculative::Rule;
use serde_json::{Map, Value, json};

use crate::args::{Acceptance, SetArgs};

/// Names, as the flags have them.
pub const NAMES: [&str; 12] = [
    "temperature",
    "top-p",
    "top-k",
    "min-p",
    "repetition-penalty",
    "presence-penalty",
    "frequency-penalty",
    "logit-bias",
    "seed",
    "max-tokens",
    "stop",
    "acceptance",
];
/// The value that takes a setting back to the model's.
pub const DEFAULT: &str = "default";

/// The name in other programs' words and spellings.
fn canonical(typed: &str) -> Option<&'static str> {
    let name = typed.replace('_', "-").to_ascii_lowercase();
    let name = match name.as_str() {
        "temp" => "temperature",
        "num-predict" | "n-predict" | "n" => "max-tokens",
        "repeat-penalty" => "repetition-penalty",
        name => name,
    };
    NAMES.into_iter().find(|known| *known == name)
}

/// Sets `typed` to `value`, and says the name that was meant.
///
/// # Errors
/// There is no such setting, or the value is out of its range; nothing is changed then.
pub fn set(overrides: &mut Overrides, typed: &str, value: &str) -> Result<&'static str, String> {
    let name = canonical(typed).ok_or_else(|| {
        let likest = NAMES.into_iter().max_by(|a, b| strsim::jaro(typed, a).total_cmp(&strsim::jaro(typed, b)));
        let likest = likest.filter(|name| strsim::jaro(typed, name) > 0.8);
        let meant = likest.map_or_else(String::new, |name| format!("; {name} is one"));
        format!("{typed}: no such setting{meant}")
    })?;
    let value = value.trim();
    let quoted = serde_json::from_str::<String>(value).ok().filter(|_| name == "stop");
    let value = quoted.as_deref().unwrap_or(value);
    if value.is_empty() && name != "stop" {
        return Err(format!("{name}: a value was expected, or `{DEFAULT}`"));
    }
    let argument = (value != DEFAULT).then(|| format!("--{name}={value}"));
    let parsed = SetArgs::try_parse_from(argument).map_err(|error| format!("{name} {value}: {}", reason(&error)))?;
    let SetArgs { sampling, length, acceptance } = parsed;
    match name {
        "temperature" => overrides.temperature = sampling.temperature,
        "top-p" => overrides.top_p = sampling.top_p,
        "top-k" => overrides.top_k = sampling.top_k,
        "min-p" => overrides.min_p = sampling.min_p,
        "repetition-penalty" => overrides.repetition_penalty = sampling.repetition_penalty,
        "presence-penalty" => overrides.presence_penalty = sampling.presence_penalty,
        "frequency-penalty" => overrides.frequency_penalty = sampling.frequency_penalty,
        "logit-bias" if sampling.logit_bias.is_empty() => overrides.logit_bias.clear(),
        "logit-bias" => overrides.logit_bias.extend(sampling.logit_bias.iter().map(|bias| (bias.id, bias.bias))),
        "seed" => overrides.seed = sampling.seed,
        "max-tokens" => overrides.max_tokens = length.max_tokens,
        "stop" => overrides.stop = length.stop,
        _ => overrides.acceptance = acceptance.map(Rule::from),
    }
    Ok(name)
}

/// The parser's reason alone, without its words on a command line.
fn reason(error: &clap::Error) -> String {
    if let Some(source) = error.source() {
        return source.to_string();
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => format!("one of {} was expected", values.join(", ")),
        _ => "not a value of this setting".to_owned(),
    }
}

/// Values that complete a setting's.
pub fn values_of(name: &str) -> Vec<String> {
    let rules = Acceptance::value_variants().iter().filter_map(Acceptance::to_possible_value);
    let rules = rules.map(|value: PossibleValue| value.get_name().to_owned());
    let named: Vec<String> = if name == "acceptance" { rules.collect() } else { Vec::new() };
    named.into_iter().chain([DEFAULT.to_owned()]).collect()
}

/// Drafts a round, from `on`, `off`, `auto` or a number.
///
/// # Errors
/// It is none of them.
pub fn depth(typed: &str) -> Result<Option<Depth>, String> {
    match typed {
        "on" | DEFAULT => Ok(None),
        "off" => Ok(Some(Depth::Fixed(0))),
        "auto" => Ok(Some(Depth::Auto)),
        number => match number.parse() {
            Ok(depth) if depth <= MAX_DEPTH => Ok(Some(Depth::Fixed(depth))),
            _ => Err(format!("{typed}: on, off, auto, or 0 to {MAX_DEPTH} was expected")),
        },
    }
}

/// `on` or `off`; nothing for the default.
///
/// # Errors
/// It is neither.
pub fn switch(typed: &str) -> Result<Option<bool>, String> {
    match typed {
        "on" | "true" => Ok(Some(true)),
        "off" | "false" => Ok(Some(false)),
        DEFAULT => Ok(None),
        other => Err(format!("{other}: on or off was expected")),
    }
}

/// A depth in a word.
pub fn depth_shown(depth: Depth) -> String {
    match depth {
        Depth::Auto => "auto".to_owned(),
        Depth::Fixed(depth) => depth.to_string(),
    }
}

/// Name, value and source of every setting.
pub fn shown(settings: &Settings, tokens_by_context: bool) -> Vec<[String; 3]> {
    let mut rows: Vec<[String; 3]> = Vec::new();
    let mut row = |name: &str, value: String, source: Source| {
        rows.push([name.to_owned(), value, words(source).to_owned()]);
    };
    let s = settings;
    row("temperature", s.temperature.value.to_string(), s.temperature.source);
    row("top-p", s.top_p.value.to_string(), s.top_p.source);
    row("top-k", s.top_k.value.to_string(), s.top_k.source);
    row("min-p", s.min_p.value.to_string(), s.min_p.source);
    row("repetition-penalty", s.repetition_penalty.value.to_string(), s.repetition_penalty.source);
    row("presence-penalty", s.presence_penalty.value.to_string(), s.presence_penalty.source);
    row("frequency-penalty", s.frequency_penalty.value.to_string(), s.frequency_penalty.source);
    let biases: Vec<String> = s.logit_bias.value.iter().map(|(id, bias)| format!("{id}={bias}")).collect();
    row("logit-bias", or_none(biases.join(" ")), s.logit_bias.source);
    let drawn = s.seed.source == Source::Random;
    row("seed", if drawn { "random".to_owned() } else { s.seed.value.to_string() }, s.seed.source);
    let most = if tokens_by_context { "what fits".to_owned() } else { s.max_tokens.value.to_string() };
    row("max-tokens", most, s.max_tokens.source);
    let stops: Vec<String> = s.stop.value.iter().map(|stop| json!(stop).to_string()).collect();
    row("stop", or_none(stops.join(" ")), s.stop.source);
    let rule = match s.acceptance.value {
        Rule::Rejection => "rejection",
        Rule::Coupled => "coupled",
    };
    row("acceptance", rule.to_owned(), s.acceptance.source);
    row("/mtp", depth_shown(s.mtp_depth.value), s.mtp_depth.source);
    let thinking = s.thinking.value.map_or("as the template has it", |on| if on { "on" } else { "off" });
    row("/think", thinking.to_owned(), s.thinking.source);
    rows
}

fn or_none(text: String) -> String {
    if text.is_empty() { "none".to_owned() } else { text }
}

fn words(source: Source) -> &'static str {
    match source {
        Source::Request => "set here",
        Source::Tuned => "found by `mtplx tune`",
        Source::Contract => "mtplx_runtime.json",
        Source::GenerationConfig => "generation_config.json",
        Source::Default => "default",
        Source::Random => "drawn for each answer",
        Source::Model => "the model",
    }
}

/// Settings that were stated, as a file has them.
pub fn to_json(overrides: &Overrides) -> Map<String, Value> {
    // The shortest decimal that reads back as the same f32, where widening would show digits of its own.
    let number = |value: Option<f32>| value.and_then(|value| value.to_string().parse::<f64>().ok()).map(Value::from);
    let biases = overrides.logit_bias.iter().map(|(id, &bias)| (id.to_string(), json!(number(Some(bias)))));
    let biases: Map<String, Value> = biases.collect();
    let rule = overrides.acceptance.map(|rule| match rule {
        Rule::Rejection => json!("rejection"),
        Rule::Coupled => json!("coupled"),
    });
    let depth = overrides.depth.map(|depth| match depth {
        Depth::Auto => json!("auto"),
        Depth::Fixed(depth) => json!(depth),
    });
    let fields = [
        ("temperature", number(overrides.temperature)),
        ("top-p", number(overrides.top_p)),
        ("top-k", overrides.top_k.map(Value::from)),
        ("min-p", number(overrides.min_p)),
        ("repetition-penalty", number(overrides.repetition_penalty)),
        ("presence-penalty", number(overrides.presence_penalty)),
        ("frequency-penalty", number(overrides.frequency_penalty)),
        ("logit-bias", (!biases.is_empty()).then_some(Value::Object(biases))),
        ("seed", overrides.seed.map(Value::from)),
        ("max-tokens", overrides.max_tokens.map(Value::from)),
        ("stop", (!overrides.stop.is_empty()).then(|| json!(overrides.stop))),
        ("acceptance", rule),
        ("mtp", depth),
        ("think", overrides.thinking.map(Value::from)),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// The same read: what it states in place of what `overrides` states.
///
/// # Errors
/// A field is unknown or out of its range.
pub fn from_json(fields: &Map<String, Value>, overrides: &mut Overrides) -> Result<(), String> {
    let mut read = Overrides {
        draft_vocab: overrides.draft_vocab,
        ignore_eos: overrides.ignore_eos,
        prompt_mode: overrides.prompt_mode,
        ..Overrides::default()
    };
    for (name, value) in fields {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match (name.as_str(), value) {
            ("mtp", _) => read.depth = depth(&text).map_err(|what| format!("mtp: {what}"))?,
            ("think", Value::Bool(on)) => read.thinking = Some(*on),
            ("stop", Value::Array(stops)) => {
                let stops: Option<Vec<String>> = stops.iter().map(|stop| stop.as_str().map(str::to_owned)).collect();
                let stops = stops.filter(|stops| stops.iter().all(|stop| !stop.is_empty()));
                read.stop = stops.ok_or("stop: a list of texts was expected")?;
            }
            ("logit-bias", Value::Object(biases)) => {
                for (id, bias) in biases {
                    set(&mut read, name, &format!("{id}={bias}"))?;
                }
            }
            ("think" | "stop" | "logit-bias", _) => return Err(format!("{name}: {text}: not a value of this setting")),
            _ => drop(set(&mut read, name, &text)?),
        }
    }
    *overrides = read;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use mtplx_engine::settings::ModelDefaults;

    use super::*;

    #[test]
    fn every_setting_is_a_flag() {
        let command = SetArgs::command();
        let flags: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        for name in NAMES {
            assert!(flags.contains(&name), "{name}");
        }
        assert_eq!(flags.len(), NAMES.len() + 1, "all but ignore-eos: {flags:?}");
    }

    #[test]
    fn values_are_checked_and_taken_back() {
        let mut all = Overrides::default();
        for (name, value, meant) in [
            ("temperature", "0.3", "temperature"),
            ("TEMP", "0.4", "temperature"),
            ("top_p", "0.9", "top-p"),
            ("num_predict", "7", "max-tokens"),
            ("repeat_penalty", "1.1", "repetition-penalty"),
            ("presence-penalty", "-1", "presence-penalty"),
            ("logit-bias", "3=-1", "logit-bias"),
            ("logit-bias", "4=2", "logit-bias"),
            ("stop", r#""\n""#, "stop"),
            ("acceptance", "coupled", "acceptance"),
        ] {
            assert_eq!(set(&mut all, name, value), Ok(meant), "{name}");
        }
        assert_eq!((all.temperature, all.top_p, all.max_tokens), (Some(0.4), Some(0.9), Some(7)));
        assert_eq!((all.logit_bias.len(), all.stop.as_slice()), (2, &["\n".to_owned()][..]));
        let before = format!("{all:?}");
        for (name, value, named) in [
            ("temperature", "-1", "temperature -1: 0, or a number from"),
            ("top-p", "x", "a number above 0, at most 1, was expected"),
            ("top-k", "1.5", "top-k 1.5: "),
            ("max-tokens", "0", "a whole number, at least 1"),
            ("acceptance", "maybe", "one of rejection, coupled was expected"),
            ("seed", "", "a value was expected"),
            ("temprature", "1", "no such setting; temperature is one"),
            ("colour", "1", "colour: no such setting"),
            ("help", "1", "help: no such setting"),
        ] {
            let error = set(&mut all, name, value).unwrap_err();
            assert!(error.contains(named) && error.lines().count() == 1, "{error}");
        }
        assert_eq!(format!("{all:?}"), before, "nothing changed");
        for name in NAMES {
            set(&mut all, name, DEFAULT).unwrap();
        }
        assert_eq!(format!("{all:?}"), format!("{:?}", Overrides::default()));
    }

    #[test]
    fn words_for_drafting_and_reasoning() {
        assert_eq!(depth("on"), Ok(None));
        assert_eq!(depth("off"), Ok(Some(Depth::Fixed(0))));
        assert_eq!(depth("3"), Ok(Some(Depth::Fixed(3))));
        assert!(depth("9").is_err() && depth("").is_err());
        assert_eq!((switch("on"), switch("off")), (Ok(Some(true)), Ok(Some(false))));
        assert!(switch("maybe").is_err());
    }

    #[test]
    fn a_file_s_settings_come_back() {
        let mut all = Overrides { draft_vocab: Some(9), ignore_eos: true, ..Overrides::default() };
        for (name, value) in [("temperature", "0.1"), ("seed", "18446744073709551615"), ("logit-bias", "3=-1.5")] {
            set(&mut all, name, value).unwrap();
        }
        all.stop = vec!["a".to_owned(), "\n".to_owned()];
        (all.depth, all.thinking) = (Some(Depth::Auto), Some(false));
        let fields = to_json(&all);
        assert_eq!(fields["temperature"], 0.1);
        let mut read = Overrides { draft_vocab: Some(9), ignore_eos: true, top_k: Some(3), ..Overrides::default() };
        from_json(&fields, &mut read).unwrap();
        assert_eq!(format!("{read:?}"), format!("{all:?}"));

        for (text, named) in [
            (r#"{"temperature": -1}"#, "temperature -1"),
            (r#"{"warmth": 1}"#, "warmth"),
            (r#"{"stop": [1]}"#, "stop"),
            (r#"{"think": "yes"}"#, "think"),
            (r#"{"mtp": 99}"#, "mtp"),
        ] {
            let fields = serde_json::from_str(text).unwrap();
            let mut unchanged = all.clone();
            let error = from_json(&fields, &mut unchanged).unwrap_err();
            assert!(error.contains(named), "{error}");
            assert_eq!(format!("{unchanged:?}"), format!("{all:?}"));
        }
    }

    #[test]
    fn all_are_shown_with_their_sources() {
        let mut all = Overrides::default();
        set(&mut all, "top-k", "5").unwrap();
        let settings = Settings::resolve(&all, ModelDefaults::default(), &mut Vec::new()).unwrap();
        let rows = shown(&settings, false);
        assert!(NAMES.iter().all(|name| rows.iter().any(|row| row[0] == *name)));
        assert!(rows.contains(&["top-k".into(), "5".into(), "set here".into()]));
        assert!(rows.contains(&["temperature".into(), "0.6".into(), "default".into()]));
        assert!(rows.contains(&["seed".into(), "random".into(), "drawn for each answer".into()]));
    }
}
