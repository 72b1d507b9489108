// Mixtures of experts for a few rows x [n, hidden] bf16, with affine-packed stacks [experts, out, in]. The first kernel makes
// silu(gate) * up of every chosen expert, the second the weighted sum of their down projections. The shared expert is one more
// slot of every row. Each warp of the first kernel routes its row by itself: that takes less than a launch.
//
// Half a warp shares a weight row, sixteen bytes a lane, and takes ROWS successive rows at once. What a row of x gives depends on
// no other row.

constexpr int LANES = 16, ROWS = 4;
constexpr int SLOTS = K + (SHARED > 0);

// Out of a shuffle, so that the compiler sees that a warp's lanes agree.
__device__ __forceinline__ int warp_index() { return __shfl_sync(~0u, threadIdx.x / 32, 0); }

// The E-th nibble of a word, set into the mantissa of 128.
template <int E>
__device__ __forceinline__ float nibble(unsigned word) {
  unsigned placed = E < 4 ? word << (16 - 4 * E) : word >> (4 * E - 16);
  // (placed & mask) | exponent in one instruction: the compiler would take two for two constants.
  asm("lop3.b32 %0, %0, %1, %2, 0xea;" : "+r"(placed) : "n"(0x000f0000), "r"(0x43000000));
  return __uint_as_float(placed);
}

// The E-th byte of a word, set into the mantissa of 2^23.
template <int E>
__device__ __forceinline__ float byte(unsigned word) {
  return __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7540 | E)) - 8388608.f;
}

using Number = float(unsigned);

// acc += four numbers of a word by those of y from AT on.
template <int AT, Number A, Number B, Number C, Number D>
__device__ __forceinline__ void fold(float& acc, const float (&y)[8], unsigned word) {
  acc = fmaf(y[AT], A(word), acc);
  acc = fmaf(y[AT + 1], B(word), acc);
  acc = fmaf(y[AT + 2], C(word), acc);
  acc = fmaf(y[AT + 3], D(word), acc);
}

// sum += a lane's share of the products of x [width] with ROWS packed rows. Sums are f32: chunk by chunk,
// scale * (sum (offset + q) x) + (bias - offset * scale) * (sum x).
template <int Bits, int Group, class Scale>
__device__ __forceinline__ void dot(
    float (&sum)[ROWS], const bf16* x, const unsigned* packed, const Scale* scales, const Scale* biases, int width) {
  constexpr int CHUNK = 128 / Bits;                      // numbers of sixteen bytes
  constexpr float OFFSET = Bits == 4 ? 128.f : 0.f;
  const int chunks = width / CHUNK, groups = width / Group;
  const uint4* w = (const uint4*)packed;
  for (int base = 0; base < chunks; base += AHEAD * LANES) {
    uint4 q[AHEAD][ROWS];
    Scale s[AHEAD][ROWS], b[AHEAD][ROWS];
#pragma unroll
    for (int d = 0; d < AHEAD; ++d) {
      const int chunk = base + d * LANES + threadIdx.x % LANES;
#pragma unroll
      for (int i = 0; i < ROWS; ++i) {
        q[d][i] = make_uint4(0, 0, 0, 0);
        s[d][i] = b[d][i] = Scale(0.f);
        if (chunk < chunks) {
          q[d][i] = __ldcg(w + (i * chunks + chunk));    // past L1: nobody in the block reads it again
          s[d][i] = scales[i * groups + chunk * CHUNK / Group];
          b[d][i] = biases[i * groups + chunk * CHUNK / Group];
        }
      }
    }
    __syncwarp();                                        // or the compiler would put off loads until they are needed
#pragma unroll
    for (int d = 0; d < AHEAD; ++d) {
      const int chunk = base + d * LANES + threadIdx.x % LANES;
      float acc[ROWS] = {}, ones = 0.f;
#pragma unroll
      for (int v = 0; v < CHUNK / 8; ++v) {
        uint4 pairs = make_uint4(0, 0, 0, 0);
        if (chunk < chunks) pairs = *(const uint4*)(x + chunk * CHUNK + v * 8);
        const float y[8] = {
            __uint_as_float(pairs.x << 16), __uint_as_float(pairs.x & 0xffff0000u),
            __uint_as_float(pairs.y << 16), __uint_as_float(pairs.y & 0xffff0000u),
            __uint_as_float(pairs.z << 16), __uint_as_float(pairs.z & 0xffff0000u),
            __uint_as_float(pairs.w << 16), __uint_as_float(pairs.w & 0xffff0000u)};
        ones += ((y[0] + y[1]) + (y[2] + y[3])) + ((y[4] + y[5]) + (y[6] + y[7]));
#pragma unroll
        for (int i = 0; i < ROWS; ++i) {
          const unsigned words[4] = {q[d][i].x, q[d][i].y, q[d][i].z, q[d][i].w};
          if constexpr (Bits == 4) {
            fold<0, nibble<0>, nibble<1>, nibble<2>, nibble<3>>(acc[i], y, words[v]);
            fold<4, nibble<4>, nibble<5>, nibble<6>, nibble<7>>(acc[i], y, words[v]);
          } else {
            fold<0, byte<0>, byte<1>, byte<2>, byte<3>>(acc[i], y, words[2 * v]);
            fold<4, byte<0>, byte<1>, byte<2>, byte<3>>(acc[i], y, words[2 * v + 1]);
          }
        }
      }
#pragma unroll
      for (int i = 0; i < ROWS; ++i) {
        const float scale = float(s[d][i]);
        sum[i] += scale * acc[i] + (float(b[d][i]) - OFFSET * scale) * ones;
      }
    }
  }
#pragma unroll
  for (int i = 0; i < ROWS; ++i)
    for (int step = LANES / 2; step; step /= 2) sum[i] += __shfl_xor_sync(~0u, sum[i], step);
}

#ifdef experts_swiglu
constexpr int PER = (EXPERTS + 31) / 32;                 // experts of a lane, 32 ids apart

// Numbers as they sort, and never 0, which is what has been taken.
__device__ __forceinline__ unsigned key_of(float score) {
  const unsigned bits = __float_as_uint(score + 0.f);    // -0 as +0
  return max(bits >> 31 ? ~bits : bits | 0x80000000u, 1u);
}
__device__ __forceinline__ float score_of(unsigned key) { return __uint_as_float(key >> 31 ? key & 0x7fffffffu : ~key); }

// Takes out the largest of the warp's keys with ids from `from` to before `to`.
__device__ __forceinline__ unsigned take(unsigned (&keys)[PER], int from, int to, int& id) {
  const int lane = threadIdx.x % 32;
  unsigned best = 0;
  int place = 0;
#pragma unroll
  for (int i = 0; i < PER; ++i) {
    const int its = i * 32 + lane;
    if (its >= from && its < to && keys[i] > best) { best = keys[i]; place = i; }
  }
  const unsigned top = __reduce_max_sync(~0u, best);
  const int owner = __ffs(__ballot_sync(~0u, best == top)) - 1;
  place = __shfl_sync(~0u, place, owner);
  id = place * 32 + owner;
#pragma unroll
  for (int i = 0; i < PER; ++i)
    if (i == place && lane == owner) keys[i] = 0;
  return top;
}

// Lane j gets the row's j-th choice and its weight; lanes from K on get no weight.
__device__ __forceinline__ void route(const L* logits, const float* correction, float factor, int& expert, float& weight) {
  const int lane = threadIdx.x % 32;
  float logit[PER], top = NOTHING, total = 0.f;
#pragma unroll
  for (int i = 0; i < PER; ++i) {
    const int id = i * 32 + lane;
    logit[i] = id < EXPERTS ? float(logits[id]) : NOTHING;
    top = fmaxf(top, logit[i]);
  }
  if (!SIGMOID) {
    top = warp_max(top);
#pragma unroll
    for (int i = 0; i < PER; ++i) total += expf(logit[i] - top);
    total = 1.f / warp_sum(total);
  }
  auto score = [&](float logit) { return SIGMOID ? __fdividef(1.f, 1.f + expf(-logit)) : expf(logit - top) * total; };
  unsigned keys[PER];
#pragma unroll
  for (int i = 0; i < PER; ++i) {
    const int id = i * 32 + lane;
    keys[i] = id < EXPERTS ? key_of(score(logit[i]) + (SIGMOID ? correction[id] : 0.f)) : 0;
  }
  if (KEPT < GROUPS) {                                   // a group is worth its two best
    constexpr int SIZE = EXPERTS / GROUPS;
    unsigned left[PER];
#pragma unroll
    for (int i = 0; i < PER; ++i) left[i] = keys[i];
    float worth = NOTHING;                               // of the lane's group
    for (int g = 0; g < GROUPS; ++g) {
      float best = 0.f;
      for (int i = 0; i < min(SIZE, 2); ++i) best += score_of(take(left, g * SIZE, (g + 1) * SIZE, expert));
      if (lane == g) worth = best;
    }
    int better = 0;
    for (int g = 0; g < GROUPS; ++g) {
      const float other = __shfl_sync(~0u, worth, g);
      better += other > worth || (other == worth && g < lane);
    }
    const unsigned kept = __ballot_sync(~0u, lane < GROUPS && better < KEPT);
#pragma unroll
    for (int i = 0; i < PER; ++i) {
      const int id = i * 32 + lane;
      if (id < EXPERTS && !(kept >> id / SIZE & 1)) keys[i] = 1;
    }
  }
#pragma unroll 1
  for (int j = 0; j < K; ++j) {
    int id;
    take(keys, 0, EXPERTS, id);
    if (lane == j) expert = id;
  }
  weight = lane < K ? score(float(logits[expert])) : 0.f;
  if (NORMALIZE) weight /= warp_sum(weight) + (SIGMOID ? 1e-20f : 0.f);
  weight *= factor;
}

// act [n, K * width + shared_width]: silu(gate) * up, slot by slot; chosen [n, K]; weights [n, SLOTS]. logits [n, logits_width],
// of which the first EXPERTS are the router's; the last of a row of shared_gate [n, gate_width] is the shared expert's, where it
// has a gate (SHARED is 2). shared: gates over ups, [2 * shared_width, hidden]. A warp makes ROWS columns of act: its lower half
// the gates, its upper half the ups.
extern "C" __global__ void __launch_bounds__(WARPS * 32, 16 / WARPS)
experts_swiglu(
    const bf16* x, const L* logits, const G* shared_gate, const float* correction,
    const unsigned* gate_w, const S* gate_s, const S* gate_b, const unsigned* up_w, const S* up_s, const S* up_b,
    const unsigned* shared_w, const SHARED_S* shared_s, const SHARED_S* shared_b,
#if DIVIDES
    const float* squares,                                // [n, parts]: x is to be divided by the root of their mean and eps
#endif
    bf16* act, unsigned* chosen, float* weights,
    int hidden, int width, int shared_width, int logits_width, int gate_width, float factor, int parts, float eps) {
  next_may_start();
  previous_done();
  const int row = blockIdx.x, slot = blockIdx.y, lane = threadIdx.x % 32, warp = warp_index();
  const int column = (blockIdx.z * WARPS + warp) * ROWS;
  const bool shared = slot == K, upper = lane >= LANES;
  if (column >= (shared ? shared_width : width)) return;
  x += row * hidden;
  float sum[ROWS] = {}, divisor = 1.f;
#if DIVIDES
  float total = 0.f;
  for (int i = lane; i < parts; i += 32) total += squares[row * parts + i];
  divisor = rsqrtf(warp_sum(total) / hidden + eps);
#endif
  if (shared) {
    if constexpr (SHARED > 0) {
      const int first = upper ? shared_width + column : column;
      dot<SHARED_BITS, SHARED_GROUP>(
          sum, x, shared_w + (long long)first * (hidden * SHARED_BITS / 32),
          shared_s + (long long)first * (hidden / SHARED_GROUP), shared_b + (long long)first * (hidden / SHARED_GROUP), hidden);
      if (column == 0 && lane == 0)
        weights[row * SLOTS + K] = SHARED == 2 ? sigmoid(float(shared_gate[(row + 1) * gate_width - 1])) : 1.f;
    }
  } else {
    int expert = 0;
    float weight;
    route(logits + row * logits_width, correction, factor, expert, weight);
    if (slot == 0 && column == 0 && lane < K) {
      chosen[row * K + lane] = expert;
      weights[row * SLOTS + lane] = weight;
    }
    const long long first = (long long)__shfl_sync(~0u, expert, slot) * width + column;
    dot<BITS, GROUP>(
        sum, x, (upper ? up_w : gate_w) + first * (hidden * BITS / 32), (upper ? up_s : gate_s) + first * (hidden / GROUP),
        (upper ? up_b : gate_b) + first * (hidden / GROUP), hidden);
  }
  act += row * (K * width + shared_width) + slot * width + column;
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
    // As the op-by-op form rounds: gate and up first.
    sum[i] *= divisor;
    const float gate = float(bf16(sum[i])), up = float(bf16(__shfl_down_sync(~0u, sum[i], LANES)));
    if (lane == 0) act[i] = bf16(up * (gate / (1.f + __expf(-gate))));
  }
}
#endif

#ifdef experts_down
// out [n, hidden]: the sum of weight * (down act) over the slots of a row, a warp each; a block makes 2 ROWS columns. ADDS: it is added
// to stream [n, hidden], and leaves sums, gain * sums, and sums of squares [n, blocks]; see `qmm.cuh`.
extern "C" __global__ void __launch_bounds__(SLOTS * 32, SLOTS > 9 ? 1 : 2)
experts_down(
    const bf16* act, const unsigned* chosen, const float* weights, const unsigned* w, const S* scales, const S* biases,
    const unsigned* shared_w, const SHARED_S* shared_s, const SHARED_S* shared_b,
#if ADDS
    const float* stream, const float* gain, float* sums, bf16* out, float* squares,
#else
    float* out,
#endif
    int hidden, int width, int shared_width) {
  next_may_start();
  previous_done();
  const int row = blockIdx.x, slot = warp_index(), half = threadIdx.x % 32 / LANES;
  const int column = blockIdx.y * 2 * ROWS;
  act += row * (K * width + shared_width) + slot * width;
  float sum[ROWS] = {};
  if (slot < K) {
    const long long first = (long long)chosen[row * K + slot] * hidden + column + half * ROWS;
    dot<BITS, GROUP>(
        sum, act, w + first * (width * BITS / 32), scales + first * (width / GROUP), biases + first * (width / GROUP), width);
  } else if constexpr (SHARED > 0) {
    const long long first = column + half * ROWS;
    dot<SHARED_BITS, SHARED_GROUP>(
        sum, act, shared_w + first * (shared_width * SHARED_BITS / 32), shared_s + first * (shared_width / SHARED_GROUP),
        shared_b + first * (shared_width / SHARED_GROUP), shared_width);
  }
  __shared__ float shares[SLOTS][2 * ROWS];
  const float weight = weights[row * SLOTS + slot];
  if (threadIdx.x % LANES == 0)
#pragma unroll
    for (int i = 0; i < ROWS; ++i) shares[slot][half * ROWS + i] = weight * sum[i];
  __syncthreads();
  if (threadIdx.x < 32) {
    const bool writes = threadIdx.x < 2 * ROWS;
    const long long at = (long long)row * hidden + column + threadIdx.x;
    float total = 0.f;
    if (writes)
#pragma unroll
      for (int s = 0; s < SLOTS; ++s) total += shares[s][threadIdx.x];
#if ADDS
    if (writes) sums[at] = total += stream[at];
    const float square = warp_sum(total * total);
    if (threadIdx.x == 0) squares[row * gridDim.y + blockIdx.y] = square;
    if (writes) out[at] = bf16(total * gain[column + threadIdx.x]);
#else
    if (writes) out[at] = total;
#endif
  }
}
#endif
