// Rows of a packed embedding table, as rows or in records of so many 16-byte pieces (RECORD; or 0, `quant/tiled.rs`): one block for
// each token.
constexpr int PER = 32 / BITS;                           // numbers a word
struct alignas(PER * sizeof(T) > 16 ? 16 : PER * sizeof(T)) Run { T of[PER]; };

#if RECORD
constexpr int UNIT = GROUP < 64 ? GROUP : 64, WORDS = UNIT / 4 / PER;

// Word i of a row, and its scale and bias.
__device__ __forceinline__ unsigned word_at(const uint4* w, long long row, int i, int width, float& scale, float& bias) {
  const int chunk = i / 32, within = i % 32, h = row % 16 / 8, g = row % 8;
  const int j = within % WORDS, t = within / WORDS % 4, u = within / WORDS / 4, index = (2 * u + h) * WORDS + j;
  const uint4* record = w + (row / 16 * ((width / PER + 31) / 32) + chunk) * RECORD;
  const S* group = (const S*)(record + 128) + (within * PER / GROUP * 8 + g) * 4;
  scale = float(group[h]);
  bias = float(group[2 + h]);
  return ((const unsigned*)(record + index / 4 * 32 + 4 * g + t))[index % 4];
}
#endif

extern "C" __global__ void __launch_bounds__(256)
#if RECORD
embed(const int* tokens, const uint4* w, T* out, int width) {
#else
embed(const int* tokens, const unsigned* w, const S* scales, const S* biases, T* out, int width) {
#endif
  next_may_start();
  previous_done();
  const long long token = tokens[blockIdx.x], words = width / PER;
  for (int i = threadIdx.x; i < words; i += blockDim.x) {
#if RECORD
    float scale, bias;
    const unsigned word = word_at(w, token, i, width, scale, bias);
#else
    const unsigned word = w[token * words + i];
    const long long group = token * (width / GROUP) + i * PER / GROUP;
    const float scale = float(scales[group]), bias = float(biases[group]);
#endif
    Run run;
#pragma unroll
    for (int e = 0; e < PER; ++e) run.of[e] = T(scale * float(word >> e * BITS & (1u << BITS) - 1u) + bias);
    ((Run*)out)[blockIdx.x * words + i] = run;
  }
}
