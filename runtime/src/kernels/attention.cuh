// Attention of a few queries over a long history, in parts: each block takes one key head, up to ROWS of its query rows and one
// stretch of the history, and leaves a maximum, a sum of weights and a weighted sum of values; a second kernel joins them.
//
// Query row r of a key head is query head r / n of its group at token r % n; that token sees the keys up to its own.

#define NOTHING __int_as_float(0xff800000)  // minus infinity
constexpr int WARPS = 4, TILE = 32, STRETCH = WARPS * TILE;

template <int D, int ROWS, typename T>
__device__ __forceinline__ void attend_part(
    const T* q, const int64_t* qs, const T* k, const int64_t* ks, const T* v, const int64_t* vs, float* sums, float* stats,
    int heads, int kv_heads, int n, int length, float scale) {
  constexpr int PER = D / 32, RUN = D / 8;               // features a lane: of values; of keys
  const int group = heads / kv_heads, rows = group * n;
  const int kv = blockIdx.x, first_row = blockIdx.y * ROWS, part = blockIdx.z, parts = gridDim.z;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, count = min(ROWS, rows - first_row);
  __shared__ float query[ROWS][D];
  __shared__ float weights[WARPS][ROWS][TILE];
  __shared__ float joined[WARPS][D];
  __shared__ float peaks[WARPS][ROWS], totals[WARPS][ROWS];
  for (int i = threadIdx.x; i < ROWS * D; i += WARPS * 32) {
    const int r = first_row + i / D;
    float x = 0.f;
    if (r < rows) x = float(q[(kv * group + r / n) * qs[1] + (r % n) * qs[2] + (i % D) * qs[3]]) * scale;
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
  const T* kh = k + kv * ks[1];
  const T* vh = v + kv * vs[1];
  const int seen = length - n;                           // keys before the first token's own
  for (int tile = (part * WARPS + warp) * TILE; tile < length; tile += parts * STRETCH) {
    // Scores: eight lanes a key, four keys at a time.
    for (int at = 0; at < TILE; at += 4) {
      const int j = tile + at + lane / 8;
      float s[ROWS];
#pragma unroll
      for (int r = 0; r < ROWS; ++r) s[r] = 0.f;
      if (j < length) {
        const T* kp = kh + j * ks[2];
#pragma unroll
        for (int c = 0; c < RUN / 8; ++c) {
          const int f = (c * 8 + lane % 8) * 8;
          const uint4 raw = *(const uint4*)(kp + f);
          const T* e = (const T*)&raw;
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
      const T* vp = vh + (tile + at) * vs[2] + lane * PER;
      float vf[PER];
      if constexpr (PER == 8) {
        const uint4 raw = *(const uint4*)vp;
#pragma unroll
        for (int e = 0; e < PER; ++e) vf[e] = float(((const T*)&raw)[e]);
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

template <int D, typename T>
__device__ __forceinline__ void join_parts(const float* sums, const float* stats, T* out, int parts) {
  const long long row = blockIdx.x;
  float top = NOTHING;
  for (int p = 0; p < parts; ++p) top = fmaxf(top, stats[2 * (row * parts + p)]);
  float sum = 0.f, total = 0.f;
  for (int p = 0; p < parts; ++p) {
    const float peak = stats[2 * (row * parts + p)];
    if (peak == NOTHING) continue;
    const float share = __expf(peak - top);
    total += stats[2 * (row * parts + p) + 1] * share;
    sum += sums[(row * parts + p) * D + threadIdx.x] * share;
  }
  out[row * D + threadIdx.x] = T(sum / total);
}
