//! What the forge makes of a checkpoint.

use std::sync::atomic::AtomicBool;

use super::golden_tensors;
use crate::architecture::MtpArchitecture;
use crate::forge::{ForgeJob, Policy, RunControl};
use crate::testing::fixture::Fixture;

/// Nothing that can be lost is.
const EXACT: &str = "name = \"exact\"\nkeep = true\npacked = \"keep\"\nnorms = \"f32\"\n";

/// An artifact that is forged without loss is the same model, tensor by golden tensor.
pub fn forged_artifacts_are_the_same_model(architecture: &dyn MtpArchitecture, fixture: &Fixture) {
    let checkpoint = fixture.checkpoint();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("artifact");
    let never = AtomicBool::new(false);
    let made = Policy::parse("exact", EXACT)
        .and_then(|policy| ForgeJob::forge(architecture, &checkpoint, None, policy))
        .and_then(|job| job.run(&out, &RunControl::new(&never, &|_, _| {})));
    made.unwrap_or_else(|error| panic!("{}: {error}", fixture.name));
    golden_tensors(architecture, &fixture.forged_to(out));
}
