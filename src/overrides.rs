//! Flags as a request's settings, and what is said where one could not be taken as typed.

use mtplx_engine::Admission;
use mtplx_engine::settings::{
    Depth, ModelDefaults, Overrides, PromptMode, Settings, SettingsError, SettingsWarning, Source,
};
use mtplx_runtime::speculative::Rule;

use crate::args::{
    self, ChatArgs, DraftingArgs, EvidenceArgs, LengthArgs, MethodArgs, RunArgs, SamplingArgs, TemplateArgs,
};
use crate::error::Failure;

impl From<args::Depth> for Depth {
    fn from(typed: args::Depth) -> Self {
        match typed {
            args::Depth::Auto => Self::Auto,
            args::Depth::Fixed(depth) => Self::Fixed(depth),
        }
    }
}

impl From<args::Acceptance> for Rule {
    fn from(typed: args::Acceptance) -> Self {
        match typed {
            args::Acceptance::Rejection => Self::Rejection,
            args::Acceptance::Coupled => Self::Coupled,
        }
    }
}

impl From<EvidenceArgs> for Admission {
    fn from(EvidenceArgs { allow_unverified, require_verified }: EvidenceArgs) -> Self {
        Self { allow_unverified, require_verified }
    }
}

/// The settings of [`SamplingArgs`].
fn sampling(typed: &SamplingArgs) -> Overrides {
    Overrides {
        temperature: typed.temperature,
        top_p: typed.top_p,
        top_k: typed.top_k,
        min_p: typed.min_p,
        repetition_penalty: typed.repetition_penalty,
        presence_penalty: typed.presence_penalty,
        frequency_penalty: typed.frequency_penalty,
        logit_bias: typed.logit_bias.iter().map(|bias| (bias.id, bias.bias)).collect(),
        seed: typed.seed,
        ..Overrides::default()
    }
}

/// The first flag that only a chat template can follow.
fn chat_flag(typed: &TemplateArgs) -> Option<&'static str> {
    let flags = [
        (typed.chat, "--chat"),
        (typed.system.is_some(), "--system"),
        (typed.think, "--think"),
        (typed.no_think, "--no-think"),
    ];
    flags.iter().find(|(typed, _)| *typed).map(|(_, flag)| *flag)
}

/// The settings of a text.
fn of_text(drafting: &DraftingArgs, template: &TemplateArgs, length: &LengthArgs, sampled: &SamplingArgs) -> Overrides {
    let chat = chat_flag(template).map(|_| PromptMode::Chat);
    Overrides {
        depth: if drafting.no_mtp { Some(Depth::Fixed(0)) } else { drafting.mtp_depth.map(Depth::from) },
        acceptance: drafting.acceptance.map(Rule::from),
        draft_vocab: drafting.vocab.draft_vocab,
        max_tokens: length.max_tokens,
        stop: length.stop.clone(),
        ignore_eos: length.ignore_eos,
        prompt_mode: if template.raw { Some(PromptMode::Raw) } else { chat },
        thinking: template.think.then_some(true).or(template.no_think.then_some(false)),
        ..sampling(sampled)
    }
}

/// A file's fault, or a flag's that the model cannot follow.
fn refused(error: SettingsError, template: &TemplateArgs) -> Failure {
    match (error, chat_flag(template)) {
        (SettingsError::NoTemplate, Some(flag)) => {
            let what = format!("{flag}: {}", SettingsError::NoTemplate);
            Failure::usage(what, "`--raw` continues the prompt as it is")
        }
        (error, _) => error.into(),
    }
}

impl ChatArgs {
    /// The settings that a chat begins with, of a model with these defaults. What is worth a warning is added to `warnings`.
    ///
    /// # Errors
    /// A file states something unusable, or a flag asks for something that this model has not.
    pub fn settings(
        &self,
        model: ModelDefaults<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<(Overrides, Settings), Failure> {
        let overrides = of_text(&self.drafting, &self.template, &self.length, &self.sampling);
        let settings = resolve(&overrides, model, warnings).map_err(|error| refused(error, &self.template))?;
        Ok((overrides, settings))
    }
}

impl RunArgs {
    /// The settings of a run. What is worth a warning is added to `warnings`.
    ///
    /// # Errors
    /// A file states something unusable, or a flag asks for something that this model has not.
    pub fn settings(&self, model: ModelDefaults<'_>, warnings: &mut Vec<String>) -> Result<Settings, Failure> {
        let mode = self.prompt_ids.is_some().then_some(PromptMode::Ids);
        let mut overrides = of_text(&self.drafting, &self.template, &self.length, &self.sampling);
        overrides.prompt_mode = mode.or(overrides.prompt_mode);
        resolve(&overrides, model, warnings).map_err(|error| refused(error, &self.template))
    }
}

impl MethodArgs {
    /// The settings of a benchmark, resolved as those of a run of raw text.
    ///
    /// # Errors
    /// A file states something unusable.
    pub fn settings(&self, model: ModelDefaults<'_>, warnings: &mut Vec<String>) -> Result<Settings, Failure> {
        let overrides = Overrides {
            acceptance: self.acceptance.map(Rule::from),
            prompt_mode: Some(PromptMode::Raw),
            ..sampling(&self.sampling)
        };
        Ok(resolve(&overrides, model, warnings)?)
    }
}

fn resolve(
    overrides: &Overrides,
    model: ModelDefaults<'_>,
    warnings: &mut Vec<String>,
) -> Result<Settings, SettingsError> {
    let mut doubts = Vec::new();
    let settings = Settings::resolve(overrides, model, &mut doubts);
    warnings.extend(doubts.into_iter().filter_map(said));
    settings
}

/// A warning in words; `None` where a contract's own number was clipped.
fn said(warning: SettingsWarning) -> Option<String> {
    let SettingsWarning::DepthClipped { wanted, source, most } = warning;
    let asked = match source {
        Source::Request => "--mtp-depth",
        Source::Tuned => "the depth that `mtplx tune` found,",
        _ => return None,
    };
    Some(format!("{asked} {wanted}: this model drafts at most {most} tokens a round"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn typed(args: &[&str]) -> RunArgs {
        let cli = Cli::try_parse_from(["mtplx", "run", "prompt"].iter().chain(args)).unwrap();
        let Some(Command::Run(run)) = cli.command else { unreachable!() };
        *run
    }

    #[test]
    fn flags_are_the_request_s_settings() {
        let model = ModelDefaults { max_depth: 2, has_chat_template: true, ..ModelDefaults::default() };
        let mut warnings = Vec::new();
        let args = ["-t", "0.3", "--logit-bias", "3=-1", "--mtp-depth", "3", "--no-think", "--acceptance", "coupled"];
        let all = typed(&args).settings(model, &mut warnings).unwrap();
        assert_eq!((all.temperature.value, all.temperature.source), (0.3, Source::Request));
        assert_eq!(all.logit_bias.value, [(3, -1.0)].into());
        assert_eq!((all.thinking.value, all.prompt_mode.value), (Some(false), PromptMode::Chat));
        assert_eq!((all.acceptance.value, all.mtp_depth.value), (Rule::Coupled, Depth::Fixed(2)));
        assert_eq!(warnings, ["--mtp-depth 3: this model drafts at most 2 tokens a round"]);

        let depth = |args: &[&str], tuned_depth| {
            let mut warnings = Vec::new();
            let all = typed(args).settings(ModelDefaults { tuned_depth, ..model }, &mut warnings).unwrap();
            (all.mtp_depth.value, warnings)
        };
        assert_eq!(depth(&["--no-mtp"], Some(2)), (Depth::Fixed(0), vec![]));
        let beyond = "the depth that `mtplx tune` found, 5: this model drafts at most 2 tokens a round";
        assert_eq!(depth(&[], Some(5)), (Depth::Fixed(2), vec![beyond.to_owned()]));
        let bare = ModelDefaults::default();
        let error = typed(&["--system", "x"]).settings(bare, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "--system: this model has no chat template");
        assert_eq!(typed(&["--raw"]).settings(bare, &mut warnings).unwrap().prompt_mode.value, PromptMode::Raw);
    }
}
