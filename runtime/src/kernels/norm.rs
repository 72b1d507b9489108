//! A residual sum and its root mean square norm in one launch.
//!
//! The twin is [`crate::nn::RmsNorm::add_forward`]'s own sum and norm.

use mlx_rs::{Dtype, fast, random};

use super::{Gate, relative_difference};
use crate::mlx::kernel::{Constant, CudaKernel, Launch, Scalar};
use crate::{Array, Result};

/// Threads of a row, and the numbers that each reads at once.
const THREADS: i32 = 512;
const QUAD: i32 = 4;
/// The widest row: what the threads keep in registers.
const WIDEST: i32 = THREADS * QUAD * 8;

static GATE: Gate = Gate::new("add_norm");

static KERNEL: CudaKernel = CudaKernel::new(
    "add_norm",
    r#"
struct alignas(4 * sizeof(Y)) Addend { Y of[4]; };
struct alignas(4 * sizeof(T)) Normed { T of[4]; };

extern "C" __global__ void __launch_bounds__(THREADS)
add_norm(const float* x, const Y* y, const float* w, float* sum, T* out, float eps) {
  constexpr int QUADS = WIDTH / 4, TURNS = (QUADS + THREADS - 1) / THREADS;
  const long long row = (long long)blockIdx.x * QUADS;
  float4 v[TURNS], weight[TURNS];
  next_may_start();
#pragma unroll
  for (int i = 0; i < TURNS; ++i) {
    const int at = i * THREADS + threadIdx.x;
    if (at < QUADS) weight[i] = ((const float4*)w)[at];
  }
  previous_done();
  float squares = 0.f;
#pragma unroll
  for (int i = 0; i < TURNS; ++i) {
    const int at = i * THREADS + threadIdx.x;
    if (at < QUADS) {
      const float4 a = ((const float4*)x)[row + at];
      const Addend b = ((const Addend*)y)[row + at];
      v[i] = make_float4(a.x + float(b.of[0]), a.y + float(b.of[1]), a.z + float(b.of[2]), a.w + float(b.of[3]));
      ((float4*)sum)[row + at] = v[i];
      squares += v[i].x * v[i].x + v[i].y * v[i].y + v[i].z * v[i].z + v[i].w * v[i].w;
    }
  }
  __shared__ float shares[THREADS / 32];
  squares = warp_sum(squares);
  if (threadIdx.x % 32 == 0) shares[threadIdx.x / 32] = squares;
  __syncthreads();
  const float total = warp_sum(threadIdx.x % 32 < THREADS / 32 ? shares[threadIdx.x % 32] : 0.f);
  const float scale = rsqrtf(total / WIDTH + eps);
#pragma unroll
  for (int i = 0; i < TURNS; ++i) {
    const int at = i * THREADS + threadIdx.x;
    if (at < QUADS) {
      const float4 s = v[i], g = weight[i];
      ((Normed*)out)[row + at] = Normed{T(s.x * scale * g.x), T(s.y * scale * g.y), T(s.z * scale * g.z), T(s.w * scale * g.w)};
    }
  }
}
"#,
);

/// `x + y`, `[m, width]` f32, and its norm in `dtype`; `None` where MLX's operations are to be used.
pub fn add_norm(x: &Array, y: &Array, weight: &Array, eps: f32, dtype: Dtype) -> Option<Result<(Array, Array)>> {
    let float = matches!(y.dtype(), Dtype::Bfloat16 | Dtype::Float16 | Dtype::Float32);
    let fits = x.ndim() == 2 && x.dtype() == Dtype::Float32 && x.shape() == y.shape() && float;
    let fits = fits && x.dim(1) % QUAD == 0 && x.dim(1) <= WIDEST;
    let fits = fits && weight.dtype() == Dtype::Float32 && weight.shape() == &x.shape()[1..];
    (fits && dtype != Dtype::Float32 && x.dim(0) <= 64 && GATE.open(check)).then(|| launch(x, y, weight, eps, dtype))
}

fn launch(x: &Array, y: &Array, weight: &Array, eps: f32, dtype: Dtype) -> Result<(Array, Array)> {
    let shape = x.shape();
    let launch = Launch {
        outputs: &[(shape, Dtype::Float32), (shape, dtype)],
        blocks: [x.dim(0), 1, 1],
        threads: THREADS,
        constants: &[
            ("THREADS", Constant::Int(THREADS)),
            ("WIDTH", Constant::Int(x.dim(1))),
            ("Y", Constant::Type(y.dtype())),
            ("T", Constant::Type(dtype)),
        ],
        scalars: &[Scalar::Float(eps)],
        ..Launch::default()
    };
    let made = KERNEL.launch(&[x, y, weight], &launch)?;
    let [sum, out] = <[Array; 2]>::try_from(made).map_err(|_| "add_norm makes two arrays")?;
    Ok((sum, out))
}

/// Kernel against twin.
fn check() -> Result<(f32, f32)> {
    let normal = |shape: &[i32], seed: u64| random::normal::<f32>(shape, None, None, &random::key(seed)?);
    let mut worst = 0f32;
    // Rows that one turn of the threads takes, and rows of several turns.
    for width in [1000, 4100] {
        let (x, y) = (normal(&[3, width], 1)?, normal(&[3, width], 2)?.as_dtype(Dtype::Bfloat16)?);
        let w = normal(&[width], 3)?;
        let (sum, out) = launch(&x, &y, &w, 1e-6, Dtype::Bfloat16)?;
        let twin = x.add(&y)?;
        let normed = fast::rms_norm(&twin, Some(&w), 1e-6)?;
        worst = worst.max(relative_difference(&sum, &twin)?).max(relative_difference(&out, &normed)?);
    }
    Ok((worst, 0.01))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::cuda_default;

    #[test]
    fn the_sum_and_its_norm_are_their_twins() {
        let x = random::normal::<f32>(&[2, 64], None, None, &random::key(1).unwrap()).unwrap();
        let taken = add_norm(&x, &x, &x.sum_axis(0, false).unwrap(), 1e-6, Dtype::Bfloat16);
        assert_eq!(taken.is_some(), cuda_default());
        if taken.is_some() {
            let (found, allowed) = check().unwrap();
            assert!(found <= allowed, "{found}");
        }
    }
}
