//! Places that the operating system refuses: what is said of them, and what to do.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use crate::command::{fails, model, mtplx};

#[test]
fn refusals_of_the_operating_system_have_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    symlink("loop", path("loop")).unwrap();
    fs::write(path("file"), "").unwrap();
    let source = model("mimo_bf16");

    for args in [&["inspect", &path("loop")][..], &["forge", &path("loop"), &path("out")], &["verify", &path("loop")]] {
        let (error, hint) = fails(args, 5);
        assert!(error.starts_with(&format!("{}: Too many levels", path("loop"))), "{error}");
        assert_eq!(hint, "check the path: its links lead in a circle");
    }
    let (error, hint) = fails(&["forge", &source, &path("file/out")], 1);
    assert_eq!(
        (error, hint.as_str()),
        (format!("{}: File exists (os error 17)", path("file")), "check the path: something else is there")
    );
    let (error, hint) = fails(&["forge", &source, &path(&format!("new/folders/{}", "n".repeat(250)))], 1);
    assert!(error.contains("File name too long") && hint == "give a shorter name", "{error} {hint}");
    if cfg!(target_os = "linux") {
        let (error, hint) = fails(&["forge", &source, "/proc/out"], 1);
        assert!(error.starts_with("/proc/.out.forging: ") && hint.starts_with("check the path: "), "{error} {hint}");
    }
    let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["file", "loop"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_named() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = mtplx(&["inspect", "builtin"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.starts_with("error: standard output: No space left on device"), "{stderr}");
    assert!(stderr.contains(" hint: make room, "), "{stderr}");
}
