//! The one place where errors become an exit code and lines on standard error.
//!
//! The library's errors are typed and say file, field and value. Commands pass them on as they are; what the user sees
//! is decided here: `error: …` on one line, and where there is something to do about it `hint: …` on another.

use std::fmt;
use std::io::{self, Write as _};

use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::{AnsiColor, Style};
use mtplx_engine::assess::Verdict;
use mtplx_engine::settings::SettingsError;
use mtplx_engine::{EngineError, Refusal, RequestError};
use mtplx_runtime::LoadError;
use mtplx_runtime::artifact::{ArtifactError, ErrorKind, io_hint};
use mtplx_runtime::forge::ForgeError;
use mtplx_runtime::parity::{ParityError, ReferenceError};
use mtplx_runtime::registry::ResolveError;
use mtplx_runtime::speculative::SequenceError;
use mtplx_runtime::text::TextError;

use crate::hint::{self, words};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// Advice on logits that are not finite.
const NOT_FINITE: &str = "the weights are damaged or computed wrongly: `mtplx inspect` compares the files with the contract's \
     hashes, `mtplx verify` finds tensors that are not finite and puts the arithmetic to the test; download the model again";

/// How a run of the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed while running, or beyond a tolerance.
    Failed = 1,
    /// Asked for something that makes no sense.
    Usage = 2,
    /// The model is incomplete or unverified.
    NotReady = 3,
    /// No linked architecture runs it.
    Incompatible = 4,
    /// A file is missing or damaged.
    File = 5,
    /// The user interrupted.
    Interrupted = 130,
}

/// An error of the application itself.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    what: String,
    hint: Option<String>,
}

impl Failure {
    /// The user asked for something that makes no sense.
    pub fn usage(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, what: what.into(), hint: Some(hint.into()) }
    }

    /// An ending of the given kind.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), hint: None }
    }

    /// With something to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::new(Exit::File, error.to_string()).hint("correct the file, or download it again")
    }
}

/// Says what happened on standard error and returns the exit code. Whoever closed our output knows already.
pub fn report(error: &anyhow::Error) -> Exit {
    if is_broken_pipe(error) {
        return Exit::Done;
    }
    let (exit, hint) = judge(error);
    let _ = write_report(&mut stderr(), &one_line(&said(error)), hint.as_deref());
    exit
}

/// What an error says. Every file's names it: an I/O error with nothing before it is standard output's.
fn said(error: &anyhow::Error) -> String {
    let place = if io_kind(error.as_ref()).is_some() { "standard output: " } else { "" };
    format!("{place}{error:#}")
}

/// Says something on standard error that does not end the program.
pub fn warn(what: &str) {
    let _ = writeln!(stderr(), "{WARNING}warning:{WARNING:#} {}", one_line(what));
}

/// Standard error, without colours unless it is a terminal that wants them (`NO_COLOR` is honoured).
pub fn stderr() -> AutoStream<io::Stderr> {
    AutoStream::new(io::stderr(), ColorChoice::Auto)
}

fn write_report(out: &mut impl io::Write, what: &str, hint: Option<&str>) -> io::Result<()> {
    writeln!(out, "{ERROR}error:{ERROR:#} {what}")?;
    match hint {
        Some(hint) => writeln!(out, " {HINT}hint:{HINT:#} {hint}"),
        None => Ok(()),
    }
}

/// The exit code and the hint that belong to an error.
fn judge(error: &anyhow::Error) -> (Exit, Option<String>) {
    error.chain().find_map(judge_cause).unwrap_or((Exit::Failed, None))
}

/// The same of one error in its chain; `None` for one that says nothing of either.
fn judge_cause(cause: &(dyn std::error::Error + 'static)) -> Option<(Exit, Option<String>)> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some((failure.exit, failure.hint.clone()));
    }
    if let Some(error) = cause.downcast_ref::<EngineError>() {
        return engine(error);
    }
    if let Some(error) = cause.downcast_ref::<RequestError>() {
        return match error {
            RequestError::ContextExceeded { .. } => Some((Exit::Usage, Some("shorten the prompt".to_owned()))),
            RequestError::Sequence(error) => Some(sequence(error)),
            RequestError::Text(error) => Some(text(error)),
            RequestError::Busy { .. } | RequestError::Panicked | RequestError::Ended => None,
        };
    }
    if let Some(refusal) = cause.downcast_ref::<Refusal>() {
        return Some((Exit::from(&*refusal.verdict), hint::of_refusal(refusal)));
    }
    if cause.downcast_ref::<SettingsError>().is_some() {
        return Some((Exit::File, Some("correct the file, or download it again".to_owned())));
    }
    if let Some(error) = cause.downcast_ref::<ForgeError>() {
        return Some((Exit::from(error), error.hint().map(|hint| words(&hint).into_owned())));
    }
    if let Some(error) = cause.downcast_ref::<LoadError>() {
        return Some((Exit::from(error), error.hint().map(|hint| words(&hint).into_owned())));
    }
    if let Some(error) = cause.downcast_ref::<ArtifactError>() {
        return Some((error.kind().into(), Some(words(&error.hint()).into_owned())));
    }
    if let Some(error) = cause.downcast_ref::<TextError>() {
        return Some(text(error));
    }
    if cause.downcast_ref::<ResolveError>().is_some() {
        return Some((Exit::Incompatible, Some("`mtplx archs` lists what this binary can run".to_owned())));
    }
    if let Some(error) = cause.downcast_ref::<SequenceError>() {
        return Some(sequence(error));
    }
    if let Some(ParityError::Reference(error)) = cause.downcast_ref::<ParityError>() {
        return Some(reference(error));
    }
    if let Some(error) = cause.downcast_ref::<ReferenceError>() {
        return Some(reference(error));
    }
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        return Some((Exit::Failed, Some(io_hint(error).to_owned())));
    }
    io_kind(cause).map(|kind| (Exit::Failed, Some(io_hint(&kind.into()).to_owned())))
}

/// A transparent error is not in the chain itself.
fn engine(error: &EngineError) -> Option<(Exit, Option<String>)> {
    match error {
        EngineError::Text { fault, .. } => Some((fault.kind.into(), Some(words(&fault.hint).into_owned()))),
        EngineError::Memory { shortage, .. } => Some((Exit::Failed, Some(hint::of_shortage(shortage).to_owned()))),
        EngineError::Artifact(error) => judge_cause(error),
        EngineError::Refused(error) => judge_cause(error),
        EngineError::Settings(error) => judge_cause(error),
        EngineError::Unclaimed(error) => judge_cause(error),
        EngineError::Load(error) => judge_cause(error),
        EngineError::Prompt(error) => judge_cause(error),
        EngineError::Thread(error) => judge_cause(error),
        EngineError::Mlx(_) | EngineError::Reopen(_) | EngineError::Ended => None,
    }
}

fn text(error: &TextError) -> (Exit, Option<String>) {
    (error.kind().into(), Some(words(&error.hint()).into_owned()))
}

fn sequence(error: &SequenceError) -> (Exit, Option<String>) {
    match error {
        SequenceError::EmptyPrompt => (Exit::Usage, Some("say what to continue: `mtplx run 'fn main() {'`".to_owned())),
        SequenceError::UnknownToken { .. } => {
            (Exit::Usage, Some("ids come from this model's own tokenizer".to_owned()))
        }
        SequenceError::NotFinite => (Exit::Failed, Some(NOT_FINITE.to_owned())),
        SequenceError::Params(_) => (Exit::Usage, Some("`mtplx run --help` lists the ranges".to_owned())),
        _ => (Exit::Failed, None),
    }
}

fn reference(_: &ReferenceError) -> (Exit, Option<String>) {
    (Exit::File, Some("`mtplx parity --help` says what a reference holds".to_owned()))
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Missing | ErrorKind::Damaged => Self::File,
            ErrorKind::Incompatible => Self::Incompatible,
            ErrorKind::Incomplete => Self::NotReady,
        }
    }
}

impl From<&LoadError> for Exit {
    fn from(error: &LoadError) -> Self {
        error.kind().map_or(Self::Failed, Self::from)
    }
}

impl From<&ForgeError> for Exit {
    fn from(error: &ForgeError) -> Self {
        match error {
            ForgeError::Artifact(error) => error.kind().into(),
            ForgeError::Fault(fault) => fault.kind.into(),
            ForgeError::Load(error) => error.into(),
            ForgeError::Policy { .. } | ForgeError::Occupied { .. } => Self::Usage,
            ForgeError::Unsupported { .. } | ForgeError::Graft { .. } => Self::Incompatible,
            ForgeError::Head { .. } => Self::NotReady,
            ForgeError::Interrupted => Self::Interrupted,
            _ => Self::Failed,
        }
    }
}

/// The ending of a command that the verdict keeps from running; [`Exit::Done`] where it does not.
impl From<&Verdict> for Exit {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Verified => Self::Done,
            Verdict::Unverified { .. } | Verdict::Contradicted { .. } | Verdict::Incomplete { .. } | Verdict::NoMtp => {
                Self::NotReady
            }
            Verdict::Incompatible { .. } => Self::Incompatible,
            Verdict::Damaged { .. } => Self::File,
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(io_kind).any(|kind| kind == io::ErrorKind::BrokenPipe)
}

/// What kind of I/O error it is, where it is one; one that a JSON writer met does not name it as its source.
fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    let plain = error.downcast_ref::<io::Error>().map(io::Error::kind);
    plain.or_else(|| error.downcast_ref::<serde_json::Error>()?.io_error_kind())
}

/// Messages may quote files: no line ends, no control sequences.
pub fn one_line(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    fn rendered(error: anyhow::Error) -> (Exit, String) {
        let (exit, hint) = judge(&error);
        let mut out = anstream::StripStream::new(Vec::new());
        write_report(&mut out, &one_line(&format!("{error:#}")), hint.as_deref()).unwrap();
        (exit, String::from_utf8(out.into_inner()).unwrap())
    }

    #[test]
    fn one_line_and_a_hint() {
        let failure = Failure::usage("the prompt\nis empty", "say something");
        assert_eq!(
            rendered(failure.into()),
            (Exit::Usage, "error: the prompt is empty\n hint: say something\n".into())
        );
    }

    #[test]
    fn a_typed_error_is_found_behind_its_context() {
        let error = ResolveError::Unclaimed { model_type: "x".into(), linked: vec![] };
        let (exit, text) = rendered(Err::<(), _>(error).context("m").unwrap_err());
        assert_eq!(exit, Exit::Incompatible);
        assert!(text.starts_with("error: m: config.json: model_type: "), "{text}");

        let error = TextError::Missing { file: "tokenizer.json" };
        assert_eq!(rendered(error.into()).0, Exit::File);
        assert_eq!(rendered(anyhow::anyhow!("x")), (Exit::Failed, "error: x\n".into()));
        let device = || mtplx_runtime::mlx_rs::error::Exception::from("out of memory at /src/allocator.cpp:12");
        for (error, expected) in [
            (anyhow::Error::from(SequenceError::from(device())), "error: MLX: out of memory\n"),
            (LoadError::from(device()).into(), "error: MLX: out of memory\n"),
        ] {
            assert_eq!(rendered(error), (Exit::Failed, expected.into()), "said once, without a place in sources");
        }
        let (exit, text) = rendered(SequenceError::NotFinite.into());
        assert_eq!(exit, Exit::Failed);
        assert!(text.contains("not finite numbers\n hint: the weights"), "{text}");
    }
}
