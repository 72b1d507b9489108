//! Models that the program knows by name (`models/known.toml`), and what each takes here, computed from its shape and packing.

use anyhow::Context as _;
use mtplx_engine::Room;
use mtplx_runtime::artifact::Checkpoint;
use mtplx_runtime::forge::{ForgeJob, Policy, shapes};
use mtplx_runtime::inspect::{Arithmetic, Memory};
use mtplx_runtime::registry::Registry;
use serde::Serialize;
use serde_json::{Map, Value};
use toml_edit::{Document, Table};

use crate::hub::RepoId;

/// Contexts that memory is computed for.
pub const CONTEXTS: [usize; 2] = [4 << 10, 32 << 10];

const LIST: &str = include_str!("../models/known.toml");

/// An entry of the list.
#[derive(Debug, Clone)]
pub struct KnownModel {
    pub repository: RepoId,
    /// The page where name, shape and packing are published.
    pub source: String,
    /// A name of [`shapes`].
    pub shape: String,
    pub policy: String,
    /// Its purpose, for people.
    pub purpose: String,
    /// Commit that `bytes` is of.
    pub revision: Option<String>,
    /// Bytes of the weight files, where the hub was asked.
    pub bytes: Option<u64>,
}

/// Figures that follow from shape and policy: computed, not measured.
#[derive(Debug, Clone, Serialize)]
pub struct Computed {
    /// Numbers of the weights, vision parts left out.
    pub parameters: u64,
    /// Bytes of the weights as stored, vision parts left out.
    pub bytes: u64,
    /// Bytes that running takes at each of [`CONTEXTS`] on the device at hand.
    pub memory: [u64; CONTEXTS.len()],
    /// True for each context that fits; `None` where the system does not tell its memory.
    pub fits: Option<[bool; CONTEXTS.len()]>,
}

/// The list.
///
/// # Errors
/// The file that was compiled in is wrong: entry and field.
pub fn list() -> anyhow::Result<Vec<KnownModel>> {
    parse(LIST)
}

fn parse(text: &str) -> anyhow::Result<Vec<KnownModel>> {
    let document = Document::parse(text).context("models/known.toml")?;
    let models = document.as_table().get("model").and_then(toml_edit::Item::as_array_of_tables);
    let models = models.context("models/known.toml: [[model]] is missing")?;
    models
        .iter()
        .enumerate()
        .map(|(place, table)| entry(table).with_context(|| format!("models/known.toml: model {}", place + 1)))
        .collect()
}

fn entry(table: &Table) -> anyhow::Result<KnownModel> {
    const FIELDS: [&str; 7] = ["repository", "source", "shape", "policy", "use", "revision", "bytes"];
    if let Some((unknown, _)) = table.iter().find(|(field, _)| !FIELDS.contains(field)) {
        anyhow::bail!("{unknown}: no field of a model");
    }
    let optional = |field: &str| table.get(field).and_then(toml_edit::Item::as_str).map(str::to_owned);
    let text = |field: &str| optional(field).with_context(|| format!("{field}: a text was expected"));
    let repository = text("repository")?.parse().map_err(|error: String| anyhow::anyhow!("repository: {error}"))?;
    let bytes = table.get("bytes").and_then(toml_edit::Item::as_integer);
    Ok(KnownModel {
        repository,
        source: text("source")?,
        shape: text("shape")?,
        policy: text("policy")?,
        purpose: text("use")?,
        revision: optional("revision"),
        bytes: bytes.map(u64::try_from).transpose().context("bytes")?,
    })
}

impl KnownModel {
    /// The figures on the default device.
    ///
    /// # Errors
    /// The list names a shape or policy that there is not, or one that no linked architecture runs.
    pub fn computed(&self) -> anyhow::Result<Computed> {
        let (memory, bytes) = self.memory().with_context(|| self.repository.to_string())?;
        let (room, on) = (Room::of_default(), Arithmetic::of_default());
        let fits = room.map(|room| CONTEXTS.map(|tokens| room.fit(&memory, tokens, on).fits()));
        Ok(Computed {
            parameters: memory.weights_f32 / 4,
            bytes,
            memory: CONTEXTS.map(|tokens| memory.need(tokens, on).total()),
            fits,
        })
    }

    fn memory(&self) -> anyhow::Result<(Memory, u64)> {
        let config = shapes::config(&self.shape).with_context(|| format!("shape {}: unknown", self.shape))?;
        let config: Map<String, Value> = serde_json::from_str(config)?;
        let imagined = Checkpoint::of_config(&self.shape, Value::Object(config.clone()).to_string().as_bytes())?;
        let architecture = Registry::linked().resolve(&imagined)?.architecture;
        let facts = architecture.plan(&imagined)?.facts(&imagined);
        let job = ForgeJob::synth(architecture, &self.shape, config, policy(&self.policy)?, 0)?;
        let (numbers, bytes) = (job.plan().numbers(), job.plan().bytes());
        let (cache, pass) = facts.cache.zip(facts.pass).context("the architecture states no sizes")?;
        Ok((Memory::with_weights(cache, pass, 4 * numbers, bytes), bytes))
    }
}

/// A policy by name; `flatN` are the rules of `flat4` in N bits.
fn policy(name: &str) -> anyhow::Result<Policy> {
    if let Some(policy) = Policy::builtin(name) {
        return Ok(policy);
    }
    let bits: u8 = name
        .strip_prefix("flat")
        .and_then(|bits| bits.parse().ok())
        .with_context(|| format!("policy {name}: unknown"))?;
    let text = format!(
        "name = \"{name}\"\nbits = {bits}\ngroup_size = 64\n\
         [[rule]]\ngroups = [\"router\", \"mtp_router\"]\nbits = 8\n[[rule]]\ngroups = [\"mtp_fc\"]\nkeep = true\n"
    );
    Ok(Policy::parse(name, &text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every entry has a source, a shape and a policy, and its figures follow from them.
    #[test]
    fn the_list_is_sound() {
        let list = list().unwrap();
        assert!(list.len() >= 10);
        let mut sizes = Vec::new();
        for model in &list {
            assert!(model.source.ends_with(&model.repository.repository()), "{}", model.source);
            let computed = model.computed().unwrap();
            assert!(computed.memory[0] < computed.memory[1], "{}", model.repository);
            if let Some(bytes) = model.bytes {
                // Vision parts and headers are in the true size alone.
                assert!((0.8..1.5).contains(&(bytes as f64 / computed.bytes as f64)), "{}: {bytes}", model.repository);
            }
            sizes.push((computed.parameters, computed.bytes));
        }
        assert!(sizes.is_sorted_by(|a, b| a >= b), "the largest first: {sizes:?}");
    }

    #[test]
    fn mistakes_are_named() {
        let said = |text: &str| format!("{:#}", parse(text).unwrap_err());
        let whole = "[[model]]\nrepository = \"a/b\"\nsource = \"s\"\nshape = \"x\"\npolicy = \"flat4\"\nuse = \"u\"\n";
        assert!(said("").contains("[[model]]"));
        assert!(said(&whole.replace("source", "sauce")).contains("model 1: sauce"));
        assert!(said(&whole.replace("source = \"s\"\n", "")).contains("source: a text"));
        assert!(said(&format!("{whole}bytes = -1")).contains("bytes"));
        let models = parse(whole).unwrap();
        assert!(format!("{:#}", models[0].computed().unwrap_err()).contains("a/b: shape x"));
        for name in ["flat9", "flat", "round"] {
            assert!(policy(name).is_err(), "{name}");
        }
        assert!(policy("flat6").is_ok());
    }
}
