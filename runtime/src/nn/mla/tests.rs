//! The forms of one layer, compared with one another: absorbed, expanded, in pieces, beside a history, packed.

use mlx_rs::{Dtype, random};

use super::*;
use crate::cache::{Cache, KvCache, LayerCache};
use crate::mlx::{Mode, Packing, QuantizedWeight};
use crate::model::Positions;

/// Few queries are absorbed, more than 70 expanded.
const SHAPE: MlaShape = MlaShape { heads: 4, kv_rank: 32, nope_dim: 32, rope_dim: 16, value_dim: 12 };
const HIDDEN: i32 = 48;

fn normal(shape: &[i32], key: u64) -> Array {
    let key = random::key(key).unwrap();
    random::normal::<f32>(shape, None, 0.3, &key).unwrap()
}

fn linear(shape: [i32; 2], key: u64) -> Linear {
    Linear::new(Weight::Dense(normal(&shape, key)), None).unwrap()
}

fn ones(width: i32) -> RmsNorm {
    RmsNorm::new(ops::ones::<f32>(&[width]).unwrap(), 1e-6, Dtype::Float32)
}

fn layer(compressed: bool) -> Mla {
    let MlaShape { heads, kv_rank, nope_dim, rope_dim, value_dim } = SHAPE;
    let queries = heads * (nope_dim + rope_dim);
    let (first, queries) = if compressed {
        (linear([24, HIDDEN], 1), Queries::Compressed { norm: ones(24), expand: linear([queries, 24], 2) })
    } else {
        (linear([queries, HIDDEN], 1), Queries::Plain)
    };
    Mla {
        shape: SHAPE,
        inputs: Fused::new(vec![first, linear([kv_rank + rope_dim, HIDDEN], 3)]).unwrap(),
        queries,
        latent_norm: ones(kv_rank),
        embed_q: Weight::Dense(normal(&[heads, kv_rank, nope_dim], 4)),
        unembed_out: Weight::Dense(normal(&[heads, value_dim, kv_rank], 5)),
        output: linear([HIDDEN, heads * value_dim], 6),
        rope: Rope::new(rope_dim as usize, 1e4, true),
        scale: 0.15,
    }
}

fn cache() -> Cache {
    Cache::new(vec![LayerCache::Kv(KvCache::default())])
}

/// Feeds `x` in pieces of `piece` rows.
fn fed(mla: &Mla, x: &Array, piece: i32, cache: &mut Cache) -> Array {
    let mut outputs = Vec::new();
    for start in (0..x.dim(0)).step_by(piece as usize) {
        let stop = (start + piece).min(x.dim(0));
        let rows = &mut cache.append((stop - start) as usize).unwrap()[0];
        let x = slice_axis(x, 0, start, stop).unwrap();
        let rows = Rows { count: stop - start, positions: &Positions::Sequential, cache: rows };
        outputs.push(mla.forward(&x, &mut [rows]).unwrap());
        cache.commit((stop - start) as usize).unwrap();
    }
    ops::concatenate(&outputs, 0).unwrap()
}

#[track_caller]
fn assert_close(a: &Array, b: &Array) {
    assert_eq!(a.shape(), b.shape());
    let difference = a.subtract(b).unwrap().abs().unwrap().max(None).unwrap().item_exact::<f32>();
    assert!(difference < 2e-5, "largest difference {difference}");
}

/// Keys and values of every head, and the softmax over them, one step at a time.
fn spelled_out(mla: &Mla, x: &Array) -> Array {
    let MlaShape { heads, value_dim, rope_dim, .. } = SHAPE;
    let [q, latent, k_pe] = mla.products(&x.clone().into()).unwrap();
    let p = mla.project([&q, &latent, &k_pe], RowPositions::From(0)).unwrap();
    let n = x.dim(0);
    let embed_q = mla.embed_q.dense(Dtype::Float32).unwrap().expand_dims(0).unwrap();
    let unembed_out = mla.unembed_out.dense(Dtype::Float32).unwrap().expand_dims(0).unwrap();
    let k_pe = ops::broadcast_to(&p.k_pe, &[1, heads, n, rope_dim]).unwrap();
    let k = ops::concatenate(&[p.latent.matmul(embed_q).unwrap(), k_pe], 3).unwrap();
    let v = p.latent.matmul(unembed_out.swap_axes(2, 3).unwrap()).unwrap();
    let q = ops::concatenate(&[&p.q_nope, &p.q_pe], 3).unwrap();
    let scores = q.matmul(k.swap_axes(2, 3).unwrap()).unwrap();
    let future = ops::triu(ops::full::<f32>(&[n, n], Array::from_f32(f32::NEG_INFINITY)).unwrap(), 1).unwrap();
    let weights = ops::softmax_axis(scores.add(future).unwrap(), -1, true).unwrap();
    let mixed = weights.matmul(v).unwrap().swap_axes(1, 2).unwrap();
    mla.output.forward(&mixed.reshape(&[n, heads * value_dim]).unwrap()).unwrap()
}

#[test]
fn every_form_is_attention_spelled_out() {
    let x = normal(&[90, HIDDEN], 7);
    for compressed in [true, false] {
        let mla = layer(compressed);
        assert!(mla.absorbs(70) && !mla.absorbs(90));
        let expected = spelled_out(&mla, &x);
        for piece in [90, 70, 80, 1, 7] {
            assert_close(&fed(&mla, &x, piece, &mut cache()), &expected);
        }
    }
}

#[test]
fn pending_rows_are_rows_of_a_history() {
    let mla = layer(true);
    let x = normal(&[20, HIDDEN], 8);
    let expected = fed(&mla, &x, 20, &mut cache());
    for kept in [0, 1, 14] {
        let mut history = cache();
        if kept > 0 {
            fed(&mla, &slice_axis(&x, 0, 0, kept).unwrap(), 20, &mut history);
        }
        // In one part, and with the kept rows frozen.
        for frozen in [false, true] {
            if frozen {
                history.freeze().unwrap();
            }
            // One row at a time, and several.
            for (start, stop) in [(kept, kept + 1), (kept + 1, kept + 2), (kept + 2, kept + 6)] {
                let cache = &mut history.extend((stop - start) as usize)[0];
                let rows = Rows { count: stop - start, positions: &Positions::Sequential, cache };
                let x = slice_axis(&x, 0, start, stop).unwrap();
                let found = mla.forward(&x, &mut [rows]).unwrap();
                assert_close(&found, &slice_axis(&expected, 0, start, stop).unwrap());
            }
            history.commit(0).unwrap();
            assert_eq!(history.len() as i32, kept);
        }
    }
}

#[test]
fn packed_matrices_are_those_they_unpack_to() {
    let mut packed = layer(true);
    let packing = Packing::new(Mode::Affine, 8, 32);
    let pack = |weight: &Weight| {
        let dense = weight.dense(Dtype::Float32).unwrap();
        let (packed, scales, biases) =
            ops::quantize(&dense, packing.group_size() as i32, packing.bits() as i32).unwrap();
        Weight::Quantized(QuantizedWeight { packed, scales, biases: Some(biases), packing })
    };
    packed.embed_q = pack(&packed.embed_q);
    packed.unembed_out = pack(&packed.unembed_out);
    let mut dense = packed.clone();
    for weight in [&mut dense.embed_q, &mut dense.unembed_out] {
        *weight = Weight::Dense(weight.dense(Dtype::Float32).unwrap());
    }
    let x = normal(&[90, HIDDEN], 9);
    for piece in [90, 5] {
        assert_close(&fed(&packed, &x, piece, &mut cache()), &fed(&dense, &x, piece, &mut cache()));
    }
}
