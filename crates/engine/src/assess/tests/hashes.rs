//! Evidence that covers these very files, and everything that makes it not.

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::Folder;
use super::verdict::{RECOGNIZED, VERIFIED, registry};
use crate::assess::{AssessOptions, Verdict, assess_with};
use crate::testing::{exactness_baseline, verified_on};
use mtplx_runtime::artifact::{KnownHashes, sha256};
use mtplx_runtime::text::TextAssets;

/// A complete artifact of two weight files.
fn artifact(model_type: &str) -> Folder {
    Folder::empty()
        .tokenizer()
        .config(json!({"model_type": model_type}))
        .tensors("model.safetensors", &["x"], 1)
        .tensors("mtp.safetensors", &["mtp.x", "mtp.y"], 2)
}

fn hashes(folder: &Folder) -> Value {
    json!(folder.open().unwrap().hashes(None, |_, _| {}))
}

/// With a contract that covers `folder` as it is, with changes.
fn covered(folder: Folder, id: &str, changes: Value) -> Folder {
    let mut contract = json!({"mtplx_version": "0.1.0", "arch_id": id, "mtp_depth_max": 2, "recommended_profile": "stable",
        "exactness_baseline": exactness_baseline(2), "verified_on": verified_on(Some("here")), "sha256": hashes(&folder)});
    for (field, value) in changes.as_object().unwrap() {
        contract[field] = value.clone();
    }
    folder.file("mtplx_runtime.json", contract.to_string())
}

fn verdict_with(folder: &Folder, options: AssessOptions<'_>) -> Verdict {
    let checkpoint = folder.open().unwrap();
    assess_with(&checkpoint, &registry(), &TextAssets::of(&checkpoint), options).verdict
}

fn verdict(folder: &Folder, machine: Option<&str>) -> String {
    let witness = AssessOptions { machine, ..AssessOptions::default() };
    verdict_with(folder, witness).to_string()
}

#[test]
fn sha256_is_sha256() {
    // FIPS 180-4's examples.
    assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let folder = artifact(VERIFIED);
    let hashes = hashes(&folder);
    let names: Vec<_> = hashes.as_object().unwrap().keys().collect();
    assert_eq!(names, ["config.json", "model.safetensors", "mtp.safetensors"]);
    for name in names {
        assert_eq!(hashes[name], sha256(&fs::read(folder.path().join(name)).unwrap()), "{name}");
    }
}

#[test]
fn evidence_that_covers_the_files() {
    let folder = covered(artifact(VERIFIED), "verified-mtp", json!({}));
    assert_eq!(verdict(&folder, None), "verified");
    // A further file may be stated, if it is that file.
    let with_tokenizer = |hash: String| {
        let folder = artifact(VERIFIED).file("generation_config.json", "{}");
        let mut all = hashes(&folder);
        all["generation_config.json"] = json!(hash);
        covered(folder, "verified-mtp", json!({"sha256": all}))
    };
    assert_eq!(verdict(&with_tokenizer(sha256(b"{}")), None), "verified");
    assert!(
        verdict(&with_tokenizer(sha256(b"[]")), None)
            .contains("sha256.generation_config.json: the file is not the one")
    );
}

#[test]
fn evidence_that_does_not() {
    let stale = |file: &str, bytes: &[u8]| {
        verdict(&covered(artifact(VERIFIED), "verified-mtp", json!({})).file(file, bytes), None)
    };
    let other =
        fs::read(artifact(VERIFIED).tensors("m.safetensors", &["mtp.x", "mtp.y"], 3).path().join("m.safetensors"));
    let line = stale("mtp.safetensors", &other.unwrap());
    let expected = "contradicted: sha256.mtp.safetensors: the file is not the one that the evidence was measured on (";
    assert!(line.starts_with(expected), "{line}");
    let line = stale("config.json", br#"{"model_type": "verified" }"#);
    assert!(line.starts_with("contradicted: sha256.config.json: the file is not the one"), "{line}");

    // A file that the evidence never saw, though everything that it saw is as it was.
    let folder = covered(artifact(VERIFIED), "verified-mtp", json!({})).tensors("model-vision.safetensors", &["v"], 1);
    assert_eq!(verdict(&folder, None), "unverified: sha256: the evidence does not cover model-vision.safetensors");
    for file in ["config.json", "model.safetensors", "mtp.safetensors"] {
        let folder = artifact(VERIFIED);
        let mut all = hashes(&folder);
        all.as_object_mut().unwrap().shift_remove(file);
        let folder = covered(folder, "verified-mtp", json!({"sha256": all}));
        assert_eq!(verdict(&folder, None), format!("unverified: sha256: the evidence does not cover {file}"));
    }
    let folder = artifact(VERIFIED);
    let mut all = hashes(&folder);
    all["gone.safetensors"] = json!("0".repeat(64));
    let folder = covered(folder, "verified-mtp", json!({"sha256": all}));
    assert_eq!(verdict(&folder, None), "contradicted: sha256.gone.safetensors: there is no such file");
}

#[test]
fn a_recognized_architecture_needs_evidence_of_this_machine() {
    let folder = covered(artifact(RECOGNIZED), "toy-mtp", json!({}));
    assert_eq!(verdict(&folder, Some("here")), "verified");
    let needs = "toy-mtp is a recognized architecture, which needs evidence measured on this machine";
    let other = format!("unverified: verified_on.machine: \"here\" is another machine: {needs}");
    assert_eq!(verdict(&folder, Some("there")), other);
    assert_eq!(verdict(&folder, None), other);
    let folder = covered(artifact(RECOGNIZED), "toy-mtp", json!({"verified_on": verified_on(None)}));
    for machine in [None, Some("here")] {
        assert_eq!(verdict(&folder, machine), format!("unverified: verified_on.machine: missing: {needs}"));
    }
}

#[test]
fn a_thorough_look_compares_hashes_though_the_verdict_is_clear() {
    let pending = json!({"exactness_baseline": {"status": "pending"}});
    let folder = covered(artifact(RECOGNIZED), "toy-mtp", pending).config(json!({"model_type": RECOGNIZED, "new": 1}));
    let why = |thorough| {
        let witness = AssessOptions { thorough, ..AssessOptions::default() };
        match verdict_with(&folder, witness) {
            Verdict::Unverified { why, .. } | Verdict::Contradicted { why, .. } => why.len(),
            other => panic!("{other}"),
        }
    };
    assert_eq!((why(false), why(true)), (2, 3));
}

/// Sets a file's time of change back, as if it had long been there.
fn settle(folder: &Folder, file: &str) {
    let file = fs::File::options().append(true).open(folder.path().join(file)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
}

#[test]
fn what_is_known_saves_hashing_and_never_lies() {
    let folder = artifact(VERIFIED);
    let hash = |known: &mut KnownHashes| {
        let mut read = 0;
        let hashes = folder.open().unwrap().hashes(Some(known), |done, _| read = done);
        (hashes["mtp.safetensors"].clone(), read)
    };
    // Nothing that was just written is remembered: its times may not tell it from the next write.
    let mut known = KnownHashes::default();
    let (first, _) = hash(&mut known);
    assert_eq!(known, KnownHashes::default());

    // The time of the last change of attributes cannot be set back, so the test waits for it.
    settle(&folder, "mtp.safetensors");
    settle(&folder, "model.safetensors");
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(hash(&mut known).0, first);
    assert_ne!(known, KnownHashes::default());
    // What is remembered is believed: here a lie shows it.
    let text = serde_json::to_string(&known).unwrap();
    let lie = "f".repeat(64);
    let mut known: KnownHashes = serde_json::from_str(&text.replace(&first, &lie)).unwrap();
    assert_eq!(hash(&mut known).0, lie);

    // The same length, the same time of modification, other bytes: the time of change tells.
    let path = folder.path().join("mtp.safetensors");
    let modified = path.metadata().unwrap().modified().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, &bytes).unwrap();
    fs::File::options().append(true).open(&path).unwrap().set_modified(modified).unwrap();
    assert_eq!(hash(&mut known).0, sha256(&bytes));
    // Replaced by another file of that name, length and time.
    let copy = folder.path().join("copy");
    fs::copy(&path, &copy).unwrap();
    fs::rename(&copy, &path).unwrap();
    assert_eq!(hash(&mut known).0, sha256(&bytes));
    // A memory that holds something else than a hash holds nothing.
    let mut odd: KnownHashes = serde_json::from_str(&text.replace(&first, "no hash")).unwrap();
    assert_eq!(hash(&mut odd).0, sha256(&bytes));
}

#[test]
fn files_that_are_gone_are_forgotten() {
    let folder = artifact(VERIFIED);
    std::thread::sleep(Duration::from_millis(2100));
    let mut known = KnownHashes::default();
    folder.open().unwrap().hashes(Some(&mut known), |_, _| {});
    let paths = |known: &KnownHashes| -> Vec<String> {
        let known = serde_json::to_value(known).unwrap();
        known.as_object().unwrap().keys().map(|path| path.rsplit('/').next().unwrap().to_owned()).collect()
    };
    known.prune();
    assert_eq!(paths(&known), ["model.safetensors", "mtp.safetensors"]);
    fs::remove_file(folder.path().join("mtp.safetensors")).unwrap();
    known.prune();
    assert_eq!(paths(&known), ["model.safetensors"]);
    fs::write(folder.path().join("model.safetensors"), "another").unwrap();
    known.prune();
    assert_eq!(known, KnownHashes::default());
}

#[test]
fn a_file_that_changes_while_it_is_open_is_noticed() {
    let folder = artifact(VERIFIED);
    let checkpoint = folder.open().unwrap();
    let hashes = checkpoint.hashes(None, |_, _| {});
    assert_eq!(checkpoint.changed_file(&hashes), None);
    // Another name for the file changes nothing but the time of its attributes, which says so of any change of bytes.
    let (before, path) = (checkpoint.stamp("mtp.safetensors"), folder.path().join("mtp.safetensors"));
    std::thread::sleep(Duration::from_millis(20));
    fs::hard_link(&path, folder.path().join("link")).unwrap();
    assert_ne!(folder.open().unwrap().stamp("mtp.safetensors"), before);
    assert_eq!(checkpoint.changed_file(&hashes), None);
    let other = [("mtp.safetensors".to_owned(), sha256(b"other"))].into();
    assert_eq!(checkpoint.changed_file(&other), Some("mtp.safetensors"));
    let folder = folder.tensors("new", &["mtp.x", "mtp.y"], 7);
    fs::rename(folder.path().join("new"), &path).unwrap();
    assert_eq!(checkpoint.changed_file(&hashes), Some("mtp.safetensors"));
}
