// Included ahead of every mlx-c source file (-include). mlx-c is written for Apple's clang; these
// are the two things it takes for granted that a Linux compiler may lack.
#pragma once

#include <sstream>
#include <string>
#include <string_view>
#include <version>

// libstdc++ 12 and older have no std::format. mlx-c uses it for error texts with plain {} only.
#if !defined(__cpp_lib_format) && !__has_include(<format>)
namespace std {
inline void mtplx_format(ostringstream& out, string_view text) {
  out << text;
}
template <typename First, typename... Rest>
void mtplx_format(ostringstream& out, string_view text, const First& first, const Rest&... rest) {
  const auto hole = text.find("{}");
  out << text.substr(0, hole);
  if (hole != string_view::npos) {
    out << first;
    mtplx_format(out, text.substr(hole + 2), rest...);
  }
}
template <typename... Values>
string format(string_view text, const Values&... values) {
  ostringstream out;
  mtplx_format(out, text, values...);
  return out.str();
}
} // namespace std
#elif __has_include(<format>)
#include <format>
#endif

// mlx-c's half.h declares the accessors of 16-bit floats on Arm only, and mlx-rs calls them
// everywhere. MLX hands the element over bit for bit, so any 16-bit type will do.
#if !defined(__aarch64__)
#define HAS_FLOAT16
#define HAS_BFLOAT16
typedef unsigned short float16_t;
typedef unsigned short bfloat16_t;
#endif
