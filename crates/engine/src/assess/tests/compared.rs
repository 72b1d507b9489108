//! What comparing a checkpoint with its architecture shows, everything at once.

use serde_json::{Value, json};

use super::{Folder, safetensors};
use crate::assess::{Assessment, Verdict, assess};
use mtplx_runtime::LoadError;
use mtplx_runtime::architecture::{
    CheckpointFacts, Descriptor, HeadStatus, LoadOptions, ModelPlan, MtpArchitecture, Tier,
};
use mtplx_runtime::artifact::expected::{Expected, TensorRole};
use mtplx_runtime::artifact::{Area, ArtifactError, Checkpoint, ErrorKind, Rules};
use mtplx_runtime::model::MtpModel;
use mtplx_runtime::registry::Registry;

/// Two layers of a matrix and a norm, and a head of one tensor.
struct Layers;

static DESCRIPTOR: Descriptor = Descriptor {
    id: "layers-mtp",
    name: "Layers",
    model_types: &["toy"],
    tier: Tier::Recognized,
    max_depth: 1,
    crate_name: "layers",
    crate_version: "0.0.0",
};

/// Reads the configuration.
fn width(checkpoint: &Checkpoint) -> Result<usize, ArtifactError> {
    let config = checkpoint.config();
    for field in ["act", "act2"] {
        if config.string_opt(field)?.is_some_and(|act| act != "silu") {
            return Err(config.unsupported(field, "expected silu"));
        }
    }
    let width = config.size("hidden_size", 64)?;
    if !width.is_multiple_of(config.size_or("heads", 1, 64)?) {
        return Err(config.error("heads", &format!("expected a divisor of hidden_size {width}")));
    }
    if config.has("parted") && !width.is_multiple_of(config.size("parts", 64)?) {
        return Err(config.error("parts", &format!("expected a divisor of hidden_size {width}")));
    }
    config.size_or("top", 1, width)?;
    config.number_in("eps", 0.0, 0.0..=1.0)?;
    Ok(width)
}

impl MtpArchitecture for Layers {
    fn descriptor(&self) -> &'static Descriptor {
        &DESCRIPTOR
    }

    fn claims(&self, _: &Checkpoint) -> bool {
        true
    }

    fn plan(&self, checkpoint: &Checkpoint) -> Result<Box<dyn ModelPlan>, ArtifactError> {
        Ok(Box::new(LayersPlan { width: width(checkpoint)? }))
    }
}

/// The same of one configuration.
struct LayersPlan {
    width: usize,
}

impl ModelPlan for LayersPlan {
    fn head(&self, checkpoint: &Checkpoint) -> HeadStatus {
        HeadStatus::judge(checkpoint, &[Expected::tensor("mtp.fc.weight", [2])])
    }

    fn load(&self, checkpoint: &Checkpoint, _: &LoadOptions) -> Result<MtpModel, LoadError> {
        Ok(checkpoint.require("nothing is loaded here").map(|_| unreachable!())?)
    }

    fn facts(&self, _: &Checkpoint) -> CheckpointFacts {
        CheckpointFacts::default()
    }

    fn conversion(&self, _: &Checkpoint) -> Result<Rules, LoadError> {
        Ok(Rules::new(Vec::new(), Vec::new()))
    }

    fn tensors(&self, _: &Checkpoint, each: &mut dyn FnMut(TensorRole, Expected)) {
        let width = self.width;
        for layer in 0..2 {
            each(TensorRole::Trunk, Expected::module(format!("model.layers.{layer}.up"), [2, width]));
            each(TensorRole::Trunk, Expected::tensor(format!("model.layers.{layer}.norm.weight"), [width]));
        }
        each(TensorRole::Head, Expected::tensor("mtp.fc.weight", [2]));
        each(TensorRole::Optional, Expected::module("mtp.embed_tokens", [2, width]));
    }
}

/// Every tensor of a sound one: name, type, shape.
const SOUND: [(&str, &str, &[usize]); 5] = [
    ("model.layers.0.norm.weight", "F32", &[2]),
    ("model.layers.0.up.weight", "F32", &[2, 2]),
    ("model.layers.1.norm.weight", "BF16", &[2]),
    ("model.layers.1.up.weight", "F16", &[2, 2]),
    ("mtp.fc.weight", "F32", &[2]),
];

fn folder(tensors: &[(&str, &str, &[usize])]) -> Folder {
    let width = |dtype: &str| match dtype {
        "F32" | "U32" => 4,
        "I64" => 8,
        _ => 2,
    };
    let bytes = |dtype: &str, shape: &[usize]| vec![0; width(dtype) * shape.iter().product::<usize>()];
    let list: Vec<_> =
        tensors.iter().map(|(name, dtype, shape)| (*name, *dtype, shape.to_vec(), bytes(dtype, shape))).collect();
    let folder = Folder::new().config(json!({"model_type": "toy", "hidden_size": 2, "num_hidden_layers": 2}));
    folder.file("model.safetensors", safetensors(&list))
}

/// Sound, and these as well.
fn and(more: &[(&str, &str, &[usize])]) -> Folder {
    folder(&[&SOUND[..], more].concat())
}

fn assessed(folder: &Folder) -> Assessment {
    assess(&Checkpoint::open_lenient(folder.path()).unwrap(), &Registry::new([&Layers as _]))
}

/// Faults and findings.
fn said(folder: &Folder) -> Vec<String> {
    let assessment = assessed(folder);
    let faults = assessment.faults.iter().map(|fault| fault.what.clone());
    let findings = assessment.findings.iter().map(ToString::to_string);
    faults.chain(findings).map(|what| what.replace(folder.path().to_str().unwrap(), "DIR")).collect()
}

const NOTHING: [&str; 0] = [];

#[test]
fn sound() {
    assert_eq!(said(&folder(&SOUND)), NOTHING);
    assert_eq!(assessed(&folder(&SOUND)).verdict.name(), "unverified");
}

/// Missing, misshapen, packed without scales, of a type that is not read: each is named, and so is what the head lacks.
#[test]
fn everything_of_the_trunk_is_named() {
    let folder = folder(&[
        ("model.layers.0.norm.weight", "F32", &[1, 2]),
        ("model.layers.0.up.weight", "U32", &[2, 2]),
        ("model.layers.1.up.weight", "I64", &[2, 2]),
    ]);
    let faults = [
        "model.layers.0.up.scales: tensor not found",
        "model.layers.1.norm.weight: tensor not found",
        "model.layers.0.norm.weight: shape [1, 2]: expected [2]",
        "model.safetensors: model.layers.1.up.weight: type I64: expected F32, F16 or BF16",
    ];
    assert_eq!(said(&folder), faults);
    let Verdict::Incompatible { why, .. } = assessed(&folder).verdict else {
        panic!("{:?}", assessed(&folder).verdict)
    };
    assert_eq!(why, [faults[3], faults[0], faults[1], faults[2], "the draft head: missing mtp.fc.weight"]);
}

/// Bits that are stated and not those of the tensors: loading would refuse them.
#[test]
fn packing_is_what_is_stated() {
    let packed: [(&str, &str, &[usize]); 3] = [
        ("model.layers.0.up.weight", "U32", &[2, 8]),
        ("model.layers.0.up.scales", "F16", &[2, 1]),
        ("model.layers.0.up.biases", "F16", &[2, 1]),
    ];
    let rest: [(&str, &str, &[usize]); 4] = [
        ("model.layers.0.norm.weight", "F32", &[64]),
        ("model.layers.1.norm.weight", "F32", &[64]),
        ("model.layers.1.up.weight", "F32", &[2, 64]),
        ("mtp.fc.weight", "F32", &[2]),
    ];
    let stated = |bits: usize, group_size: usize| {
        let quantization = json!({"group_size": group_size, "bits": bits});
        let config = json!({"model_type": "toy", "hidden_size": 64, "quantization": quantization});
        folder(&[&packed[..], &rest].concat()).config(config)
    };
    assert_eq!(said(&stated(4, 64)), NOTHING);
    assert_eq!(
        said(&stated(8, 64)),
        ["model.layers.0.up: weight of shape [2, 8]: expected [2, 16] for affine 8-bit group 64 of [2, 64]"]
    );
    // Of the group size the shapes leave no doubt.
    for size in [32, 128] {
        let finding = format!(
            "config.json: quantization.group_size: {size}: model.layers.0.up has groups of 64: the shapes decide"
        );
        assert_eq!(said(&stated(4, size)), [finding]);
        assert_eq!(assessed(&stated(4, size)).faults, []);
    }
}

/// What is left out and changes the model, what may be meant so, and what is never worth a word.
#[test]
fn what_nothing_reads() {
    let without = "layers-mtp has no place for it, and without it another model would run";
    let needed = |name: &str| vec![format!("model.safetensors: {name}: {without}")];
    for name in [
        "model.layers.0.up.bias",
        "model.layers.1.gate.weight",
        "model.layers.0.sinks",
        "mtp.fc.bias",
        // More layers than num_hidden_layers says.
        "model.layers.2.up.weight",
    ] {
        assert_eq!(said(&and(&[(name, "F32", &[2])])), needed(name));
        assert_eq!(assessed(&and(&[(name, "F32", &[2])])).verdict.name(), "incompatible", "{name}");
    }
    let strange: [(&str, &str, &[usize]); 3] =
        [("model.ngrams.0.a", "F32", &[1]), ("model.ngrams.0.b", "F32", &[1]), ("model.scale", "F32", &[1])];
    assert_eq!(
        said(&and(&strange)),
        ["weights: model.ngrams.0.*, model.scale: 3 tensors that layers-mtp does not read: left out"]
    );
    assert_eq!(said(&and(&strange[2..])), ["weights: model.scale: a tensor that layers-mtp does not read: left out"]);
    // However many: one finding, and a list of faults that ends.
    let many = |place: &str| -> Vec<String> {
        let names: Vec<String> = (0..3000).map(|i| format!("{place}{i}.a")).collect();
        let tensors: Vec<(&str, &str, &[usize])> = names.iter().map(|name| (&**name, "F32", &[1][..])).collect();
        said(&and(&tensors))
    };
    let said_of = many("model.ngrams.");
    assert!(said_of.len() == 1 && said_of[0].contains(" and 2992 places more: 3000 tensors that"), "{said_of:?}");
    let needed = many("model.layers.0.");
    assert_eq!((needed.len(), &*needed[1000]), (1001, &*format!("2000 more tensors: {without}")));
    assert_eq!(assessed(&and(&strange)).verdict.name(), "unverified");
    for quiet in [
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "rotary_emb.inv_freq",
        "model.visual.blocks.0.attn.qkv.bias",
        "vision_model.encoder.layers.0.w",
        "audio_tower.conv.weight",
        // Tied, and stored all the same.
        "lm_head.weight",
        // Heads that are not announced.
        "mtp.layers.3.up.weight",
        "model.mtp_layers.0.input_proj.weight",
        "model.layers.2.eh_proj.weight",
        "model.layers.2.shared_head.norm.weight",
    ] {
        assert_eq!(said(&and(&[(quiet, "F32", &[2])])), NOTHING, "{quiet}");
    }
    // A head's layer is told from a trunk's by parts of its own, and then all of it is quiet.
    let head: [(&str, &str, &[usize]); 2] =
        [("model.layers.2.eh_proj.weight", "F32", &[2]), ("model.layers.2.up.weight", "F32", &[2])];
    assert_eq!(said(&and(&head)), NOTHING);
    assert_eq!(said(&and(&[("mtp.embed_tokens.weight", "F32", &[2, 2])])), NOTHING);
}

#[test]
fn bounds_and_lists_without_end() {
    let of = |config: Value| said(&folder(&SOUND).config(config));
    assert_eq!(
        of(json!({"model_type": "toy", "hidden_size": -3})),
        ["DIR/config.json: hidden_size: -3: expected an integer from 1 to 64"]
    );
    // However many, and of each kind: out of bounds, of another type, at odds with another, not supported, missing.
    assert_eq!(
        of(json!({"model_type": "toy", "hidden_size": 0, "heads": 3, "act": "tanh", "eps": "x", "act2": "tanh"})),
        [
            "DIR/config.json: act: \"tanh\": expected silu",
            "DIR/config.json: act2: \"tanh\": expected silu",
            "DIR/config.json: hidden_size: 0: expected an integer from 1 to 64",
            "DIR/config.json: eps: \"x\": expected a number from 0.0 to 1.0",
        ]
    );
    // What follows from a fault is none.
    assert_eq!(
        of(json!({"model_type": "toy", "hidden_size": "2", "heads": 2, "top": 2, "parted": 1, "parts": 2})),
        ["DIR/config.json: hidden_size: \"2\": expected an integer from 1 to 64"]
    );
    assert_eq!(
        of(json!({"model_type": "toy", "hidden_size": 2, "heads": 3, "top": 3})),
        [
            "DIR/config.json: heads: 3: expected a divisor of hidden_size 2",
            "DIR/config.json: top: 3: expected an integer from 1 to 2"
        ]
    );
    assert_eq!(
        of(json!({"model_type": "toy", "hidden_size": 2, "num_hidden_layers": 1000, "num_experts": 65536})),
        ["DIR/config.json: num_experts: 65536: in 1000 layers: expected at most 524288 in all"]
    );
}

/// Text files, each with its own fault; a use that needs none of them is not kept from anything.
#[test]
fn text_files() {
    let folder = folder(&SOUND)
        .file("tokenizer.json", "{}")
        .file("tokenizer_config.json", r#"{"auto_map": {"AutoTokenizer": ["tokenization_x.X", null]}}"#)
        .file("generation_config.json", "[]")
        .file("chat_template.jinja", "{% if %}");
    let assessment = assessed(&folder);
    let kinds: Vec<_> = assessment.faults.iter().map(|fault| (fault.area, fault.kind)).collect();
    let (text, damaged) = (Area::Text, ErrorKind::Damaged);
    // Nobody needs the code that `auto_map` names.
    assert_eq!(kinds, [(text, damaged), (text, damaged), (Area::Template, damaged)], "{:?}", assessment.faults);
    assert_eq!(assessment.verdict.name(), "damaged");
    let raw = assessment.clone().without(Area::Template);
    assert_eq!((raw.faults.len(), raw.verdict.name()), (2, "damaged"));
    let none = raw.without(Area::Text);
    assert_eq!((none.faults.len(), none.verdict.name()), (0, "unverified"));

    let folder = folder_of_template("{% if %}");
    assert_eq!(assessed(&folder).verdict.name(), "damaged");
    assert_eq!(assessed(&folder).without(Area::Template).verdict.name(), "unverified");
}

fn folder_of_template(template: &str) -> Folder {
    folder(&SOUND).file("chat_template.jinja", template)
}

/// Pickle is a verdict, with everything else that is wrong; `open` still refuses it.
#[test]
fn refusals() {
    // By name, and by its first bytes: nothing is compared with weights that were not read.
    for (file, bytes) in [("pytorch_model.bin", &b"x"[..]), ("model.safetensors", &[0x80, 4, 0, 0, 0, 0, 0, 0, 0])] {
        let config = json!({"model_type": "toy", "hidden_size": 2});
        let folder = Folder::new().config(config).file(file, bytes);
        assert_eq!(said(&folder).len(), 1, "{:?}", said(&folder));
        assert!(said(&folder)[0].starts_with(&format!("DIR/{file}: ")) && said(&folder)[0].contains("pickle"));
        assert_eq!(assessed(&folder).verdict.name(), "incompatible");
        assert!(folder.fault().starts_with(&format!("incompatible: DIR/{file}: ")));
    }
}

/// A file that is there is not called missing.
#[test]
fn a_sidecar_without_a_head() {
    let folder = folder(&SOUND[..4]).file("mtp.safetensors", safetensors(&[("x", "F32", vec![1], vec![0; 4])]));
    let config = json!({"model_type": "toy", "hidden_size": 2, "num_hidden_layers": 2,
        "mlx_lm_extra_tensors": {"mtp_file": "mtp.safetensors"}});
    let folder = folder.config(config);
    let says = assessed(&folder).verdict.to_string().replace(folder.path().to_str().unwrap(), "DIR");
    assert_eq!(
        says,
        "incomplete: the draft head is announced but missing mtp.* in DIR/mtp.safetensors (the file is there and has no \
         such tensor), mtp.fc.weight"
    );
}
