// Root mean square norms of rows [m, WIDTH]: a block a row, which it keeps in registers.
constexpr int QUADS = WIDTH / 4, TURNS = (QUADS + THREADS - 1) / THREADS;
struct alignas(4 * sizeof(Y)) Four { Y of[4]; };
struct alignas(4 * sizeof(T)) Normed { T of[4]; };

__device__ __forceinline__ float4 floats(const Y* row, int at) {
  const Four y = ((const Four*)row)[at];
  return make_float4(float(y.of[0]), float(y.of[1]), float(y.of[2]), float(y.of[3]));
}

// The weight, which need not wait for the kernel ahead; then everything else may be read.
__device__ __forceinline__ void begin(float4 (&weight)[TURNS], const float* w) {
  next_may_start();
#pragma unroll
  for (int i = 0; i < TURNS; ++i) {
    const int at = i * THREADS + threadIdx.x;
    if (at < QUADS) weight[i] = ((const float4*)w)[at];
  }
  previous_done();
}

// The norm of the row v, from the threads' shares of its squares.
__device__ __forceinline__ void norm(T* out, const float4 (&v)[TURNS], const float4 (&weight)[TURNS], float squares, float eps) {
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
      ((Normed*)out)[at] = Normed{T(s.x * scale * g.x), T(s.y * scale * g.y), T(s.z * scale * g.z), T(s.w * scale * g.w)};
    }
  }
}

__device__ __forceinline__ float squares_of(float4 v) { return v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w; }

#ifdef add_norm
// sum [m, WIDTH]: x + y (ADDS), or y; out: its norm.
extern "C" __global__ void __launch_bounds__(THREADS)
add_norm(
#if ADDS
    const float* x,
#endif
    const Y* y, const float* w, float* sum, T* out, float eps) {
  const long long row = (long long)blockIdx.x * WIDTH;
  float4 v[TURNS], weight[TURNS];
  begin(weight, w);
  float squares = 0.f;
#pragma unroll
  for (int i = 0; i < TURNS; ++i) {
    const int at = i * THREADS + threadIdx.x;
    if (at < QUADS) {
      v[i] = floats(y + row, at);
#if ADDS
      const float4 a = ((const float4*)(x + row))[at];
      v[i] = make_float4(a.x + v[i].x, a.y + v[i].y, a.z + v[i].z, a.w + v[i].w);
#endif
      ((float4*)(sum + row))[at] = v[i];
      squares += squares_of(v[i]);
    }
  }
  norm(out + row, v, weight, squares, eps);
}
#endif

#ifdef join_norms
// out [m, 2, WIDTH]: the norms of a and of b.
extern "C" __global__ void __launch_bounds__(THREADS)
join_norms(const Y* a, const Y* b, const float* w_a, const float* w_b, T* out, float eps_a, float eps_b) {
  const bool second = blockIdx.y;
  const long long row = blockIdx.x;
  float4 v[TURNS], weight[TURNS];
  begin(weight, second ? w_b : w_a);
  float squares = 0.f;
#pragma unroll
  for (int i = 0; i < TURNS; ++i) {
    const int at = i * THREADS + threadIdx.x;
    if (at < QUADS) {
      v[i] = floats((second ? b : a) + row * WIDTH, at);
      squares += squares_of(v[i]);
    }
  }
  norm(out + (2 * row + second) * WIDTH, v, weight, squares, second ? eps_b : eps_a);
}
#endif
