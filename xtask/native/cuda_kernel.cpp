// What mlx-c lacks: launching a CUDA kernel that was compiled elsewhere. Part of libmlxc.so, and called by the runtime's
// `mlx::kernel`, which says what the arguments mean.
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "mlx/c/array.h"
#include "mlx/c/error.h"
#include "mlx/c/private/array.h"
#include "mlx/c/private/enums.h"
#include "mlx/c/private/stream.h"
#include "mlx/c/stream.h"
#include "mlx/fast.h"

extern "C" {
struct mtplx_output {
  const int* shape;
  size_t ndim;
  mlx_dtype dtype;
};

struct mtplx_scalar {
  int is_float;
  int integer;
  float real;
};

struct mtplx_launch {
  const char* name;
  const char* source;
  const mlx_array* inputs;
  size_t input_count;
  const mtplx_output* outputs;
  size_t output_count;
  const mtplx_scalar* scalars;
  size_t scalar_count;
  int grid[3];
  int threads;
  mlx_stream stream;
};
}

// MLX names the file of a compiled module after its kernel and this hash of what it takes for its source.
extern "C" uint64_t mtplx_cuda_module_hash(const char* source) {
  return std::hash<std::string>{}(source);
}

// Fills `results`, one empty handle for each output. 0 on success.
extern "C" int mtplx_cuda_launch(const mtplx_launch* launch, mlx_array* results) {
  try {
    std::vector<mlx::core::array> inputs;
    inputs.reserve(launch->input_count);
    for (size_t i = 0; i < launch->input_count; ++i) {
      inputs.push_back(mlx_array_get_(launch->inputs[i]));
    }
    std::vector<mlx::core::Shape> shapes;
    std::vector<mlx::core::Dtype> dtypes;
    for (size_t i = 0; i < launch->output_count; ++i) {
      const auto& output = launch->outputs[i];
      shapes.emplace_back(output.shape, output.shape + output.ndim);
      dtypes.push_back(mlx_dtype_to_cpp(output.dtype));
    }
    std::vector<mlx::core::fast::ScalarArg> scalars;
    for (size_t i = 0; i < launch->scalar_count; ++i) {
      const auto& scalar = launch->scalars[i];
      if (scalar.is_float) {
        scalars.emplace_back(scalar.real);
      } else {
        scalars.emplace_back(scalar.integer);
      }
    }
    auto made = mlx::core::fast::precompiled_cuda_kernel(
        launch->name,
        launch->source,
        inputs,
        shapes,
        dtypes,
        scalars,
        std::make_tuple(launch->grid[0], launch->grid[1], launch->grid[2]),
        std::make_tuple(launch->threads, 1, 1),
        /* shared_memory */ 0,
        /* init_value */ std::nullopt,
        /* ensure_row_contiguous */ true,
        mlx_stream_get_(launch->stream));
    for (size_t i = 0; i < launch->output_count; ++i) {
      mlx_array_set_(results[i], std::move(made.at(i)));
    }
    return 0;
  } catch (std::exception& error) {
    mlx_error("%s", error.what());
    return 1;
  }
}
