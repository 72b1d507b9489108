// Attention of a few queries over a long history, in parts: each block takes one key head, up to ROWS of its query rows and one
// stretch of the history, and leaves a maximum, a sum of weights and a weighted sum of values; a second kernel joins them.
//
// Query row r of a key head is query head r / n of its group at token r % n; that token sees the keys up to its own.

constexpr int WARPS = 4, TILE = 32, STRETCH = WARPS * TILE;

#ifdef prepare
// Splits a row of joined projections, [queries (each with its gate where GATED) | keys | values], into heads, norms queries and
// keys (NORMS), and rotates their first DIMS features in halves: one block for each head and row, of D threads. Keys and values go to
// rows `first` and on of [kv_heads, capacity, D].
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
    v[((long long)head * capacity + first + row) * D + d] = bf16(x);
    return;
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
// Keys and values lie in two buffers: `past` rows of [kv_heads, capacity, D], then all of [kv_heads, own, D].
extern "C" __global__ void __launch_bounds__(WARPS * 32)
attend_part(
    const bf16* q, const bf16* k, const bf16* v, const bf16* own_k, const bf16* own_v, float* sums, float* stats,
    int heads, int kv_heads, int n, int past, int capacity, int own, float scale) {
  next_may_start();
  previous_done();
  constexpr int PER = D / 32, RUN = D / 8;               // features a lane: of values; of keys
  const int group = heads / kv_heads, rows = group * n, length = past + own;
  const int kv = blockIdx.x, first_row = blockIdx.y * ROWS, part = blockIdx.z, parts = gridDim.z;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, count = min(ROWS, rows - first_row);
  __shared__ float query[ROWS][D];
  __shared__ float weights[WARPS][ROWS][TILE];
  __shared__ float joined[WARPS][D];
  __shared__ float peaks[WARPS][ROWS], totals[WARPS][ROWS];
  for (int i = threadIdx.x; i < ROWS * D; i += WARPS * 32) {
    const int r = first_row + i / D;
    float x = 0.f;
    if (r < rows) x = float(q[((long long)kv * rows + r) * D + i % D]) * scale;
    query[i / D][i % D] = x;
  }
  __syncthreads();
  float peak[ROWS], total[ROWS], acc[ROWS][PER];
#pragma unroll
  for (int r = 0; r < ROWS; ++r) {
    peak[r] = NOTHING; total[r] = 0.f;
#pragma unroll
    for (int e = 0; e < PER; ++e) acc[r][e] = 0.f;
  }
  auto row_of = [&](const bf16* buffer, const bf16* beside, int j) {
    return j < past ? buffer + ((long long)kv * capacity + j) * D : beside + ((long long)kv * own + j - past) * D;
  };
  const int seen = length - n;                           // keys before the first token's own
  for (int tile = (part * WARPS + warp) * TILE; tile < length; tile += parts * STRETCH) {
    // Scores: eight lanes a key, four keys at a time.
    for (int at = 0; at < TILE; at += 4) {
      const int j = tile + at + lane / 8;
      float s[ROWS];
#pragma unroll
      for (int r = 0; r < ROWS; ++r) s[r] = 0.f;
      if (j < length) {
        const bf16* kp = row_of(k, own_k, j);
#pragma unroll
        for (int c = 0; c < RUN / 8; ++c) {
          const int f = (c * 8 + lane % 8) * 8;
          const uint4 raw = *(const uint4*)(kp + f);
          const bf16* e = (const bf16*)&raw;
          float kf[8];
#pragma unroll
          for (int i = 0; i < 8; ++i) kf[i] = float(e[i]);
#pragma unroll
          for (int r = 0; r < ROWS; ++r) {
            const float4 a = *(const float4*)&query[r][f], b = *(const float4*)&query[r][f + 4];
            s[r] += a.x * kf[0] + a.y * kf[1] + a.z * kf[2] + a.w * kf[3] + b.x * kf[4] + b.y * kf[5] + b.z * kf[6] + b.w * kf[7];
          }
        }
      }
#pragma unroll
      for (int r = 0; r < ROWS; ++r) {
        for (int d = 4; d; d /= 2) s[r] += __shfl_xor_sync(~0u, s[r], d);
        const bool visible = j < length && j <= seen + (first_row + r) % n;
        if (lane % 8 == 0) weights[warp][r][at + lane / 8] = visible ? s[r] : NOTHING;
      }
    }
    __syncwarp();
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      const float s = weights[warp][r][lane];
      float top = s;
      for (int d = 16; d; d /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, d));
      const float next = fmaxf(peak[r], top);
      const float fade = next == NOTHING ? 1.f : __expf(peak[r] - next);
      const float w = next == NOTHING ? 0.f : __expf(s - next);
      float sum = w;
      for (int d = 16; d; d /= 2) sum += __shfl_xor_sync(~0u, sum, d);
      total[r] = total[r] * fade + sum;
      peak[r] = next;
      weights[warp][r][lane] = w;
#pragma unroll
      for (int e = 0; e < PER; ++e) acc[r][e] *= fade;
    }
    __syncwarp();
    const int keys = min(TILE, length - tile);
    for (int at = 0; at < keys; ++at) {
      const bf16* vp = row_of(v, own_v, tile + at) + lane * PER;
      float vf[PER];
      if constexpr (PER == 8) {
        const uint4 raw = *(const uint4*)vp;
#pragma unroll
        for (int e = 0; e < PER; ++e) vf[e] = float(((const bf16*)&raw)[e]);
      } else {
#pragma unroll
        for (int e = 0; e < PER; ++e) vf[e] = float(vp[e]);
      }
#pragma unroll
      for (int r = 0; r < ROWS; ++r) {
        const float w = weights[warp][r][at];
#pragma unroll
        for (int e = 0; e < PER; ++e) acc[r][e] += w * vf[e];
      }
    }
    __syncwarp();
  }
  // The warps' shares.
  if (lane == 0)
#pragma unroll
    for (int r = 0; r < ROWS; ++r) { peaks[warp][r] = peak[r]; totals[warp][r] = total[r]; }
  __syncthreads();
#pragma unroll
  for (int r = 0; r < ROWS; ++r) {
    float top = NOTHING;
#pragma unroll
    for (int i = 0; i < WARPS; ++i) top = fmaxf(top, peaks[i][r]);
    const float mine = peak[r] == NOTHING ? 0.f : __expf(peak[r] - top);
#pragma unroll
    for (int e = 0; e < PER; ++e) joined[warp][lane * PER + e] = acc[r][e] * mine;
    __syncthreads();
    if (r < count) {
      const long long at = ((long long)kv * rows + first_row + r) * parts + part;
      for (int c = threadIdx.x; c < D; c += WARPS * 32) {
        float sum = 0.f;
#pragma unroll
        for (int i = 0; i < WARPS; ++i) sum += joined[i][c];
        sums[at * D + c] = sum;
      }
      if (threadIdx.x == 0) {
        float sum = 0.f;
#pragma unroll
        for (int i = 0; i < WARPS; ++i) sum += peaks[i][r] == NOTHING ? 0.f : totals[i][r] * __expf(peaks[i][r] - top);
        stats[2 * at] = top;
        stats[2 * at + 1] = sum;
      }
    }
    __syncthreads();
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
