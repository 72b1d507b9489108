//! A residual sum and its root mean square norm in one launch.
//!
//! The twin is [`crate::nn::RmsNorm::add_forward`]'s own sum and norm.

use mlx_rs::{Dtype, fast, random};

use super::{Gate, relative_difference};
use crate::mlx::kernel::{Constant, CudaKernel, Launch, Scalar};
use crate::{Array, Result};

/// Threads of a row.
const THREADS: i32 = 512;

static GATE: Gate = Gate::new("add_norm");

static KERNEL: CudaKernel = CudaKernel::new(
    "add_norm",
    r#"
extern "C" __global__ void __launch_bounds__(THREADS)
add_norm(const float* x, const Y* y, const float* w, float* sum, T* out, int width, float eps) {
  const long long row = blockIdx.x;
  x += row * width; y += row * width; sum += row * width; out += row * width;
  float squares = 0.f;
  for (int i = threadIdx.x; i < width; i += THREADS) {
    const float v = x[i] + float(y[i]);
    sum[i] = v;
    squares += v * v;
  }
  __shared__ float shares[THREADS / 32];
  squares = warp_sum(squares);
  if (threadIdx.x % 32 == 0) shares[threadIdx.x / 32] = squares;
  __syncthreads();
  float total = 0.f;
  for (int i = 0; i < THREADS / 32; ++i) total += shares[i];
  const float scale = rsqrtf(total / width + eps);
  // Every thread reads what it wrote.
  for (int i = threadIdx.x; i < width; i += THREADS) out[i] = T(sum[i] * scale * w[i]);
}
"#,
);

/// `x + y`, `[m, width]` f32, and its norm in `dtype`; `None` where MLX's operations are to be used.
pub fn add_norm(x: &Array, y: &Array, weight: &Array, eps: f32, dtype: Dtype) -> Option<Result<(Array, Array)>> {
    let float = matches!(y.dtype(), Dtype::Bfloat16 | Dtype::Float16 | Dtype::Float32);
    let fits = x.ndim() == 2 && x.dtype() == Dtype::Float32 && x.shape() == y.shape() && float;
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
            ("Y", Constant::Type(y.dtype())),
            ("T", Constant::Type(dtype)),
        ],
        scalars: &[Scalar::Int(x.dim(1)), Scalar::Float(eps)],
    };
    let made = KERNEL.launch(&[x, y, weight], &launch)?;
    let [sum, out] = <[Array; 2]>::try_from(made).map_err(|_| "add_norm makes two arrays")?;
    Ok((sum, out))
}

/// Kernel against twin.
fn check() -> Result<(f32, f32)> {
    let normal = |shape: &[i32], seed: u64| random::normal::<f32>(shape, None, None, &random::key(seed)?);
    let (x, y, w) = (normal(&[3, 1000], 1)?, normal(&[3, 1000], 2)?.as_dtype(Dtype::Bfloat16)?, normal(&[1000], 3)?);
    let (sum, out) = launch(&x, &y, &w, 1e-6, Dtype::Bfloat16)?;
    let twin = x.add(&y)?;
    let normed = fast::rms_norm(&twin, Some(&w), 1e-6)?;
    Ok((relative_difference(&sum, &twin)?.max(relative_difference(&out, &normed)?), 0.01))
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
