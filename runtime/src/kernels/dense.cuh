// Products of a few rows x [m, k] bf16 with dense weights [n, k] bf16, on tensor cores: out [m, n].
//
// Sixteen rows of the weight are the A operand of m16n8k16, eight rows of x the B operand. A quad of lanes shares a weight row; lane t
// takes eight neighbours of every 32 of k, so the k order inside a product is permuted, for A and B alike.
//
// One block: a tile of 16 weight rows, WARPS warps that share k, each AHEAD steps ahead of what it multiplies; the first of them
// are under way before the kernel ahead of this one is done. k is a multiple of 8.
extern "C" __global__ void __launch_bounds__(WARPS * 32)
dense(const bf16* x, const bf16* w, bf16* out, int m, int n, int k) {
  constexpr int STEP = 32;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const int base = blockIdx.x * 16;
  auto piece = [&](const bf16* from, int row, int rows, int step) {
    const int at = step * STEP + t * 8;
    return row < rows && at < k ? __ldg((const uint4*)(from + (long long)row * k + at)) : make_uint4(0, 0, 0, 0);
  };
  uint4 a[AHEAD][2], b[AHEAD][NB];
#pragma unroll
  for (int s = 0; s < AHEAD; ++s)
#pragma unroll
    for (int i = 0; i < 2; ++i) a[s][i] = piece(w, base + g + 8 * i, n, warp + s * WARPS);
  previous_done();
  next_may_start();
#pragma unroll
  for (int s = 0; s < AHEAD; ++s)
#pragma unroll
    for (int j = 0; j < NB; ++j) b[s][j] = piece(x, g + 8 * j, m, warp + s * WARPS);

  float sum[NB][4] = {};
  for (int step = warp; step * STEP < k; step += AHEAD * WARPS)
#pragma unroll
    for (int s = 0; s < AHEAD; ++s) {
      const uint4 p = a[s][0], q = a[s][1];
      const int next = step + (s + AHEAD) * WARPS;
#pragma unroll
      for (int i = 0; i < 2; ++i) a[s][i] = piece(w, base + g + 8 * i, n, next);
#pragma unroll
      for (int j = 0; j < NB; ++j) {
        const uint4 r = b[s][j];
        b[s][j] = piece(x, g + 8 * j, m, next);
        mma(sum[j], p.x, q.x, p.y, q.y, make_uint2(r.x, r.y));
        mma(sum[j], p.z, q.z, p.w, q.w, make_uint2(r.z, r.w));
      }
    }

  // The warps' shares of k, added in order.
  __shared__ float shares[WARPS][NB][128];
#pragma unroll
  for (int j = 0; j < NB; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) shares[warp][j][e * 32 + lane] = sum[j][e];
  __syncthreads();
  for (int at = threadIdx.x; at < NB * 128; at += WARPS * 32) {
    float value = 0.f;
#pragma unroll
    for (int v = 0; v < WARPS; ++v) value += shares[v][at / 128][at % 128];
    const int r = base + (at % 32 >> 2) + 8 * (at % 128 / 64), c = at / 128 * 8 + 2 * (at & 3) + (at / 32 & 1);
    if (r < n && c < m) out[(long long)c * n + r] = bf16(value);
  }
}
