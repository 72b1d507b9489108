// Attention of a few queries over a long history, in parts: each block takes one key head, up to ROWS of its query rows and stretches
// of the history, and leaves a maximum, a sum of weights and a weighted sum of values; a second kernel joins them.
//
// Query row r of a key head is query head r / n of its group at token r % n; that token sees the keys up to its own.

#ifdef prepare
// Splits a row of joined projections, [queries (each with its gate where GATED) | keys | values], into heads, norms queries and
// keys (NORMS), and rotates their first DIMS features in halves: one block for each head and row, of D threads. Keys and values go to
// rows `first` and on of [kv_heads, capacity, D]. A value that is not finite becomes 0, and the keys of a head's row that has one, or are
// not finite themselves, become NaN: what attends to the row has that, and rows that do not would have 0 times the value.
extern "C" __global__ void __launch_bounds__(D)
prepare(
    const bf16* joined, const float* q_weight, const float* k_weight, bf16* k, bf16* v, bf16* q, int n, int heads, int kv_heads,
    int position, int capacity, int first, float log_theta, float eps) {
  next_may_start();
  previous_done();
  const int slot = blockIdx.x, row = blockIdx.y, d = threadIdx.x;
  const int query_width = heads * (GATED ? 2 * D : D);
  const bf16* from = joined + (long long)row * (query_width + 2 * kv_heads * D);
  const bool is_query = slot < heads, is_value = slot >= heads + kv_heads;
  const int head = is_query ? slot : (slot - heads) % kv_heads;
  float x = float(from[(is_query ? head * (GATED ? 2 * D : D) : query_width + (slot - heads) * D) + d]);
  if (is_value) {
    v[((long long)head * capacity + first + row) * D + d] = bf16(x - x == 0.f ? x : 0.f);
    return;
  }
  if (!is_query) {
    const float value = float(from[query_width + (slot - heads + kv_heads) * D + d]);
    if (__syncthreads_or(!(x - x + (value - value) == 0.f))) x = __int_as_float(0x7fc00000);
  }
  __shared__ float shares[D / 32], normed[D];
  if (NORMS) {
    const float squares = warp_sum(x * x);
    if (d % 32 == 0) shares[d / 32] = squares;
    __syncthreads();
    float total = 0.f;
#pragma unroll
    for (int i = 0; i < D / 32; ++i) total += shares[i];
    x *= rsqrtf(total / D + eps) * (is_query ? q_weight : k_weight)[d];
  }
  normed[d] = x;
  __syncthreads();
  if (d < DIMS) {
    constexpr int HALF = DIMS / 2;
    const int i = d % HALF;
    float sine, cosine;
    sincosf(float(position + row) * exp2f(-(float(i) / HALF) * log_theta), &sine, &cosine);
    x = d < HALF ? normed[i] * cosine - normed[i + HALF] * sine : normed[i] * sine + normed[i + HALF] * cosine;
  }
  if (is_query) q[((long long)head * n + row) * D + d] = bf16(x);
  else k[((long long)head * capacity + first + row) * D + d] = bf16(x);
}
#endif

#ifdef attend_part
// Sixteen query rows, on tensor cores: their scores against sixteen keys are the accumulators of m16n8k16, and, rounded to bf16, its
// left operand in the product with the values. Keys and values stream through shared memory, each warp's through a region of its own,
// with 16-byte pieces of a row permuted so that no access meets a bank twice.

constexpr int TILE = 16, STRETCH = WARPS * TILE, ROWS = 16;
constexpr int PIECES = D / 8, STAGE = 2 * TILE * PIECES; // 16-byte pieces of a row; of a tile of keys and one of values

__device__ __forceinline__ uint4* place(uint4* rows, int row, int piece) { return rows + row * PIECES + (piece ^ (row & 7)); }

__device__ __forceinline__ void matrices(unsigned (&r)[4], const uint4* at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"((unsigned)__cvta_generic_to_shared(at)));
}
__device__ __forceinline__ void matrices_across(unsigned (&r)[4], const uint4* at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"((unsigned)__cvta_generic_to_shared(at)));
}
__device__ __forceinline__ unsigned both(float low, float high) {
  unsigned packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

// Keys and values lie in two buffers: `past` rows of [kv_heads, capacity, D], then `own` of [kv_heads, own_capacity, D].
extern "C" __global__ void __launch_bounds__(WARPS * 32)
attend_part(
    const bf16* q, const bf16* k, const bf16* v, const bf16* own_k, const bf16* own_v, float* sums, float* stats,
    int heads, int kv_heads, int n, int past, int capacity, int own, int own_capacity, float scale) {
  next_may_start();
  previous_done();
  extern __shared__ uint4 memory[];
  __shared__ float peaks[WARPS][ROWS], totals[WARPS][ROWS];
  const int rows = heads / kv_heads * n, length = past + own;
  const int kv = blockIdx.x, first_row = blockIdx.y * ROWS, part = blockIdx.z, parts = gridDim.z;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, count = min(ROWS, rows - first_row);
  uint4* queries = memory;
  uint4* stages = memory + ROWS * PIECES + warp * 2 * STAGE;

  auto fetch = [&](int stage, int tile) {
    if (tile < length) {
#pragma unroll
      for (int i = 0; i < TILE * PIECES / 32; ++i) {
        const int r = (i * 32 + lane) / PIECES, c = (i * 32 + lane) % PIECES, j = min(tile + r, length - 1);
        const bool there = tile + r < length;
        const long long at = (j < past ? (long long)kv * capacity + j : (long long)kv * own_capacity + j - past) * PIECES + c;
        copy_async(place(stages + stage * STAGE, r, c), (const uint4*)(j < past ? k : own_k) + at, there);
        copy_async(place(stages + stage * STAGE + TILE * PIECES, r, c), (const uint4*)(j < past ? v : own_v) + at, there);
      }
    }
    end_batch();
  };
  int tile = (part * WARPS + warp) * TILE;
  fetch(0, tile);
  for (int i = threadIdx.x; i < ROWS * PIECES; i += WARPS * 32) {
    const int r = i / PIECES;
    const uint4* from = (const uint4*)q + ((long long)kv * rows + first_row + r) * PIECES + i % PIECES;
    *place(queries, r, i % PIECES) = r < count ? *from : make_uint4(0, 0, 0, 0);
  }
  __syncthreads();

  const int seen = length - n;                           // keys before the first token's own
  const int limits[2] = {seen + (first_row + g) % n, seen + (first_row + g + 8) % n};
  const int low = lane % 8, side = lane / 8;             // of the eight by eight matrix that a lane addresses a row of
  float peak[2] = {NOTHING, NOTHING}, total[2] = {}, acc[D / 8][4] = {};
  for (int stage = 0; tile < length; stage ^= 1, tile += parts * STRETCH) {
    fetch(stage ^ 1, tile + parts * STRETCH);
    await_batches<1>();
    __syncwarp();
    uint4* keys = stages + stage * STAGE;
    uint4* values = keys + TILE * PIECES;
    float s[2][4] = {};
#pragma unroll
    for (int d = 0; d < D / 16; ++d) {
      unsigned a[4], b[4];
      matrices(a, place(queries, (side & 1) * 8 + low, 2 * d + (side >> 1)));
      matrices(b, place(keys, (side >> 1) * 8 + low, 2 * d + (side & 1)));
      mma(s[0], a[0], a[1], a[2], a[3], make_uint2(b[0], b[1]));
      mma(s[1], a[0], a[1], a[2], a[3], make_uint2(b[2], b[3]));
    }
    float fade[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float top = peak[h];
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int j = tile + i * 8 + 2 * t + e;
          float& score = s[i][2 * h + e];
          score = j < length && j <= limits[h] ? score * scale : NOTHING;
          top = score == score ? fmaxf(top, score) : -NOTHING; // or a maximum would drop it, and the part with it
        }
      top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
      top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
      fade[h] = peak[h] == top ? 1.f : __expf(peak[h] - top);
      peak[h] = top;
      float sum = 0.f;
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& score = s[i][2 * h + e];
          score = score == NOTHING ? 0.f : __expf(score - top);
          sum += score;
        }
      sum += __shfl_xor_sync(~0u, sum, 1);
      sum += __shfl_xor_sync(~0u, sum, 2);
      total[h] = total[h] * fade[h] + sum;
    }
    if (__any_sync(~0u, fade[0] != 1.f || fade[1] != 1.f))
#pragma unroll
      for (int d = 0; d < D / 8; ++d)
#pragma unroll
        for (int e = 0; e < 4; ++e) acc[d][e] *= fade[e / 2];
    const unsigned p[4] = {both(s[0][0], s[0][1]), both(s[0][2], s[0][3]), both(s[1][0], s[1][1]), both(s[1][2], s[1][3])};
#pragma unroll
    for (int d = 0; d < D / 16; ++d) {
      unsigned b[4];
      matrices_across(b, place(values, (side & 1) * 8 + low, 2 * d + (side >> 1)));
      mma(acc[2 * d], p[0], p[1], p[2], p[3], make_uint2(b[0], b[1]));
      mma(acc[2 * d + 1], p[0], p[1], p[2], p[3], make_uint2(b[2], b[3]));
    }
    __syncwarp();
  }
  await_batches<0>();
  __syncwarp();

  // The warps' shares, in their own regions.
  float* shares = (float*)stages;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (t == 0) { peaks[warp][g + 8 * h] = peak[h]; totals[warp][g + 8 * h] = total[h]; }
#pragma unroll
    for (int d = 0; d < D / 8; ++d)
      *(float2*)(shares + (g + 8 * h) * D + d * 8 + 2 * t) = make_float2(acc[d][2 * h], acc[d][2 * h + 1]);
  }
  __syncthreads();
  const float* all = (const float*)(memory + ROWS * PIECES);
  constexpr int REGION = 2 * STAGE * 4;                  // floats of a warp's region
  for (int i = threadIdx.x; i < count * D; i += WARPS * 32) {
    const int r = i / D;
    const long long at = ((long long)kv * rows + first_row + r) * parts + part;
    float top = NOTHING, sum = 0.f, weight = 0.f;
#pragma unroll
    for (int w = 0; w < WARPS; ++w) top = fmaxf(top, peaks[w][r]);
#pragma unroll
    for (int w = 0; w < WARPS; ++w) {
      const float share = peaks[w][r] == NOTHING ? 0.f : __expf(peaks[w][r] - top);
      sum += all[w * REGION + i] * share;
      weight += totals[w][r] * share;
    }
    sums[at * D + i % D] = sum;
    if (i % D == 0) { stats[2 * at] = top; stats[2 * at + 1] = weight; }
  }
}
#endif

#ifdef join_parts
// [heads, n] rows of parts -> out [n, heads * D], each times the sigmoid of its gate in `joined` where GATED.
extern "C" __global__ void __launch_bounds__(D)
join_parts(
    const float* sums, const float* stats, const bf16* joined, bf16* out, int n, int heads, int kv_heads, int parts) {
  next_may_start();
  previous_done();
  const int head = blockIdx.x, token = blockIdx.y, d = threadIdx.x;
  const long long row = (long long)head * n + token;
  float top = NOTHING;
  for (int p = 0; p < parts; ++p) top = fmaxf(top, stats[2 * (row * parts + p)]);
  float sum = 0.f, total = 0.f;
  for (int p = 0; p < parts; ++p) {
    const float peak = stats[2 * (row * parts + p)];
    if (peak == NOTHING) continue;
    const float share = __expf(peak - top);
    total += stats[2 * (row * parts + p) + 1] * share;
    sum += sums[(row * parts + p) * D + d] * share;
  }
  float x = sum / total;
  if (GATED) x *= sigmoid(float(joined[(long long)token * (heads * 2 * D + 2 * kv_heads * D) + head * 2 * D + D + d]));
  out[((long long)token * heads + head) * D + d] = bf16(x);
}
#endif
