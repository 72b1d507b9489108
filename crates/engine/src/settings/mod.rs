//! Settings of a generation: a request's own, then a depth tuned on this machine, then the contract, then `generation_config.json`, then
//! built-in defaults.
//!
//! Resolved once, before anything runs. Each value knows its source.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use mtplx_runtime::artifact::{Contract, GenerationMode};
use mtplx_runtime::sampling::{REPETITION_PENALTIES, SamplingParams, TEMPERATURES};
use mtplx_runtime::speculative::{DepthPolicy, Rule};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// The largest depth that anyone may ask for.
pub const MAX_DEPTH: usize = 8;

/// Tokens of a text whose length nobody states.
const MAX_TOKENS: usize = 512;
const GENERATION_CONFIG: &str = "generation_config.json";
const CONTRACT: &str = "mtplx_runtime.json";

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The request's own.
    #[serde(rename = "flag")]
    Request,
    /// Measured on this machine.
    Tuned,
    /// The runtime contract.
    Contract,
    /// `generation_config.json`.
    GenerationConfig,
    /// Built in.
    Default,
    /// Drawn for this run.
    Random,
    /// Follows from what the model is.
    Model,
}

/// A value and where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Its source.
    pub source: Source,
}

/// A depth: a number of drafts a round, or the one that pays by what rounds cost and accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Chosen anew for each round.
    Auto,
    /// So many drafts, 0 for plain decoding.
    Fixed(usize),
}

/// Settings that a request states; `None` and empty where it does not.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Temperature.
    pub temperature: Option<f32>,
    /// Top-p.
    pub top_p: Option<f32>,
    /// Top-k.
    pub top_k: Option<u32>,
    /// Min-p.
    pub min_p: Option<f32>,
    /// Repetition penalty.
    pub repetition_penalty: Option<f32>,
    /// Presence penalty.
    pub presence_penalty: Option<f32>,
    /// Frequency penalty.
    pub frequency_penalty: Option<f32>,
    /// Biases by token id.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Drafts a round.
    pub depth: Option<Depth>,
    /// How rounds decide.
    pub acceptance: Option<Rule>,
    /// Tokens that drafts are restricted to.
    pub draft_vocab: Option<usize>,
    /// The seed.
    pub seed: Option<u64>,
    /// Tokens at most.
    pub max_tokens: Option<usize>,
    /// Strings that end the text.
    pub stop: Vec<String>,
    /// True for a text that stop tokens do not end.
    pub ignore_eos: bool,
    /// How the prompt becomes tokens.
    pub prompt_mode: Option<PromptMode>,
    /// Reasoning before the answer, where the chat template has a switch.
    pub thinking: Option<bool>,
}

/// A setting that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A file's field is out of range.
    #[error("{file}: {field}: {value}: {expected} was expected")]
    Field {
        /// The file.
        file: &'static str,
        /// The field.
        field: &'static str,
        /// Its value, shortened.
        value: String,
        /// The values that are taken.
        expected: String,
    },
    /// A chat without a chat template.
    #[error("this model has no chat template")]
    NoTemplate,
}

/// A setting that was taken otherwise than it was stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingsWarning {
    /// A depth beyond what the model drafts.
    DepthClipped {
        /// The depth.
        wanted: usize,
        /// Where it came from.
        source: Source,
        /// The depth in its place.
        most: usize,
    },
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
    /// Temperature.
    pub temperature: f32,
    /// Top-p.
    pub top_p: f32,
    /// Top-k.
    pub top_k: u32,
}

/// Everything that a generation runs with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// Temperature.
    pub temperature: Setting<f32>,
    /// Top-p.
    pub top_p: Setting<f32>,
    /// Top-k.
    pub top_k: Setting<u32>,
    /// Min-p.
    pub min_p: Setting<f32>,
    /// Repetition penalty.
    pub repetition_penalty: Setting<f32>,
    /// Presence penalty.
    pub presence_penalty: Setting<f32>,
    /// Frequency penalty.
    pub frequency_penalty: Setting<f32>,
    /// Biases by token id.
    pub logit_bias: Setting<BTreeMap<u32, f32>>,
    /// Drafts a round.
    #[serde(serialize_with = "as_depth")]
    pub mtp_depth: Setting<Depth>,
    /// Where `auto` begins.
    pub mtp_depth_start: Setting<usize>,
    /// The largest depth that this model may be asked for.
    pub mtp_depth_max: Setting<usize>,
    /// How rounds decide.
    pub acceptance: Setting<Rule>,
    /// The drafts' sampler.
    pub draft_sampler: Setting<Option<DraftSampler>>,
    /// Tokens that drafts are restricted to.
    pub draft_vocab: Setting<Option<usize>>,
    /// The seed.
    pub seed: Setting<u64>,
    /// Tokens at most.
    pub max_tokens: Setting<usize>,
    /// Strings that end the text.
    pub stop: Setting<Vec<String>>,
    /// True for a text that stop tokens do not end.
    pub ignore_eos: Setting<bool>,
    /// How the prompt becomes tokens.
    pub prompt_mode: Setting<PromptMode>,
    /// Reasoning before the answer.
    pub thinking: Setting<Option<bool>>,
}

/// Defaults of a model.
#[derive(Debug, Clone, Copy, Default)]
pub struct ModelDefaults<'a> {
    /// Its runtime contract.
    pub contract: Option<&'a Contract>,
    /// `generation_config.json`.
    pub generation_config: Option<&'a Map<String, Value>>,
    /// The largest depth that its architecture drafts; 0 without a head.
    pub max_depth: usize,
    /// The depth that was found best for it on this machine.
    pub tuned_depth: Option<usize>,
    /// True where it has a chat template.
    pub has_chat_template: bool,
}

impl Settings {
    /// Decides every value. Values that were not taken as stated are added to `warnings`.
    ///
    /// # Errors
    /// A file's field that is out of range; a chat without a template.
    pub fn resolve(
        request: &Overrides,
        model: ModelDefaults<'_>,
        warnings: &mut Vec<SettingsWarning>,
    ) -> Result<Self, SettingsError> {
        let sampler = ContractSampler::of(model.contract);
        let generation = Generation { config: model.generation_config };
        let default = SamplingParams::default();

        let Drafting { depth: mtp_depth, start: mtp_depth_start, max: mtp_depth_max } =
            drafting(request, &model, warnings);
        Ok(Self {
            temperature: first_stated(
                request.temperature,
                sampler.temperature,
                generation.temperature()?,
                default.temperature,
            ),
            top_p: first_stated(request.top_p, sampler.top_p, generation.top_p()?, default.top_p),
            top_k: first_stated(request.top_k, sampler.top_k, generation.top_k()?, default.top_k),
            min_p: first_stated(request.min_p, sampler.min_p, generation.min_p()?, default.min_p),
            repetition_penalty: first_stated(
                request.repetition_penalty,
                None,
                generation.repetition_penalty()?,
                default.repetition_penalty,
            ),
            presence_penalty: first_stated(
                request.presence_penalty,
                None,
                generation.penalty("presence_penalty")?,
                default.presence_penalty,
            ),
            frequency_penalty: first_stated(
                request.frequency_penalty,
                None,
                generation.penalty("frequency_penalty")?,
                default.frequency_penalty,
            ),
            logit_bias: request_only(request.logit_bias.clone(), BTreeMap::is_empty),
            mtp_depth,
            mtp_depth_start,
            mtp_depth_max,
            acceptance: first_stated(request.acceptance, None, None, Rule::Rejection),
            draft_sampler: draft_sampler(model.contract),
            draft_vocab: request_only(request.draft_vocab, Option::is_none),
            seed: match request.seed {
                Some(seed) => Setting { value: seed, source: Source::Request },
                // The standard library's hash keys are the operating system's randomness. 53 bits, so that the seed
                // survives a program that reads JSON's numbers as doubles.
                None => Setting { value: RandomState::new().hash_one(0) >> 11, source: Source::Random },
            },
            max_tokens: first_stated(
                request.max_tokens,
                None,
                generation.count("max_new_tokens")?.map(|n| n as usize).filter(|&n| n > 0),
                MAX_TOKENS,
            ),
            stop: request_only(request.stop.clone(), Vec::is_empty),
            ignore_eos: request_only(request.ignore_eos, |on| !on),
            prompt_mode: prompt_mode(request.prompt_mode, &model)?,
            thinking: request_only(request.thinking, Option::is_none),
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

    /// The depth of each round.
    pub fn depth_policy(&self) -> DepthPolicy {
        match self.mtp_depth.value {
            Depth::Fixed(depth) => DepthPolicy::Fixed(depth.min(self.mtp_depth_max.value)),
            Depth::Auto => DepthPolicy::adaptive_from(self.mtp_depth_start.value, self.mtp_depth_max.value),
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
fn first_stated<T>(request: Option<T>, contract: Option<T>, generation: Option<T>, default: T) -> Setting<T> {
    let stated = [(request, Source::Request), (contract, Source::Contract), (generation, Source::GenerationConfig)];
    let found = stated.into_iter().find_map(|(value, source)| Some(Setting { value: value?, source }));
    found.unwrap_or(Setting { value: default, source: Source::Default })
}

/// A value that only a request can state.
fn request_only<T>(value: T, is_default: impl FnOnce(&T) -> bool) -> Setting<T> {
    let source = if is_default(&value) { Source::Default } else { Source::Request };
    Setting { value, source }
}

/// The depth of a text whose seed was stated, where nothing else says.
const SEEDED_DEPTH: usize = 3;
/// The depth that `auto` begins with, where nothing else says.
const FIRST_DEPTH: usize = 1;

/// How deep to draft.
struct Drafting {
    depth: Setting<Depth>,
    start: Setting<usize>,
    /// The largest depth that this model may be asked for.
    max: Setting<usize>,
}

fn drafting(request: &Overrides, model: &ModelDefaults<'_>, warnings: &mut Vec<SettingsWarning>) -> Drafting {
    use Depth::{Auto, Fixed};

    let ceiling = model.contract.and_then(|contract| contract.mtp_depth_max);
    let own = model.max_depth.min(MAX_DEPTH);
    let max = match ceiling {
        Some(ceiling) if ceiling < own => Setting { value: ceiling, source: Source::Contract },
        _ => Setting { value: own, source: Source::Model },
    };
    let recommended = model.contract.and_then(|contract| contract.mtp_depth_default);
    let plain = model.contract.and_then(|contract| contract.recommended_generation_mode) == Some(GenerationMode::Ar);
    // Under `rejection` a text depends on the depths it was drafted at, and adaptive depths on the clock: a seed that was
    // stated is to give the same text again.
    let coupled = request.acceptance == Some(Rule::Coupled);
    let repeatable = request.seed.is_some() && !coupled;
    let mut depth = match (request.depth, model.tuned_depth) {
        (Some(stated), _) => Setting { value: stated, source: Source::Request },
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
        warnings.push(SettingsWarning::DepthClipped { wanted, source: depth.source, most: max.value });
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

fn prompt_mode(stated: Option<PromptMode>, model: &ModelDefaults<'_>) -> Result<Setting<PromptMode>, SettingsError> {
    match stated {
        Some(PromptMode::Chat) if !model.has_chat_template => return Err(SettingsError::NoTemplate),
        Some(value) => return Ok(Setting { value, source: Source::Request }),
        None => {}
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
    fn temperature(&self) -> Result<Option<f32>, SettingsError> {
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

    fn top_p(&self) -> Result<Option<f32>, SettingsError> {
        self.positive("top_p", 1.0)
    }

    fn top_k(&self) -> Result<Option<u32>, SettingsError> {
        self.count("top_k")
    }

    fn min_p(&self) -> Result<Option<f32>, SettingsError> {
        self.number("min_p", 0.0, 1.0)
    }

    fn repetition_penalty(&self) -> Result<Option<f32>, SettingsError> {
        self.number("repetition_penalty", *REPETITION_PENALTIES.start(), *REPETITION_PENALTIES.end())
    }

    /// `presence_penalty` or `frequency_penalty`.
    fn penalty(&self, field: &'static str) -> Result<Option<f32>, SettingsError> {
        self.number(field, -2.0, 2.0)
    }

    fn number(&self, field: &'static str, low: f32, high: f32) -> Result<Option<f32>, SettingsError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        match value.as_f64().map(|number| number as f32) {
            Some(number) if number >= low && number <= high => Ok(Some(number)),
            _ => Err(bad_field(GENERATION_CONFIG, field, value, &format!("a number from {low} to {high}"))),
        }
    }

    fn positive(&self, field: &'static str, high: f32) -> Result<Option<f32>, SettingsError> {
        let number = self.number(field, 0.0, high)?;
        match (number, self.get(field)) {
            (Some(0.0), Some(value)) => {
                Err(bad_field(GENERATION_CONFIG, field, value, &format!("a number above 0, at most {high}")))
            }
            _ => Ok(number),
        }
    }

    fn count(&self, field: &'static str) -> Result<Option<u32>, SettingsError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
        count.map(Some).ok_or_else(|| bad_field(GENERATION_CONFIG, field, value, "a whole number"))
    }
}

/// Errors of [`Settings::resolve`] in `generation_config.json`, all at once.
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
    numbers.into_iter().filter_map(Result::err).chain(top_k).map(|error| error.to_string()).collect()
}

fn bad_field(file: &'static str, field: &'static str, value: &Value, expected: &str) -> SettingsError {
    let value = value.to_string().chars().take(60).collect();
    SettingsError::Field { file, field, value, expected: expected.to_owned() }
}

fn as_depth<S: Serializer>(depth: &Setting<Depth>, serializer: S) -> Result<S::Ok, S::Error> {
    let value = match depth.value {
        Depth::Auto => Value::from("auto"),
        Depth::Fixed(depth) => Value::from(depth),
    };
    Setting { value, source: depth.source }.serialize(serializer)
}

#[cfg(test)]
mod tests;
