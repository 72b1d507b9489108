//! Settings that the dialects share: the sampler's, the limits', this server's own.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use mtplx_runtime::sampling::{REPETITION_PENALTIES, TEMPERATURES};
use serde_json::Value;

use crate::wire::field::Field;
use crate::wire::internal::{Acceptance, Conversation, Failure, MtpOptions, Options};

/// Most stop strings of a request.
const MAX_STOPS: usize = 64;
/// Most biases of a request.
const MAX_BIASES: usize = 4096;
/// Most drafts of a round.
const MAX_DEPTH: u8 = 8;
/// Most of the likeliest tokens in one place.
pub(crate) const MAX_TOP_LOGPROBS: u8 = 20;

/// Fields of constrained decoding in vLLM's and llama.cpp's spelling.
const CONSTRAINTS: [&str; 8] = [
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "guided_whitespace_pattern",
    "grammar",
    "json_schema",
];

/// Settings of the sampler, of drafting and of reasoning's length. The dialect adds its limit and its stop strings.
pub(crate) fn options(root: &Field<'_>) -> Result<Options, Failure> {
    let mut options = own(root)?;
    sampler(root, "repetition_penalty", &mut options)?;
    options.logit_bias = root.opt("logit_bias", biases)?.unwrap_or_default();
    Ok(options)
}

/// Settings that every route takes beside those of its dialect.
pub(crate) fn own(root: &Field<'_>) -> Result<Options, Failure> {
    refuse_constraints(root)?;
    Ok(Options {
        ignore_eos: root.opt("ignore_eos", Field::flag)?.unwrap_or(false),
        mtp: root.opt("mtp", mtp)?.unwrap_or_default(),
        max_thinking_tokens: thinking_budget(root)?,
        ..Options::default()
    })
}

/// Settings of the sampler; `repetition` is the dialect's name for the repetition penalty.
pub(crate) fn sampler(object: &Field<'_>, repetition: &str, options: &mut Options) -> Result<(), Failure> {
    let penalty = |field: &Field<'_>| field.number("a number in [-2, 2]", |penalty| (-2.0..=2.0).contains(&penalty));
    options.temperature = object.opt("temperature", |field| {
        let expected = format!("0, or a number in {}", shown(&TEMPERATURES));
        field.number(expected, |value| value == 0.0 || TEMPERATURES.contains(&value))
    })?;
    options.top_p = object.opt("top_p", |field| field.number("a number in (0, 1]", |p| p > 0.0 && p <= 1.0))?;
    options.min_p = object.opt("min_p", |field| field.number("a number in [0, 1]", |p| (0.0..=1.0).contains(&p)))?;
    // vLLM and older clients write -1 for all tokens.
    let top_k = object.opt("top_k", |field| field.integer(-1..=i64::from(u32::MAX)))?;
    options.top_k = top_k.map(|top_k| u32::try_from(top_k).unwrap_or(0));
    options.repetition_penalty = object.opt(repetition, |field| {
        let expected = format!("a number in {} (1 is off)", shown(&REPETITION_PENALTIES));
        field.number(expected, |penalty| REPETITION_PENALTIES.contains(&penalty))
    })?;
    options.presence_penalty = object.opt("presence_penalty", penalty)?;
    options.frequency_penalty = object.opt("frequency_penalty", penalty)?;
    // A negative seed keeps its bits: two seeds that differ stay different.
    let seed = object.opt("seed", |field| field.integer(i128::from(i64::MIN)..=i128::from(u64::MAX)))?;
    options.seed = seed.map(|seed| seed as u64);
    Ok(())
}

/// Strings that end the text: a string or a list of them.
pub(crate) fn stops(field: &Field<'_>) -> Result<Vec<String>, Failure> {
    let stops = field.parts("a string, or a list of strings")?;
    if stops.len() > MAX_STOPS {
        return Err(field.miscounted(stops.len(), format!("at most {MAX_STOPS}")));
    }
    let stop = |stop: &Field<'_>| match stop.text()? {
        // Every text ends in an empty string at once.
        "" => Err(stop.unexpected("a string that is not empty")),
        text => Ok(text.to_owned()),
    };
    stops.iter().map(stop).collect()
}

/// `logprobs: bool` and `top_logprobs`, as the chat routes take them.
pub(crate) fn chat_logprobs(root: &Field<'_>) -> Result<Option<usize>, Failure> {
    let wanted = root.opt("logprobs", Field::flag)?.unwrap_or(false);
    let top = root.opt("top_logprobs", top_logprobs)?;
    match root.get("top_logprobs") {
        Some(field) if !wanted && top != Some(0) => Err(field.unexpected("`logprobs` to be true as well")),
        _ => Ok(wanted.then(|| top.unwrap_or(0))),
    }
}

/// Number of the likeliest tokens that are wanted in each place.
pub(crate) fn top_logprobs(field: &Field<'_>) -> Result<usize, Failure> {
    field.integer(0..=MAX_TOP_LOGPROBS).map(usize::from)
}

/// The model's name; an empty one is absent.
pub(crate) fn model(root: &Field<'_>) -> Result<Option<String>, Failure> {
    Ok(root.opt("model", Field::text)?.filter(|model| !model.is_empty()).map(str::to_owned))
}

/// Switch of an answer in frames; `default` where the request has none.
pub(crate) fn stream(root: &Field<'_>, default: bool) -> Result<bool, Failure> {
    Ok(root.opt("stream", Field::flag)?.unwrap_or(default))
}

/// `stream_options.include_usage`.
pub(crate) fn include_usage(root: &Field<'_>) -> Result<bool, Failure> {
    let Some(options) = root.get("stream_options") else { return Ok(false) };
    options.object()?;
    Ok(options.opt("include_usage", Field::flag)?.unwrap_or(false))
}

/// Error for a field that holds anything but 1.
pub(crate) fn only_one(root: &Field<'_>, key: &str) -> Result<(), Failure> {
    let one = |field: &Field<'_>| {
        field.integer(1..=1_u8).map_err(|_| field.unexpected("1; send one request for each further text"))
    };
    root.opt(key, one).map(|_| ())
}

/// Switch of reasoning, effort and further variables of the template.
///
/// The template's own variable `enable_thinking` wins over `thinking`, and that over an effort.
pub(crate) fn reasoning(root: &Field<'_>, conversation: &mut Conversation) -> Result<(), Failure> {
    conversation.template_kwargs = root.opt("chat_template_kwargs", Field::object)?.cloned().unwrap_or_default();
    conversation.template_kwargs.retain(|_, value| !value.is_null());
    let nested = |outer: &str| root.get(outer).and_then(|outer| outer.get("effort"));
    let found = root.get("reasoning_effort").or_else(|| nested("reasoning")).or_else(|| nested("output_config"));
    if let Some(field) = found {
        effort(field.text()?, conversation);
    }
    let thinking = root.opt("thinking", thinking)?;
    let switch = conversation.template_kwargs.get("enable_thinking").and_then(Value::as_bool);
    conversation.thinking = switch.or(thinking).or(conversation.thinking);
    Ok(())
}

/// Takes an effort of reasoning by its name: `none` is no reasoning, the others go to the template as well.
///
/// New efforts appear with each release of a client, so no name is refused.
pub(crate) fn effort(name: &str, conversation: &mut Conversation) {
    conversation.thinking = Some(name != "none");
    if name != "none" {
        conversation.template_kwargs.entry("reasoning_effort").or_insert_with(|| name.into());
    }
}

/// Anthropic's switch of reasoning. A bare flag counts as well: to clients of other dialects the field has no shape.
fn thinking(field: &Field<'_>) -> Result<bool, Failure> {
    if let Some(thinking) = field.value().as_bool() {
        return Ok(thinking);
    }
    field.object()?;
    let kinds = [("enabled", true), ("adaptive", true), ("disabled", false)];
    field.require("type", "\"enabled\", \"adaptive\" or \"disabled\"")?.choice(&kinds)
}

/// Budget of reasoning: this server's field, else Anthropic's.
fn thinking_budget(root: &Field<'_>) -> Result<Option<u64>, Failure> {
    let tokens = |field: &Field<'_>| field.integer(0..=u64::MAX);
    let own = root.opt("max_thinking_tokens", tokens)?;
    let anthropic = root.get("thinking").and_then(|thinking| thinking.get("budget_tokens"));
    let anthropic = anthropic.as_ref().map(tokens).transpose()?;
    Ok(own.or(anthropic))
}

fn mtp(field: &Field<'_>) -> Result<MtpOptions, Failure> {
    field.object()?;
    let rules = [("rejection", Acceptance::Rejection), ("coupled", Acceptance::Coupled)];
    Ok(MtpOptions {
        enabled: field.opt("enabled", Field::flag)?,
        depth: field.opt("depth", |field| field.integer(0..=MAX_DEPTH))?.map(usize::from),
        acceptance: field.opt("acceptance", |field| field.choice(&rules))?,
        origins: field.opt("origins", Field::flag)?.unwrap_or(false),
    })
}

/// Biases by token id.
fn biases(field: &Field<'_>) -> Result<BTreeMap<u32, f32>, Failure> {
    let entries = field.object()?;
    if entries.len() > MAX_BIASES {
        return Err(field.miscounted(entries.len(), format!("at most {MAX_BIASES}")));
    }
    let mut biases = BTreeMap::new();
    for key in entries.keys() {
        let token = key
            .parse()
            .map_err(|_| field.wrong(format!("{key:?}: expected keys that are token ids in [0, {}]", u32::MAX)))?;
        let Some(bias) = field.get(key) else { continue };
        biases.insert(token, bias.number("a number in [-100, 100]", |bias| (-100.0..=100.0).contains(&bias))?);
    }
    Ok(biases)
}

/// Error for fields that need a grammar, unless they are empty.
fn refuse_constraints(root: &Field<'_>) -> Result<(), Failure> {
    for name in CONSTRAINTS {
        if let Some(field) = root.get(name)
            && !is_empty(field.value())
        {
            let remedy = "leave the field out and ask for the form in the prompt";
            return Err(not_yet(&field, "constrained output is", remedy));
        }
    }
    Ok(())
}

/// Error for a format of the answer other than text; an empty one is absent.
pub(crate) fn refuse_format(format: &Field<'_>) -> Result<(), Failure> {
    if is_empty(format.value()) || format.kind()? == "text" {
        return Ok(());
    }
    Err(not_yet(format, "formats of the answer are", "leave the field out and ask for the form in the prompt"))
}

/// The error for a field that asks for something that this server cannot do yet.
pub(crate) fn not_yet(field: &Field<'_>, subject: &str, remedy: &str) -> Failure {
    field.refused(format!("{subject} not supported yet; {remedy}"))
}

fn is_empty(value: &Value) -> bool {
    value.as_str().is_some_and(str::is_empty) || value.as_object().is_some_and(|fields| fields.is_empty())
}

fn shown(range: &RangeInclusive<f32>) -> String {
    format!("[{}, {}]", range.start(), range.end())
}
