// A packed weight in records of RECORD pieces (`quant/tiled.rs`) as rows out [n, k]: a block for each record, sixteen bytes a thread.
constexpr int PER = 32 / BITS;                           // numbers a word
constexpr int UNIT = GROUP < 64 ? GROUP : 64, RUN = UNIT / 4, WORDS = RUN / PER;
constexpr int CHUNK = 1024 / BITS;

struct alignas(4 * sizeof(S)) Group { S scale[2], bias[2]; };
struct alignas(PER * sizeof(T) > 16 ? 16 : PER * sizeof(T)) Run { T of[PER]; };

extern "C" __global__ void __launch_bounds__(128)
unpack(const uint4* w, T* out, int n, int k, int chunks) {
  next_may_start();
  const int tile = blockIdx.x / chunks, chunk = blockIdx.x % chunks;
  const uint4* record = w + (long long)blockIdx.x * RECORD;
  const uint4 piece = record[threadIdx.x];
  const unsigned words[4] = {piece.x, piece.y, piece.z, piece.w};
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  previous_done();
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const int index = threadIdx.x / 32 * 4 + e, j = index % WORDS, h = index / WORDS % 2, u = index / WORDS / 2;
    const int row = tile * 16 + h * 8 + g, within = u * UNIT + t * RUN + j * PER, at = chunk * CHUNK + within;
    if (row >= n || at >= k) continue;
    const Group group = ((const Group*)(record + 128))[within / GROUP * 8 + g];
    const float scale = float(group.scale[h]), bias = float(group.bias[h]);
    Run run;
#pragma unroll
    for (int i = 0; i < PER; ++i) run.of[i] = T(scale * float(words[e] >> i * BITS & (1u << BITS) - 1u) + bias);
    *(Run*)(out + (long long)row * k + at) = run;
  }
}
