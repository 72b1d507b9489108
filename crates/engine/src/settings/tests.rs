//! Precedence, ceilings, and where values say they come from.

use serde_json::json;

use super::*;

/// A request that states nothing.
fn no() -> Overrides {
    Overrides::default()
}

fn depth_of(depth: Depth) -> Overrides {
    Overrides { depth: Some(depth), ..no() }
}

fn prompt(mode: PromptMode) -> Overrides {
    Overrides { prompt_mode: Some(mode), ..no() }
}

fn seeded() -> Overrides {
    Overrides { seed: Some(1), ..no() }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// Settings for a request, a contract and a generation configuration, with the warnings.
fn resolve(
    request: Overrides,
    contract: Value,
    generation: Value,
) -> Result<(Settings, Vec<SettingsWarning>), SettingsError> {
    let (contract, _) = Contract::parse(object(contract));
    let generation = object(generation);
    let model = ModelDefaults {
        contract: Some(&contract),
        generation_config: Some(&generation),
        max_depth: 4,
        tuned_depth: None,
        has_chat_template: true,
    };
    let mut warnings = Vec::new();
    Ok((Settings::resolve(&request, model, &mut warnings)?, warnings))
}

fn settings(request: Overrides, contract: Value, generation: Value) -> Settings {
    resolve(request, contract, generation).unwrap().0
}

fn from<T>(value: T, source: Source) -> Setting<T> {
    Setting { value, source }
}

#[test]
fn requests_then_contract_then_generation_config_then_defaults() {
    let contract = || json!({"recommended_sampler": {"temperature": 0.5, "top_p": 0.5}, "mtp_depth_default": 2});
    let generation = || json!({"temperature": 0.4, "top_p": 0.4, "top_k": 4, "repetition_penalty": 1.1});
    let all = settings(Overrides { temperature: Some(0.3), ..no() }, contract(), generation());
    assert_eq!(all.temperature, from(0.3, Source::Request));
    assert_eq!(all.top_p, from(0.5, Source::Contract));
    assert_eq!(all.top_k, from(4, Source::GenerationConfig));
    assert_eq!(all.repetition_penalty, from(1.1, Source::GenerationConfig));
    assert_eq!(all.min_p, from(0.0, Source::Default));
    // What the contract recommends is where `auto` begins.
    assert_eq!(all.mtp_depth, from(Depth::Auto, Source::Default));
    assert_eq!(all.mtp_depth_start, from(2, Source::Contract));
    assert_eq!(all.max_tokens, from(512, Source::Default));

    let none = settings(no(), json!({}), json!({}));
    assert_eq!((none.temperature.value, none.top_p.value, none.top_k.value), (0.6, 0.95, 20));
    assert_eq!(none.temperature.source, Source::Default);
    assert_eq!(none.mtp_depth, from(Depth::Auto, Source::Default));
    assert_eq!(none.mtp_depth_start, from(1, Source::Default));
    assert_eq!(none.acceptance, from(Rule::Rejection, Source::Default));
    assert_eq!(none.seed.source, Source::Random);
}

#[test]
fn the_sampler_of_the_evidence_is_the_contract_s() {
    let measured = json!({"verified_on": {"sampler": {"temperature": 0.7, "top_k": 10, "top_p": "wide"}}});
    let all = settings(no(), measured, json!({"temperature": 1.0, "top_p": 0.8}));
    assert_eq!(all.temperature, from(0.7, Source::Contract));
    assert_eq!(all.top_k, from(10, Source::Contract));
    assert_eq!(all.top_p, from(0.8, Source::GenerationConfig));
}

#[test]
fn do_sample_false_is_greedy() {
    let all = settings(no(), json!({}), json!({"do_sample": false, "temperature": 0.9}));
    assert_eq!(all.temperature, from(0.0, Source::GenerationConfig));
    let all = settings(Overrides { temperature: Some(1.0), ..no() }, json!({}), json!({"do_sample": false}));
    assert_eq!(all.temperature, from(1.0, Source::Request));
}

#[test]
fn depth_has_a_ceiling() {
    let (all, warnings) = resolve(depth_of(Depth::Fixed(3)), json!({"mtp_depth_max": 2}), json!({})).unwrap();
    assert_eq!(all.mtp_depth, from(Depth::Fixed(2), Source::Request));
    assert_eq!(all.mtp_depth_max, from(2, Source::Contract));
    assert_eq!(warnings, [SettingsWarning::DepthClipped { wanted: 3, source: Source::Request, most: 2 }]);

    let all = settings(depth_of(Depth::Auto), json!({"mtp_depth_default": 3, "mtp_depth_max": 3}), json!({}));
    assert_eq!((all.mtp_depth, all.mtp_depth_max.value), (from(Depth::Auto, Source::Request), 3));
    let all = settings(depth_of(Depth::Fixed(0)), json!({}), json!({}));
    assert_eq!(all.mtp_depth, from(Depth::Fixed(0), Source::Request));
    assert_eq!(all.mtp_depth_max, from(4, Source::Model));
    let all = settings(no(), json!({"recommended_generation_mode": "ar"}), json!({}));
    assert_eq!(all.mtp_depth, from(Depth::Fixed(0), Source::Contract));
}

#[test]
fn raw_or_chat() {
    let mode = |request, contract| settings(request, contract, json!({})).prompt_mode;
    assert_eq!(mode(no(), json!({})), from(PromptMode::Chat, Source::Model));
    assert_eq!(mode(no(), json!({"recommended_prompt_mode": "raw"})), from(PromptMode::Raw, Source::Contract));
    assert_eq!(
        mode(prompt(PromptMode::Chat), json!({"recommended_prompt_mode": "raw"})),
        from(PromptMode::Chat, Source::Request)
    );
    assert_eq!(mode(prompt(PromptMode::Raw), json!({})), from(PromptMode::Raw, Source::Request));
    let error = resolve(no(), json!({"recommended_prompt_mode": 3}), json!({})).unwrap_err().to_string();
    assert_eq!(error, "mtplx_runtime.json: recommended_prompt_mode: 3: \"raw\" or \"chat\" was expected");

    let error = Settings::resolve(&prompt(PromptMode::Chat), ModelDefaults::default(), &mut Vec::new()).unwrap_err();
    assert_eq!(error, SettingsError::NoTemplate);
    let bare = Settings::resolve(&no(), ModelDefaults::default(), &mut Vec::new()).unwrap();
    assert_eq!(bare.prompt_mode, from(PromptMode::Raw, Source::Model));
    assert_eq!(bare.mtp_depth_max.value, 0);
}

#[test]
fn unusable_fields_are_named() {
    let error = |generation| resolve(no(), json!({}), generation).unwrap_err().to_string();
    assert_eq!(
        error(json!({"temperature": -1})),
        "generation_config.json: temperature: -1: a number from 0 to 100 was expected"
    );
    assert_eq!(
        error(json!({"top_p": 0})),
        "generation_config.json: top_p: 0: a number above 0, at most 1 was expected"
    );
    assert_eq!(error(json!({"top_k": "x"})), "generation_config.json: top_k: \"x\": a whole number was expected");
}

#[test]
fn every_value_says_where_it_came_from() {
    let all = settings(
        Overrides { seed: Some(7), logit_bias: [(3, -1.0)].into(), ..no() },
        json!({"mtp_depth_default": 2}),
        json!({}),
    );
    let document = serde_json::to_value(&all).unwrap();
    assert_eq!(document["seed"], json!({"value": 7, "source": "flag"}));
    assert_eq!(document["mtp_depth"], json!({"value": 2, "source": "contract"}));
    assert_eq!(document["logit_bias"], json!({"value": {"3": -1.0}, "source": "flag"}));
    assert_eq!(document["acceptance"], json!({"value": "rejection", "source": "default"}));
}

#[test]
fn drafts_have_the_target_s_filters_unless_the_contract_says_otherwise() {
    let all = settings(
        Overrides { logit_bias: [(3, -1.0)].into(), ..no() },
        json!({"recommended_draft_sampler": {"temperature": 0.8}}),
        json!({}),
    );
    let draft = all.draft_sampling().unwrap();
    assert_eq!((draft.temperature, draft.top_p, draft.top_k), (0.8, 1.0, 0));
    assert_eq!(draft.logit_bias, all.sampling().logit_bias);
    let greedy = settings(
        Overrides { temperature: Some(0.0), ..no() },
        json!({"recommended_draft_sampler": {"temperature": 0.8}}),
        json!({}),
    );
    assert_eq!(greedy.draft_sampling(), None);
    assert_eq!(settings(no(), json!({}), json!({})).draft_sampling(), None);
}

#[test]
fn a_depth_comes_from_the_request_then_tuning_then_the_contract() {
    let (contract, _) = Contract::parse(object(json!({"mtp_depth_default": 1, "mtp_depth_max": 3})));
    let says = |tuned| ModelDefaults {
        contract: Some(&contract),
        max_depth: 8,
        tuned_depth: tuned,
        ..ModelDefaults::default()
    };
    let depth = |request: Overrides, tuned| {
        let mut warnings = Vec::new();
        let depth = Settings::resolve(&request, says(tuned), &mut warnings).unwrap().mtp_depth;
        let beyond = SettingsWarning::DepthClipped { wanted: 5, source: Source::Tuned, most: 3 };
        assert_eq!(warnings, if depth.source == Source::Tuned && tuned == Some(5) { vec![beyond] } else { vec![] });
        depth
    };
    assert_eq!(depth(no(), Some(2)), from(Depth::Fixed(2), Source::Tuned));
    assert_eq!(depth(no(), Some(0)), from(Depth::Fixed(0), Source::Tuned));
    assert_eq!(depth(no(), None), from(Depth::Auto, Source::Default));
    assert_eq!(depth(depth_of(Depth::Fixed(3)), Some(2)), from(Depth::Fixed(3), Source::Request));
    assert_eq!(depth(depth_of(Depth::Auto), Some(2)), from(Depth::Auto, Source::Request));
    assert_eq!(depth(depth_of(Depth::Fixed(0)), Some(2)), from(Depth::Fixed(0), Source::Request));
    // The contract's ceiling holds.
    assert_eq!(depth(no(), Some(5)), from(Depth::Fixed(3), Source::Tuned));
    // A seed gives the same text again where the depth is the same; under `coupled` it does at every depth.
    assert_eq!(depth(seeded(), None), from(Depth::Fixed(1), Source::Contract));
    assert_eq!(depth(seeded(), Some(2)), from(Depth::Fixed(2), Source::Tuned));
    assert_eq!(depth(Overrides { seed: Some(1), ..depth_of(Depth::Auto) }, None), from(Depth::Auto, Source::Request));
    assert_eq!(
        depth(Overrides { seed: Some(1), ..depth_of(Depth::Fixed(2)) }, Some(1)),
        from(Depth::Fixed(2), Source::Request)
    );
    assert_eq!(
        depth(Overrides { seed: Some(1), acceptance: Some(Rule::Coupled), ..no() }, None),
        from(Depth::Auto, Source::Default)
    );
}

#[test]
fn a_seed_fixes_the_depth_without_a_contract_too() {
    for (max, expected) in [(8, 3), (2, 2), (0, 0)] {
        let says = ModelDefaults { max_depth: max, ..ModelDefaults::default() };
        let all = Settings::resolve(&seeded(), says, &mut Vec::new()).unwrap();
        assert_eq!(all.mtp_depth, from(Depth::Fixed(expected), Source::Default));
    }
    let plain = settings(seeded(), json!({"recommended_generation_mode": "ar", "mtp_depth_default": 2}), json!({}));
    assert_eq!(plain.mtp_depth, from(Depth::Fixed(0), Source::Contract));
}
