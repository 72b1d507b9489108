//! The filters and draws of sampling over the best few tokens, without sorting the vocabulary.
//!
//! MLX partitions all keys and then draws over dense rows, some sixty launches a round. The twins are the dense operations of
//! [`crate::sampling::device`].

use mlx_rs::{Dtype, ops};

use super::SelfCheck;
use crate::mlx::kernel::{CudaKernel, Launch, Scalar, outputs};
use crate::speculation::SamplingParams;
use crate::{Array, Result};

/// The most tokens that a filter may keep.
pub const KEEP: i32 = 32;
/// The most drafts that are decided at once: a warp each.
pub const DRAFTS: i32 = 32;
/// Warps of a block: where candidates are found, and where they are joined, four lists a warp.
const WARPS: i32 = 8;
const JOINING: i32 = 32;
/// Blocks of a row at most.
const PARTS: i32 = 4 * JOINING;
/// Tokens of a block at least.
const BLOCK_TOKENS: i32 = 512;

static CHECK: SelfCheck = SelfCheck::new("ranking");

const SOURCE: &str = include_str!("ranking.cuh");
static CANDIDATES: CudaKernel = CudaKernel::new("candidates", SOURCE);
static RANKED: CudaKernel = CudaKernel::new("ranked", SOURCE);
static OUTCOMES: CudaKernel = CudaKernel::new("outcomes", SOURCE);
static REVEAL: CudaKernel = CudaKernel::new("reveal", SOURCE);

/// Rows of a few tokens, the likeliest first.
#[derive(Debug, Clone)]
pub struct Ranked {
    /// Token ids `[rows, KEEP]` int32; -1 where the vocabulary is smaller.
    pub ids: Array,
    /// Their probabilities `[rows, KEEP]` f32, 0 for tokens that were filtered out; none a number where a logit of the row is not finite.
    pub p: Array,
}

/// Whether the kernels serve these parameters. `check` compares them with their twins: the largest relative difference, and the one allowed.
pub fn serves(params: &SamplingParams, check: fn() -> Result<(f32, f32)>) -> bool {
    let few = (1..=KEEP as u32).contains(&params.top_k) && params.temperature.recip().is_finite();
    (params.is_greedy() || few) && CHECK.open(check)
}

/// Logits `[rows, vocab]` f32, penalized already -> the filtered distribution of each row, and a token drawn from the last, `[1]`
/// int32, by `uniforms` `[1, 2]`.
///
/// # Errors
/// When MLX fails.
pub fn rank(logits: &Array, params: &SamplingParams, uniforms: &Array) -> Result<(Ranked, Array)> {
    let (rows, vocab) = (logits.dim(0), logits.dim(1));
    let parts = ((vocab + BLOCK_TOKENS - 1) / BLOCK_TOKENS).min(PARTS);
    let (rate, top_k) = if params.is_greedy() { (1.0, 1) } else { (params.temperature.recip(), params.top_k as i32) };
    let candidates = Launch {
        outputs: &[(&[rows, parts, KEEP], Dtype::Uint64), (&[rows, parts, 2], Dtype::Float32)],
        blocks: [parts, rows, 1],
        threads: 32 * WARPS,
        scalars: &[Scalar::Int(vocab), Scalar::Float(rate)],
        ..Launch::default()
    };
    let found = CANDIDATES.launch(&[logits], &candidates)?;
    let ranked = Launch {
        outputs: &[(&[rows, KEEP], Dtype::Int32), (&[rows, KEEP], Dtype::Float32), (&[1], Dtype::Int32)],
        blocks: [rows, 1, 1],
        threads: 32 * JOINING,
        scalars: &[
            Scalar::Int(vocab),
            Scalar::Int(parts),
            Scalar::Int(top_k),
            Scalar::Float(rate),
            // 1 means off, also where an f32 sum reaches 1 before the last token.
            Scalar::Float(if params.top_p < 1.0 { params.top_p } else { f32::INFINITY }),
            Scalar::Float(params.min_p),
        ],
        ..Launch::default()
    };
    let made = RANKED.launch(&[&found[0], &found[1], uniforms], &ranked)?;
    let [ids, p, token] = outputs(made)?;
    Ok((Ranked { ids, p }, token))
}

/// Outcomes of a round, in one array of f32: the bonus token and its row's flag; then for all drafts p of them, q of them, the tokens
/// instead of them, themselves, and their rows' flags. A flag is 1 where the logits behind the row were finite, else 0. `p` has a row more
/// than there are `drafts` `[depth]`; `uniforms` `[depth, 2]`; all over `vocab` tokens.
///
/// # Errors
/// When MLX fails.
pub fn outcomes(
    (p, q): (&Ranked, &Ranked),
    drafts: &Array,
    bonus: &Array,
    uniforms: &Array,
    vocab: i32,
) -> Result<Array> {
    let depth = drafts.dim(0);
    let launch = Launch {
        outputs: &[(&[2 + 5 * depth], Dtype::Float32)],
        blocks: [1, 1, 1],
        threads: 32 * depth,
        scalars: &[Scalar::Int(vocab), Scalar::Int(depth)],
        read_back: true,
        ..Launch::default()
    };
    Ok(OUTCOMES.launch(&[&p.ids, &p.p, &q.ids, &q.p, drafts, bonus, uniforms], &launch)?.remove(0))
}

/// A token `[1]` int32 as f32 and the flag of the row `p` `[1, KEEP]` that it was drawn from, `[2]`, where the processor reads them.
///
/// # Errors
/// When MLX fails.
pub fn reveal(token: &Array, p: &Array) -> Result<Array> {
    let outputs = &[(&[2][..], Dtype::Float32)];
    let launch = Launch { outputs, blocks: [1, 1, 1], threads: 1, read_back: true, ..Launch::default() };
    Ok(REVEAL.launch(&[token, p], &launch)?.remove(0))
}

impl Ranked {
    /// Rows one below the other.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn stack(rows: &[&Ranked]) -> Result<Self> {
        if let [only] = rows {
            return Ok((*only).clone());
        }
        let join =
            |part: fn(&Ranked) -> &Array| ops::concatenate(&rows.iter().map(|row| part(row)).collect::<Vec<_>>(), 0);
        Ok(Self { ids: join(|row| &row.ids)?, p: join(|row| &row.p)? })
    }

    /// Probabilities of all tokens, `[rows, vocab]` f32.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn dense(&self, vocab: i32) -> Result<Array> {
        // A token past the end takes what no id claims.
        let rows = self.ids.dim(0);
        let ids = ops::select(self.ids.lt(Array::from_int(0))?, Array::from_int(vocab), &self.ids)?;
        let zeros = ops::zeros::<f32>(&[rows, vocab + 1])?;
        let dense = zeros.put_along_axis(ids, &self.p, -1)?;
        Ok(crate::mlx::slice_axis(&dense, 1, 0, vocab)?)
    }
}
