//! What the program says of itself.

use crate::command::{fails, json, run, run_with};

#[test]
fn help() {
    insta::assert_snapshot!("help", run(&["--help"]).stdout);
    insta::assert_snapshot!("help_run", run(&["run", "--help"]).stdout);
    insta::assert_snapshot!("help_chat", run(&["chat", "-h"]).stdout);
    insta::assert_snapshot!("help_inspect", run(&["inspect", "--help"]).stdout);
    insta::assert_snapshot!("help_verify", run(&["verify", "--help"]).stdout);
    insta::assert_snapshot!("help_forge", run(&["forge", "--help"]).stdout);
    insta::assert_snapshot!("help_forge_synth", run(&["forge", "synth", "--help"]).stdout);
    insta::assert_snapshot!("help_start", run(&["start", "-h"]).stdout);
    insta::assert_snapshot!("help_doctor", run(&["doctor", "--help"]).stdout);
    insta::assert_snapshot!("help_bench_serve", run(&["bench", "serve", "--help"]).stdout);
    insta::assert_snapshot!("help_parity", run(&["parity", "--help"]).stdout);
}

#[test]
fn version_names_mlx_and_device() {
    let ran = run(&["--version"]);
    assert_eq!(ran.code, 0);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let [own, mlx, device] = lines[..] else { panic!("{ran:?}") };
    assert_eq!(own, concat!("mtplx ", env!("CARGO_PKG_VERSION")));
    assert!(mlx.starts_with("mlx 0.") && device.starts_with("device "), "{ran:?}");
}

#[test]
fn nothing_at_all_is_a_usage_error() {
    let ran = run(&[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.contains("Usage: mtplx"));
}

/// The list itself: an architecture that the linker dropped would be missing here.
#[test]
fn architectures() {
    insta::assert_snapshot!(run(&["archs"]).stdout, @"
    deepseek-v3-mtp  DeepSeek-V3, DeepSeek-R1
      model types  deepseek_v3
      tier         recognized: drafts once `mtplx verify` has measured the artifact here, or with --allow-unverified
      depth        up to 8
      crate        mtplx-arch-deepseek-v3 0.1.0
    glm4-moe-lite-mtp  GLM-4.7-Flash
      model types  glm4_moe_lite
      tier         recognized: drafts once `mtplx verify` has measured the artifact here, or with --allow-unverified
      depth        up to 8
      crate        mtplx-arch-glm4-moe-lite 0.1.0
    glm4-moe-mtp  GLM-4.5, GLM-4.6, GLM-4.7
      model types  glm4_moe
      tier         recognized: drafts once `mtplx verify` has measured the artifact here, or with --allow-unverified
      depth        up to 8
      crate        mtplx-arch-glm4-moe 0.1.0
    mimo-mtp  MiMo-7B
      model types  mimo
      tier         recognized: drafts once `mtplx verify` has measured the artifact here, or with --allow-unverified
      depth        up to 8
      crate        mtplx-arch-mimo 0.1.0
    minimax-m2-mtp  MiniMax-M2
      model types  minimax_m2
      tier         recognized: drafts once `mtplx verify` has measured the artifact here, or with --allow-unverified
      depth        up to 8
      crate        mtplx-arch-minimax-m2 0.1.0
    qwen3-next-mtp  Qwen3-Next, Qwen3.5, Qwen3.6
      model types  qwen3_next, qwen3_5, qwen3_5_moe
      tier         verified: drafts behind a warning until `mtplx verify` has measured the artifact
      depth        up to 8
      crate        mtplx-arch-qwen3-next 0.1.0
    ");
    let list = json(&["archs", "--json"]);
    assert_eq!(list[5]["id"], "qwen3-next-mtp");
    assert_eq!(list[5]["max_depth"], 8);
    assert_eq!(list[5]["tier"], "verified");
}

#[test]
fn usage_errors_name_the_argument() {
    for (args, named) in [
        (&["run", "x", "--temperature", "-1"][..], "'-1' for '--temperature <T>'"),
        (&["run", "x", "--mtp-depth", "9"], "'9' for '--mtp-depth <N|auto>'"),
        (&["run", "x", "--raw", "--chat"], "'--raw' cannot be used with '--chat'"),
        (&["run", "x", "--no-such-flag"], "'--no-such-flag'"),
        (&["parity", "builtin"], "<REFERENCE>"),
        (&["run", "x", "--device", "tpu"], "'tpu' for '--device <DEVICE>'"),
        (&["sing"], "'sing'"),
    ] {
        let ran = run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{args:?}");
        assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(named), "{}", ran.stderr);
    }
}

#[test]
fn completions_and_manual() {
    assert!(run(&["completions", "bash"]).stdout.contains("--mtp-depth"));
    assert!(run(&["man"]).stdout.contains(".TH mtplx"));
}

#[test]
fn prompts_that_are_none() {
    for args in [&["run", ""][..], &["run", "-"], &["run"]] {
        let (error, hint) = fails(args, 2);
        assert_eq!(error, "the prompt is empty");
        assert!(hint.contains("mtplx run 'fn main() {'"));
    }
    let ran = run_with(&["run", "-"], b"caf\xe9");
    assert_eq!(ran.code, 5);
    assert!(ran.stderr.starts_with("error: standard input: not UTF-8 text (byte 3)\n"));
    let (error, _) = fails(&["run", "--file", "no/such/file"], 5);
    assert!(error.starts_with("no/such/file: "), "{error}");
}
