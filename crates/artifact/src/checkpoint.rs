//! A checkpoint, opened: configuration and tensor headers read and checked, weights mapped and untouched.
//!
//! Shards and the head's sidecar become one map from name to place. A sidecar that holds `mtp.*` tensors replaces the
//! shards' `mtp.*` as a whole: a head put together from both could take a weight from one and its scales from the other.
//! Vision tensors are counted and left out. Which tensors a model needs is the architecture's business.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::builder::CheckpointBuilder;
use super::config::{Config, ConfigNotes, MAX_CONFIG};
use super::convert::to_f32;
use super::diagnostic::{Finding, Severity};
use super::digest::{FileStamp, sha256};
use super::error::{ArtifactError, shown};
use super::hint::Hint;
use super::index::{self, INDEX, Shards};
use super::sidecar::{self, HeadSource};
use super::source::{Bytes, Source};
use super::tensor_info::TensorInfo;

/// Largest text file beside the weights (tokenizers of large vocabularies take tens of megabytes).
const MAX_TEXT: usize = 128 << 20;

/// An opened checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    source: Source,
    config: Config,
    config_sha256: String,
    files: BTreeMap<Arc<str>, Bytes>,
    tensors: BTreeMap<String, TensorInfo>,
    vision: BTreeMap<String, TensorInfo>,
    head_source: HeadSource,
    is_head_alone: bool,
    missing_head_file: Option<String>,
    foreign_head_files: Vec<String>,
    refusals: Vec<ArtifactError>,
    findings: Vec<Finding>,
    whole: Whole,
    has_weights: bool,
}

/// Parts of a checkpoint that could be read as a whole.
#[derive(Debug, Clone, Copy)]
pub struct Whole {
    /// All of `config.json`.
    pub config: bool,
    /// Every weight file.
    pub weights: bool,
}

impl Checkpoint {
    /// Opens a folder.
    ///
    /// # Errors
    /// A file is missing, damaged or unsafe to read.
    pub fn open(dir: &Path) -> Result<Self, ArtifactError> {
        Self::open_lenient(dir)?.unrefused()
    }

    /// Opens a folder to say what it is: what [`Checkpoint::open`] refuses is left out and listed by [`Checkpoint::refusals`].
    ///
    /// # Errors
    /// There is no such folder, or it cannot be read.
    pub fn open_lenient(dir: &Path) -> Result<Self, ArtifactError> {
        Self::assemble(Source::folder(dir)?)
    }

    /// Itself, if there is nothing to refuse.
    fn unrefused(mut self) -> Result<Self, ArtifactError> {
        if self.refusals.is_empty() { Ok(self) } else { Err(self.refusals.swap_remove(0)) }
    }

    /// Opens files that are compiled in.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn embedded(label: &str, files: &[(&'static str, &'static [u8])]) -> Result<Self, ArtifactError> {
        Self::assemble(Source::embedded(label, files))?.unrefused()
    }

    /// A configuration without any weights, as if every tensor were missing: for what an architecture expects of it. `label`
    /// names it in errors.
    ///
    /// # Errors
    /// Not a configuration.
    pub fn of_config(label: &str, config: &[u8]) -> Result<Self, ArtifactError> {
        let source = Source::embedded(label, &[]);
        let parsed = Config::parse(label, config)?;
        Ok(Self::imagined(source, parsed, sha256(config)))
    }

    /// The same for a configuration of this checkpoint's, changed, whose faults are noted.
    ///
    /// # Errors
    /// Not a configuration.
    pub fn noting(&self, config: &[u8]) -> Result<(Self, ConfigNotes), ArtifactError> {
        let source = Source::embedded(self.label(), &[]);
        let (config, faults) = Config::read(&self.path("config.json"), config);
        faults.into_iter().next().map_or(Ok(()), Err)?;
        let (config, notes) = config.noting();
        Ok((Self::imagined(source, config, String::new()), notes))
    }

    fn imagined(source: Source, config: Config, config_sha256: String) -> Self {
        Self {
            config_sha256,
            config,
            source,
            files: BTreeMap::new(),
            tensors: BTreeMap::new(),
            vision: BTreeMap::new(),
            head_source: HeadSource::None,
            is_head_alone: false,
            missing_head_file: None,
            foreign_head_files: Vec::new(),
            refusals: Vec::new(),
            findings: Vec::new(),
            whole: Whole { config: true, weights: true },
            has_weights: false,
        }
    }

    /// Reads what can be read; fails only where there is no telling what files there are.
    fn assemble(source: Source) -> Result<Self, ArtifactError> {
        let names = source.names()?;
        let (config, bytes, faults) = read_config(&source);
        let whole_config = faults.is_empty();
        let mut builder = CheckpointBuilder::new(&source);
        builder.refusals = faults;
        let announced = builder.noted(sidecar::announced(&config)).flatten();
        let shards = builder.noted(index::find(&source, &names));
        let whole_list = shards.is_some();
        let shards = shards.unwrap_or_default();

        let is_head_file = |file: &str| announced.as_deref() == Some(file) || sidecar::is_sidecar(file);
        let mut findings = Vec::new();
        for file in shards.files.iter().filter(|file| !is_head_file(file)) {
            if builder.take(file) {
                continue;
            }
            match shards.is_of_vision(file) {
                true => findings.push(of_index("weight_map", format!("\"{}\": not there: vision parts", shown(file)))),
                false => builder.leave_out(file, shards.missing(&source, file)),
            }
        }
        index::beside(&shards, &names).filter(|file| !is_head_file(file)).for_each(|file| builder.take_new(file));
        let mut head_source = builder.add_head(announced.as_deref(), &config);
        let alone = if builder.has_left_out() || !whole_list { None } else { builder.head_alone(&config) };
        let is_head_alone = alone.is_some();
        head_source = alone.unwrap_or(head_source);
        let mut missing_head_file =
            announced.clone().filter(|file| !builder.is_there(file) && !builder.foreign.contains(file));
        // Head files that the index names as well, and that the head was not taken from.
        for file in &shards.files {
            if builder.take(file) || shards.is_of_vision(file) {
                continue;
            }
            // Without its head's file the trunk still runs: the verdict is "incomplete", not "damaged".
            if shards.tensors_of(file).all(sidecar::is_mtp) {
                missing_head_file = Some(file.clone());
            } else {
                builder.leave_out(file, shards.missing(&source, file));
            }
        }
        let layers = config.text().size("num_hidden_layers", usize::MAX).ok();
        let has = |tensor: &str, file: &str| {
            let replaced = || matches!(head_source, HeadSource::File(_)) && sidecar::is_head(tensor, layers);
            let absent = || missing_head_file.as_deref() == Some(file);
            let here = || builder.tensors.get(tensor).is_some_and(|info| &*info.file == file);
            // Vision tensors are not in the map; their shards were read all the same.
            let vision = || sidecar::is_vision(tensor) || sidecar::is_vision_file(file);
            here() || vision() || replaced() || absent() || builder.is_left_out(file)
        };
        if !is_head_alone {
            findings.extend(left_over(&shards, has));
        }
        findings.extend(unannounced(&config, &builder, &head_source, layers));
        for file in names.iter().filter(|file| sidecar::is_vision_file(file)) {
            builder.take(file);
        }

        let whole = Whole { config: whole_config, weights: whole_list && !builder.has_left_out() };
        let has_weights = !builder.files.is_empty() || names.iter().any(|name| name.ends_with(".safetensors"));
        let CheckpointBuilder { files, tensors, vision, foreign, refusals, .. } = builder;
        Ok(Self {
            config_sha256: sha256(&bytes),
            config,
            tensors,
            vision,
            head_source,
            is_head_alone,
            missing_head_file,
            foreign_head_files: foreign.into_iter().filter(|file| !files.contains_key(file.as_str())).collect(),
            files,
            refusals: refusals.into_iter().map(|refusal| of_download(&source, refusal)).collect(),
            findings,
            whole,
            has_weights,
            source,
        })
    }

    /// The folder's path as the caller gave it, or the embedded label.
    pub fn label(&self) -> &str {
        self.source.label()
    }

    /// The folder, links resolved; `None` for embedded files.
    pub fn dir(&self) -> Option<&Path> {
        self.source.root()
    }

    /// A file's path for messages.
    pub fn path(&self, file: &str) -> String {
        self.source.path(file)
    }

    /// `config.json`.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Every tensor, by name, shards and sidecar together, without vision parts; in the order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.tensors.iter().map(|(name, info)| (name.as_str(), info))
    }

    /// One tensor.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// One tensor that must be there.
    ///
    /// # Errors
    /// [`ArtifactError::MissingTensor`].
    pub fn require(&self, name: &str) -> Result<&TensorInfo, ArtifactError> {
        self.tensor(name)
            .ok_or_else(|| ArtifactError::MissingTensor { tensor: shown(name).into(), searched: self.label().into() })
    }

    /// One tensor that must be there in this shape; `basis` says where the expectation comes from (`hidden_size 64`).
    ///
    /// # Errors
    /// [`ArtifactError::MissingTensor`], [`ArtifactError::Misshapen`].
    pub fn require_shape(&self, name: &str, expected: &[usize], basis: &str) -> Result<&TensorInfo, ArtifactError> {
        let info = self.require(name)?;
        if info.shape == expected {
            return Ok(info);
        }
        Err(ArtifactError::Misshapen {
            tensor: shown(name).into(),
            file: self.path(&info.file).into(),
            found: info.shape.as_slice().into(),
            expected: expected.into(),
            basis: basis.into(),
        })
    }

    /// A tensor's bytes, little end first, row-major.
    ///
    /// # Errors
    /// No such tensor.
    pub fn bytes(&self, name: &str) -> Result<&[u8], ArtifactError> {
        self.tensor(name)
            .and_then(|info| self.files.get(&info.file)?.get(info.range.clone()))
            .ok_or_else(|| ArtifactError::damaged(self.label(), format!("{}: tensor not found", shown(name))))
    }

    /// The hash of `config.json` as it was read.
    pub fn config_sha256(&self) -> &str {
        &self.config_sha256
    }

    /// What tells that a weight file is still the one that was opened.
    pub fn stamp(&self, file: &str) -> Option<FileStamp> {
        self.files.get(file)?.stamp()
    }

    /// A small file beside the weights, if it is there: at most `cap` bytes, as they were when it was first asked for.
    ///
    /// # Errors
    /// Too large, not a regular file, a link out of the folder.
    pub fn read(&self, name: &str, cap: usize) -> Result<Option<Cow<'static, [u8]>>, ArtifactError> {
        self.source.read(name, cap)
    }

    /// Has a small file read anew when it is asked for again: for whoever writes it, or watches for others that do.
    pub fn forget(&self, name: &str) {
        self.source.forget(name);
    }

    /// A floating-point tensor's numbers, widened to f32.
    ///
    /// # Errors
    /// No such tensor; a type other than F32, F16 or BF16.
    pub fn floats(&self, name: &str) -> Result<Vec<f32>, ArtifactError> {
        let info = self.require(name)?;
        to_f32(self.bytes(name)?, info.dtype).ok_or_else(|| ArtifactError::WrongDtype {
            tensor: shown(name).into(),
            file: self.path(&info.file).into(),
            found: info.dtype,
            expected: "F32, F16 or BF16",
        })
    }

    /// The draft head's file that the configuration names.
    ///
    /// # Errors
    /// The field is no file name.
    pub fn announced_head(&self) -> Result<Option<String>, ArtifactError> {
        sidecar::announced(self.config())
    }

    /// Where the draft head's tensors come from.
    pub fn head_source(&self) -> &HeadSource {
        &self.head_source
    }

    /// True for a draft head that is published by itself, for a trunk elsewhere.
    pub fn is_head_alone(&self) -> bool {
        self.is_head_alone
    }

    /// The same files with another configuration.
    ///
    /// # Errors
    /// It is none.
    pub fn with_config(self, fields: &Map<String, Value>) -> Result<Self, ArtifactError> {
        let (config, faults) =
            Config::read(&self.path("config.json"), Value::Object(fields.clone()).to_string().as_bytes());
        faults.into_iter().next().map_or(Ok(Self { config, ..self }), Err)
    }

    /// The head's file that `config.json` announces and that is not there.
    pub fn missing_head_file(&self) -> Option<&str> {
        self.missing_head_file.as_deref()
    }

    /// Files that by announcement or name are the head's, are there, and hold none of its tensors.
    pub fn foreign_head_files(&self) -> &[String] {
        &self.foreign_head_files
    }

    /// Refusals of [`Checkpoint::open`]: files that are missing, damaged, unsafe to read or of formats that are never read.
    /// Nothing of it was read.
    pub fn refusals(&self) -> &[ArtifactError] {
        &self.refusals
    }

    /// Remarks on the files that keep nothing from running.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The hint for missing tensors and files of an incomplete download; `None` where nothing says that it is one.
    pub fn incomplete_download(&self) -> Option<Hint> {
        let stale = self.findings.iter().any(|finding| finding.file == INDEX);
        (stale || self.source.is_interrupted()).then(|| self.source.incomplete())
    }

    /// Whether there are weight files, damaged ones among them.
    pub fn has_weights(&self) -> bool {
        self.has_weights
    }

    /// What could be read as a whole.
    pub fn whole(&self) -> Whole {
        self.whole
    }

    /// Whether any weight is packed.
    pub fn is_packed(&self) -> bool {
        self.tensors.keys().any(|name| name.ends_with(".scales"))
    }

    /// Whether a tensor is in the draft head's own file.
    pub fn in_sidecar(&self, name: &str) -> bool {
        if self.is_head_alone {
            return true;
        }
        let HeadSource::File(sidecar) = &self.head_source else { return false };
        self.tensor(name).is_some_and(|info| *info.file == **sidecar)
    }

    /// How many tensors belong to vision parts; they are in no other list.
    pub fn vision_tensors(&self) -> usize {
        self.vision.len()
    }

    /// The tensors of vision parts, in the order of their names.
    pub fn vision(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.vision.iter().map(|(name, info)| (name.as_str(), info))
    }

    /// A weight file as such, for reading at any place without mapping; `None` for embedded files.
    pub fn open_file(&self, name: &str) -> Result<Option<File>, ArtifactError> {
        self.source.file(name)
    }

    /// A weight file's bytes, mapped or embedded.
    pub fn file_bytes(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(|bytes| &**bytes)
    }

    /// The weight files that were opened, with their sizes in bytes; in the order of their names.
    pub fn files(&self) -> impl Iterator<Item = (&str, usize)> {
        self.files.iter().map(|(name, bytes)| (&**name, bytes.len()))
    }

    /// A small text file beside the weights (`tokenizer.json`, `generation_config.json` ...), if it is there.
    ///
    /// # Errors
    /// Not UTF-8, too large, not a regular file, a link out of the folder.
    pub fn text_file(&self, name: &str) -> Result<Option<Cow<'_, str>>, ArtifactError> {
        let text = |bytes| match bytes {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed),
            Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|error| error.utf8_error()),
        };
        self.source
            .read(name, MAX_TEXT)?
            .map(|bytes| text(bytes).map_err(|error| ArtifactError::damaged(self.path(name), error.to_string())))
            .transpose()
    }
}

/// Something to say of the index.
fn of_index(field: &str, what: String) -> Finding {
    Finding { severity: Severity::Warning, file: INDEX, field: field.to_owned(), what }
}

/// The finding of an index that is another build's.
fn left_over(shards: &Shards, has: impl Fn(&str, &str) -> bool) -> Option<Finding> {
    const REMOVE: &str = "the index is left over from another build, remove it";
    if let Some(why) = &shards.stale {
        let files: Vec<String> = shards.files.iter().map(|file| shown(file)).collect();
        let files = if let [only] = &files[..] { only.clone() } else { format!("{} shards", files.len()) };
        let (field, why) = why.strip_prefix("weight_map: ").map_or(("", &**why), |why| ("weight_map", why));
        return Some(of_index(field, format!("{why}: read from {files} instead: {REMOVE}")));
    }
    let mut misplaced = shards.misplaced(has);
    let first = shown(misplaced.next()?);
    let more = match misplaced.count() {
        0 => String::new(),
        more => format!(" and {more} more tensors"),
    };
    Some(of_index(&format!("weight_map.{first}{more}"), format!("not in the file that it names: {REMOVE}")))
}

/// The finding of a head that is there and that the configuration says is none.
fn unannounced(
    config: &Config,
    builder: &CheckpointBuilder<'_>,
    source: &HeadSource,
    layers: Option<usize>,
) -> Option<Finding> {
    let text = config.text();
    let fields = ["mtp_num_hidden_layers", "num_nextn_predict_layers"];
    let field = fields.into_iter().find(|field| text.has(field))?;
    if text.get(field)?.as_u64() != Some(0) || *source == HeadSource::None {
        return None;
    }
    let count = builder.tensors.keys().filter(|name| sidecar::is_head(name, layers)).count();
    let place = if let HeadSource::File(file) = source { shown(file) } else { "the weights".to_owned() };
    let what = format!("0: {count} MTP tensors in {place} are not read: state how many MTP layers there are");
    let field = text.path_of(field);
    Some(Finding { severity: Severity::Warning, file: "config.json", field, what })
}

/// A refusal, whose hint is the download's where a file is missing from one.
fn of_download(source: &Source, refusal: ArtifactError) -> ArtifactError {
    match refusal {
        ArtifactError::Missing { file, .. } if source.is_interrupted() => {
            ArtifactError::missing(file, source.incomplete())
        }
        other => other,
    }
}

/// `config.json` as far as it can be read, its bytes, and what is wrong with it.
fn read_config(source: &Source) -> (Config, Cow<'static, [u8]>, Vec<ArtifactError>) {
    let path = source.path("config.json");
    let (bytes, fault) = match source.read("config.json", MAX_CONFIG) {
        Ok(Some(bytes)) => (bytes, None),
        Ok(None) => (
            Cow::default(),
            Some(ArtifactError::missing(&*path, "give the folder that holds config.json and the weights")),
        ),
        Err(error) => (Cow::default(), Some(error)),
    };
    let (config, faults) = Config::read(&path, &bytes);
    // That nothing is no configuration needs no saying.
    let faults = fault.map_or(faults, |fault| vec![fault]);
    (config, bytes, faults)
}
