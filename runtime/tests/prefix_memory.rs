//! A long prefix is not copied: not where it is frozen, not where a cache forks from it, not by rows behind it.
//!
//! A process of its own, since MLX counts the memory of all threads.

use mtplx_runtime::Array;
use mtplx_runtime::cache::{Cache, KvCache, LayerCache};
use mtplx_runtime::mlx::{peak_memory, reset_peak_memory};
use mtplx_runtime::mlx_rs::memory::active_memory;
use mtplx_runtime::mlx_rs::{random, transforms};
use mtplx_runtime::model::Positions;
use mtplx_runtime::nn::{Attention, AttentionShape, Mixer, Rope, Rows};
use mtplx_runtime::quant::{Linear, Weight};

const SHAPE: AttentionShape = AttentionShape { heads: 16, kv_heads: 8, head_dim: 128, gated: false };
const HIDDEN: i32 = 64;
/// 8 KiB a row, keys and values: 64 MiB.
const PREFIX: i32 = 8192;
const MIB: usize = 1 << 20;

fn normal(shape: &[i32], key: u64) -> Array {
    random::normal::<f32>(shape, None, 0.3, &random::key(key).expect("a key")).expect("numbers")
}

/// Runs `x` through `layer`, as pending rows.
fn run(layer: &Attention, x: &Array, cache: &mut Cache) -> Array {
    let count = x.dim(0);
    let cache = &mut cache.append(count as usize).expect("no rows pending")[0];
    layer.forward(x, &mut [Rows { count, positions: &Positions::Sequential, cache }]).expect("a layer")
}

#[test]
fn a_fork_and_a_row_behind_it_copy_no_prefix() {
    let linear = |shape: [i32; 2], key: u64| Linear::new(Weight::Dense(normal(&shape, key)), None).expect("a matrix");
    let AttentionShape { heads, kv_heads, head_dim, .. } = SHAPE;
    let [q, kv] = [heads, kv_heads].map(|heads| heads * head_dim);
    let qkv = [linear([q, HIDDEN], 1), linear([kv, HIDDEN], 2), linear([kv, HIDDEN], 3)];
    let rope = Rope::new(head_dim as usize, 1e4, false);
    let layer = Attention::new(SHAPE, qkv, linear([HIDDEN, q], 4), None, rope).expect("a layer");

    let mut cache = Cache::new(vec![LayerCache::Kv(KvCache::default())]);
    for chunk in 0..PREFIX / 512 {
        run(&layer, &normal(&[512, HIDDEN], 10 + chunk as u64), &mut cache);
        cache.commit(512).expect("a commit");
        transforms::eval(cache.arrays()).expect("rows");
    }
    let prefix = cache.freeze().expect("a prefix");
    assert!(prefix.nbytes() >= 64 * MIB, "{}", prefix.nbytes());

    let row = normal(&[1, HIDDEN], 5);
    transforms::eval([&row]).expect("a row");
    reset_peak_memory();
    let before = active_memory().expect("a count");
    assert!(before >= prefix.nbytes(), "{before} bytes are counted");
    let mut fork = prefix.fork();
    let output = run(&layer, &row, &mut fork);
    fork.commit(1).expect("a commit");
    transforms::eval(fork.arrays().chain([&output])).expect("a row");
    let after = active_memory().expect("a count");
    let peak = peak_memory().expect("a count");
    assert!(after - before < 4 * MIB, "{} bytes more", after - before);
    assert!(peak - before < 4 * MIB, "{} bytes more at most", peak - before);

    // The row is the one that the first cache would have got.
    let expected = run(&layer, &row, &mut cache);
    let difference = output.subtract(&expected).and_then(|d| d.abs()?.max(None)).expect("a difference");
    assert_eq!(difference.item_exact::<f32>(), 0.0);
    // A fork of the fork joins the two parts, once.
    let joined = fork.freeze().expect("a prefix");
    assert_eq!(joined.len() as i32, PREFIX + 1);
    let copied = active_memory().expect("a count");
    drop(fork.freeze().expect("the same prefix"));
    assert_eq!(active_memory().expect("a count"), copied);
}
