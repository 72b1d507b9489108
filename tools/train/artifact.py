"""Read and write MLX artifacts: model.safetensors, mtp.safetensors and config.json."""

import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from model import Config, Weights
from quant import GROUP, LINEAR_BITS, bits_of, dequantize, pack, quantize, unpack

PREFIX = "language_model."


def load(folder: Path) -> tuple[Weights, Config]:
    """Weights as float32, dequantized, under the names of ``model.py``."""
    config = json.loads((folder / "config.json").read_text())
    group = config.get("quantization", {}).get("group_size")
    tensors = load_file(folder / "model.safetensors") | load_file(folder / "mtp.safetensors")
    weights = {}
    for name, tensor in tensors.items():
        if name.endswith((".scales", ".biases")):
            continue
        stem = name.removesuffix("weight")
        if stem + "scales" in tensors:
            scales, biases = tensors[stem + "scales"].float(), tensors[stem + "biases"].float()
            bits = tensor.shape[1] * 32 // (scales.shape[1] * group)
            tensor = dequantize(unpack(tensor, bits), scales, biases)
        weights[name.removeprefix(PREFIX)] = tensor.float()
    return weights, Config.from_json(config)


def save(folder: Path, w: Weights, c: Config):
    """Quantize and write the two weight files and config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, Weights] = {"model.safetensors": {}, "mtp.safetensors": {}}
    overrides = {}
    for name, weight in sorted(w.items()):
        head = name.startswith("mtp.")
        out = files["mtp.safetensors" if head else "model.safetensors"]
        stored = name if head else PREFIX + name
        stem = stored.removesuffix(".weight")
        bits = bits_of(name, weight)
        if bits is None:
            out[stored] = (weight if name.endswith("A_log") else weight.bfloat16()).contiguous()
            if weight.ndim == 2 and not head:
                overrides[stem] = False
            continue
        codes, scales, biases = quantize(weight, bits)
        out[stored] = pack(codes, bits)
        out[f"{stem}.scales"], out[f"{stem}.biases"] = scales.bfloat16(), biases.bfloat16()
        if bits != LINEAR_BITS:
            overrides[stem] = {"group_size": GROUP, "bits": bits, "mode": "affine"}
    for name, tensors in files.items():
        save_file(tensors, folder / name, metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config_json(c, overrides), indent=1) + "\n")


def config_json(c: Config, overrides: dict) -> dict:
    quantization = {"group_size": GROUP, "bits": LINEAR_BITS, "mode": "affine", **overrides}
    return {
        "architectures": ["Qwen3_5ForConditionalGeneration"],
        "model_type": "qwen3_5",
        "text_config": {
            "model_type": "qwen3_5_text",
            "hidden_size": c.hidden_size,
            "intermediate_size": c.intermediate_size,
            "num_hidden_layers": c.num_hidden_layers,
            "num_attention_heads": c.num_attention_heads,
            "num_key_value_heads": c.num_key_value_heads,
            "head_dim": c.head_dim,
            "vocab_size": c.vocab_size,
            "rms_norm_eps": c.rms_norm_eps,
            "max_position_embeddings": c.max_position_embeddings,
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "tie_word_embeddings": True,
            "full_attention_interval": c.full_attention_interval,
            "linear_conv_kernel_dim": c.linear_conv_kernel_dim,
            "linear_key_head_dim": c.linear_key_head_dim,
            "linear_value_head_dim": c.linear_value_head_dim,
            "linear_num_key_heads": c.linear_num_key_heads,
            "linear_num_value_heads": c.linear_num_value_heads,
            "mtp_num_hidden_layers": 1,
            "mtp_use_dedicated_embeddings": False,
            "attn_output_gate": True,
            "mamba_ssm_dtype": "float32",
            "partial_rotary_factor": c.partial_rotary_factor,
            "rope_parameters": {
                "rope_theta": c.rope_theta,
                "partial_rotary_factor": c.partial_rotary_factor,
                "mrope_interleaved": True,
                "mrope_section": mrope_section(c.rotary_dim // 2),
                "type": "default",
            },
            "layer_types": [
                "full_attention" if c.is_attention(layer) else "linear_attention"
                for layer in range(c.num_hidden_layers)
            ],
            "eos_token_id": [0, 2],
        },
        "tie_word_embeddings": True,
        "eos_token_id": [0, 2],
        "torch_dtype": "bfloat16",
        "quantization": quantization,
        "quantization_config": quantization,
        "mtplx_mtp_quantization": {
            "bits": LINEAR_BITS,
            "group_size": GROUP,
            "mode": "affine",
            "policy": "layer-linears",
            "prequantized": True,
            "norm_encoding": "absolute",
        },
        "mlx_lm_extra_tensors": {"mtp_file": "mtp.safetensors"},
    }


def mrope_section(half: int) -> list[int]:
    """Text-only models use one position; the three sections only have to add up."""
    return [half - 2 * (half // 3), half // 3, half // 3]
