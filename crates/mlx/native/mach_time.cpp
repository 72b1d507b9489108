// mlx-rs seeds its default random key from this Mach clock (nanoseconds serve as well as ticks).
#include <cstdint>
#include <ctime>

extern "C" std::uint64_t mach_approximate_time() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1000000000u + now.tv_nsec;
}
