// Products of a few rows x [m, k] bf16 with affine-packed weights [n, k], on tensor cores.
//
// Sixteen rows of the weight are the A operand of m16n8k16, eight rows of x the B operand. A quad of lanes shares a weight
// row; lane t takes a run of the group's k, so the k order inside a product is permuted, for A and B alike. Packed
// numbers become bf16 by setting an exponent over them: 128 + q for a nibble, 2048 + 16 q for the upper one of a byte. All
// sums are exact to f32: group by group, scale * (sum (offset + q) x) + (bias - offset * scale) * (sum x).

__device__ __forceinline__ void mma(float (&c)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, uint2 b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b.x), "r"(b.y));
}

template <int SHIFT, unsigned EXPONENT>
__device__ __forceinline__ unsigned nibbles(unsigned w) {
  return ((w >> SHIFT) & 0x000f000fu) | EXPONENT;
}

// Words of one lane, row and unit: 4-bit, eight numbers a word; 8-bit, four.
template <int WORDS> struct Words { unsigned w[WORDS]; };
template <int N> struct Count { static constexpr int value = N; };

template <int WORDS>
__device__ __forceinline__ Words<WORDS> load_words(const unsigned* p) {
  Words<WORDS> r;
  if constexpr (WORDS == 4) { uint4 v = __ldg((const uint4*)p); r.w[0] = v.x; r.w[1] = v.y; r.w[2] = v.z; r.w[3] = v.w; }
  else if constexpr (WORDS == 2) { uint2 v = __ldg((const uint2*)p); r.w[0] = v.x; r.w[1] = v.y; }
  else { r.w[0] = __ldg(p); }
  return r;
}

// One block: TILES tiles of 16 weight rows, WARPS warps that share k. out [m, n]; PAIRED: tile 1 is `up` for the `gate` of
// tile 0, n rows further on, and what is written is silu(gate) * up [m, n]. S, T: the types of scales and biases, and of the output.
extern "C" __global__ void __launch_bounds__(WARPS * 32)
qmm(const bf16* x, const unsigned* w, const S* scales, const S* biases, T* out, int m, int n, int k) {
  constexpr int UNIT = GROUP < 64 ? GROUP : 64;          // k of one step
  constexpr int RUN = UNIT / 4;                          // of which a lane takes so many
  constexpr int WORDS = RUN * BITS / 32;
  constexpr int PER = 32 / BITS;                         // numbers a word
  constexpr int XV = RUN / 8;                            // 16-byte loads of x
  constexpr float OFFSET = BITS == 4 ? 128.f : 2176.f;
  constexpr int AHEAD = WORDS * TILES >= 8 ? 2 : 4;      // units in flight
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int g = lane >> 2, t = lane & 3;
  const int units = k / UNIT, groups = k / GROUP;
  const int first = int((long long)units * warp / WARPS), last = int((long long)units * (warp + 1) / WARPS);
  const int base = blockIdx.x * 16 * (PAIRED ? 1 : TILES);
  const long long line = (long long)k / PER;

  const unsigned* wp[TILES][2];
  int row[TILES][2];
#pragma unroll
  for (int i = 0; i < TILES; ++i)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      int r = base + (PAIRED ? 0 : i * 16) + g + 8 * h;
      r = r < n ? r : n - 1;                             // rows past the end repeat the last one and are not written
      if (PAIRED && i == 1) r += n;
      row[i][h] = r;
      wp[i][h] = w + r * line + t * WORDS;
    }

  float sum[TILES][NB][4] = {};
  auto step = [&](auto ahead, int u) {
    constexpr int AHEAD = decltype(ahead)::value;
    Words<WORDS> a[AHEAD][TILES][2];
    float s[AHEAD][TILES][2], b[AHEAD][TILES][2];
    uint4 xv[AHEAD][NB][XV];
#pragma unroll
    for (int d = 0; d < AHEAD; ++d) {
      const int unit = u + d;
      const int group = unit * UNIT / GROUP;
#pragma unroll
      for (int i = 0; i < TILES; ++i)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          a[d][i][h] = load_words<WORDS>(wp[i][h] + unit * (UNIT / PER));
          s[d][i][h] = float(scales[(long long)row[i][h] * groups + group]);
          b[d][i][h] = float(biases[(long long)row[i][h] * groups + group]);
        }
#pragma unroll
      for (int j = 0; j < NB; ++j) {
        const bool has = j * 8 + g < m;
        const uint4* xp = (const uint4*)(x + (long long)(j * 8 + g) * k + unit * UNIT + t * RUN);
#pragma unroll
        for (int v = 0; v < XV; ++v) xv[d][j][v] = has ? __ldg(xp + v) : make_uint4(0, 0, 0, 0);
      }
    }
#pragma unroll
    for (int d = 0; d < AHEAD; ++d) {
      float acc[TILES][NB][4] = {}, ones[NB][4] = {};
#pragma unroll
      for (int v = 0; v < XV; ++v) {
        // Eight k: one word of 4 bits, two of 8.
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          uint2 bx[NB];
#pragma unroll
          for (int j = 0; j < NB; ++j) {
            const uint4 q = xv[d][j][v];
            if constexpr (BITS == 4) {                   // (0,4) (1,5) | (2,6) (3,7)
              const unsigned lo = half ? q.y : q.x, hi = half ? q.w : q.z;
              bx[j] = make_uint2(__byte_perm(lo, hi, 0x5410), __byte_perm(lo, hi, 0x7632));
            } else {                                     // (0,2) (1,3) | (4,6) (5,7)
              const unsigned lo = half ? q.z : q.x, hi = half ? q.w : q.y;
              bx[j] = make_uint2(__byte_perm(lo, hi, 0x5410), __byte_perm(lo, hi, 0x7632));
            }
            mma(ones[j], 0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u, bx[j]);
          }
#pragma unroll
          for (int i = 0; i < TILES; ++i) {
            if constexpr (BITS == 4) {
              const unsigned p = a[d][i][0].w[v], q = a[d][i][1].w[v];
              unsigned a0, a1, a2, a3;
              if (half == 0) {
                a0 = nibbles<0, 0x43004300u>(p); a1 = nibbles<0, 0x43004300u>(q);
                a2 = nibbles<4, 0x43004300u>(p); a3 = nibbles<4, 0x43004300u>(q);
              } else {
                a0 = nibbles<8, 0x43004300u>(p); a1 = nibbles<8, 0x43004300u>(q);
                a2 = nibbles<12, 0x43004300u>(p); a3 = nibbles<12, 0x43004300u>(q);
              }
#pragma unroll
              for (int j = 0; j < NB; ++j) mma(acc[i][j], a0, a1, a2, a3, bx[j]);
            } else {
              const unsigned p = a[d][i][0].w[2 * v + half], q = a[d][i][1].w[2 * v + half];
#pragma unroll
              for (int j = 0; j < NB; ++j) {
                mma(acc[i][j], nibbles<0, 0x43004300u>(p), nibbles<0, 0x43004300u>(q),
                    nibbles<8, 0x43004300u>(p), nibbles<8, 0x43004300u>(q), bx[j]);
                mma(acc[i][j], nibbles<4, 0x45004500u>(p), nibbles<4, 0x45004500u>(q),
                    nibbles<12, 0x45004500u>(p), nibbles<12, 0x45004500u>(q), bx[j]);
              }
            }
          }
        }
      }
#pragma unroll
      for (int i = 0; i < TILES; ++i)
#pragma unroll
        for (int j = 0; j < NB; ++j)
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const float sc = s[d][i][e >> 1];
            sum[i][j][e] += sc * acc[i][j][e] + (b[d][i][e >> 1] - OFFSET * sc) * ones[j][e & 1];
          }
    }
  };
  int u = first;
  for (; u + AHEAD <= last; u += AHEAD) step(Count<AHEAD>{}, u);
  for (; u < last; ++u) step(Count<1>{}, u);

  // The warps' shares of k, added in order.
  __shared__ float shares[WARPS][TILES][NB][128];
#pragma unroll
  for (int i = 0; i < TILES; ++i)
#pragma unroll
    for (int j = 0; j < NB; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) shares[warp][i][j][e * 32 + lane] = sum[i][j][e];
  __syncthreads();
  for (int at = threadIdx.x; at < (PAIRED ? 1 : TILES) * NB * 128; at += WARPS * 32) {
    const int i = at / (NB * 128), j = at / 128 % NB, e = at % 128 / 32, l = at % 32;
    float value = 0.f, up = 0.f;
#pragma unroll
    for (int v = 0; v < WARPS; ++v) {
      value += shares[v][i][j][at % 128];
      if (PAIRED) up += shares[v][1][j][at % 128];
    }
    const int r = base + i * 16 + (l >> 2) + 8 * (e >> 1), c = j * 8 + 2 * (l & 3) + (e & 1);
    if (r < n && c < m) {
      if (PAIRED) {
        // As the op-by-op form rounds: gate and up first.
        const float gate = float(bf16(value));
        value = float(bf16(up)) * (gate / (1.f + __expf(-gate)));
      }
      out[(long long)c * n + r] = T(value);
    }
  }
}
