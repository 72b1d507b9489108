// The three CBLAS functions that libmlx.so imports, forwarded to the scipy-openblas32 wheel, which
// exports them under a prefix. libmlxc.so is found before the reference BLAS that libmlx.so brings
// along, so these win.
#define FORWARD(name, scalar, pointer)                                                             \
  extern "C" void scipy_##name(                                                                    \
      int, int, int, int, int, int, scalar, const pointer*, int, const pointer*, int, scalar,      \
      pointer*, int);                                                                              \
  extern "C" void name(                                                                            \
      int order, int trans_a, int trans_b, int m, int n, int k, scalar alpha, const pointer* a,    \
      int lda, const pointer* b, int ldb, scalar beta, pointer* c, int ldc) {                      \
    scipy_##name(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);           \
  }

FORWARD(cblas_sgemm, float, float)
FORWARD(cblas_dgemm, double, double)
FORWARD(cblas_cgemm, const void*, void)
