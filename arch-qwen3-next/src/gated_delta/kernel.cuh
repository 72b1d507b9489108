// Gated DeltaNet over a few rows, one block for each value head: convolution, gates, the recurrence, the gated norm.
//
// A quad of threads holds one row of the state S [DV, DK]: thread (row, part) has columns part * 4 + 16 j + (0..3). `in` is
// the joined projection of m rows, [queries | keys | values | z | b | a], H key heads of DK, H * R value heads of DV.

__device__ __forceinline__ float quad_sum(float v) {
  v += __shfl_xor_sync(~0u, v, 1);
  return v + __shfl_xor_sync(~0u, v, 2);
}
constexpr int CHANNELS = H * (2 * DK + R * DV), WIDTH = CHANNELS + H * R * DV + 2 * H * R;
constexpr int THREADS = 4 * DV, WARPS = THREADS / 32, PART = DK / 4, GATES = (DV + 31) / 32;
constexpr int ROWS = WARPS < 16 ? WARPS : 16;            // of a tile
constexpr int COLUMNS = 2 * DK + DV, TURNS = (COLUMNS + THREADS - 1) / THREADS;

// y [m, H R DV]; state_out and conv_out: after all m rows; keys [H, m, DK], u [H R, m, DV], sums [H R, m]: the tape.
extern "C" __global__ void __launch_bounds__(THREADS)
delta_step(
    const bf16* in, const bf16* conv_state, const float* conv, const float* decay, const float* dt_bias, const float* weight,
    const float* state, bf16* y, float* state_out, bf16* conv_out, float* keys, float* u, float* sums, int m, float eps) {
  const int head = blockIdx.x, key_head = head / R, tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
  const int row = tid >> 2, part = tid & 3;
  const long long at = ((long long)head * DV + row) * DK + part * 4;
  const bool leader = head % R == 0;
  auto channel = [&](int c) {
    return c < DK ? key_head * DK + c
         : c < 2 * DK ? H * DK + key_head * DK + (c - DK)
                      : 2 * H * DK + head * DV + (c - 2 * DK);
  };
  if (tid == 0) prefetch(state + (long long)head * DV * DK, DV * DK * sizeof(float));
  if (tid < 3 * (TAPS - 1)) {
    const int from = tid % 3;
    prefetch(conv_state + tid / 3 * CHANNELS + channel(from * DK), (from == 2 ? DV : DK) * sizeof(bf16));
  }
  // Weights need not wait.
  float taps[TURNS][TAPS], gain[GATES];
#pragma unroll
  for (int e = 0; e < TURNS; ++e)
#pragma unroll
    for (int i = 0; i < TAPS; ++i)
      taps[e][i] = tid + e * THREADS < COLUMNS ? conv[i * CHANNELS + channel(tid + e * THREADS)] : 0.f;
#pragma unroll
  for (int i = 0; i < GATES; ++i) gain[i] = lane + 32 * i < DV ? weight[lane + 32 * i] : 0.f;
  const float bias = dt_bias[head], rate = decay[head];
  previous_done();

  __shared__ float rows[ROWS][COLUMNS];                  // q, k, v of every row of a tile
  __shared__ float outputs[ROWS][DV];
  __shared__ float rates[ROWS], decays[ROWS];
  float s[PART];
  float total = 0.f;
  for (int first = 0; first < m; first += ROWS) {
    const int count = min(ROWS, m - first);
    // All loads before anything waits for one: taps before the rows, then the rows; gates; z; the state.
    float window[TURNS][TAPS - 1 + ROWS];
#pragma unroll
    for (int e = 0; e < TURNS; ++e)
#pragma unroll
      for (int i = 0; i < TAPS - 1 + ROWS; ++i) {
        const int c = tid + e * THREADS, ch = channel(c), r = first + i;
        window[e][i] = c >= COLUMNS || i >= TAPS - 1 + count ? 0.f
            : r < TAPS - 1 ? float(conv_state[r * CHANNELS + ch])
                           : float(in[(long long)(r - (TAPS - 1)) * WIDTH + ch]);
      }
    const int gated = tid - (THREADS - ROWS);            // the last threads have the fewest columns
    float b = 0.f, a = 0.f;
    if (gated >= 0 && gated < count) {
      const bf16* gates = in + (long long)(first + gated) * WIDTH + CHANNELS + H * R * DV;
      b = float(gates[head]);
      a = float(gates[H * R + head]) + bias;
    }
    // A warp each for the last step of every row.
    float z[GATES];
#pragma unroll
    for (int i = 0; i < GATES; ++i) {
      const int c = lane + 32 * i;
      const bool there = warp < count && c < DV;
      z[i] = there ? float(in[(long long)(first + warp) * WIDTH + CHANNELS + head * DV + c]) : 0.f;
    }
    if (first == 0)
#pragma unroll
      for (int j = 0; j < PART / 4; ++j) *(float4*)(s + 4 * j) = *(const float4*)(state + at + 16 * j);

#pragma unroll
    for (int e = 0; e < TURNS; ++e) {
      const int c = tid + e * THREADS;
      if (c >= COLUMNS) break;
#pragma unroll
      for (int t = 0; t < ROWS; ++t) {
        if (t >= count) break;
        float sum = 0.f;
#pragma unroll
        for (int i = 0; i < TAPS; ++i) sum += window[e][t + i] * taps[e][i];
        rows[t][c] = sum * sigmoid(sum);
        if (t + 1 == count && first + count == m && (leader || c >= 2 * DK))
#pragma unroll
          for (int i = 0; i < TAPS - 1; ++i) conv_out[i * CHANNELS + channel(c)] = bf16(window[e][t + 1 + i]);
      }
    }
    if (gated >= 0 && gated < count) {
      rates[gated] = sigmoid(b);
      decays[gated] = rate * (a > 20.f ? a : log1pf(__expf(a)));
    }
    __syncthreads();
    if (first == 0) next_may_start();                    // its weights are not to come ahead of what was loaded here
    // Queries and keys to length one, queries by DK^-1/2 besides.
    for (int i = warp; i < 2 * count; i += WARPS) {
      float* v = rows[i >> 1] + (i & 1) * DK;
      float squares = 0.f;
      for (int c = lane; c < DK; c += 32) squares += v[c] * v[c];
      const float scale = rsqrtf(warp_sum(squares) + 1e-6f) * (i & 1 ? 1.f : rsqrtf(float(DK)));
      for (int c = lane; c < DK; c += 32) {
        v[c] *= scale;
        if ((i & 1) && leader) keys[((long long)key_head * m + first + (i >> 1)) * DK + c] = v[c];
      }
    }
    __syncthreads();
    for (int t = 0; t < count; ++t) {
      const float* q = rows[t] + part * 4;
      const float* k = q + DK;
      const float fade = __expf(decays[t]);
      total += decays[t];
      float seen = 0.f;
      float4 keys_here[PART / 4];
#pragma unroll
      for (int j = 0; j < PART / 4; ++j) {
        const float4 kk = keys_here[j] = *(const float4*)(k + 16 * j);
        s[4 * j] *= fade; s[4 * j + 1] *= fade; s[4 * j + 2] *= fade; s[4 * j + 3] *= fade;
        seen += s[4 * j] * kk.x + s[4 * j + 1] * kk.y + s[4 * j + 2] * kk.z + s[4 * j + 3] * kk.w;
      }
      const float update = rates[t] * (rows[t][2 * DK + row] - quad_sum(seen));
      float out = 0.f;
#pragma unroll
      for (int j = 0; j < PART / 4; ++j) {
        const float4 kk = keys_here[j], qq = *(const float4*)(q + 16 * j);
        s[4 * j] += update * kk.x; s[4 * j + 1] += update * kk.y; s[4 * j + 2] += update * kk.z; s[4 * j + 3] += update * kk.w;
        out += s[4 * j] * qq.x + s[4 * j + 1] * qq.y + s[4 * j + 2] * qq.z + s[4 * j + 3] * qq.w;
      }
      out = quad_sum(out);
      if (part == 0) {
        outputs[t][row] = out;
        u[((long long)head * m + first + t) * DV + row] = update;
      }
      if (tid == 0) sums[(long long)head * m + first + t] = total;
    }
    if (first + count == m)
#pragma unroll
      for (int j = 0; j < PART / 4; ++j) *(float4*)(state_out + at + 16 * j) = *(float4*)(s + 4 * j);
    __syncthreads();
    if (warp < count) {
      float squares = 0.f;
      for (int c = lane; c < DV; c += 32) squares += outputs[warp][c] * outputs[warp][c];
      const float scale = rsqrtf(warp_sum(squares) / DV + eps);
      bf16* row_out = y + (long long)(first + warp) * H * R * DV + head * DV;
#pragma unroll
      for (int i = 0; i < GATES; ++i)
        if (const int c = lane + 32 * i; c < DV)
          row_out[c] = bf16(outputs[warp][c] * scale * gain[i] * (z[i] * sigmoid(z[i])));
    }
    __syncthreads();
  }
}

// The state after the first `keep` of m rows, from the state before them and the tape.
extern "C" __global__ void __launch_bounds__(4 * DV)
delta_replay(
    const bf16* in, const bf16* conv_state, const float* state, const float* keys, const float* u, const float* sums,
    float* state_out, bf16* conv_out, int m, int keep) {
  next_may_start();
  previous_done();
  const int head = blockIdx.x, tid = threadIdx.x, row = tid >> 2, part = tid & 3;
  const long long at = ((long long)head * DV + row) * DK + part * 4;
  const float whole = sums[(long long)head * m + keep - 1];
  float s[PART];
#pragma unroll
  for (int j = 0; j < PART / 4; ++j) *(float4*)(s + 4 * j) = *(const float4*)(state + at + 16 * j);
#pragma unroll
  for (int j = 0; j < PART; ++j) s[j] *= __expf(whole);
  for (int t = 0; t < keep; ++t) {
    const float update = u[((long long)head * m + t) * DV + row] * __expf(whole - sums[(long long)head * m + t]);
    const float* k = keys + ((long long)(head / R) * m + t) * DK + part * 4;
#pragma unroll
    for (int j = 0; j < PART / 4; ++j) {
      const float4 kk = *(const float4*)(k + 16 * j);
      s[4 * j] += update * kk.x; s[4 * j + 1] += update * kk.y; s[4 * j + 2] += update * kk.z; s[4 * j + 3] += update * kk.w;
    }
  }
#pragma unroll
  for (int j = 0; j < PART / 4; ++j) *(float4*)(state_out + at + 16 * j) = *(float4*)(s + 4 * j);
  for (int c = head * THREADS + tid; c < (TAPS - 1) * CHANNELS; c += gridDim.x * THREADS) {
    const int i = keep + c / CHANNELS, ch = c % CHANNELS;
    conv_out[c] = i < TAPS - 1 ? conv_state[i * CHANNELS + ch] : in[(long long)(i - (TAPS - 1)) * WIDTH + ch];
  }
}
