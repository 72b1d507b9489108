//! What a generation runs with: flags, then what was tuned here, then the contract, then `generation_config.json`, then
//! built-in defaults.
//!
//! Resolved once, before anything runs. Each value knows where it came from, so that `--json` can say so.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use mtplx_runtime::artifact::{Contract, GenerationMode};
use mtplx_runtime::sampling::{REPETITION_PENALTIES, SamplingParams, TEMPERATURES};
use mtplx_runtime::speculative::Rule;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::args::{self, MAX_DEPTH, RunArgs};
use crate::error::{Exit, Failure};

/// Tokens to generate when nobody says how many.
const MAX_TOKENS: usize = 512;
const GENERATION_CONFIG: &str = "generation_config.json";
const CONTRACT: &str = "mtplx_runtime.json";

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Flag,
    /// Measured on this machine by `mtplx tune`.
    Tuned,
    Contract,
    GenerationConfig,
    Default,
    /// Drawn for this run.
    Random,
    /// Follows from what the model is.
    Model,
}

/// A value and where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Setting<T> {
    pub value: T,
    pub source: Source,
}

/// How the prompt becomes tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptMode {
    /// As it is.
    Raw,
    /// As a message, through the chat template.
    Chat,
    /// As token ids.
    Ids,
}

/// How drafts are drawn, where that differs from the target.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DraftSampler {
    pub temperature: f32,
    pub top_p: f32,
    pub top_k: u32,
}

/// Everything that a generation runs with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    pub temperature: Setting<f32>,
    pub top_p: Setting<f32>,
    pub top_k: Setting<u32>,
    pub min_p: Setting<f32>,
    pub repetition_penalty: Setting<f32>,
    pub presence_penalty: Setting<f32>,
    pub frequency_penalty: Setting<f32>,
    pub logit_bias: Setting<BTreeMap<u32, f32>>,
    #[serde(serialize_with = "as_depth")]
    pub mtp_depth: Setting<args::Depth>,
    /// Where `auto` begins.
    pub mtp_depth_start: Setting<usize>,
    pub mtp_depth_max: Setting<usize>,
    pub acceptance: Setting<Rule>,
    pub draft_sampler: Setting<Option<DraftSampler>>,
    /// Tokens that drafts are restricted to.
    pub draft_vocab: Setting<Option<usize>>,
    pub seed: Setting<u64>,
    pub max_tokens: Setting<usize>,
    pub stop: Setting<Vec<String>>,
    pub ignore_eos: Setting<bool>,
    pub prompt_mode: Setting<PromptMode>,
    pub thinking: Setting<Option<bool>>,
}

/// What the model's files say, as far as settings go.
#[derive(Debug, Clone, Copy, Default)]
pub struct ModelDefaults<'a> {
    pub contract: Option<&'a Contract>,
    pub generation_config: Option<&'a Map<String, Value>>,
    /// The largest depth that its architecture drafts; 0 without a head.
    pub max_depth: usize,
    /// The depth that `mtplx tune` found for it on this machine.
    pub tuned_depth: Option<usize>,
    pub has_chat_template: bool,
}

impl Settings {
    /// Decides every value. What is worth a warning is added to `warnings`.
    ///
    /// # Errors
    /// A file states something unusable, or a flag asks for something that this model has not.
    pub fn resolve(args: &RunArgs, model: ModelDefaults<'_>, warnings: &mut Vec<String>) -> Result<Self, Failure> {
        let sampler = ContractSampler::of(model.contract);
        let generation = Generation { config: model.generation_config };
        let typed = &args.sampling;
        let default = SamplingParams::default();

        let Drafting { depth: mtp_depth, start: mtp_depth_start, max: mtp_depth_max } =
            drafting(args, &model, warnings);
        Ok(Self {
            temperature: first_stated(
                typed.temperature,
                sampler.temperature,
                generation.temperature()?,
                default.temperature,
            ),
            top_p: first_stated(typed.top_p, sampler.top_p, generation.top_p()?, default.top_p),
            top_k: first_stated(typed.top_k, sampler.top_k, generation.top_k()?, default.top_k),
            min_p: first_stated(typed.min_p, sampler.min_p, generation.min_p()?, default.min_p),
            repetition_penalty: first_stated(
                typed.repetition_penalty,
                None,
                generation.repetition_penalty()?,
                default.repetition_penalty,
            ),
            presence_penalty: first_stated(
                typed.presence_penalty,
                None,
                generation.penalty("presence_penalty")?,
                default.presence_penalty,
            ),
            frequency_penalty: first_stated(
                typed.frequency_penalty,
                None,
                generation.penalty("frequency_penalty")?,
                default.frequency_penalty,
            ),
            logit_bias: flag_only(typed.logit_bias.iter().map(|b| (b.id, b.bias)).collect(), BTreeMap::is_empty),
            mtp_depth,
            mtp_depth_start,
            mtp_depth_max,
            acceptance: first_stated(args.drafting.acceptance.map(rule), None, None, Rule::Rejection),
            draft_sampler: draft_sampler(model.contract),
            draft_vocab: flag_only(args.drafting.vocab.draft_vocab, Option::is_none),
            seed: match typed.seed {
                Some(seed) => Setting { value: seed, source: Source::Flag },
                // The standard library's hash keys are the operating system's randomness. 53 bits, so that the seed
                // survives a program that reads JSON's numbers as doubles.
                None => Setting { value: RandomState::new().hash_one(0) >> 11, source: Source::Random },
            },
            max_tokens: first_stated(
                args.max_tokens,
                None,
                generation.count("max_new_tokens")?.map(|n| n as usize).filter(|&n| n > 0),
                MAX_TOKENS,
            ),
            stop: flag_only(args.stop.clone(), Vec::is_empty),
            ignore_eos: flag_only(args.ignore_eos, |on| !on),
            prompt_mode: prompt_mode(args, &model)?,
            thinking: flag_only(
                match (args.think, args.no_think) {
                    (true, _) => Some(true),
                    (_, true) => Some(false),
                    _ => None,
                },
                Option::is_none,
            ),
        })
    }

    /// The target's sampling parameters.
    pub fn sampling(&self) -> SamplingParams {
        SamplingParams {
            temperature: self.temperature.value,
            top_p: self.top_p.value,
            top_k: self.top_k.value,
            min_p: self.min_p.value,
            repetition_penalty: self.repetition_penalty.value,
            presence_penalty: self.presence_penalty.value,
            frequency_penalty: self.frequency_penalty.value,
            logit_bias: self.logit_bias.value.clone(),
        }
    }

    /// The drafts' sampling parameters, where the contract states them: they change acceptance, never the text's law.
    pub fn draft_sampling(&self) -> Option<SamplingParams> {
        // Greedy targets want greedy drafts, whatever was found best for sampling.
        let draft = self.draft_sampler.value.filter(|_| self.temperature.value > 0.0)?;
        let DraftSampler { temperature, top_p, top_k } = draft;
        Some(SamplingParams { temperature, top_p, top_k, ..self.sampling() })
    }
}

/// The first value that somebody stated.
fn first_stated<T>(flag: Option<T>, contract: Option<T>, generation: Option<T>, default: T) -> Setting<T> {
    let stated = [(flag, Source::Flag), (contract, Source::Contract), (generation, Source::GenerationConfig)];
    let found = stated.into_iter().find_map(|(value, source)| Some(Setting { value: value?, source }));
    found.unwrap_or(Setting { value: default, source: Source::Default })
}

/// A value that only flags can state.
fn flag_only<T>(value: T, is_default: impl FnOnce(&T) -> bool) -> Setting<T> {
    let source = if is_default(&value) { Source::Default } else { Source::Flag };
    Setting { value, source }
}

fn rule(typed: args::Acceptance) -> Rule {
    match typed {
        args::Acceptance::Rejection => Rule::Rejection,
        args::Acceptance::Coupled => Rule::Coupled,
    }
}

/// The depth of a text whose seed was typed, where nothing else says.
const SEEDED_DEPTH: usize = 3;
/// The depth that `auto` begins with, where nothing else says.
const FIRST_DEPTH: usize = 1;

/// How deep to draft.
struct Drafting {
    depth: Setting<args::Depth>,
    start: Setting<usize>,
    /// The largest depth that this model may be asked for.
    max: Setting<usize>,
}

fn drafting(args: &RunArgs, model: &ModelDefaults<'_>, warnings: &mut Vec<String>) -> Drafting {
    use args::Depth::{Auto, Fixed};

    let ceiling = model.contract.and_then(|contract| contract.mtp_depth_max);
    let own = model.max_depth.min(MAX_DEPTH);
    let max = match ceiling {
        Some(ceiling) if ceiling < own => Setting { value: ceiling, source: Source::Contract },
        _ => Setting { value: own, source: Source::Model },
    };
    let typed = if args.drafting.no_mtp { Some(Fixed(0)) } else { args.drafting.mtp_depth };
    let recommended = model.contract.and_then(|contract| contract.mtp_depth_default);
    let plain = model.contract.and_then(|contract| contract.recommended_generation_mode) == Some(GenerationMode::Ar);
    // Under `rejection` a text depends on the depths it was drafted at, and adaptive depths on the clock: a seed that was
    // typed is to give the same text again.
    let coupled = args.drafting.acceptance == Some(args::Acceptance::Coupled);
    let repeatable = args.sampling.seed.is_some() && !coupled;
    let mut depth = match (typed, model.tuned_depth) {
        (Some(typed), _) => Setting { value: typed, source: Source::Flag },
        // Found on this machine: whoever wrote the contract had another.
        (None, Some(tuned)) => Setting { value: Fixed(tuned), source: Source::Tuned },
        (None, None) if plain => Setting { value: Fixed(0), source: Source::Contract },
        (None, None) if repeatable => {
            first_stated(None, recommended.map(Fixed), None, Fixed(SEEDED_DEPTH.min(max.value)))
        }
        (None, None) => Setting { value: Auto, source: Source::Default },
    };
    if let Fixed(wanted) = depth.value
        && wanted > max.value
    {
        let asked = match depth.source {
            Source::Flag => Some("--mtp-depth"),
            Source::Tuned => Some("the depth that `mtplx tune` found,"),
            _ => None,
        };
        let asked = asked.map(|by| format!("{by} {wanted}: this model drafts at most {} tokens a round", max.value));
        warnings.extend(asked);
        depth.value = Fixed(max.value);
    }
    let mut start = first_stated(None, recommended, None, FIRST_DEPTH);
    start.value = start.value.min(max.value);
    Drafting { depth, start, max }
}

fn draft_sampler(contract: Option<&Contract>) -> Setting<Option<DraftSampler>> {
    let Some(stated) = contract.and_then(|contract| contract.recommended_draft_sampler.as_ref()) else {
        return Setting { value: None, source: Source::Default };
    };
    let value = DraftSampler {
        temperature: stated.temperature.map_or(1.0, |t| t as f32),
        // The contract's 0 keeps all, as some engines spell it; here 1 does.
        top_p: stated.top_p.map(|p| p as f32).filter(|&p| p > 0.0).unwrap_or(1.0),
        top_k: stated.top_k.and_then(|k| u32::try_from(k).ok()).unwrap_or(0),
    };
    Setting { value: Some(value), source: Source::Contract }
}

fn prompt_mode(args: &RunArgs, model: &ModelDefaults<'_>) -> Result<Setting<PromptMode>, Failure> {
    let flag = |value| Ok(Setting { value, source: Source::Flag });
    let wants_chat = [
        (args.chat, "--chat"),
        (args.system.is_some(), "--system"),
        (args.think, "--think"),
        (args.no_think, "--no-think"),
    ];
    let wants_chat = wants_chat.iter().find(|(typed, _)| *typed).map(|(_, flag)| *flag);
    if args.prompt_ids.is_some() {
        return flag(PromptMode::Ids);
    }
    if args.raw {
        return flag(PromptMode::Raw);
    }
    if let Some(wanted) = wants_chat {
        if !model.has_chat_template {
            let what = format!("{wanted}: this model has no chat template");
            return Err(Failure::usage(what, "`--raw` continues the prompt as it is"));
        }
        return flag(PromptMode::Chat);
    }
    match model.contract.and_then(|contract| contract.extra.get("recommended_prompt_mode")) {
        None | Some(Value::Null) => {}
        Some(Value::String(mode)) if mode == "raw" => {
            return Ok(Setting { value: PromptMode::Raw, source: Source::Contract });
        }
        Some(Value::String(mode)) if mode == "chat" && model.has_chat_template => {
            return Ok(Setting { value: PromptMode::Chat, source: Source::Contract });
        }
        Some(Value::String(mode)) if mode == "chat" => {}
        Some(other) => return Err(bad_field(CONTRACT, "recommended_prompt_mode", other, "\"raw\" or \"chat\"")),
    }
    let value = if model.has_chat_template { PromptMode::Chat } else { PromptMode::Raw };
    Ok(Setting { value, source: Source::Model })
}

/// The sampler that a contract recommends, or else the one that its evidence was measured with.
#[derive(Debug, Default)]
struct ContractSampler {
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<u32>,
    min_p: Option<f32>,
}

impl ContractSampler {
    /// Values out of their range are left out: the contract's findings name them.
    fn of(contract: Option<&Contract>) -> Self {
        let recommended = contract.and_then(|contract| contract.extra.get("recommended_sampler"));
        let measured = || contract?.verified_on.as_ref()?.get("sampler");
        let Some(sampler) = recommended.or_else(measured) else { return Self::default() };
        let number = |field: &str, low: f64, high: f64| {
            let value = sampler.get(field).and_then(Value::as_f64)?;
            (low..=high).contains(&value).then_some(value as f32)
        };
        Self {
            temperature: number("temperature", 0.0, 100.0),
            top_p: number("top_p", 0.0, 1.0).filter(|&p| p > 0.0),
            top_k: sampler.get("top_k").and_then(Value::as_u64).and_then(|k| u32::try_from(k).ok()),
            min_p: number("min_p", 0.0, 1.0),
        }
    }
}

/// `generation_config.json`.
struct Generation<'a> {
    config: Option<&'a Map<String, Value>>,
}

impl Generation<'_> {
    fn get(&self, field: &str) -> Option<&Value> {
        self.config?.get(field).filter(|value| !value.is_null())
    }

    /// An explicit `do_sample: false` means greedy, whatever temperature stands beside it.
    fn temperature(&self) -> Result<Option<f32>, Failure> {
        let greedy = self.get("do_sample") == Some(&Value::Bool(false));
        if greedy {
            return Ok(Some(0.0));
        }
        let (low, high) = TEMPERATURES.into_inner();
        match (self.number("temperature", 0.0, high)?, self.get("temperature")) {
            (Some(number), Some(value)) if number > 0.0 && number < low => Err(bad_field(
                GENERATION_CONFIG,
                "temperature",
                value,
                &format!("0, or a number from {low} to {high},"),
            )),
            (number, _) => Ok(number),
        }
    }

    fn top_p(&self) -> Result<Option<f32>, Failure> {
        self.positive("top_p", 1.0)
    }

    fn top_k(&self) -> Result<Option<u32>, Failure> {
        self.count("top_k")
    }

    fn min_p(&self) -> Result<Option<f32>, Failure> {
        self.number("min_p", 0.0, 1.0)
    }

    fn repetition_penalty(&self) -> Result<Option<f32>, Failure> {
        self.number("repetition_penalty", *REPETITION_PENALTIES.start(), *REPETITION_PENALTIES.end())
    }

    /// `presence_penalty` or `frequency_penalty`.
    fn penalty(&self, field: &str) -> Result<Option<f32>, Failure> {
        self.number(field, -2.0, 2.0)
    }

    fn number(&self, field: &str, low: f32, high: f32) -> Result<Option<f32>, Failure> {
        let Some(value) = self.get(field) else { return Ok(None) };
        match value.as_f64().map(|number| number as f32) {
            Some(number) if number >= low && number <= high => Ok(Some(number)),
            _ => Err(bad_field(GENERATION_CONFIG, field, value, &format!("a number from {low} to {high}"))),
        }
    }

    fn positive(&self, field: &str, high: f32) -> Result<Option<f32>, Failure> {
        let number = self.number(field, 0.0, high)?;
        match (number, self.get(field)) {
            (Some(0.0), Some(value)) => {
                Err(bad_field(GENERATION_CONFIG, field, value, &format!("a number above 0, at most {high}")))
            }
            _ => Ok(number),
        }
    }

    fn count(&self, field: &str) -> Result<Option<u32>, Failure> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
        count.map(Some).ok_or_else(|| bad_field(GENERATION_CONFIG, field, value, "a whole number"))
    }
}

/// What to do about a file whose field makes no sense.
pub const CORRECT: &str = "correct the file, or download it again";

/// Everything that [`Settings::resolve`] would not take from `generation_config.json`.
pub fn generation_faults(config: &Map<String, Value>) -> Vec<String> {
    let generation = Generation { config: Some(config) };
    let numbers = [
        generation.temperature(),
        generation.top_p(),
        generation.min_p(),
        generation.repetition_penalty(),
        generation.penalty("presence_penalty"),
        generation.penalty("frequency_penalty"),
    ];
    let top_k = generation.top_k().err();
    numbers.into_iter().filter_map(Result::err).chain(top_k).map(|failure| failure.to_string()).collect()
}

fn bad_field(file: &str, field: &str, value: &Value, expected: &str) -> Failure {
    let value: String = value.to_string().chars().take(60).collect();
    Failure::new(Exit::File, format!("{file}: {field}: {value}: {expected} was expected")).hint(CORRECT)
}

fn as_depth<S: Serializer>(depth: &Setting<args::Depth>, serializer: S) -> Result<S::Ok, S::Error> {
    let value = match depth.value {
        args::Depth::Auto => Value::from("auto"),
        args::Depth::Fixed(depth) => Value::from(depth),
    };
    Setting { value, source: depth.source }.serialize(serializer)
}

#[cfg(test)]
mod tests;
