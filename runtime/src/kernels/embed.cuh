// Rows of a packed embedding table: one block for each token.
extern "C" __global__ void __launch_bounds__(256)
embed(const int* tokens, const unsigned* w, const S* scales, const S* biases, T* out, int width) {
  constexpr int PER = 32 / BITS;                         // numbers a word
  struct alignas(PER * sizeof(T) > 16 ? 16 : PER * sizeof(T)) Run { T of[PER]; };
  next_may_start();
  previous_done();
  const long long token = tokens[blockIdx.x], words = width / PER;
  for (int i = threadIdx.x; i < words; i += blockDim.x) {
    const unsigned word = w[token * words + i];
    const long long group = token * (width / GROUP) + i * PER / GROUP;
    const float scale = float(scales[group]), bias = float(biases[group]);
    Run run;
#pragma unroll
    for (int e = 0; e < PER; ++e) run.of[e] = T(scale * float(word >> e * BITS & (1u << BITS) - 1u) + bias);
    ((Run*)out)[blockIdx.x * words + i] = run;
  }
}
