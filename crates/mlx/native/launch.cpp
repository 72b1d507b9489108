// What mlx-c lacks: an operation that launches a CUDA kernel which was compiled elsewhere. Part of libmlxc.so, and called by the
// runtime's `mlx::kernel`, which says what the arguments mean.
//
// MLX's own way (`fast::precompiled_cuda_kernel`) takes 10 us of the processor for every launch, more than most kernels of a
// decoding step take of the card. This one takes the function itself, keeps a cache of buffers, and lets a kernel start before the
// one ahead of it is done (programmatic dependent launch; the kernels wait where they must, see `kernel.cuh`). Where all inputs were
// sent already, so is the kernel, at once: MLX then sees its outputs as done, and nothing is left to walk through. It is written
// for the MLX that set-up installs, whose header `mlx/backend/cuda/device.h` needs CUDA's own to be compiled.
#include <dlfcn.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

#include "mlx/c/array.h"
#include "mlx/c/private/array.h"
#include "mlx/c/private/enums.h"
#include "mlx/c/private/stream.h"
#include "mlx/c/stream.h"
#include "mlx/memory.h"
#include "mlx/ops.h"
#include "mlx/primitives.h"
#include "mlx/version.h"

namespace core = mlx::core;

extern "C" {
struct mtplx_output {
  const int* shape;
  size_t ndim;
  mlx_dtype dtype;
  int in_place;
};

struct mtplx_launch {
  const void* function;
  const char* name;
  const mlx_array* inputs;
  size_t input_count;
  const mtplx_output* outputs;
  size_t output_count;
  const uint32_t* scalars;
  size_t scalar_count;
  unsigned grid[3];
  unsigned threads;
  unsigned shared;
  int overlap;
  int read_back;
  int deferred;
  mlx_stream stream;
};
}

namespace {

// The part of CUDA's driver interface that is used here (CUDA 13, `cuda.h`).
struct LaunchAttribute {
  int id;
  char pad[4];
  union {
    char bytes[64];
    int allowed;
  };
};

struct LaunchConfig {
  unsigned grid[3];
  unsigned block[3];
  unsigned shared;
  void* stream;
  LaunchAttribute* attributes;
  unsigned attribute_count;
};

constexpr int kProgrammaticStreamSerialization = 6;
constexpr int kMaxDynamicSharedSize = 8;
constexpr unsigned kHostPortableMapped = 3;

// MLX's `cu::CudaBuffer`, which its arrays point to: `device` is -1 for memory that the processor reads too.
struct Buffer {
  void* data;
  size_t size;
  int device;
};

struct Driver {
  int (*load)(void**, const void*);
  int (*function)(void**, void*, const char*);
  int (*attribute)(void*, int, int);
  int (*launch)(const LaunchConfig*, void*, void**, void**);
  int (*allocate)(void**, size_t, void*);
  int (*allocate_host)(void**, size_t, unsigned);
  int (*free)(void*);
  int (*free_async)(void*, void*);
  int (*free_host)(void*);
  int (*error_name)(int, const char**);
  void* (*encoder)(core::Stream);

  static const Driver& get() {
    static const Driver driver;
    return driver;
  }

  void check(int status, const char* what) const {
    if (status != 0) {
      const char* name = nullptr;
      error_name(status, &name);
      throw std::runtime_error(std::string(what) + ": " + (name ? name : "an unknown error of CUDA"));
    }
  }

  // The stream that MLX sends a stream's operations to: the member behind a reference in `cu::CommandEncoder`.
  void* stream(core::Stream s) const {
    return static_cast<void**>(encoder(s))[1];
  }

 private:
  Driver() {
    if (std::string(core::version()) != "0.32.2") {
      throw std::runtime_error("kernels are launched on MLX 0.32.2 only, and this is MLX " + std::string(core::version()));
    }
    find(load, "cuModuleLoadData");
    find(function, "cuModuleGetFunction");
    find(attribute, "cuFuncSetAttribute");
    find(launch, "cuLaunchKernelEx");
    find(allocate, "cuMemAllocAsync");
    find(allocate_host, "cuMemHostAlloc");
    find(free, "cuMemFree_v2");
    find(free_async, "cuMemFreeAsync");
    find(free_host, "cuMemFreeHost");
    find(error_name, "cuGetErrorName");
    find(encoder, "_ZN3mlx4core2cu19get_command_encoderENS0_6StreamE");
  }

  template <typename F>
  static void find(F& function, const char* name) {
    function = reinterpret_cast<F>(dlsym(RTLD_DEFAULT, name));
    if (!function) {
      throw std::runtime_error(std::string(name) + " is not there: this MLX is not a CUDA build");
    }
  }
};

// Buffers that are kept for the next output of their size on their stream: small ones of powers of two for good, large ones up to a
// gigabyte. They may be handed out again as soon as nothing refers to them: on a stream, whatever comes later also runs later. A thread
// has a stream of its own, so what one thread's kernels made is for that thread's kernels alone until it is read back.
class Pool {
 public:
  explicit Pool(bool host) : host_(host) {}

  core::allocator::Buffer take(size_t bytes, void* stream) {
    const bool large = bytes > kSmall;
    const size_t size = large ? (bytes + kStep - 1) / kStep * kStep : std::bit_ceil(std::max<size_t>(bytes, 256));
    std::lock_guard lock(mutex_);
    auto& spare = spare_[{stream, size}];
    if (!spare.empty()) {
      auto* buffer = spare.back();
      spare.pop_back();
      spare_large_ -= large ? size : 0;
      return core::allocator::Buffer(buffer);
    }
    const auto& driver = Driver::get();
    void* data = nullptr;
    if (host_) {
      driver.check(driver.allocate_host(&data, size, kHostPortableMapped), "memory for what is read back");
    } else {
      if (driver.allocate(&data, size, stream) != 0) {
        for (auto& [_, buffers] : spare_) {
          release(buffers);
        }
        core::clear_cache();
        driver.check(driver.allocate(&data, size, stream), "memory for a kernel's output");
      }
      grow(size);
    }
    return core::allocator::Buffer(new Own{{data, size, host_ ? -1 : 0}, stream, size});
  }

  void give(core::allocator::Buffer handle) {
    auto* buffer = static_cast<Own*>(handle.ptr());
    std::lock_guard lock(mutex_);
    if (!host_ && buffer->device == -1) {
      // MLX moved it to where the processor reads it, and freed what was ours.
      const auto& driver = Driver::get();
      if (driver.free(buffer->data) != 0) {
        driver.free_host(buffer->data);
      }
      shrink(buffer->taken);
      delete buffer;
      return;
    }
    auto& spare = spare_[{buffer->stream, buffer->taken}];
    spare.push_back(buffer);
    if (buffer->taken > kSmall) {
      spare_large_ += buffer->taken;
      if (spare_large_ > kSpare) {
        release(spare);
      }
    }
  }

 private:
  // Up to this size, buffers are of powers of two; above, of multiples of a step.
  static constexpr size_t kSmall = size_t{16} << 20;
  static constexpr size_t kStep = size_t{1} << 20;
  static constexpr size_t kSpare = size_t{1} << 30;

  // What MLX sees of a buffer, and what it does not.
  struct Own : Buffer {
    void* stream;
    size_t taken;
  };

  void release(std::vector<Own*>& buffers) {
    for (auto* buffer : buffers) {
      Driver::get().free_async(buffer->data, buffer->stream);
      spare_large_ -= buffer->taken > kSmall ? buffer->taken : 0;
      shrink(buffer->taken);
      delete buffer;
    }
    buffers.clear();
  }

  // MLX waits for the card before it takes more than its limit, of what it knows of.
  void grow(size_t bytes) {
    held_ += bytes;
    limit();
  }

  void shrink(size_t bytes) {
    held_ -= bytes;
    limit();
  }

  void limit() {
    if (!whole_) {
      whole_ = core::get_memory_limit();
    }
    core::set_memory_limit(*whole_ - std::min(*whole_, held_));
  }

  bool host_;
  std::mutex mutex_;
  std::map<std::pair<void*, size_t>, std::vector<Own*>> spare_;
  size_t spare_large_ = 0;
  size_t held_ = 0;
  std::optional<size_t> whole_;
};

// Arrays may outlive everything else.
Pool& device_pool() {
  static auto* pool = new Pool(false);
  return *pool;
}

Pool& host_pool() {
  static auto* pool = new Pool(true);
  return *pool;
}

char* address(const core::array& x) {
  return static_cast<char*>(static_cast<const Buffer*>(x.buffer().ptr())->data) + x.offset();
}

// Sends a kernel to a stream, with the addresses of what it reads and writes and the numbers behind them.
void send(const mtplx_launch& launch, void* stream, std::vector<char*>& addresses, const uint32_t* scalars) {
  std::vector<void*> arguments;
  arguments.reserve(addresses.size() + launch.scalar_count);
  for (auto& pointer : addresses) {
    arguments.push_back(&pointer);
  }
  for (size_t i = 0; i < launch.scalar_count; ++i) {
    arguments.push_back(const_cast<uint32_t*>(scalars + i));
  }
  LaunchAttribute overlap{};
  overlap.id = kProgrammaticStreamSerialization;
  overlap.allowed = 1;
  const LaunchConfig config{
      {launch.grid[0], launch.grid[1], launch.grid[2]},
      {launch.threads, 1, 1},
      launch.shared,
      stream,
      &overlap,
      launch.overlap ? 1u : 0u};
  const auto& driver = Driver::get();
  driver.check(driver.launch(&config, const_cast<void*>(launch.function), arguments.data(), nullptr), launch.name);
}

// Whether MLX made the card's context this thread's.
thread_local bool ready_to_send = false;

// A kernel that MLX sends when its outputs are asked for.
class Kernel : public core::Primitive {
 public:
  Kernel(core::Stream stream, const mtplx_launch& launch)
      : Primitive(stream),
        launch_(launch),
        scalars_(launch.scalars, launch.scalars + launch.scalar_count) {
    for (size_t i = 0; i < launch.output_count; ++i) {
      in_place_.push_back(launch.outputs[i].in_place);
    }
  }

  void eval_cpu(const std::vector<core::array>&, std::vector<core::array>&) override {
    throw std::runtime_error("a CUDA kernel runs on a CUDA device only");
  }

  // Inputs past the kernel's own are there to be held until it is done.
  void eval_gpu(const std::vector<core::array>& inputs, std::vector<core::array>& outputs) override {
    void* stream = Driver::get().stream(this->stream());
    std::vector<core::array> copies;
    std::vector<char*> addresses;
    addresses.reserve(launch_.input_count + outputs.size());
    for (size_t i = 0; i < launch_.input_count; ++i) {
      const auto& input = inputs[i];
      if (std::find(in_place_.begin(), in_place_.end(), static_cast<int>(i)) != in_place_.end()) {
        if (!input.flags().row_contiguous) {
          throw std::runtime_error(std::string(launch_.name) + " is to write over an array that is not contiguous");
        }
        continue; // the kernel is handed it as an output
      }
      if (input.flags().row_contiguous) {
        addresses.push_back(address(input));
        continue;
      }
      std::vector<core::array> copy{core::contiguous(input, false, this->stream())};
      copy[0].primitive().eval_gpu({input}, copy);
      addresses.push_back(address(copy[0]));
      copies.push_back(std::move(copy[0]));
    }
    for (size_t i = 0; i < outputs.size(); ++i) {
      auto& output = outputs[i];
      if (in_place_[i] >= 0) {
        output.copy_shared_buffer(inputs.at(in_place_[i]));
      } else if (launch_.read_back) {
        output.set_data(host_pool().take(output.nbytes(), stream), [](auto buffer) { host_pool().give(buffer); });
      } else {
        output.set_data(device_pool().take(output.nbytes(), stream), [](auto buffer) { device_pool().give(buffer); });
      }
      addresses.push_back(address(output));
    }
    send(launch_, stream, addresses, scalars_.data());
    ready_to_send = true;
  }

  const char* name() const override {
    return launch_.name;
  }

 private:
  // Its pointers to inputs, outputs and scalars are not used after the constructor; the name is the function's, for good.
  mtplx_launch launch_;
  std::vector<uint32_t> scalars_;
  std::vector<int> in_place_;
};

// An output of a kernel that was sent: `there` has its buffer. To MLX it is an operation that has nothing left to do, so whatever
// waits for it or reads it does so as of any other.
class Sent : public core::Primitive {
 public:
  Sent(core::Stream stream, core::array there) : Primitive(stream), there(std::move(there)) {}

  void eval_cpu(const std::vector<core::array>&, std::vector<core::array>&) override {
    throw std::runtime_error("a CUDA kernel runs on a CUDA device only");
  }

  void eval_gpu(const std::vector<core::array>&, std::vector<core::array>& outputs) override {
    outputs[0].copy_shared_buffer(there);
  }

  const char* name() const override {
    return "sent";
  }

  const core::array there;
};

// Where the buffer of an array is, if everything that fills it was sent; null otherwise. `own`: whether kernels of ours fill it.
const core::array* sent(const core::array& x, bool& own) {
  own = false;
  if (x.status() != core::array::Status::unscheduled) {
    return &x;
  }
  if (!x.has_primitive() || typeid(x.primitive()) != typeid(Sent)) {
    return nullptr;
  }
  own = true;
  return &static_cast<const Sent&>(x.primitive()).there;
}

using Held = std::vector<std::shared_ptr<core::array::Data>>;

// What kernels that were sent read of MLX's buffers, until one that MLX sends takes it along: the processor may write over a buffer
// as soon as nothing holds it. Buffers of our own need none of this, being filled in the order of the stream alone.
thread_local Held held;
constexpr size_t kHeld = 8192;

// An array that holds all of them.
core::array carrier() {
  auto all = std::make_shared<Held>(std::move(held));
  held = Held();
  return core::array(core::allocator::Buffer(nullptr), core::Shape{0}, core::uint8, [all](auto) {});
}

// Sends a kernel at once, if it can be.
bool send_at_once(core::Stream stream, const mtplx_launch& launch, const std::vector<core::array>& inputs, mlx_array* results) {
  if (!ready_to_send || launch.read_back || launch.deferred || held.size() > kHeld) {
    return false;
  }
  std::vector<const core::array*> there;
  std::vector<bool> theirs;
  there.reserve(inputs.size());
  for (const auto& input : inputs) {
    bool own;
    there.push_back(sent(input, own));
    theirs.push_back(!own);
    if (!there.back() || !there.back()->flags().row_contiguous) {
      return false;
    }
  }
  void* to = Driver::get().stream(stream);
  std::vector<char*> addresses;
  addresses.reserve(inputs.size() + launch.output_count);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto writes = [i](const auto& output) { return output.in_place == static_cast<int>(i); };
    if (std::none_of(launch.outputs, launch.outputs + launch.output_count, writes)) {
      addresses.push_back(address(*there[i]));
    }
  }
  std::vector<core::array> outputs;
  outputs.reserve(launch.output_count);
  for (size_t i = 0; i < launch.output_count; ++i) {
    const auto& output = launch.outputs[i];
    core::Shape shape(output.shape, output.shape + output.ndim);
    const auto dtype = mlx_dtype_to_cpp(output.dtype);
    if (output.in_place >= 0) {
      outputs.emplace_back(std::move(shape), dtype, nullptr, std::vector<core::array>{});
      outputs.back().copy_shared_buffer(*there.at(output.in_place));
    } else {
      size_t bytes = core::size_of(dtype);
      for (size_t axis = 0; axis < output.ndim; ++axis) {
        bytes *= output.shape[axis];
      }
      outputs.emplace_back(device_pool().take(bytes, to), std::move(shape), dtype, [](auto buffer) {
        device_pool().give(buffer);
      });
    }
    addresses.push_back(address(outputs.back()));
  }
  send(launch, to, addresses, launch.scalars);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (theirs[i]) {
      held.push_back(there[i]->data_shared_ptr());
    }
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    auto shape = outputs[i].shape();
    const auto dtype = outputs[i].dtype();
    auto primitive = std::make_shared<Sent>(stream, std::move(outputs[i]));
    mlx_array_set_(results[i], core::array(std::move(shape), dtype, std::move(primitive), {}));
  }
  return true;
}

// What went wrong, until the thread's next call; null when nothing did.
template <typename F>
const char* guarded(F body) {
  static thread_local std::string what;
  try {
    body();
    return nullptr;
  } catch (std::exception& error) {
    what = error.what();
    return what.c_str();
  }
}

} // namespace

// Loads the function `name` of machine code, for the life of the process, with `shared` bytes of dynamic shared memory at most.
extern "C" const char* mtplx_cuda_load(const void* code, const char* name, unsigned shared, const void** function) {
  return guarded([&] {
    const auto& driver = Driver::get();
    void* module = nullptr;
    void* found = nullptr;
    driver.check(driver.load(&module, code), name);
    driver.check(driver.function(&found, module, name), name);
    if (shared > 0) {
      driver.check(driver.attribute(found, kMaxDynamicSharedSize, static_cast<int>(shared)), name);
    }
    *function = found;
  });
}

// Whether the device has all that it takes to fill `x`.
extern "C" bool mtplx_cuda_sent(mlx_array x) {
  bool own;
  return x.ctx && sent(mlx_array_get_(x), own);
}

// Fills `results`, one empty handle for each output.
extern "C" const char* mtplx_cuda_launch(const mtplx_launch* launch, mlx_array* results) {
  return guarded([&] {
    auto stream = mlx_stream_get_(launch->stream);
    if (stream.device != core::Device::gpu) {
      throw std::runtime_error("a CUDA kernel on a stream of another device");
    }
    std::vector<core::array> inputs;
    inputs.reserve(launch->input_count);
    for (size_t i = 0; i < launch->input_count; ++i) {
      inputs.push_back(mlx_array_get_(launch->inputs[i]));
    }
    if (send_at_once(stream, *launch, inputs, results)) {
      return;
    }
    if (!held.empty()) {
      inputs.push_back(carrier());
    }
    std::vector<core::Shape> shapes;
    std::vector<core::Dtype> dtypes;
    for (size_t i = 0; i < launch->output_count; ++i) {
      const auto& output = launch->outputs[i];
      shapes.emplace_back(output.shape, output.shape + output.ndim);
      dtypes.push_back(mlx_dtype_to_cpp(output.dtype));
    }
    auto made = core::array::make_arrays(std::move(shapes), dtypes, std::make_shared<Kernel>(stream, *launch), inputs);
    for (size_t i = 0; i < launch->output_count; ++i) {
      mlx_array_set_(results[i], std::move(made.at(i)));
    }
  });
}
