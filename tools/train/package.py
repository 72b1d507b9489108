"""Complete an artifact folder: tokenizer, chat template, generation defaults, runtime contract.

Usage: python package.py ARTIFACT --tokenizer tokenizer.json [--acceptance acceptance.json]
"""

import argparse
import hashlib
import json
from pathlib import Path

SAMPLER = {"temperature": 0.6, "top_p": 0.95, "top_k": 20}
CHAT_TEMPLATE = (
    "{%- for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n<think>\n\n</think>\n\n{% endif %}"
)


def write(path: Path, value: dict):
    path.write_text(json.dumps(value, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--acceptance", type=Path)
    args = parser.parse_args()
    folder = args.artifact

    (folder / "tokenizer.json").write_bytes(args.tokenizer.read_bytes())
    length = json.loads((folder / "config.json").read_text())["text_config"]["max_position_embeddings"]
    tokenizer = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": length,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    write(folder / "tokenizer_config.json", tokenizer)
    write(folder / "generation_config.json", {"do_sample": True, **SAMPLER, "eos_token_id": [0, 2], "pad_token_id": 0})

    contract = {
        "mtplx_version": "0.1.0",
        "contract_version": 1,
        "arch_id": "qwen3-next-mtp",
        "mtp_depth_max": 4,
        "mtp_depth_default": 3,
        "recommended_profile": "stable",
        "recommended_generation_mode": "mtp",
        "recommended_prompt_mode": "raw",  # trained on source text; the chat template is for --chat
        "mtp_contract": {
            "base_hidden_variant": "post_norm",
            "hidden_variant": "post_norm",
            "concat_order": "embedding_hidden",
            "mtp_quant_bits": 4,
            "mtp_quant_group_size": 64,
            "mtp_quant_mode": "affine",
            "mtp_quant_policy": "layer-linears",
            "mtp_prequantized": True,
        },
        "exactness_baseline": {"status": "pending"},
        "verified_on": {},
        "sha256": {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in ("config.json", "model.safetensors", "mtp.safetensors")
        },
    }
    if args.acceptance:
        measured = json.loads(args.acceptance.read_text())
        contract["speed_evidence"] = {"acceptance_by_depth": measured["all"]["cumulative"]}
    write(folder / "mtplx_runtime.json", contract)
    total = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{total} bytes")


if __name__ == "__main__":
    main()
