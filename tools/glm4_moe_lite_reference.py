#!/usr/bin/env python3
"""Makes a tiny checkpoint of GLM-4.7-Flash's architecture (`glm4_moe_lite`), MTP layer included, with expected tensors.

usage: OMP_NUM_THREADS=1 glm4_moe_lite_reference.py OUT --dtype bfloat16|float32 [--seed N] [--copies] [--all]
needs: pip install torch==2.15.0 transformers==5.24.0 safetensors==0.8.0 numpy==2.4.6

OUT gets `config.json` (the published fields, small numbers), `model.safetensors` (random weights under the published names,
in --dtype; the routers' bias stays f32, as published), a byte tokenizer, `golden.safetensors` and `golden.json`, in the format
of the other golden checkpoints. --copies adds the copies of embedding and head that the published MTP layer carries, --all the
expected tensors that no Rust test reads. The same arguments give the same bytes on the same machine.

`trunk.*` and `greedy_ids` are what transformers' classes compute in float64 from the weights as stored (norms, router, angles
in f32 all the same: 1e-6), with ONE correction, LATENT EPS. `mtp.*` is the float64 `Reference` below, written from the formulas
and fed the trunk's rows. `golden.json` states how far others are from these, and how far off some mistakes would be.

Where each convention comes from. HF: transformers 5.24 `models/glm4_moe_lite/modeling_glm4_moe_lite.py`; MLX: mlx-lm 0.32.2
`models/glm4_moe_lite.py`; vLLM `glm4_moe_lite.py`, `glm4_moe_lite_mtp.py` and SGLang `glm4_moe_lite.py`,
`glm4_moe_lite_nextn.py`, both with the attention of their `deepseek_v2.py`; llama.cpp `deepseek2.cpp`.

LATENT EPS  The latents' norms take `rms_norm_eps` (1e-5): vLLM, SGLang, MLX, llama.cpp, and Megatron-LM, which its authors
            train with (`multi_latent_attention.py`). HF takes RMSNorm's default of 1e-6, inherited from DeepSeek-V3, where
            both are equal: for GLM-5 reported as a mistake (transformers pull request 48762). The weights here make it show.
ROPE        Interleaved pairs, on `q_pe` and the one `k_pe`: HF `rope_interleave` (true unless stated, and not stated), MLX
            `traditional=True`, vLLM and SGLang `is_neox_style=False`. All of `qk_rope_head_dim`, nothing scaled.
SCALE       (qk_nope_head_dim + qk_rope_head_dim) ** -0.5: all. The published file has no yarn.
ROUTER      HF `Glm4MoeLiteTopkRouter`: sigmoid in f32, the bias added for the choice alone, the chosen sigmoids divided by
            their sum + 1e-20, times `routed_scaling_factor`. One group. The shared expert is added as it is.
LAYERS      Dense below `first_k_dense_replace`: MLX, vLLM, SGLang. HF reads `mlp_layer_types` instead (default: one dense).
MTP         eh_proj([enorm(embedding), hnorm(hidden)]), a sparse layer, shared_head.norm, the trunk's head; row t is fed the
            trunk's hidden state t AFTER the final norm and the embedding of token t+1: HF `modeling_layers.py` MtpLayer, vLLM,
            SGLang, llama.cpp. vLLM makes the embedding at position 0 zero, the others do not.
RECYCLED    At depth 2 and more, the output AFTER shared_head.norm: SGLang, llama.cpp, HF, and vLLM for GLM-5 (pull request
            47448); vLLM `glm4_moe_lite_mtp.py` still gives it from before.
"""
import argparse
import json
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers.cache_utils import MtpCache
from transformers.modeling_layers import MtpModel

ROWS, DRAFTS, GREEDY = 16, 4, 32
# What the Rust tests read; `mtp_alt` is what two disputed conventions would give.
READ = {"input_ids", "greedy_ids", "trunk.post_norm", "trunk.logits", "mtp.next_ids", "mtp.post_norm", "mtp.logits",
        "mtp.chain_ids", "mtp.chain_logits", "mtp_alt.prenorm_in.chain_logits", "mtp_alt.prenorm_recycle.chain_logits"}
MISTAKES = ["latent_eps_1e-6", "rope_half", "scale_of_values", "choice_without_bias", "weights_with_bias",
            "no_renormalization", "no_routed_scale"]


def make_config(dtype):
    """The published config.json, field by field, with small numbers. No two widths that could be mixed up are equal."""
    return {
        "architectures": ["Glm4MoeLiteForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "pad_token_id": 256,
        "eos_token_id": [258], "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 80,
        "max_position_embeddings": 4096, "model_type": "glm4_moe_lite", "moe_intermediate_size": 32,
        "topk_method": "noaux_tc", "norm_topk_prob": True, "num_attention_heads": 4, "n_group": 1, "topk_group": 1,
        "n_routed_experts": 8, "n_shared_experts": 1, "routed_scaling_factor": 1.8, "num_experts_per_tok": 2,
        "first_k_dense_replace": 1, "num_hidden_layers": 3, "num_key_value_heads": 4, "num_nextn_predict_layers": 1,
        "partial_rotary_factor": 1.0, "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 1000000,
        "tie_word_embeddings": False, "dtype": dtype, "transformers_version": "5.0.0rc0", "q_lora_rank": 48,
        "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12, "vocab_size": 320,
    }


def make_weights(c, dtype, seed):
    """Random weights under the published names, rounded to `dtype`, and a prompt."""
    hidden, heads, experts = c.hidden_size, c.num_attention_heads, c.n_routed_experts
    swiglu = lambda name, width: {f"{name}.gate_proj.weight": (width, hidden), f"{name}.up_proj.weight": (width, hidden),
                                  f"{name}.down_proj.weight": (hidden, width)}
    both = (c.vocab_size, hidden)
    shapes = {"model.embed_tokens.weight": both, "lm_head.weight": both, "model.norm.weight": (hidden,)}
    for layer in range(c.num_hidden_layers + 1):
        block = {
            "input_layernorm.weight": (hidden,), "post_attention_layernorm.weight": (hidden,),
            "self_attn.q_a_proj.weight": (c.q_lora_rank, hidden), "self_attn.q_a_layernorm.weight": (c.q_lora_rank,),
            "self_attn.q_b_proj.weight": (heads * (c.qk_nope_head_dim + c.qk_rope_head_dim), c.q_lora_rank),
            "self_attn.kv_a_proj_with_mqa.weight": (c.kv_lora_rank + c.qk_rope_head_dim, hidden),
            "self_attn.kv_a_layernorm.weight": (c.kv_lora_rank,),
            "self_attn.kv_b_proj.weight": (heads * (c.qk_nope_head_dim + c.v_head_dim), c.kv_lora_rank),
            "self_attn.o_proj.weight": (hidden, heads * c.v_head_dim)}
        if layer < c.first_k_dense_replace:
            block |= swiglu("mlp", c.intermediate_size)
        else:
            block |= {"mlp.gate.weight": (experts, hidden), "mlp.gate.e_score_correction_bias": (experts,)}
            for name in [*(f"experts.{expert}" for expert in range(experts)), "shared_experts"]:
                block |= swiglu(f"mlp.{name}", c.moe_intermediate_size)
        if layer == c.num_hidden_layers:
            block |= {f"{name}.weight": (hidden,) for name in ("enorm", "hnorm", "shared_head.norm")}
            block |= {"eh_proj.weight": (hidden, 2 * hidden)}
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in block.items()}

    # Latents of mean square 1e-3, so that the epsilon of their norms shows; scores wide enough for attention to choose.
    gains = {"embed_tokens": np.sqrt(hidden), "q_a_proj": 0.03, "q_b_proj": 1.5, "kv_b_proj": 1.5}
    rng, weights = np.random.default_rng(seed), {}
    for name, shape in shapes.items():
        values, kind = rng.standard_normal(shape), getattr(torch, dtype)
        if name.endswith("e_score_correction_bias"):
            values, kind = 0.1 * values, torch.float32
        elif len(shape) == 1:
            values = 1 + 0.2 * values
        else:
            values *= gains.get(name.split(".")[-2], 1.0) / np.sqrt(shape[1])
        if "kv_a_proj" in name:
            values[: c.kv_lora_rank] *= 0.03
        weights[name] = torch.from_numpy(values).to(torch.float32).to(kind)
    return weights, rng.integers(0, 256, ROWS).tolist()


class Reference:
    """The model in float64, from the formulas, or with one of MISTAKES. A cache has every head's keys and values, by module."""

    def __init__(self, weights, config, mistake=None):
        self.w = {name: tensor.double().numpy() for name, tensor in weights.items()}
        self.c, self.mistake, self.depth = config, mistake, config.num_hidden_layers
        # The least distance from the last expert chosen to the next; for each row, whether the bias changed the choice.
        self.gap, self.changed = np.inf, []

    def linear(self, x, name):
        return x @ self.w[f"{name}.weight"].T

    def norm(self, x, name, eps=None):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + (eps or self.c.rms_norm_eps)) * self.w[f"{name}.weight"]

    def swiglu(self, x, name):
        gate = self.linear(x, f"{name}.gate_proj")
        return self.linear(gate / (1 + np.exp(-gate)) * self.linear(x, f"{name}.up_proj"), f"{name}.down_proj")

    def rope(self, x, start):
        """Rotates features 2i and 2i+1 of [..., rows, width] by position * theta^(-2i / width), positions from `start`."""
        width, out = x.shape[-1], np.empty_like(x)
        angle = np.outer(start + np.arange(x.shape[-2]), self.c.rope_theta ** (-np.arange(0, width, 2) / width))
        a, b = slice(0, None, 2), slice(1, None, 2)
        if self.mistake == "rope_half":
            a, b = slice(0, width // 2), slice(width // 2, None)
        out[..., a] = x[..., a] * np.cos(angle) - x[..., b] * np.sin(angle)
        out[..., b] = x[..., b] * np.cos(angle) + x[..., a] * np.sin(angle)
        return out

    def attention(self, x, name, cache):
        c, n, nope, past = self.c, len(x), self.c.qk_nope_head_dim, cache.get(name)
        start = past[0].shape[1] if past else 0
        eps = 1e-6 if self.mistake == "latent_eps_1e-6" else None
        by_head = lambda rows: rows.reshape(n, c.num_attention_heads, -1).swapaxes(0, 1)
        q = self.norm(self.linear(x, f"{name}.q_a_proj"), f"{name}.q_a_layernorm", eps)
        q, q_pe = np.split(by_head(self.linear(q, f"{name}.q_b_proj")), [nope], -1)
        latent, k_pe = np.split(self.linear(x, f"{name}.kv_a_proj_with_mqa"), [c.kv_lora_rank], -1)
        latent = self.norm(latent, f"{name}.kv_a_layernorm", eps)
        k, v = np.split(by_head(self.linear(latent, f"{name}.kv_b_proj")), [nope], -1)
        q_pe, k_pe = self.rope(q_pe, start), self.rope(k_pe, start)
        q, k = np.concatenate([q, q_pe], -1), np.concatenate([k, np.broadcast_to(k_pe, q_pe.shape)], -1)
        cache[name] = k, v = [np.concatenate(pair, 1) for pair in zip(past, (k, v))] if past else (k, v)
        scores = q @ k.swapaxes(1, 2) / np.sqrt(c.v_head_dim if self.mistake == "scale_of_values" else q.shape[-1])
        scores[:, np.arange(start + n) > start + np.arange(n)[:, None]] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = weights / weights.sum(-1, keepdims=True) @ v
        return self.linear(mixed.swapaxes(0, 1).reshape(n, -1), f"{name}.o_proj")

    def sparse(self, x, name):
        k = self.c.num_experts_per_tok
        scores = 1 / (1 + np.exp(-self.linear(x, f"{name}.gate")))
        biased = scores + self.w[f"{name}.gate.e_score_correction_bias"]
        plain, order = np.argsort(-scores, -1), np.argsort(-biased, -1)
        ranked = np.take_along_axis(biased, order, -1)
        self.gap = min(self.gap, float((ranked[:, k - 1] - ranked[:, k]).min()))
        self.changed += (np.sort(plain[:, :k]) != np.sort(order[:, :k])).any(-1).tolist()
        experts = (plain if self.mistake == "choice_without_bias" else order)[:, :k]
        chosen = np.take_along_axis(biased if self.mistake == "weights_with_bias" else scores, experts, -1)
        chosen /= 1 if self.mistake == "no_renormalization" else chosen.sum(-1, keepdims=True) + 1e-20
        chosen *= 1 if self.mistake == "no_routed_scale" else self.c.routed_scaling_factor
        out = self.swiglu(x, f"{name}.shared_experts")
        for row, slot in np.ndindex(chosen.shape):
            out[row] += chosen[row, slot] * self.swiglu(x[row], f"{name}.experts.{experts[row, slot]}")
        return out

    def block(self, x, layer, cache):
        name = f"model.layers.{layer}"
        x = x + self.attention(self.norm(x, f"{name}.input_layernorm"), f"{name}.self_attn", cache)
        feed_forward = self.swiglu if layer < self.c.first_k_dense_replace else self.sparse
        return x + feed_forward(self.norm(x, f"{name}.post_attention_layernorm"), f"{name}.mlp")

    def trunk(self, ids, cache):
        x = self.w["model.embed_tokens.weight"][ids]
        for layer in range(self.depth):
            x = self.block(x, layer, cache)
        post = self.norm(x, "model.norm")
        return {"post_norm": post, "logits": self.linear(post, "lm_head")}

    def head(self, hidden, ids, cache, zero_first=False):
        """Rows of the MTP layer, fed hidden states and the tokens that follow them."""
        name, embedding = f"model.layers.{self.depth}", self.w["model.embed_tokens.weight"][ids]
        embedding[0] *= not zero_first
        both = np.concatenate([self.norm(embedding, f"{name}.enorm"), self.norm(hidden, f"{name}.hnorm")], -1)
        fused = self.linear(both, f"{name}.eh_proj")
        pre = self.block(fused, self.depth, cache)
        post = self.norm(pre, f"{name}.shared_head.norm")
        return {"fused": fused, "pre_norm": pre, "post_norm": post, "logits": self.linear(post, "lm_head")}

    def drafts(self, hidden, ids, recycled="post_norm", zero_first=False):
        """All rows; then drafts, each from a row more: the head's own last hidden state and the draft before."""
        cache = {}
        rows = step = self.head(hidden, ids, cache, zero_first)
        chain = [step["logits"][-1]]
        while len(chain) < DRAFTS:
            step = self.head(step[recycled][-1:], [chain[-1].argmax()], cache)
            chain.append(step["logits"][-1])
        return rows, np.stack(chain)


class Transformers:
    """transformers' classes on the files, trunk and head."""

    def __init__(self, folder, c, dtype):
        config = transformers.AutoConfig.from_pretrained(folder)
        # Version 5.24 asks for these two before it builds an MTP layer, and knows the published layer's names (47) only.
        config.num_mtp_layers, config.mtp_mlp_layer_types = c.num_nextn_predict_layers, ["sparse"]
        self.model = transformers.Glm4MoeLiteForCausalLM.from_pretrained(
            folder, config=config, dtype=torch.float32, attn_implementation="sdpa", experts_implementation="eager")
        self.model._keys_to_ignore_on_load_unexpected = [rf"model\.layers\.{c.num_hidden_layers}\."]
        self.mtp = MtpModel.from_pretrained(self.model)
        for name, module in [*self.model.to(dtype).named_modules(), *self.mtp.to(dtype).named_modules()]:
            if name.endswith(("q_a_layernorm", "kv_a_layernorm")):
                module.variance_epsilon = c.rms_norm_eps  # LATENT EPS, above
        self.rows, base = {}, self.model.model
        named = {"embed": base.embed_tokens, "post_norm": base.norm, "logits": self.model.lm_head}
        keep = lambda name: lambda _module, _given, result: self.rows.update({name: result[0].double().numpy()})
        for name, module in (named | {f"layer.{index}": layer for index, layer in enumerate(base.layers)}).items():
            module.register_forward_hook(keep(name))

    @torch.no_grad()
    def trunk(self, ids):
        self.model(torch.tensor(ids)[None], use_cache=False)
        return self.rows | {"pre_norm": self.rows[f"layer.{self.model.config.num_hidden_layers - 1}"]}

    @torch.no_grad()
    def drafts(self, hidden, ids):
        """As `Reference.drafts`, logits only. transformers counts the head's positions from 1, which changes nothing."""
        cache, head = MtpCache(config=self.model.config.get_mtp_config()), self.model.lm_head
        step = lambda states, ids, at: self.mtp.forward_layer(
            0, states, torch.arange(at, at + len(ids))[None], cache, input_ids=torch.tensor(ids)[None])
        states = step(torch.from_numpy(hidden)[None].to(self.model.dtype), ids, 1)
        rows = head(states)[0]
        chain = [rows[-1]]
        while len(chain) < DRAFTS:
            states = step(states[:, -1:], [chain[-1].argmax().item()], len(ids) + len(chain))
            chain.append(head(states)[0, -1])
        return {"logits": rows.double().numpy(), "chain_logits": torch.stack(chain).double().numpy()}


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n")


def write_tokenizer(folder, context):
    """One token a byte, as the other golden checkpoints have it."""
    added, names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={name: index for index, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens(added)
    tokenizer.save(str(folder / "tokenizer.json"))
    template = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
                "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": added[2], "pad_token": added[0], "model_max_length": context,
        "chat_template": template, "clean_up_tokenization_spaces": False})
    write_json(folder / "generation_config.json", {"eos_token_id": 258, "pad_token_id": 256, "do_sample": False})


def main():
    largest = lambda a, b: float(np.abs(a - b).max())
    margin = lambda logits: float(np.diff(np.sort(logits, -1)[..., -2:]).min())  # By how much the choice leads, at least.
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], required=True)
    parser.add_argument("--seed", type=int, default=57, help="the default has no near ties")
    parser.add_argument("--copies", action="store_true", help="with the MTP layer's embed_tokens and shared_head.head")
    parser.add_argument("--all", action="store_true", help="with expected tensors that no Rust test reads")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()  # The trunk's class lists the head's tensors as unexpected.
    transformers.logging.disable_progress_bar()
    config, out = make_config(arguments.dtype), arguments.out
    c = argparse.Namespace(**config)
    out.mkdir(parents=True, exist_ok=True)
    weights, prompt = make_weights(c, arguments.dtype, arguments.seed)
    copies = {"embed_tokens": "model.embed_tokens", "shared_head.head": "lm_head"} if arguments.copies else {}
    stored = weights | {f"model.layers.{c.num_hidden_layers}.{copy}.weight": weights[f"{name}.weight"].clone()
                        for copy, name in copies.items()}
    (out / "model.safetensors").write_bytes(safetensors.torch.save(stored, {"format": "pt"}))
    write_json(out / "config.json", config)
    write_tokenizer(out, c.max_position_embeddings)

    # The trunk and its greedy text, by the class.
    hf, hf32 = (Transformers(out, c, precision) for precision in (torch.float64, torch.float32))
    trunk, text = hf.trunk(prompt), list(prompt)
    for _ in range(GREEDY):
        text.append(int(hf.trunk(text)["logits"][-1].argmax()))
    following = text[1 : ROWS + 1]

    # The head, by the reference.
    reference, other = Reference(weights, c), Reference(weights, c)
    rows, chain = reference.drafts(trunk["post_norm"], following)
    alternatives = {"prenorm_in": other.drafts(trunk["pre_norm"], following),
                    "prenorm_recycle": other.drafts(trunk["post_norm"], following, recycled="pre_norm"),
                    "mask0": other.drafts(trunk["post_norm"], following, zero_first=True)}

    # How far others are from both, and how far off mistakes would be.
    own, stepped = reference.trunk(text[:-1], {}), {}
    steps = np.concatenate([reference.trunk([token], stepped)["logits"] for token in text[:-1]])
    trunk32, expected = hf32.trunk(prompt), {"logits": rows["logits"], "chain_logits": chain}
    differences = {"ref64_incremental_vs_full": largest(steps, own["logits"])}
    for name in ("logits", "post_norm"):
        differences |= {f"hf32_vs_hf64_{name}": largest(trunk32[name], trunk[name]),
                        f"ref64_vs_hf64_{name}": largest(own[name][:ROWS], trunk[name])}
    for name, model in [("hf_mtp32", hf32), ("hf_mtp64", hf)]:
        found = model.drafts(trunk["post_norm"], following)
        differences |= {f"{name}_vs_ref64_{part}": largest(found[part], expected[part]) for part in expected}
    wrong = {f"mtp_{name}_chain": largest(drafts, chain) for name, (_, drafts) in alternatives.items()}
    for mistake in MISTAKES:
        wrong[mistake] = largest(Reference(weights, c, mistake).trunk(prompt, {})["logits"], own["logits"][:ROWS])
    assert max(differences.values()) < 5e-5, differences
    assert min(wrong.values()) > 1e-3, wrong
    assert own["logits"][ROWS - 1 :].argmax(-1).tolist() == text[ROWS:]

    tensors = {f"trunk.{name}": value for name, value in trunk.items()} | {f"mtp.{name}": value for name, value in rows.items()}
    tensors["mtp.chain_logits"] = chain
    for name, (alternative, drafts) in alternatives.items():
        tensors |= {f"mtp_alt.{name}.logits": alternative["logits"], f"mtp_alt.{name}.chain_logits": drafts}
    ids = {"input_ids": prompt, "greedy_ids": text[ROWS:], "mtp.next_ids": following, "mtp.chain_ids": chain.argmax(-1)}
    golden = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in tensors.items()}
    golden |= {name: torch.from_numpy(np.array(value, np.int32)) for name, value in ids.items()}
    golden = {name: tensor for name, tensor in golden.items() if arguments.all or name in READ}
    precision = {"precision": "computed in float64, stored float32"}
    (out / "golden.safetensors").write_bytes(safetensors.torch.save(golden, precision))
    write_json(out / "golden.json", {
        "family": "glm4_moe_lite", "seed": arguments.seed, "T": ROWS, "store": arguments.dtype, "n_tensors": len(stored),
        "versions": {module.__name__: module.__version__ for module in (torch, transformers, np)},
        "max_abs_diff": differences, "if_wrong": wrong, "logit_absmax": float(np.abs(trunk["logits"]).max()),
        "greedy_ids": text[ROWS:], "greedy_min_margin": margin(own["logits"][ROWS - 1 :]),
        "mtp_chain_ids": chain.argmax(-1).tolist(), "mtp_chain_min_margin": margin(chain), "router_min_topk_gap": reference.gap,
        "router_min_topk_gap_mtp_alt": other.gap, "router_choices_changed_by_bias": float(np.mean(reference.changed))})


if __name__ == "__main__":
    main()
