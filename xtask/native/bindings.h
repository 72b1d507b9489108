// Included ahead of mlx-c's headers when bindgen reads them. It stands in for half.h (see its
// include guard), whose Arm branch needs headers that libclang does not bring and whose other
// branch leaves the 16-bit accessors out. mlx-rs expects bindgen's newtype for float16 and a plain
// u16 for bfloat16.
#define MLX_HALF_H
#define HAS_FLOAT16
#define HAS_BFLOAT16
typedef __fp16 float16_t;
typedef unsigned short bfloat16_t;
