// An operation that a function of this program computes on the processor, in its turn on MLX's stream. Part of libmlxc.so, and called
// by `mlx::host`, which says what the arguments mean.
#include <cstddef>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/c/array.h"
#include "mlx/c/private/array.h"
#include "mlx/c/private/enums.h"
#include "mlx/c/private/stream.h"
#include "mlx/c/stream.h"
#include "mlx/ops.h"
#include "mlx/primitives.h"

namespace core = mlx::core;

extern "C" {
struct mtplx_host_output {
  const int* shape;
  size_t ndim;
  mlx_dtype dtype;
};

// Memory of an input or an output.
struct mtplx_host_memory {
  void* data;
  size_t bytes;
};

struct mtplx_host_call {
  const char* name;
  void* function;
  bool (*run)(void* function, const mtplx_host_memory* inputs, const mtplx_host_memory* outputs);
  void (*release)(void* function);
  const mlx_array* inputs;
  size_t input_count;
  const mtplx_host_output* outputs;
  size_t output_count;
  mlx_stream stream;
};
}

namespace {

// The function, until nothing refers to it.
struct Function {
  void* function;
  bool (*run)(void*, const mtplx_host_memory*, const mtplx_host_memory*);
  void (*release)(void*);

  Function(const mtplx_host_call& call) : function(call.function), run(call.run), release(call.release) {}
  Function(const Function&) = delete;
  Function& operator=(const Function&) = delete;
  ~Function() {
    release(function);
  }
};

class Host : public core::Primitive {
 public:
  Host(core::Stream stream, std::shared_ptr<Function> function, const char* name)
      : Primitive(stream), function_(std::move(function)), name_(name) {}

  void eval_cpu(const std::vector<core::array>& inputs, std::vector<core::array>& outputs) override {
    auto& encoder = core::cpu::get_command_encoder(stream());
    std::vector<mtplx_host_memory> memory;
    memory.reserve(inputs.size() + outputs.size());
    for (const auto& input : inputs) {
      if (input.flags().row_contiguous) {
        memory.push_back({const_cast<char*>(input.data<char>()), input.nbytes()});
        continue;
      }
      std::vector<core::array> copy{core::contiguous(input, false, stream())};
      copy[0].primitive().eval_cpu({input}, copy);
      memory.push_back({copy[0].data<char>(), copy[0].nbytes()});
      encoder.add_temporary(std::move(copy[0]));
    }
    for (auto& output : outputs) {
      output.set_data(core::allocator::malloc(output.nbytes()));
      memory.push_back({output.data<char>(), output.nbytes()});
    }
    encoder.dispatch([function = function_, memory = std::move(memory), inputs = inputs.size(), name = name_]() {
      if (!function->run(function->function, memory.data(), memory.data() + inputs)) {
        throw std::runtime_error(std::string(name) + " failed");
      }
    });
  }

  void eval_gpu(const std::vector<core::array>&, std::vector<core::array>&) override {
    throw std::runtime_error(std::string(name_) + " runs on the processor only");
  }

  const char* name() const override {
    return name_;
  }

 private:
  std::shared_ptr<Function> function_;
  const char* name_; // for good
};

} // namespace

// Fills `results`, one empty handle for each output, and takes the function. The error's text lasts until the thread's next call; null
// for none.
extern "C" const char* mtplx_host(const mtplx_host_call* call, mlx_array* results) {
  static thread_local std::string error;
  auto function = std::make_shared<Function>(*call);
  try {
    std::vector<core::array> inputs;
    inputs.reserve(call->input_count);
    for (size_t i = 0; i < call->input_count; ++i) {
      inputs.push_back(mlx_array_get_(call->inputs[i]));
    }
    std::vector<core::Shape> shapes;
    std::vector<core::Dtype> dtypes;
    for (size_t i = 0; i < call->output_count; ++i) {
      const auto& output = call->outputs[i];
      shapes.emplace_back(output.shape, output.shape + output.ndim);
      dtypes.push_back(mlx_dtype_to_cpp(output.dtype));
    }
    auto primitive = std::make_shared<Host>(mlx_stream_get_(call->stream), std::move(function), call->name);
    auto made = core::array::make_arrays(std::move(shapes), dtypes, std::move(primitive), inputs);
    for (size_t i = 0; i < call->output_count; ++i) {
      mlx_array_set_(results[i], std::move(made.at(i)));
    }
    return nullptr;
  } catch (std::exception& thrown) {
    error = thrown.what();
    return error.c_str();
  }
}
