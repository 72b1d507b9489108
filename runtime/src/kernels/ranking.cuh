// The filters of sampling on rows of logits [rows, vocab] f32, without sorting them: each block keeps the best KEEP of a stretch, a
// second kernel joins the stretches, filters and draws; a third makes of the rows of a verification what decides them.
//
// Candidates are ordered by a 64-bit key, larger first: the logit's bits as they sort, then the smaller token id.

constexpr int KEEP = 32, BLOCK = 512;
#ifdef ranked
constexpr int WARPS = 32, LISTS = 4; // of a warp
#else
constexpr int WARPS = 8;
#endif
typedef unsigned long long Key;

__device__ __forceinline__ Key key_of(float logit, int id) {
  const unsigned bits = __float_as_uint(logit + 0.f);    // -0 as +0
  const unsigned rising = bits >> 31 ? ~bits : bits | 0x80000000u;
  return (Key)rising << 32 | (0xffffffffu - (unsigned)id);
}
__device__ __forceinline__ float logit_of(Key key) {
  const unsigned rising = key >> 32;
  return __uint_as_float(rising >> 31 ? rising & 0x7fffffffu : ~rising);
}
__device__ __forceinline__ int id_of(Key key) { return key ? int(0xffffffffu - (unsigned)key) : -1; }

// The larger of each pair of lanes `distance` apart to the lower lane, or to the upper one.
__device__ __forceinline__ Key exchanged(Key key, int distance, bool falling) {
  const Key other = __shfl_xor_sync(~0u, key, distance);
  const bool lower = !(threadIdx.x & distance);
  return (key > other) == (lower == falling) ? key : other;
}
// The keys of a warp, falling from lane to lane (a bitonic sort).
__device__ __forceinline__ Key sorted(Key key) {
  for (int size = 2; size <= 32; size *= 2)
    for (int d = size / 2; d; d /= 2) key = exchanged(key, d, !(threadIdx.x & 31 & size));
  return key;
}
// `best`: the warp's best keys so far, falling from lane to lane; takes in the best of others that fall likewise.
__device__ __forceinline__ void merge(Key& best, Key falling) {
  if (__shfl_sync(~0u, falling, 0) <= __shfl_sync(~0u, best, KEEP - 1)) return;
  const Key other = __shfl_sync(~0u, falling, 31 - (threadIdx.x & 31));
  best = best > other ? best : other;
  for (int d = 16; d; d /= 2) best = exchanged(best, d, true);
}
// Takes in one more key of each lane: a few one by one, many sorted.
__device__ __forceinline__ void take(Key& best, Key key) {
  const int lane = threadIdx.x & 31;
  unsigned open = __ballot_sync(~0u, key > __shfl_sync(~0u, best, KEEP - 1));
  if (__popc(open) > 4) {
    merge(best, sorted(key));
    return;
  }
  while (open) {
    const Key next = __shfl_sync(~0u, key, __ffs(open) - 1);
    open &= open - 1;
    const int place = __popc(__ballot_sync(~0u, best > next));
    const Key before = __shfl_up_sync(~0u, best, 1);
    if (lane == place) best = next;
    else if (lane > place) best = before;
  }
}

// The best keys of all warps, in warp 0.
__device__ __forceinline__ void join(Key& best) {
  __shared__ Key lists[WARPS][KEEP];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  for (int half = WARPS / 2; half; half /= 2) {
    if (warp >= half && warp < 2 * half) lists[warp][lane] = best;
    __syncthreads();
    if (warp < half) merge(best, lists[warp + half][lane]);
  }
}

__device__ __forceinline__ float prefix_sum(float x) {
  for (int d = 1; d < 32; d *= 2) {
    const float below = __shfl_up_sync(~0u, x, d);
    if ((threadIdx.x & 31) >= d) x += below;
  }
  return x;
}

// The lane that is drawn, by its share of the warp's mass: first a block of BLOCK neighbouring tokens, then one of them, both in the
// order of ids, as the dense draw does it. Never a lane without mass.
__device__ __forceinline__ int drawn(float weight, int id, float coarse, float fine, int vocab) {
  const bool blocks = vocab > BLOCK;
  const int block = blocks ? id / BLOCK : 0;
  float below = 0.f, mass = 0.f, within = 0.f;
  for (int i = 0; i < 32; ++i) {
    const float other = __shfl_sync(~0u, weight, i);
    const int its = __shfl_sync(~0u, block, i), its_id = __shfl_sync(~0u, id, i);
    if (its < block) below += other;
    if (its == block) {
      mass += other;
      if (its_id < id) within += other;
    }
  }
  const float total = warp_sum(weight);
  // The first id of those that fit, or the likeliest, which ranks first.
  auto first = [&](bool fits, bool may) {
    int best = fits ? id : 0x7fffffff;
    for (int d = 16; d; d /= 2) best = min(best, __shfl_xor_sync(~0u, best, d));
    const unsigned lanes = best < 0x7fffffff ? __ballot_sync(~0u, id == best) : __ballot_sync(~0u, may);
    return lanes ? __ffs(lanes) - 1 : 0;
  };
  const int in_block = first(weight > 0.f && below + mass > total * coarse, weight > 0.f);
  const int chosen = __shfl_sync(~0u, block, blocks ? in_block : 0);
  const bool there = weight > 0.f && block == chosen;
  return first(there && within + weight > mass * (blocks ? fine : coarse), there);
}

// The flag of a row: its probabilities are all numbers, or none is.
__device__ __forceinline__ float flag_of(float share) { return share - share == 0.f; }

#ifdef candidates
// keys [rows, parts, KEEP]; masses [rows, parts, 2]: the largest logit and the sum of exp((logit - largest) / temperature), which is
// not a number where a logit is not finite.
extern "C" __global__ void __launch_bounds__(WARPS * 32)
candidates(const float* logits, Key* keys, float* masses, int vocab, float rate) {
  next_may_start();
  previous_done();
  const int part = blockIdx.x, parts = gridDim.x, row = blockIdx.y, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int stretch = (vocab + parts - 1) / parts, end = min(vocab, (part + 1) * stretch);
  logits += (long long)row * vocab;
  Key best = 0;
  float top = NOTHING, sum = 0.f, fault = 0.f;
  int id = part * stretch + warp * 32 + lane;
  float next = id < end ? logits[id] : NOTHING;
  for (int from = id - lane; from < end; from += WARPS * 32, id += WARPS * 32) {
    const float x = next;
    next = id + WARPS * 32 < end ? logits[id + WARPS * 32] : NOTHING;
    take(best, id < end ? key_of(x, id) : 0);
    if (id < end) fault += x * 0.f;
    if (x > top) {
      sum = sum * __expf((top - x) * rate) + 1.f;
      top = x;
    } else if (x > NOTHING) {
      sum += __expf((x - top) * rate);
    }
  }
  join(best);
  __shared__ float tops[WARPS], sums[WARPS];
  const float peak = warp_max(top);
  sum = warp_sum((top == NOTHING ? 0.f : sum * __expf((top - peak) * rate)) + fault);
  if (lane == 0) { tops[warp] = peak; sums[warp] = sum; }
  __syncthreads();
  if (warp) return;
  const long long at = (long long)row * parts + part;
  keys[at * KEEP + lane] = best;
  top = lane < WARPS ? tops[lane] : NOTHING;
  sum = lane < WARPS ? sums[lane] : 0.f;
  const float all = warp_max(top);
  sum = warp_sum(top == NOTHING ? sum * 0.f : sum * __expf((top - all) * rate));
  if (lane == 0) { masses[2 * at] = all; masses[2 * at + 1] = sum; }
}
#endif

#ifdef ranked
// ids, p [rows, KEEP]: the kept tokens, the likeliest first, and their probabilities; 0 and perhaps -1 past the last of them. token:
// drawn from the last row.
extern "C" __global__ void __launch_bounds__(WARPS * 32)
ranked(
    const Key* keys, const float* masses, const float* uniforms, int* ids, float* p, int* token, int vocab, int parts,
    int top_k, float rate, float top_p, float min_p) {
  next_may_start();
  previous_done();
  const int row = blockIdx.x, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  keys += (long long)row * parts * KEEP;
  masses += (long long)row * parts * 2;
  Key best = 0, lists[LISTS];
#pragma unroll
  for (int i = 0; i < LISTS; ++i)
    lists[i] = warp + i * WARPS < parts ? keys[(warp + i * WARPS) * KEEP + lane] : 0;
#pragma unroll
  for (int i = 0; i < LISTS; ++i) merge(best, lists[i]);
  join(best);
  if (warp) return;
  const int id = id_of(best);
  const float logit = logit_of(best), top = __shfl_sync(~0u, logit, 0);
  float sum = 0.f;
  for (int part = lane; part < parts; part += 32)
    sum += masses[2 * part + 1] * (masses[2 * part] > NOTHING ? __expf((masses[2 * part] - top) * rate) : 0.f);
  sum = warp_sum(sum);
  float share = id < 0 ? 0.f : __expf((logit - top) * rate) / sum;
  const float before = prefix_sum(share) - share, floor = __shfl_sync(~0u, share, 0) * min_p;
  if (lane >= top_k || (lane && before >= top_p) || share < floor) share = 0.f;
  share /= warp_sum(share);
  if (sum != sum) share = sum;                           // a token that is filtered out tells nothing otherwise
  ids[row * KEEP + lane] = id;
  p[row * KEEP + lane] = share;
  if (row == gridDim.x - 1) {
    const int place = drawn(share, id, uniforms[0], uniforms[1], vocab);
    if (lane == place) *token = id;
  }
}
#endif

#ifdef outcomes
// One warp for each draft: q [depth, KEEP] drew it, p [depth + 1, KEEP] judges it. packed: the bonus token and its row's flag, then for
// all drafts p of the draft, q of the draft, the token instead of it (drawn from what p has over q), the draft, the row's flag.
extern "C" __global__ void
outcomes(
    const int* p_ids, const float* p, const int* q_ids, const float* q, const int* drafts, const int* bonus,
    const float* uniforms, float* packed, int vocab, int depth) {
  next_may_start();
  previous_done();
  const int row = threadIdx.x >> 5, lane = threadIdx.x & 31, draft = drafts[row];
  const int id = p_ids[row * KEEP + lane], other = q_ids[row * KEEP + lane];
  const float mine = p[row * KEEP + lane], theirs = q[row * KEEP + lane];
  const float p_draft = warp_sum(id == draft ? mine : 0.f), q_draft = warp_sum(other == draft ? theirs : 0.f);
  float proposed = 0.f;
  for (int i = 0; i < 32; ++i) {
    const int same = __shfl_sync(~0u, other, i);
    const float share = __shfl_sync(~0u, theirs, i);
    if (same == id) proposed += share;
  }
  const float excess = fmaxf(mine - proposed, 0.f);
  const float weight = warp_sum(excess) > 0.f ? excess : mine;
  const int place = drawn(weight, id, uniforms[2 * row], uniforms[2 * row + 1], vocab);
  const int instead = __shfl_sync(~0u, id, place);
  if (lane == 0) {
    if (row == 0) packed[0] = float(*bonus);
    if (row == 0) packed[1] = flag_of(p[depth * KEEP]);
    packed[2 + row] = p_draft;
    packed[2 + depth + row] = q_draft;
    packed[2 + 2 * depth + row] = float(instead);
    packed[2 + 3 * depth + row] = float(draft);
    packed[2 + 4 * depth + row] = flag_of(mine) * flag_of(theirs);
  }
}
#endif

#ifdef reveal
extern "C" __global__ void
reveal(const int* token, const float* p, float* numbers) {
  next_may_start();
  previous_done();
  numbers[0] = float(*token);
  numbers[1] = flag_of(*p);
}
#endif
