//! Families with draft heads that are known by name and have no architecture crate here.

/// The beginning of `model_type`, and the family's name.
const FAMILIES: [(&str, &str); 15] = [
    ("deepseek_v32", "DeepSeek V3.2"),
    ("deepseek_v4", "DeepSeek V4"),
    ("ernie4_5_moe", "ERNIE-4.5 MoE"),
    ("exaone_moe", "EXAONE-MoE"),
    ("gemma4_assistant", "Gemma-4 assistant"),
    ("glm_moe_dsa", "GLM-5"),
    ("hy_v3", "Hunyuan V3"),
    ("kimi_k3", "Kimi-K3"),
    ("longcat_flash", "LongCat-Flash"),
    ("mimo_v2_flash", "MiMo-V2-Flash"),
    ("minimax_m3", "MiniMax-M3"),
    ("nemotron_h", "Nemotron-H"),
    ("pangu_ultra_moe", "openPangu"),
    ("qwen4_exp", "Qwen4-preview"),
    ("step3p5", "Step-3.5"),
];

/// The family's name, if `model_type` belongs to one of these.
pub fn known_family(model_type: &str) -> Option<&'static str> {
    FAMILIES.iter().find(|(prefix, _)| model_type.starts_with(prefix)).map(|&(_, name)| name)
}
