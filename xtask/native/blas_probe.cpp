// Linked with -lopenblas and run: is there a working OpenBLAS on this machine, and where?
#include <dlfcn.h>
#include <cstdio>

extern "C" char* openblas_get_config();
extern "C" void cblas_sgemm(
    int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);

int main() {
  const float a[4] = {1, 2, 3, 4}, b[4] = {5, 6, 7, 8};
  float c[4] = {0, 0, 0, 0};
  cblas_sgemm(101, 111, 111, 2, 2, 2, 1, a, 2, b, 2, 0, c, 2);
  Dl_info library{};
  const bool found = dladdr(reinterpret_cast<void*>(&openblas_get_config), &library) != 0;
  if (!found || c[0] != 19 || c[1] != 22 || c[2] != 43 || c[3] != 50) {
    return 1;
  }
  std::puts(library.dli_fname);
}
