//! The conformance suite.

mod tiny;
mod verify;

use mtplx_arch_qwen3_next::Qwen3Next;

mtplx_runtime::conformance!(
    Qwen3Next,
    tiny: tiny::model,
    fixtures: "../tests/fixtures",
    [qwen3_5_dense, qwen3_5_dense_bf16, qwen3_5_moe, qwen3_next_moe, trained_qwen3_5]
);

/// Negative controls of the joint law: planted mistakes that its test must notice. They lie in the loop and the caches,
/// which all families share, and want a tiny model whose drafts are rejected often; so they are here, once.
mod controls {
    use mtplx_runtime::testing::checks::joint;
    use mtplx_runtime::testing::conformance::SAMPLES;

    #[test]
    fn faults_of_the_decision_are_detected() {
        joint::faults_of_the_decision_are_detected(crate::tiny::model, 2 * SAMPLES);
    }

    #[test]
    fn faults_of_the_rollback_are_detected() {
        joint::faults_of_the_rollback_are_detected(crate::tiny::model, 2 * SAMPLES);
    }
}
