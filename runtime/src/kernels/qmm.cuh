// Products of a few rows x [m, k] bf16 with affine-packed weights [n, k], on tensor cores.
//
// Sixteen rows of the weight are the A operand of m16n8k16, eight rows of x the B operand. A quad of lanes shares a weight
// row; lane t takes a run of the group's k, so the k order inside a product is permuted, for A and B alike. Packed
// numbers become bf16 by setting an exponent over them: 128 + q for a nibble, 2048 + 16 q for the upper one of a byte. All
// sums are exact to f32: group by group, scale * (sum (offset + q) x) + (bias - offset * scale) * (sum x).
//
// Weights stream through shared memory, asynchronously and STAGES - 1 records ahead, each warp in a region of its own: the first of
// them are under way before the kernel ahead of this one is done. A record, 1024 bits of each row of a tile with their scales and
// biases, lies in memory as its lanes read it (`quant/tiled.rs`), so a warp follows one run of addresses.

// Two nibbles under an exponent. Written out, since the compiler makes two instructions of the last one.
template <int SHIFT, unsigned EXPONENT>
__device__ __forceinline__ unsigned nibbles(unsigned w) {
  unsigned r;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(r) : "r"(w >> SHIFT), "n"(0x000f000f), "r"(EXPONENT));
  return r;
}

// Words of one lane, row and unit: 4-bit, eight numbers a word; 8-bit, four.
template <int WORDS> struct alignas(4 * WORDS) Words { unsigned w[WORDS]; };

// Scales of two rows of a group, and their biases.
struct alignas(4 * sizeof(S)) Group { S scale[2], bias[2]; };

// One block: a tile of 16 weight rows, WARPS warps that share k, no fewer records than warps. MANY: as many blocks as the card holds,
// RESIDENT on each processor, take tiles in turns, and fetch the next one's records while they end one. out [m, n]; PAIRED: a second
// tile is `up` for the `gate` of the first, n rows further on, and what is written is silu(gate) * up [m, n]. S, T: the types of scales
// and biases, and of the output. WHOLE: k is a number of whole chunks. RECORD: 16-byte pieces of a record.
//
// Between a residual stream and a product lies a norm, x / sqrt(mean x^2 + eps) * gain, whose divisor is one number a row. ADDS: the
// product is added to stream [m, n], and leaves sums, gain * sums, and the sum of squares over each tile [m, tiles]. DIVIDES: x is
// such gain * sums, and the product is divided at its end, by what squares [m, PARTS] add up to.
constexpr int TILES = PAIRED ? 2 : 1;

extern "C" __global__ void __launch_bounds__(WARPS * 32, RESIDENT)
qmm(const bf16* x, const uint4* w,
#if DIVIDES
    const float* squares,
#endif
#if ADDS
    const float* stream, const float* gain, float* sums, T* out, float* tile_squares,
#else
    T* out,
#endif
    int m, int n, int k, float eps) {
  constexpr int UNIT = GROUP < 64 ? GROUP : 64;          // k of one step
  constexpr int RUN = UNIT / 4;                          // of which a lane takes so many
  constexpr int WORDS = RUN * BITS / 32;
  constexpr int XV = RUN / 8;                            // 16-byte loads of x
  constexpr float OFFSET = BITS == 4 ? 128.f : 2176.f;
  constexpr int PIECES = 8, CHUNK = PIECES * 128 / BITS; // 16-byte pieces of a chunk; its k
  constexpr int UNITS = CHUNK / UNIT;
  constexpr int SLOTS = NB == 1 && UNITS >= 4 ? 4 : 2;   // units whose x is held: the one at work and those under way
  extern __shared__ uint4 memory[];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int g = lane >> 2, t = lane & 3;
  const int chunks = (k + CHUNK - 1) / CHUNK;
  const int tiles = (n + 15) / 16;
  uint4* stages = memory + warp * STAGES * TILES * RECORD;

  int fetched = blockIdx.x, next = warp;                 // tile and chunk of the next record that is fetched
  auto fetch = [&](int stage) {
    if (MANY && next >= chunks) {
      next -= chunks;
      fetched += gridDim.x;
    }
    if (MANY ? fetched < tiles : next < chunks) {
      uint4* to = stages + stage * TILES * RECORD + lane;
#pragma unroll
      for (int i = 0; i < TILES; ++i) {
        const uint4* from = w + ((long long)(fetched + i * tiles) * chunks + next) * RECORD + lane;
#pragma unroll
        for (int q = 0; q < RECORD; q += 32)
          if (q + 32 <= RECORD || q + lane < RECORD) copy_async(to + i * RECORD + q, from + q, true);
      }
    }
    end_batch();
    next += WARPS;
  };
  uint4 xv[SLOTS][NB][XV];
  auto fetch_x = [&](int slot, int unit) {
#pragma unroll
    for (int j = 0; j < NB; ++j) {
      const bool there = j * 8 + g < m && (WHOLE || unit * UNIT < k);
      const uint4* xp = (const uint4*)(x + (long long)(j * 8 + g) * k + unit * UNIT + t * RUN);
#pragma unroll
      for (int v = 0; v < XV; ++v) xv[slot][j][v] = there ? __ldg(xp + v) : make_uint4(0, 0, 0, 0);
    }
  };

#pragma unroll
  for (int stage = 0; stage < STAGES - 1; ++stage) fetch(stage);
  previous_done();
  next_may_start();                                      // no sooner, or blocks that wait take the places of those that work
#pragma unroll
  for (int u = 0; u < SLOTS - 1; ++u) fetch_x(u, warp * UNITS + u);
#if DIVIDES
  // Each warp's rows of squares come in meanwhile, and are added up once its products are done.
  __shared__ float parts[NB * 8][PARTS], divisors[NB * 8];
  for (int c = warp; c < m; c += WARPS)
    for (int i = lane; i < PARTS; i += 32) copy_word_async(parts[c] + i, squares + c * PARTS + i);
  end_batch();
#endif
#if ADDS
  __shared__ float squares_of[1 + MANY][NB * 16];
#endif
  auto& shares = *(float (*)[1 + MANY][WARPS][TILES][NB][128])(memory + WARPS * STAGES * TILES * RECORD);
  constexpr int TURNS = (NB * 4 + WARPS - 1) / WARPS;    // of the threads, to write a tile
  auto column_at = [&](int at) { return at / 128 * 8 + 2 * (at & 3) + (at / 32 & 1); };

  int stage = 0, chunk = warp, turn = 0;
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    auto row_at = [&](int at) { return tile * 16 + (at % 32 >> 2) + 8 * (at % 128 / 64); };
#if ADDS
    float before[TURNS], factor[TURNS];
#pragma unroll
    for (int i = 0; i < TURNS; ++i) {
      const int at = i * WARPS * 32 + threadIdx.x, r = row_at(at), c = column_at(at);
      const bool there = r < n && c < m;
      before[i] = there ? stream[(long long)c * n + r] : 0.f;
      factor[i] = there ? gain[r] : 0.f;
    }
#endif
    float sum[TILES][NB][4] = {};
    for (; chunk < chunks; chunk += WARPS) {
      await_batches<STAGES - 2>();
      __syncwarp();
      const int after = chunk + WARPS < chunks ? chunk + WARPS : MANY ? chunk + WARPS - chunks : chunks;
      fetch(stage == 0 ? STAGES - 1 : stage - 1);
      const uint4* at = stages + stage * TILES * RECORD;
#pragma unroll
      for (int u = 0; u < UNITS; ++u) {
        constexpr int FAR = SLOTS - 1;
        if (u + FAR < UNITS) fetch_x((u + FAR) % SLOTS, chunk * UNITS + u + FAR);
        else if (MANY || after < chunks) fetch_x((u + FAR) % SLOTS, after * UNITS + u + FAR - UNITS);
        __syncwarp();                                      // or the compiler puts these loads off until they are needed
        unsigned a[TILES][2][WORDS];
#pragma unroll
        for (int i = 0; i < TILES; ++i) {
          constexpr int READ = WORDS < 4 ? 2 * WORDS : 4;  // words of a read
#pragma unroll
          for (int v = 0; v < 2 * WORDS; v += READ) {
            const int first = u * 2 * WORDS + v;
            const auto words = *(const Words<READ>*)((const unsigned*)(at + i * RECORD + first / 4 * 32 + lane) + first % 4);
#pragma unroll
            for (int e = 0; e < READ; ++e) a[i][(v + e) / WORDS][(v + e) % WORDS] = words.w[e];
          }
        }
        float acc[TILES][NB][4] = {}, ones[NB][4] = {};
#pragma unroll
        for (int v = 0; v < XV; ++v) {
          // Eight k: one word of 4 bits, two of 8.
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            uint2 bx[NB];
#pragma unroll
            for (int j = 0; j < NB; ++j) {
              const uint4 q = xv[u % SLOTS][j][v];
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
                const unsigned p = a[i][0][v], q = a[i][1][v];
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
                const unsigned p = a[i][0][2 * v + half], q = a[i][1][2 * v + half];
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
        for (int i = 0; i < TILES; ++i) {
          const Group group = ((const Group*)(at + i * RECORD + 16 * PIECES))[u * UNIT / GROUP * 8 + g];
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            const float scale = float(group.scale[h]);
            const float rest = float(group.bias[h]) - OFFSET * scale;
#pragma unroll
            for (int j = 0; j < NB; ++j)
#pragma unroll
              for (int e = 0; e < 2; ++e) sum[i][j][2 * h + e] += scale * acc[i][j][2 * h + e] + rest * ones[j][e];
          }
        }
      }
      stage = stage + 1 == STAGES ? 0 : stage + 1;
    }

    chunk -= chunks;
#if DIVIDES
    if (tile == blockIdx.x) {
      await_batches<STAGES - 2>();                         // what was fetched since then is no more
      __syncwarp();
      for (int c = warp; c < m; c += WARPS) {
        float total = 0.f;
        for (int i = lane; i < PARTS; i += 32) total += parts[c][i];
        total = warp_sum(total);
        if (lane == 0) divisors[c] = rsqrtf(total / k + eps);
      }
    }
#endif

    // The warps' shares of k, added in order. What is written is spread over the threads in turns.
#pragma unroll
    for (int i = 0; i < TILES; ++i)
#pragma unroll
      for (int j = 0; j < NB; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) shares[turn][warp][i][j][e * 32 + lane] = sum[i][j][e];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < TURNS; ++i) {
      const int at = i * WARPS * 32 + threadIdx.x;
      if (at >= NB * 128) break;
      float value = 0.f, up = 0.f;
#pragma unroll
      for (int v = 0; v < WARPS; ++v) {
        value += shares[turn][v][0][at / 128][at % 128];
        if (PAIRED) up += shares[turn][v][1][at / 128][at % 128];
      }
      const int r = row_at(at), c = column_at(at);
      const bool there = r < n && c < m;
#if DIVIDES
      if (there) {
        value *= divisors[c];
        up *= divisors[c];
      }
#endif
#if ADDS
      value = there ? before[i] + value : 0.f;
      if (there) sums[(long long)c * n + r] = value;
      float square = value * value;
      for (int d = 4; d < 32; d *= 2) square += __shfl_xor_sync(~0u, square, d);
      if (lane < 4) squares_of[turn][at / 32 * 4 + lane] = square;
      value *= factor[i];
#endif
      if (PAIRED) {
        // As the op-by-op form rounds: gate and up first.
        const float gate = float(bf16(value));
        value = float(bf16(up)) * (gate / (1.f + __expf(-gate)));
      }
      if (there) out[(long long)c * n + r] = T(value);
    }
#if ADDS
    __syncthreads();
    if (const int c = threadIdx.x; c < m) {
      // Two runs of eight weight rows.
      const float* of = squares_of[turn] + c / 8 * 16 + c % 2 * 4 + c % 8 / 2;
      tile_squares[(long long)c * tiles + tile] = of[0] + of[8];
    }
#endif
    if (!MANY) break;
    turn ^= 1;
  }
}
