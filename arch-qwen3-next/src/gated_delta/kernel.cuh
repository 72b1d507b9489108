// Gated DeltaNet over a few rows, one block for each value head: convolution, gates, the recurrence, the gated norm.
//
// A quad of threads holds one row of the state S [DV, DK]: thread (row, part) has columns part * 4 + 16 j + (0..3). `in` is
// the joined projection of m rows, [queries | keys | values | z | b | a], H key heads of DK, H * R value heads of DV.

__device__ __forceinline__ float quad_sum(float v) {
  v += __shfl_xor_sync(~0u, v, 1);
  return v + __shfl_xor_sync(~0u, v, 2);
}
constexpr int CHANNELS = H * (2 * DK + R * DV), WIDTH = CHANNELS + H * R * DV + 2 * H * R;
constexpr int THREADS = 4 * DV, PART = DK / 4, GATES = (DV + 31) / 32;
constexpr int ROWS = THREADS / 32 < 16 ? THREADS / 32 : 16; // of a tile

// y [m, H R DV]; state_out and conv_out: after all m rows; keys [H, m, DK], u [H R, m, DV], sums [H R, m]: the tape.
extern "C" __global__ void __launch_bounds__(4 * DV)
delta_step(
    const bf16* in, const bf16* conv_state, const float* conv, const float* decay, const float* dt_bias, const float* weight,
    const float* state, bf16* y, float* state_out, bf16* conv_out, float* keys, float* u, float* sums, int m, float eps) {
  next_may_start();
  constexpr int VALUES = H * R * DV, WARPS = THREADS / 32, COLUMNS = 2 * DK + DV;
  const int head = blockIdx.x, key_head = head / R, tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
  if (tid == 0) prefetch(state + (long long)head * DV * DK, DV * DK * sizeof(float));
  previous_done();
  __shared__ float rows[ROWS][COLUMNS];                  // q, k, v of every row of a tile
  __shared__ float outputs[ROWS][DV];
  __shared__ float rates[ROWS], decays[ROWS];

  auto channel = [&](int c) {
    return c < DK ? key_head * DK + c
         : c < 2 * DK ? H * DK + key_head * DK + (c - DK)
                      : 2 * H * DK + head * DV + (c - 2 * DK);
  };
  auto input = [&](int i, int c) {                       // taps before the rows, then the rows
    return float(i < TAPS - 1 ? conv_state[i * CHANNELS + c] : in[(long long)(i - (TAPS - 1)) * WIDTH + c]);
  };
  const bool leader = head % R == 0;
  float s[PART];
  const int row = tid >> 2, part = tid & 3;
  const long long at = ((long long)head * DV + row) * DK + part * 4;
#pragma unroll
  for (int j = 0; j < PART / 4; ++j) *(float4*)(s + 4 * j) = *(const float4*)(state + at + 16 * j);
  float total = 0.f;
  for (int first = 0; first < m; first += ROWS) {
    const int count = min(ROWS, m - first);
    // A warp each for the last step of every row, whose inputs come in meanwhile.
    float z[GATES], gain[GATES];
#pragma unroll
    for (int i = 0; i < GATES; ++i) {
      const int c = lane + 32 * i;
      const bool there = warp < count && c < DV;
      z[i] = there ? float(in[(long long)(first + warp) * WIDTH + CHANNELS + head * DV + c]) : 0.f;
      gain[i] = there ? weight[c] : 0.f;
    }
    for (int c = tid; c < COLUMNS; c += THREADS) {
      const int ch = channel(c);
      float window[TAPS], taps[TAPS];
#pragma unroll
      for (int i = 0; i < TAPS; ++i) taps[i] = conv[i * CHANNELS + ch];
#pragma unroll
      for (int i = 0; i < TAPS - 1; ++i) window[i] = input(first + i, ch);
      for (int t = 0; t < count; ++t) {
        window[TAPS - 1] = input(first + TAPS - 1 + t, ch);
        float sum = 0.f;
#pragma unroll
        for (int i = 0; i < TAPS; ++i) sum += window[i] * taps[i];
        rows[t][c] = sum * sigmoid(sum);
#pragma unroll
        for (int i = 0; i < TAPS - 1; ++i) window[i] = window[i + 1];
      }
      if (first + count == m && (leader || c >= 2 * DK))
#pragma unroll
        for (int i = 0; i < TAPS - 1; ++i) conv_out[i * CHANNELS + ch] = bf16(window[i]);
    }
    if (tid < count) {
      const bf16* gates = in + (long long)(first + tid) * WIDTH + CHANNELS + VALUES;
      rates[tid] = sigmoid(float(gates[head]));
      const float a = float(gates[H * R + head]) + dt_bias[head];
      decays[tid] = decay[head] * (a > 20.f ? a : log1pf(__expf(a)));
    }
    __syncthreads();
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
    __syncthreads();
    if (warp < count) {
      float squares = 0.f;
      for (int c = lane; c < DV; c += 32) squares += outputs[warp][c] * outputs[warp][c];
      const float scale = rsqrtf(warp_sum(squares) / DV + eps);
      bf16* row_out = y + (long long)(first + warp) * VALUES + head * DV;
#pragma unroll
      for (int i = 0; i < GATES; ++i)
        if (const int c = lane + 32 * i; c < DV)
          row_out[c] = bf16(outputs[warp][c] * scale * gain[i] * (z[i] * sigmoid(z[i])));
    }
    __syncthreads();
  }
#pragma unroll
  for (int j = 0; j < PART / 4; ++j) *(float4*)(state_out + at + 16 * j) = *(float4*)(s + 4 * j);
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
