//! Which files make up a checkpoint, and which are refused.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::json;

use super::{Folder, safetensors};
use crate::{ArtifactError, Checkpoint, Contract, HeadSource, weight_files};

const INCOMPLETE: &str = "the download is incomplete: fetch what is missing";

fn names(checkpoint: &Checkpoint) -> Vec<&str> {
    checkpoint.tensors().map(|(name, _)| name).collect()
}

#[test]
fn one_file() {
    let folder = Folder::new()
        .file("model.safetensors", safetensors(&[("w", "F32", vec![2], vec![0, 0, 128, 63, 0, 0, 0, 64])]));
    let checkpoint = folder.open().unwrap();
    assert_eq!(checkpoint.tensor("w").unwrap().shape, [2]);
    assert_eq!(checkpoint.bytes("w").unwrap(), [0, 0, 128, 63, 0, 0, 0, 64]);
    assert_eq!(checkpoint.floats("w").unwrap(), [1.0, 2.0]);
    assert_eq!(checkpoint.label(), folder.path().to_str().unwrap());
    assert_eq!(checkpoint.head_source(), &HeadSource::None);
}

#[test]
fn shards_with_an_index_leave_other_files_alone() {
    let folder = Folder::new()
        .tensors("a.safetensors", &["x"], 1)
        .tensors("sub/b.safetensors", &["y"], 2)
        .tensors("consolidated.safetensors", &["x"], 3)
        .index(json!({"x": "a.safetensors", "y": "sub/b.safetensors"}));
    let checkpoint = folder.open().unwrap();
    assert_eq!(names(&checkpoint), ["x", "y"]);
    assert_eq!((checkpoint.bytes("x").unwrap(), checkpoint.bytes("y").unwrap()), (&[1; 4][..], &[2; 4][..]));
}

#[test]
fn shards_without_an_index() {
    let folder = Folder::new().tensors("w-1.safetensors", &["x"], 1).tensors("w-2.safetensors", &["y"], 2);
    assert_eq!(names(&folder.open().unwrap()), ["x", "y"]);
}

#[test]
fn compiled_in() {
    let weights: &'static [u8] = safetensors(&[("x", "U8", vec![1], vec![5])]).leak();
    let files: [(&'static str, &'static [u8]); 3] =
        [("config.json", br#"{"model_type":"toy"}"#), ("model.safetensors", weights), ("tokenizer.json", b"{}")];
    let checkpoint = Checkpoint::embedded("builtin", &files).unwrap();
    assert_eq!((checkpoint.label(), checkpoint.bytes("x").unwrap()), ("builtin", &[5][..]));
    assert!(matches!(checkpoint.text_file("tokenizer.json"), Ok(Some(Cow::Borrowed("{}")))));
    let error = Checkpoint::embedded("builtin", &files[..1]).unwrap_err();
    assert_eq!(error.to_string(), "builtin/model.safetensors: not found");
}

#[test]
fn missing_things() {
    let nowhere = Checkpoint::open(Path::new("/no/such/folder")).unwrap_err();
    assert_eq!(nowhere.to_string(), "/no/such/folder: not found");
    assert!(nowhere.is_missing_or_damaged());
    let config_hint = "(give the folder that holds config.json and the weights)";
    assert_eq!(Folder::empty().fault(), format!("broken: DIR/config.json: not found {config_hint}"));
    assert_eq!(
        Folder::new().fault(),
        "broken: DIR/model.safetensors: not found (the folder has no weights (model.safetensors, or shards with model.safetensors.index.json))"
    );
    let folder =
        Folder::new().tensors("a.safetensors", &["x"], 1).index(json!({"x": "a.safetensors", "y": "b.safetensors"}));
    assert_eq!(
        folder.fault(),
        format!(
            "broken: DIR/b.safetensors: not found (model.safetensors.index.json places 1 tensors there: {INCOMPLETE})"
        )
    );
    let file = Folder::new();
    let error = Checkpoint::open(&file.path().join("config.json")).unwrap_err();
    assert_eq!(file.describe(&error), format!("broken: DIR/config.json: not a folder {config_hint}"));
}

#[test]
fn a_truncated_file() {
    let whole = safetensors(&[("x", "F32", vec![2], vec![0; 8])]);
    let fault = Folder::new().file("model.safetensors", &whole[..whole.len() - 1]).fault();
    assert_eq!(
        fault,
        "broken: DIR/model.safetensors: tensor x: data_offsets [0, 8]: the file has 7 bytes of data (truncated?) \
         (download the file again; if it stays the same, the published file is broken)"
    );
    assert!(
        Folder::new().file("model.safetensors", "").fault().starts_with("broken: DIR/model.safetensors: empty file")
    );
}

#[test]
fn a_name_in_two_shards() {
    let folder = Folder::new().tensors("a.safetensors", &["x"], 1).tensors("b.safetensors", &["x", "y"], 2);
    assert!(folder.fault().starts_with("broken: DIR/b.safetensors: tensor x: also in a.safetensors"));
}

#[test]
fn an_index_that_lies() {
    let with = |index: serde_json::Value| Folder::new().tensors("a.safetensors", &["x"], 1).index(index).fault();
    let outside = "a file name that does not stay inside the folder";
    for (name, what) in [
        ("../a.safetensors", outside),
        ("/etc/a.safetensors", outside),
        ("sub/../../a.safetensors", outside),
        ("./a.safetensors", outside),
        ("a//b.safetensors", outside),
        ("..\\a.safetensors", "a file name with a backslash or a control character"),
        ("a\0.safetensors", "a file name with a backslash or a control character"),
        ("", "an empty file name"),
        ("pytorch_model.bin", "a shard that is not safetensors"),
    ] {
        let fault = with(json!({"x": name}));
        assert!(fault.starts_with("broken: DIR/model.safetensors.index.json: weight_map: \""), "{fault}");
        assert!(fault.contains(what), "{name}: {fault}");
    }
    assert!(with(json!({})).contains("weight_map: 0 shards: expected 1 to 4096"));
    let twice = r#"{"weight_map": {"x": "a.safetensors", "x": "b.safetensors"}}"#;
    let twice = Folder::new().file("model.safetensors.index.json", twice).fault();
    assert!(twice.contains("index.json: not an index: x occurs twice"), "{twice}");
}

/// A folder with u8 tensors in files and an index, or with a file that is none.
fn indexed(files: &[(&str, &[&str])], index: &str) -> Folder {
    let folder = Folder::new().file("model.safetensors.index.json", index);
    files.iter().fold(folder, |folder, (file, tensors)| folder.tensors(file, tensors, 1))
}

fn index(places: &[(&str, &str)]) -> String {
    let map: serde_json::Map<_, _> = places.iter().map(|(tensor, file)| ((*tensor).to_owned(), json!(file))).collect();
    json!({"weight_map": map}).to_string()
}

const SINGLE: &str = "model.safetensors";
const OF_TWO: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
const OF_THREE: [&str; 3] =
    ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"];

#[test]
fn an_index_of_another_build() {
    let of_source = index(&[("x", OF_TWO[0]), ("y", OF_TWO[1])]);
    let absent = "weight_map: \"model-00001-of-00002.safetensors\" and 1 more: not there: read from";
    let second = "weight_map: \"model-00002-of-00002.safetensors\": not there: read from model.safetensors instead";
    for (files, index, finding) in [
        (&[(SINGLE, &["x", "y"][..])][..], of_source.clone(), format!("{absent} model.safetensors instead")),
        // Conversions rename tensors, and leave some out.
        (&[(SINGLE, &["language_model.x"])], of_source.clone(), format!("{absent} model.safetensors instead")),
        (&[(SINGLE, &["x", "y"]), (OF_TWO[0], &["x"])], of_source.clone(), second.to_owned()),
        (
            &[(OF_THREE[0], &["x"]), (OF_THREE[1], &["y"]), (OF_THREE[2], &["z"])],
            of_source.clone(),
            format!("{absent} 3 shards instead"),
        ),
        (&[("model-q4.safetensors", &["x", "y"])], of_source.clone(), format!("{absent} model-q4.safetensors instead")),
        (&[(SINGLE, &["x", "y"])], "{\"weight_map\": {}}".to_owned(), "weight_map: 0 shards: expected".to_owned()),
        (&[(SINGLE, &["x", "y"])], "not JSON".to_owned(), "not an index: expected".to_owned()),
        (&[(SINGLE, &["x", "y"])], index(&[("x", "pytorch_model.bin")]), "a shard that is not safe".to_owned()),
        (&[(SINGLE, &["x", "y"])], index(&[("x", "../x.safetensors")]), "does not stay inside".to_owned()),
        // The files are the index's, their tensors are not.
        (
            &[(OF_TWO[0], &["y"]), (OF_TWO[1], &["x"])],
            of_source.clone(),
            "weight_map.x and 1 more tensors: not in the file that it names".to_owned(),
        ),
        (
            &[(SINGLE, &["x"])],
            index(&[("x", SINGLE), ("gone", SINGLE)]),
            "weight_map.gone: not in the file that it names".to_owned(),
        ),
        (
            &[(SINGLE, &["x"])],
            index(&[("x", SINGLE), ("visual.y", "model-2.safetensors")]),
            "weight_map: \"model-2.safetensors\": not there: vision parts".to_owned(),
        ),
    ] {
        let folder = indexed(files, &index);
        let checkpoint = folder.open().unwrap_or_else(|error| panic!("{files:?}: {error}"));
        let found: Vec<String> = checkpoint.findings().iter().map(ToString::to_string).collect();
        assert!(found.len() == 1 && found[0].contains(&finding), "{files:?}: {found:?}");
        assert!(found[0].starts_with("model.safetensors.index.json: "), "{found:?}");
        let all: BTreeSet<&str> = files.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        assert_eq!(names(&checkpoint), all.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn files_beside_those_of_an_index() {
    for (files, index, expected) in [
        (&[(OF_TWO[0], &["x"][..]), (OF_TWO[1], &["y"][..])][..], index(&[("x", OF_TWO[0])]), &["x", "y"][..]),
        (&[(OF_TWO[0], &["x"]), ("model-more.safetensors", &["y"])], index(&[("x", OF_TWO[0])]), &["x", "y"]),
        (&[(SINGLE, &["x"]), ("model-more.safetensors", &["y"])], index(&[("x", SINGLE)]), &["x", "y"]),
        // Another build of the same weights, and what no loader reads.
        (&[(OF_TWO[0], &["x"]), (SINGLE, &["x", "y"])], index(&[("x", OF_TWO[0])]), &["x"]),
        (&[(SINGLE, &["x"]), ("adapters.safetensors", &["y"])], index(&[("x", SINGLE)]), &["x"]),
    ] {
        let folder = indexed(files, &index);
        let checkpoint = folder.open().unwrap();
        assert_eq!((names(&checkpoint), checkpoint.findings()), (expected.to_vec(), &[][..]), "{files:?}");
    }
}

#[test]
fn an_incomplete_download() {
    let of_three = index(&[("x", OF_THREE[0]), ("y", OF_THREE[1]), ("z", OF_THREE[2])]);
    for files in [
        &[(OF_THREE[0], &["x"][..])][..],
        &[(OF_THREE[0], &["x"]), (OF_THREE[2], &["z"])],
        &[(OF_THREE[0], &["x"]), ("adapters.safetensors", &["a"])],
        &[("mtp.safetensors", &["mtp.x"]), ("model-vision-00001.safetensors", &["visual.x"])],
    ] {
        let fault = indexed(files, &of_three).fault();
        assert!(fault.starts_with("broken: DIR/model-0000") && fault.ends_with(&format!(" {INCOMPLETE})")), "{fault}");
    }
}

#[test]
fn pickle_and_other_formats_only() {
    let fault = Folder::new().file("pytorch_model.bin", "x").fault();
    assert_eq!(
        fault,
        "incompatible: DIR/pytorch_model.bin: the only weights are pickled, and pickle can run code when read \
         (convert the checkpoint to safetensors with the tools of whoever published it)"
    );
    assert!(
        Folder::new()
            .file("q4.gguf", "x")
            .fault()
            .starts_with("incompatible: DIR/q4.gguf: the only weights are not safetensors")
    );
    // Beside safetensors, a pickle is nobody's business.
    Folder::new().file("training_args.bin", "x").tensors("model.safetensors", &["x"], 1).open().unwrap();
}

#[cfg(unix)]
mod links {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::Hint;

    #[test]
    fn out_of_the_folder_are_refused() {
        let other = Folder::new().tensors("secret.safetensors", &["x"], 1);
        let folder = Folder::new();
        symlink(other.path().join("secret.safetensors"), folder.path().join("model.safetensors")).unwrap();
        let fault = folder.fault();
        assert!(fault.starts_with("broken: DIR/model.safetensors: a link out of the folder, to /"), "{fault}");
        // A folder on the way is a link as good as any.
        let folder = Folder::new().index(json!({"x": "sub/secret.safetensors"}));
        symlink(other.path(), folder.path().join("sub")).unwrap();
        assert!(folder.fault().starts_with("broken: DIR/sub/secret.safetensors: a link out of the folder"));
        let folder = Folder::empty();
        symlink("/etc/passwd", folder.path().join("config.json")).unwrap();
        assert!(folder.fault().starts_with("broken: DIR/config.json: a link out of the folder"));
    }

    #[test]
    fn inside_the_folder_are_followed() {
        let folder = Folder::new().tensors("real.safetensors", &["x"], 1);
        symlink("real.safetensors", folder.path().join("model.safetensors")).unwrap();
        folder.open().unwrap();
    }

    #[test]
    fn into_the_blobs_of_the_same_cache_are_followed() {
        let cache = Folder::empty()
            .file("models--o--n/blobs/c0", r#"{"model_type":"toy"}"#)
            .file("models--o--n/blobs/w0", safetensors(&[("x", "U8", vec![1], vec![1])]))
            .file("models--o--other/blobs/w1", safetensors(&[("x", "U8", vec![1], vec![2])]));
        let snapshot = cache.path().join("models--o--n/snapshots/abc");
        fs::create_dir_all(&snapshot).unwrap();
        symlink("../../blobs/c0", snapshot.join("config.json")).unwrap();
        symlink("../../blobs/w0", snapshot.join("model.safetensors")).unwrap();
        assert_eq!(Checkpoint::open(&snapshot).unwrap().bytes("x").unwrap(), [1]);
        // Through a link to the snapshot as well.
        symlink(&snapshot, cache.path().join("model")).unwrap();
        Checkpoint::open(&cache.path().join("model")).unwrap();

        fs::remove_file(snapshot.join("model.safetensors")).unwrap();
        symlink("../../../models--o--other/blobs/w1", snapshot.join("model.safetensors")).unwrap();
        assert!(Checkpoint::open(&snapshot).unwrap_err().to_string().contains("a link out of the folder"));
        fs::remove_file(cache.path().join("models--o--n/blobs/c0")).unwrap();
        let error = Checkpoint::open(&snapshot).unwrap_err();
        assert!(error.to_string().ends_with("config.json: the link's target: not found"), "{error}");
    }

    #[test]
    fn an_interrupted_download_names_the_repository_to_fetch_from() {
        let whole = safetensors(&[("x", "U8", vec![1], vec![1])]);
        let said = |dir: &Path| {
            let error = Checkpoint::open(dir).expect_err("opened");
            (error.to_string(), error.hint())
        };
        let incomplete = |repository: Option<&str>| Hint::Download {
            reason: "the download is incomplete".into(),
            repository: repository.map(Into::into),
        };
        let cache = Folder::empty().file("models--o--n/blobs/c0", r#"{"model_type":"toy"}"#);
        let snapshot = cache.path().join("models--o--n/snapshots/abc");
        fs::create_dir_all(&snapshot).unwrap();
        symlink("../../blobs/c0", snapshot.join("config.json")).unwrap();
        // Nothing tells that more was meant to come.
        assert!(said(&snapshot).1.text().is_some());
        let cache = cache.file("models--o--n/blobs/w0.incomplete", &whole[..9]);
        let (what, hint) = said(&snapshot);
        assert!(what.ends_with("model.safetensors: not found") && hint == incomplete(Some("o/n")), "{what}: {hint:?}");
        symlink("../../blobs/w0", snapshot.join("model.safetensors")).unwrap();
        let (what, hint) = said(&snapshot);
        assert!(
            what.ends_with("model.safetensors: the link's target: not found") && hint == incomplete(Some("o/n")),
            "{hint:?}"
        );
        let cache = cache.file("models--o--n/refs/main", "def\n");
        assert_eq!(said(&snapshot).1, incomplete(Some("o/n@abc")));
        let cache = cache.file("models--o--n/blobs/w0", whole);
        Checkpoint::open(&snapshot).unwrap();
        drop(cache);
        let folder = Folder::new().file(".cache/huggingface/download/w.incomplete", "");
        assert_eq!(said(folder.path()).1, incomplete(None));
    }

    /// A snapshot whose `config.json` is the given link, in a cache with things to reach for.
    fn snapshot_with(link: &str, prepare: impl FnOnce(&Path)) -> (Folder, std::path::PathBuf) {
        let toy = r#"{"model_type":"toy"}"#;
        let cache = Folder::empty()
            .file("models--o--n/blobs/c0", toy)
            .file("models--o--n/blobs/sub/c1", toy)
            .file("models--o--n/refs/main", toy)
            .file("models--o--n/snapshots/other/config.json", toy)
            .file("models--o--nn/blobs/c0", toy)
            .file("secret/config.json", toy)
            .tensors("models--o--n/snapshots/abc/model.safetensors", &["x"], 1);
        let repository = cache.path().join("models--o--n");
        symlink(link.replace("CACHE", cache.path().to_str().unwrap()), repository.join("snapshots/abc/config.json"))
            .unwrap();
        prepare(&repository);
        let snapshot = repository.join("snapshots/abc");
        (cache, snapshot)
    }

    #[test]
    fn every_other_way_out_of_a_snapshot_is_refused() {
        let out = "a link out of the folder";
        for (link, what) in [
            ("/etc/passwd", out),
            ("CACHE/secret/config.json", out),
            ("../../../models--o--nn/blobs/c0", out),
            ("../../blobs/../../models--o--nn/blobs/c0", out),
            ("../../blobs/../../../../../../../../../../../../../../etc/passwd", out),
            ("../../blobs/../refs/main", out),
            ("../../blobs/sub/c1", out),
            ("../other/config.json", out),
            ("../../blobs", out),
            ("../../blobs/none", "the link's target: not found"),
            ("config.json", ""), // to itself: what the system says of it differs
            (".", "not a regular file"),
        ] {
            let (_cache, snapshot) = snapshot_with(link, |_| {});
            let error = Checkpoint::open(&snapshot).expect_err(link);
            assert!(error.to_string().contains(what) && error.is_missing_or_damaged(), "{link}: {error}");
        }
    }

    #[test]
    fn links_that_lead_to_links_count_where_they_end() {
        // Blob to blob stays inside.
        let (_cache, snapshot) = snapshot_with("../../blobs/l", |repo| symlink("c0", repo.join("blobs/l")).unwrap());
        Checkpoint::open(&snapshot).unwrap();
        // A blob that is a link out, and a link that first goes through the folder.
        let (_cache, snapshot) =
            snapshot_with("../../blobs/l", |repo| symlink("/etc/passwd", repo.join("blobs/l")).unwrap());
        assert!(
            Checkpoint::open(&snapshot).unwrap_err().to_string().contains("a link out of the folder, to /etc/passwd")
        );
        let (_cache, snapshot) =
            snapshot_with("step", |repo| symlink("/etc/passwd", repo.join("snapshots/abc/step")).unwrap());
        assert!(
            Checkpoint::open(&snapshot).unwrap_err().to_string().contains("a link out of the folder, to /etc/passwd")
        );
    }

    #[test]
    fn a_cache_whose_blobs_are_a_link_has_none() {
        let (cache, snapshot) = snapshot_with("../../blobs/config.json", |repo| {
            fs::rename(repo.join("blobs"), repo.join("gone")).unwrap();
            symlink("../secret", repo.join("blobs")).unwrap();
        });
        let error = Checkpoint::open(&snapshot).unwrap_err();
        assert!(error.to_string().contains("a link out of the folder"), "{error}");
        // And a folder that merely lies where a snapshot would has no blobs to reach for.
        let plain = cache.path().join("plain/snapshots/abc");
        fs::create_dir_all(&plain).unwrap();
        fs::create_dir_all(cache.path().join("plain/blobs")).unwrap();
        fs::write(cache.path().join("plain/blobs/c0"), r#"{"model_type":"toy"}"#).unwrap();
        symlink("../../blobs/c0", plain.join("config.json")).unwrap();
        assert!(Checkpoint::open(&plain).unwrap_err().to_string().contains("a link out of the folder"));
    }

    #[test]
    fn only_regular_files_are_opened() {
        let folder = Folder::new();
        fs::create_dir(folder.path().join("model.safetensors")).unwrap();
        assert!(folder.fault().starts_with("broken: DIR/model.safetensors: not a regular file"));
        let folder = Folder::new();
        // A socket: like a pipe, it would block or fail in ways of its own.
        let _listener = std::os::unix::net::UnixListener::bind(folder.path().join("model.safetensors")).unwrap();
        assert!(folder.fault().starts_with("broken: DIR/model.safetensors: not a regular file"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pipe_is_not_waited_for() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        for name in ["config.json", "model.safetensors", "mtp.safetensors", "mtplx_runtime.json", "tokenizer.json"] {
            let folder = Folder::new().tensors("model.safetensors", &["x"], 1);
            let path = folder.path().join(name);
            let _ = fs::remove_file(&path);
            mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
            // Nobody writes to it: opening it would never return.
            match folder.open() {
                Err(error) => assert!(folder.describe(&error).contains("not a regular file"), "{error}"),
                Ok(checkpoint) => match name {
                    "mtplx_runtime.json" => {
                        let (contract, findings) = Contract::read(&checkpoint);
                        assert!(contract.is_none() && findings[0].to_string().contains("not a regular file"));
                    }
                    _ => assert!(checkpoint.text_file(name).unwrap_err().to_string().contains("not a regular file")),
                },
            }
        }
        // A link to a device that never ends is a link out.
        let folder = Folder::empty();
        symlink("/dev/zero", folder.path().join("config.json")).unwrap();
        assert!(folder.fault().contains("a link out of the folder, to /dev/zero"));
    }
}

/// The head's source, and the element that `mtp.x` was read from.
fn head(folder: &Folder) -> (HeadSource, u8) {
    let checkpoint = folder.open().unwrap();
    (checkpoint.head_source().clone(), checkpoint.bytes("mtp.x").unwrap()[0])
}

#[test]
fn the_head_is_looked_for_in_order() {
    let file = |name: &str| HeadSource::File(name.to_owned());
    let announce = json!({"model_type": "toy", "mlx_lm_extra_tensors": {"mtp_file": "heads/h.safetensors"}});
    let folder = Folder::new().tensors("model.safetensors", &["mtp.x", "mtp.old", "x"], 0);
    assert_eq!(head(&folder), (HeadSource::Shards, 0));
    let folder = folder.tensors("model-mtp.safetensors", &["mtp.x"], 1);
    assert_eq!(head(&folder), (file("model-mtp.safetensors"), 1));
    let folder = folder.tensors("mtp/weights.safetensors", &["mtp.x"], 2);
    assert_eq!(head(&folder), (file("mtp/weights.safetensors"), 2));
    let folder = folder.tensors("mtp.safetensors", &["mtp.x"], 3);
    assert_eq!(head(&folder), (file("mtp.safetensors"), 3));
    let folder = folder.tensors("heads/h.safetensors", &["mtp.x"], 4).config(announce);
    assert_eq!(head(&folder), (file("heads/h.safetensors"), 4));
    // The file replaces the shards' head as a whole.
    assert_eq!(names(&folder.open().unwrap()), ["mtp.x", "x"]);
}

#[test]
fn the_index_may_name_the_heads_file_too() {
    let map = json!({"x": "model-1.safetensors", "mtp.x": "mtp.safetensors"});
    let folder = Folder::new().tensors("model-1.safetensors", &["x", "mtp.x"], 1).index(map);
    // Lost: the shards' copy is still there, and the index's word is not.
    let lost = folder.open().unwrap();
    assert_eq!((lost.head_source(), lost.missing_head_file()), (&HeadSource::Shards, Some("mtp.safetensors")));
    let folder = folder.tensors("mtp.safetensors", &["mtp.x"], 2);
    assert_eq!(head(&folder), (HeadSource::File("mtp.safetensors".into()), 2));
    assert_eq!(folder.open().unwrap().files().count(), 2);
    // An index from before the head moved out: its word for the shard's copy is not held against it.
    let map = json!({"x": "model-1.safetensors", "mtp.x": "model-1.safetensors"});
    assert_eq!(head(&folder.index(map)), (HeadSource::File("mtp.safetensors".into()), 2));
}

#[test]
fn an_announced_head_that_is_not_there() {
    let announce = |file: &str| {
        let config = json!({"model_type": "toy", "mlx_lm_extra_tensors": {"mtp_file": file}});
        Folder::new().config(config).tensors("model.safetensors", &["x"], 1)
    };
    let checkpoint = announce("mtp.safetensors");
    let checkpoint = checkpoint.open().unwrap();
    assert_eq!(
        (checkpoint.head_source(), checkpoint.missing_head_file()),
        (&HeadSource::None, Some("mtp.safetensors"))
    );
    for file in ["mtp.bin", "mtp.pt", "mtp.safetensors.pkl"] {
        let fault = announce(file).fault();
        assert!(fault.contains(&format!("mtp_file: \"{file}\": expected a safetensors file")), "{fault}");
    }
    let fault = announce("../mtp.safetensors").fault();
    assert!(
        fault.starts_with(
            "broken: DIR/config.json: mlx_lm_extra_tensors.mtp_file: \"../mtp.safetensors\": a file name that does not stay"
        ),
        "{fault}"
    );
}

#[test]
fn a_sidecar_may_not_replace_the_trunk() {
    let folder = Folder::new().tensors("model.safetensors", &["x"], 1).tensors("mtp.safetensors", &["mtp.x", "x"], 2);
    assert!(folder.fault().starts_with("broken: DIR/mtp.safetensors: tensor x: also in model.safetensors"));
}

#[test]
fn heads_under_other_families_names() {
    let of = |tensor: &str| {
        let config = json!({"model_type": "toy", "num_hidden_layers": 3});
        let folder = Folder::new().config(config).tensors("model.safetensors", &["model.layers.2.x", tensor], 1);
        folder.open().unwrap().head_source().clone()
    };
    assert_eq!(of("model.layers.3.eh_proj.weight"), HeadSource::Shards);
    assert_eq!(of("model.mtp_layers.0.x"), HeadSource::Shards);
    assert_eq!(of("language_model.mtp.fc.weight"), HeadSource::Shards);
    assert_eq!(of("model.layers.1.x"), HeadSource::None);
}

/// A head that is published by itself: beside a trunk under a sidecar's name, and in a folder of its own.
#[test]
fn a_head_s_tensors_under_other_prefixes() {
    let config = json!({"model_type": "toy", "num_hidden_layers": 3});
    let qwen = ["fc.weight", "layers.0.x", "norm.weight"];
    let sidecar = ["layers.0.enorm.weight", "layers.0.mtp_block.x"];
    let next_n = ["layers.0.eh_proj.weight", "layers.0.x"];
    let under = |prefix: &str, names: &[&str]| names.iter().map(|name| format!("{prefix}{name}")).collect::<Vec<_>>();
    for (prefix, parts, known) in [
        ("", &qwen[..], "mtp."),
        ("mtp.", &qwen, "mtp."),
        ("model.", &qwen, "mtp."),
        ("model.mtp.", &qwen, "mtp."),
        ("language_model.model.mtp.", &qwen, "mtp."),
        ("", &["pre_fc_norm_hidden.weight", "layers.0.mlp.x", "embed_tokens.weight"], "mtp."),
        ("", &sidecar, "mtp."),
        ("model.", &sidecar, "mtp."),
        ("", &next_n, "model.layers.3."),
        ("model.", &next_n, "model.layers.3."),
        ("", &["mtp_layers.0.input_proj.weight", "mtp_layers.0.x"], "model."),
        ("model.", &["mtp_layers.0.input_proj.weight", "mtp_layers.0.x"], "model."),
    ] {
        let (mut expected, stored) = (under(known, parts), under(prefix, parts));
        if known.ends_with("3.") {
            expected = expected.iter().map(|name| name.replace("3.layers.0.", "3.")).collect();
        }
        expected.sort_unstable();
        let stored: Vec<&str> = stored.iter().map(String::as_str).collect();
        let trunk = Folder::new().config(config.clone()).tensors(SINGLE, &["model.layers.0.x", "lm_head.weight"], 1);
        let beside = trunk.tensors("mtp.safetensors", &stored, 2);
        let checkpoint = beside.open().unwrap();
        let head: Vec<&str> =
            checkpoint.tensors().filter(|(_, info)| &*info.file == "mtp.safetensors").map(|(name, _)| name).collect();
        assert_eq!(head, expected, "{stored:?}");
        assert_eq!(checkpoint.head_source(), &HeadSource::File("mtp.safetensors".to_owned()));
        assert!(!checkpoint.is_head_alone());
        for file in [SINGLE, "mtp.safetensors"] {
            let alone = Folder::new().config(config.clone()).tensors(file, &stored, 2).open().unwrap();
            assert_eq!(alone.head_source(), &HeadSource::File(file.to_owned()), "{stored:?}");
            assert_eq!((alone.is_head_alone(), names(&alone)), (true, expected.iter().map(String::as_str).collect()));
        }
    }
    // Trunks, whatever else is in them, and files of neither.
    for stored in [
        &["model.layers.0.x", "model.layers.1.x", "model.embed_tokens.weight", "mtp.fc.weight"][..],
        &["model.layers.0.x", "model.layers.3.enorm.weight", "model.embed_tokens.weight", "model.norm.weight"],
        &["layers.0.x", "norm.weight", "embed_tokens.weight"],
        &["x", "fc.weight"],
    ] {
        let checkpoint = Folder::new().config(config.clone()).tensors(SINGLE, stored, 1).open().unwrap();
        let mut stored = stored.to_vec();
        stored.sort_unstable();
        assert_eq!((checkpoint.is_head_alone(), names(&checkpoint)), (false, stored));
    }
}

#[test]
fn a_head_that_is_stated_to_be_none() {
    let of = |text: serde_json::Value, tensor: &str| {
        let config = json!({"model_type": "toy", "text_config": text});
        let folder = Folder::new().config(config).tensors(SINGLE, &["model.layers.0.x", tensor], 1);
        let findings: Vec<String> = folder.open().unwrap().findings().iter().map(ToString::to_string).collect();
        findings.join("; ")
    };
    let said = |field: &str| {
        format!(
            "config.json: text_config.{field}: 0: 1 MTP tensors in the weights are not read: state how many MTP layers there are"
        )
    };
    for (text, tensor, expected) in [
        (json!({"mtp_num_hidden_layers": 0}), "mtp.fc.weight", said("mtp_num_hidden_layers")),
        (
            json!({"num_nextn_predict_layers": 0, "num_hidden_layers": 1}),
            "model.layers.1.x",
            said("num_nextn_predict_layers"),
        ),
        (json!({"mtp_num_hidden_layers": 1}), "mtp.fc.weight", String::new()),
        (json!({"mtp_num_hidden_layers": 0}), "model.norm.weight", String::new()),
        (json!({}), "mtp.fc.weight", String::new()),
    ] {
        assert_eq!(of(text, tensor), expected);
    }
}

#[test]
fn vision_is_counted_and_left_alone() {
    let folder = Folder::new()
        .tensors("model.safetensors", &["x", "vision_tower.a", "model.visual.b", "visual.c"], 1)
        .tensors("model-vision-00001.safetensors", &["vision_tower.d", "projector.e"], 1);
    let checkpoint = folder.open().unwrap();
    assert_eq!((names(&checkpoint), checkpoint.vision_tensors()), (vec!["x"], 5));
    // The same where an index names them.
    let folder = folder.index(json!({"x": "model.safetensors", "visual.c": "model.safetensors",
        "vision_tower.d": "model-vision-00001.safetensors", "projector.e": "model-vision-00001.safetensors"}));
    let checkpoint = folder.open().unwrap();
    assert_eq!((names(&checkpoint), checkpoint.vision_tensors()), (vec!["x"], 5));
}

#[test]
fn text_files() {
    let folder = Folder::new().tensors("model.safetensors", &["x"], 1).file("t.json", "\u{e9}").file("bad", [0xff]);
    let checkpoint = folder.open().unwrap();
    assert_eq!(checkpoint.text_file("t.json").unwrap().as_deref(), Some("\u{e9}"));
    assert_eq!(checkpoint.text_file("none.json").unwrap(), None);
    assert!(folder.describe(&checkpoint.text_file("bad").unwrap_err()).starts_with("broken: DIR/bad: invalid utf-8"));
    let outside = checkpoint.text_file("../x").unwrap_err();
    assert!(
        folder.describe(&outside).starts_with("broken: DIR/../x: a file name that does not stay inside the folder")
    );
}

#[test]
fn what_an_architecture_asks_for() {
    let folder = Folder::new().file("model.safetensors", safetensors(&[("x", "I32", vec![2, 1], vec![0; 8])]));
    let checkpoint = folder.open().unwrap();
    let said = |error: ArtifactError| {
        format!("{error} ({})", error.hint().text().unwrap()).replace(folder.path().to_str().unwrap(), "DIR")
    };
    assert!(checkpoint.require_shape("x", &[2, 1], "").is_ok());
    assert_eq!(
        said(checkpoint.require("y").unwrap_err()),
        "DIR: y: tensor not found (the checkpoint is partial, or its config.json belongs to another model)"
    );
    assert_eq!(
        said(checkpoint.require_shape("x", &[1, 2], "hidden_size 2").unwrap_err()),
        "DIR/model.safetensors: x: shape [2, 1]: expected [1, 2] (hidden_size 2) \
         (config.json and weights belong to different models, or the file is damaged)"
    );
    assert_eq!(
        said(checkpoint.floats("x").unwrap_err()),
        "DIR/model.safetensors: x: type I32: expected F32, F16 or BF16 (convert the checkpoint to bf16, or to MLX's quantization)"
    );
}

#[test]
fn which_weights_to_download() {
    let files = |names: &[&str], config: &str, index: Option<&str>| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        weight_files(&names, config.as_bytes(), index.map(str::as_bytes), str::to_owned)
            .map(|files| files.into_iter().collect::<Vec<_>>().join(" "))
            .map_err(|error| error.to_string())
    };
    let names =
        ["a.safetensors", "b.safetensors", "mtp/weights.safetensors", "h/x.safetensors", "m.bin", "sub/c.safetensors"];
    let index = r#"{"weight_map": {"x": "a.safetensors", "y": "gone.safetensors"}}"#;
    assert_eq!(files(&names, "{}", Some(index)).unwrap(), "a.safetensors mtp/weights.safetensors");
    assert_eq!(files(&names, "{}", None).unwrap(), "a.safetensors b.safetensors mtp/weights.safetensors");
    let announced = r#"{"mlx_lm_extra_tensors": {"mtp_file": "h/x.safetensors"}}"#;
    assert_eq!(files(&names, announced, Some(index)).unwrap(), "a.safetensors h/x.safetensors mtp/weights.safetensors");
    let outside = r#"{"mlx_lm_extra_tensors": {"mtp_file": "../x.safetensors"}}"#;
    assert_eq!(
        files(&["model.safetensors", "z.safetensors", "model-vision-1.safetensors"], outside, None).unwrap(),
        "model-vision-1.safetensors model.safetensors"
    );
    let stale = r#"{"weight_map": {"x": "model-00001-of-00002.safetensors", "y": "model-00002-of-00002.safetensors"}}"#;
    for (names, expected) in [
        (&["model.safetensors"][..], "model.safetensors"),
        (
            &["model-00001-of-00001.safetensors", "mtp.safetensors", "x.safetensors"],
            "model-00001-of-00001.safetensors mtp.safetensors",
        ),
        (&["model-00001-of-00002.safetensors"], "model-00001-of-00002.safetensors"),
        (&OF_TWO, "model-00001-of-00002.safetensors model-00002-of-00002.safetensors"),
    ] {
        assert_eq!(files(names, "{}", Some(stale)).unwrap(), expected);
    }
    assert!(files(&["pytorch_model.bin"], "{}", None).unwrap_err().contains("the only weights are pickled"));
    assert!(files(&["README.md"], "not JSON", None).unwrap_err().ends_with("model.safetensors: not found"));
    let outside = r#"{"weight_map": {"x": "../a.safetensors"}}"#;
    assert!(files(&names, "{}", Some(outside)).unwrap_err().contains("does not stay inside the folder"));
}

#[test]
fn a_small_file_is_read_once() {
    let folder = Folder::new().tensors("model.safetensors", &["x"], 1);
    let folder = folder.file("mtplx_runtime.json", r#"{"arch_id": "first"}"#);
    let checkpoint = folder.open().unwrap();
    let arch = |checkpoint: &Checkpoint| Contract::read(checkpoint).0.and_then(|contract| contract.arch_id);
    assert_eq!(checkpoint.text_file("absent.json").unwrap(), None);
    assert_eq!(arch(&checkpoint).as_deref(), Some("first"));

    let folder = folder.file("mtplx_runtime.json", r#"{"arch_id": "second"}"#).file("absent.json", "{}");
    assert_eq!(arch(&checkpoint).as_deref(), Some("first"), "what was judged");
    assert_eq!(checkpoint.text_file("absent.json").unwrap(), None);
    checkpoint.forget("mtplx_runtime.json");
    assert_eq!(arch(&checkpoint).as_deref(), Some("second"));
    assert_eq!(arch(&folder.open().unwrap()).as_deref(), Some("second"));
}
