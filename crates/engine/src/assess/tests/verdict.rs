//! Verdicts of toy architectures on tiny folders.

use serde_json::{Value, json};

use super::Folder;
use crate::assess::{Assessment, Verdict, assess};
use crate::testing::{exactness_baseline, verified_on};
use mtplx_runtime::LoadError;
use mtplx_runtime::architecture::{
    CheckpointFacts, Descriptor, HeadStatus, LoadOptions, ModelPlan, MtpArchitecture, Tier,
};
use mtplx_runtime::artifact::expected::{Expected, TensorRole};
use mtplx_runtime::artifact::{Area, ArtifactError, Checkpoint, Rules, Severity};
use mtplx_runtime::model::MtpModel;
use mtplx_runtime::registry::Registry;

/// The model types of [`registry`]'s architectures, by tier.
pub const RECOGNIZED: &str = "toy";
pub const VERIFIED: &str = "verified";

/// Claims its model type; the head is `mtp.x` and `mtp.y`.
struct Toy(Descriptor);

const fn toy(id: &'static str, model_types: &'static [&'static str], tier: Tier) -> Toy {
    Toy(Descriptor { id, name: "Toy", model_types, tier, max_depth: 2, crate_name: "toy", crate_version: "0.0.0" })
}

static ONE: Toy = toy("toy-mtp", &[RECOGNIZED], Tier::Recognized);
static TWO: Toy = toy("other-mtp", &[RECOGNIZED], Tier::Recognized);
static SHIPPED: Toy = toy("verified-mtp", &[VERIFIED], Tier::Verified);

/// One architecture of each tier: `toy-mtp` and `verified-mtp`.
pub fn registry() -> Registry {
    Registry::new([&ONE as _, &SHIPPED as _]).verified(&[("verified-mtp", "toy")])
}

impl MtpArchitecture for Toy {
    fn descriptor(&self) -> &'static Descriptor {
        [&ONE.0, &TWO.0, &SHIPPED.0].into_iter().find(|descriptor| descriptor.id == self.0.id).unwrap()
    }

    fn plan(&self, _: &Checkpoint) -> Result<Box<dyn ModelPlan>, ArtifactError> {
        Ok(Box::new(ToyPlan))
    }
}

/// Any trunk, and a head of two tensors.
struct ToyPlan;

impl ModelPlan for ToyPlan {
    fn head(&self, checkpoint: &Checkpoint) -> HeadStatus {
        let missing: Vec<_> = ["mtp.x", "mtp.y"].into_iter().filter(|name| checkpoint.tensor(name).is_none()).collect();
        match missing.len() {
            0 => HeadStatus::Complete,
            2 => HeadStatus::Absent,
            _ => {
                HeadStatus::Incomplete { missing: missing.into_iter().map(str::to_owned).collect(), misshapen: vec![] }
            }
        }
    }

    fn tensors(&self, checkpoint: &Checkpoint, each: &mut dyn FnMut(TensorRole, Expected)) {
        let all = checkpoint.tensors().map(|(name, info)| Expected::tensor(name, info.shape.clone()));
        all.for_each(|expected| each(TensorRole::Optional, expected));
    }

    fn facts(&self, _: &Checkpoint) -> CheckpointFacts {
        CheckpointFacts::default()
    }

    fn conversion(&self, _: &Checkpoint) -> Result<Rules, LoadError> {
        Ok(Rules::new(Vec::new(), Vec::new()))
    }

    fn load(&self, checkpoint: &Checkpoint, _: &LoadOptions) -> Result<MtpModel, LoadError> {
        Ok(checkpoint.require("nothing is loaded here").map(|_| unreachable!())?)
    }
}

fn assessed(folder: &Folder, registry: Registry) -> Assessment {
    assess(&folder.open().unwrap(), &registry)
}

/// The verdict's line, with the folder as `DIR`.
#[track_caller]
fn check(folder: Folder, line: &str) {
    let verdict = assessed(&folder, Registry::new([&ONE as _])).verdict;
    assert_eq!(verdict.to_string().replace(folder.path().to_str().unwrap(), "DIR"), line);
}

fn with_head(names: &[&str]) -> Folder {
    Folder::new().tensors("model.safetensors", names, 1)
}

fn contract(fields: Value) -> Folder {
    let mut contract = json!({"mtplx_version": "0.1.0", "arch_id": "toy-mtp", "mtp_depth_max": 2, "recommended_profile": "stable",
        "exactness_baseline": exactness_baseline(3), "verified_on": verified_on(None)});
    contract.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    with_head(&["mtp.x", "mtp.y"]).file("mtplx_runtime.json", contract.to_string())
}

#[test]
fn heads() {
    check(with_head(&["mtp.x", "mtp.y"]), "unverified: no mtplx_runtime.json");
    check(with_head(&["x"]), "no MTP: the trunk is supported and has no draft head");
    check(with_head(&["mtp.x"]), "incomplete: the draft head is announced but missing mtp.y");
    let announced = json!({"model_type": "toy", "mlx_lm_extra_tensors": {"mtp_file": "mtp.safetensors"}});
    let folder = with_head(&["x"]).config(announced);
    check(folder, "incomplete: the draft head is announced but missing DIR/mtp.safetensors");
    let verdict = Verdict::Incomplete { missing: vec!["a".into(), "b".into()], misshapen: vec!["c".into()] };
    assert_eq!(verdict.to_string(), "incomplete: the draft head is announced but missing a, b; misshapen c");
}

#[test]
fn contracts() {
    let needs = "toy-mtp is a recognized architecture, which needs evidence measured on this machine";
    let line =
        format!("unverified: verified_on.machine: missing: {needs}; sha256: missing, so the evidence covers no files");
    check(contract(json!({})), &line);
    let line = format!(
        "unverified: exactness_baseline.status: \"pending\" is not evidence; verified_on.machine: missing: {needs}"
    );
    check(contract(json!({"exactness_baseline": {"status": "pending"}, "sha256": {}})), &line);
    let folder = contract(json!({"arch_id": "else-mtp", "mtp_depth_max": 3}));
    let assessment = assessed(&folder, Registry::new([&ONE as _]));
    let findings: Vec<_> = assessment.findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        findings,
        [
            "mtplx_runtime.json: arch_id: \"else-mtp\": config.json's model_type belongs to toy-mtp",
            "mtplx_runtime.json: mtp_depth_max: 3: toy-mtp drafts at most 2",
        ]
    );
    let line = format!("contradicted: {}; ", findings[0]);
    assert!(assessment.verdict.to_string().starts_with(&line), "{}", assessment.verdict);
    assert_eq!(assessment.claim, Some("toy-mtp"));
    let folder = with_head(&["mtp.x", "mtp.y"]).file("mtplx_runtime.json", "[");
    let damaged = assessed(&folder, Registry::new([&ONE as _]));
    let says = damaged.verdict.to_string();
    assert!(says.starts_with("damaged: mtplx_runtime.json: not a JSON object: "), "{says}");
    // Plain decoding does without it.
    assert_eq!(damaged.without(Area::Contract).verdict.name(), "contradicted");
    check(contract(json!({"arch_id": 3})), "damaged: mtplx_runtime.json: arch_id: 3: expected an architecture's id");
    let own = env!("CARGO_PKG_VERSION");
    let line = format!("incompatible: mtplx_runtime.json: min_engine_version: 99.0.0: this engine is {own}");
    check(contract(json!({"min_engine_version": "99.0.0"})), &line);
}

#[test]
fn claims() {
    let of = |model_type: &str| with_head(&["x"]).config(json!({"model_type": model_type}));
    check(
        of("llama"),
        "incompatible: config.json: model_type: no linked architecture claims \"llama\" (linked: toy-mtp: toy)",
    );
    check(
        of("deepseek_v4_flash"),
        "incompatible: config.json: model_type: \"deepseek_v4_flash\" is DeepSeek V4: no linked architecture implements it (linked: toy-mtp: toy)",
    );
    let two = || Registry::new([&ONE as _, &TWO as _]);
    let names = ["other-mtp (toy 0.0.0)", "toy-mtp (toy 0.0.0)"].map(str::to_owned).to_vec();
    assert_eq!(two().conflicts(), [("toy", names)]);
    assert!(Registry::new([&ONE as _]).conflicts().is_empty());
    let both = assessed(&of("toy"), two());
    assert_eq!(
        both.verdict.to_string(),
        "incompatible: config.json: model_type: \"toy\" is claimed by 2 architectures: other-mtp (toy 0.0.0), toy-mtp (toy 0.0.0)"
    );
    assert_eq!((both.verdict.name(), both.claim), ("incompatible", None));
}

/// Evidence that is missing, and evidence that speaks against the files.
#[test]
fn missing_and_against() {
    let of = |model_type: &str, id: &str, fields: Value| {
        let mut all = json!({"arch_id": id});
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let folder = contract(all).config(json!({"model_type": model_type}));
        assessed(&folder, registry()).verdict.name()
    };
    let baseline = |change: &dyn Fn(&mut Value)| {
        let mut baseline = json!(exactness_baseline(3));
        change(&mut baseline);
        json!({"exactness_baseline": baseline})
    };
    let status = |status: Value| baseline(&|baseline| baseline["status"] = status.clone());
    let figure =
        |pointer: &str, value: Value| baseline(&|baseline| *baseline.pointer_mut(pointer).unwrap() = value.clone());
    let other = json!({"config.json": "0".repeat(64)});
    for (fields, expected) in [
        (json!({}), "unverified"),
        (json!({"sha256": {}}), "unverified"),
        (json!({"exactness_baseline": null, "verified_on": null, "recommended_profile": null}), "unverified"),
        (json!({"exactness_baseline": {}}), "unverified"),
        (json!({"exactness_baseline": {"max_abs_diff": 0.0, "context": 2048}}), "unverified"),
        (status(json!(null)), "unverified"),
        (status(json!("")), "unverified"),
        (status(json!("pending")), "unverified"),
        (status(json!("candidate")), "unverified"),
        (status(json!("pending_measurement")), "unverified"),
        (json!({"exactness_baseline": {"status": "passed"}}), "unverified"),
        (json!({"exactness_baseline": {"status": "passed", "gates": ["smoke"], "dtype": "bf16"}}), "unverified"),
        (json!({"verified_on": {}}), "unverified"),
        (status(json!("failed")), "contradicted"),
        (status(json!("FAIL")), "contradicted"),
        (status(json!(false)), "contradicted"),
        (json!({"exactness_baseline": {"gates": {"state": {"passed": false}}}}), "contradicted"),
        (json!({"exactness_baseline": {"passed": false}}), "contradicted"),
        (figure("/gates/state/passed", json!(false)), "contradicted"),
        (figure("/gates/marginal/total_variation", json!(0.1)), "contradicted"),
        (figure("/depth", json!(1)), "contradicted"),
        (json!({"exactness_baseline": {"status": "passed", "depth": 1}}), "contradicted"),
        (json!({"mtp_contract": {"concat_order": "hidden_embedding"}}), "contradicted"),
        (json!({"sha256": other}), "contradicted"),
        (json!({"sha256": other, "exactness_baseline": {"status": "pending"}}), "contradicted"),
        (json!({"sha256": {"gone.safetensors": "0".repeat(64)}}), "contradicted"),
        (json!({"arch_id": "toy-mtp"}), "contradicted"),
        (json!({"contract_version": 2}), "contradicted"),
        (json!({"mtp_depth_max": 0}), "contradicted"),
    ] {
        assert_eq!(of(VERIFIED, "verified-mtp", fields.clone()), expected, "{fields}");
    }
    // Where evidence is missing that nothing runs without, files need no hashing to say so.
    assert_eq!(of(RECOGNIZED, "toy-mtp", json!({"sha256": other})), "unverified");
}

/// A crate's claim about its architecture decides nothing.
#[test]
fn the_program_says_what_is_verified() {
    let tier = |registry: Registry| {
        let folder = with_head(&["mtp.x", "mtp.y"]).config(json!({"model_type": VERIFIED}));
        assessed(&folder, registry).tier
    };
    assert_eq!(tier(registry()), Some(Tier::Verified));
    assert_eq!(tier(Registry::new([&SHIPPED as _])), Some(Tier::Recognized));
    for foreign in [&[("verified-mtp", "other-crate")], &[("other-mtp", "toy")]] {
        assert_eq!(tier(Registry::new([&SHIPPED as _]).verified(foreign)), Some(Tier::Recognized));
    }
    // Nor does it claim too little.
    let registry = Registry::new([&ONE as _]).verified(&[("toy-mtp", "toy")]);
    assert_eq!(registry.tier(&ONE.0), Tier::Verified);
}

/// Code of the repository is never run: a remark where an architecture claims the checkpoint, and part of the refusal where
/// none does.
#[test]
fn code_of_the_repository() {
    let with_code = |model_type: &str| {
        let code = json!({"AutoModel": "modeling.Model"});
        let config = json!({"model_type": model_type, "auto_map": code, "text_config": {"model_file": "m.py"}});
        with_head(&["mtp.x", "mtp.y"]).config(config)
    };
    let assessment = assessed(&with_code("toy"), Registry::new([&ONE as _]));
    assert_eq!(assessment.verdict.name(), "unverified");
    let [remark] = &assessment.findings[..] else { panic!("{:?}", assessment.findings) };
    assert_eq!(remark.severity, Severity::Remark);
    assert_eq!(
        remark.to_string(),
        "config.json: auto_map, text_config.model_file: names code of the repository, which is never run: toy-mtp has its own"
    );
    check(
        with_code("other"),
        "incompatible: config.json: model_type: no linked architecture claims \"other\" (linked: toy-mtp: toy); auto_map, \
         text_config.model_file names code of the repository, which is never run",
    );
}

#[test]
fn quantization_of_another_kind() {
    let config = json!({"model_type": "toy", "quantization_config": {"quant_method": "fp8"}});
    let folder = with_head(&["mtp.x", "mtp.y"]).config(config);
    check(
        folder,
        "incompatible: DIR/config.json: quantization_config.quant_method: \"fp8\": not supported: expected bf16 weights or MLX's quantization",
    );
}
