// The end of a process in which an exception reached no caller: one message on standard error and exit code 1, instead of an abort. MLX
// throws where a device fails, also in destructors and on threads of its own. Part of libmlxc.so; called by the runtime's `mlx::backend`.
#include <unistd.h>

#include <atomic>
#include <exception>
#include <string>

namespace {

std::string what() {
  if (!std::current_exception()) {
    return "the C++ runtime gave up";
  }
  try {
    throw;
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "an exception that is none of the standard library's";
  }
}

[[noreturn]] void report() {
  static std::atomic<bool> reported{false};
  if (reported.exchange(true)) {
    // Another thread is on its way out.
    for (;;) {
      pause();
    }
  }
  std::string line = "error: MLX: " + what();
  for (auto& c : line) {
    c = static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  line += "\n";
  // Nobody is left to tell of a failure.
  [[maybe_unused]] const auto written = write(STDERR_FILENO, line.data(), line.size());
  _exit(1);
}

} // namespace

extern "C" void mtplx_report_termination() {
  std::set_terminate(report);
}
