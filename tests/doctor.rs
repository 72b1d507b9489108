//! `mtplx doctor`: a sound machine, warnings and errors.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::Value;

use crate::command::{mtplx, run_command};

/// Exit code and checks; a home of its own, in which everything is as it should be.
fn doctor(home: &std::path::Path, change: impl FnOnce(&mut Command)) -> (i32, Value) {
    let mut command = mtplx(&["doctor", "--json"]);
    command.env("MTPLX_HOME", home).env("HF_HOME", home).env("PATH", home.join("bin"));
    change(&mut command);
    let ran = run_command(command, b"");
    (ran.code, serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}")))
}

fn check<'a>(document: &'a Value, name: &str) -> &'a Value {
    document["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap()
}

#[test]
fn a_sound_machine() {
    let home = tempfile::tempdir().unwrap();
    let (code, document) = doctor(home.path(), |_| {});
    assert_eq!((code, &document["schema"]), (0, &Value::from(1)), "{document:#}");
    for name in ["program", "mlx", "device", "model", "kernels", "settings", "state", "models", "path"] {
        let found = check(&document, name);
        assert_eq!((&found["status"], &found["hint"]), (&Value::from("ok"), &Value::Null), "{found:#}");
    }
    // Nothing stays.
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    assert!(check(&document, "mlx")["value"].as_str().unwrap().starts_with("0."));
}

#[test]
fn warnings_end_with_0() {
    let home = tempfile::tempdir().unwrap();
    let other = home.path().join("bin/mtplx");
    fs::create_dir(home.path().join("bin")).unwrap();
    fs::write(&other, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
    let unfinished = home.path().join("hub/models--o--n/blobs");
    fs::create_dir_all(&unfinished).unwrap();
    fs::write(unfinished.join("x.incomplete"), "").unwrap();
    // A home in which nothing can be written.
    let (code, document) = doctor(home.path(), |command| {
        command.env("MTPLX_HOME", "/dev/null/mtplx");
    });
    assert_eq!((code, &document["status"]), (0, &Value::from("warning")), "{document:#}");
    for (name, says) in [("path", "is not"), ("state", "MTPLX_HOME"), ("models", "pull o/n")] {
        let found = check(&document, name);
        assert_eq!(found["status"], "warning", "{found:#}");
        assert!(format!("{found}").contains(says) || name == "path", "{found:#}");
    }
    assert!(check(&document, "path")["value"].as_str().unwrap().contains(other.to_str().unwrap()));
}

#[test]
fn an_error_ends_with_1() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("config.toml"), "prot = 1\n").unwrap();
    let (code, document) = doctor(home.path(), |_| {});
    let settings = check(&document, "settings");
    assert_eq!((code, &document["status"], &settings["status"]), (1, &Value::from("error"), &Value::from("error")));
    assert!(settings["value"].as_str().unwrap().contains("config.toml:1: unknown key \"prot\""), "{settings}");
    assert!(settings["hint"].as_str().is_some_and(|hint| !hint.is_empty()));
}

#[test]
fn lines_for_people() {
    let home = tempfile::tempdir().unwrap();
    let mut command = mtplx(&["doctor"]);
    command.env("MTPLX_HOME", home.path()).env("HF_HOME", home.path());
    let ran = run_command(command, b"");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    assert!(ran.stdout.lines().any(|line| line.starts_with("ok       device")), "{}", ran.stdout);
}

/// Threads for products, as doctor shows them: `OpenBLAS 0.3.34, 2 of 4 cores`.
fn threads(document: &Value) -> (usize, usize) {
    let value = check(document, "blas")["value"].as_str().unwrap();
    let (threads, rest) = value.split_once(", ").unwrap().1.split_once(" of ").unwrap();
    (threads.parse().unwrap(), rest.split(' ').next().unwrap().parse().unwrap())
}

/// Cores that others use are left to them, unless the user states a number.
#[cfg(target_os = "linux")]
#[test]
fn threads_are_the_cores_that_are_free() {
    let home = tempfile::tempdir().unwrap();
    let free = |stated: Option<&str>| {
        doctor(home.path(), |command| {
            for name in ["OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"] {
                command.env_remove(name);
            }
            stated.map(|number| command.env("OMP_NUM_THREADS", number));
        })
        .1
    };
    let (_, allowed) = threads(&free(None));
    let cores = fs::read_to_string("/proc/cpuinfo").unwrap().matches("processor\t").count().max(allowed);
    let busy = || Command::new("yes").stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut others: Vec<_> = (0..cores).map(|_| busy()).collect();
    let (beside, stated) = (threads(&free(None)).0, threads(&free(Some(&allowed.to_string()))).0);
    for other in &mut others {
        other.kill().unwrap();
        other.wait().unwrap();
    }
    assert_eq!((beside, stated), (1, allowed));
}
