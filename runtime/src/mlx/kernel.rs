//! CUDA kernels of our own, compiled by MLX at run time.
//!
//! Source: mlx-c `mlx/c/fast.h`, `mlx_fast_cuda_kernel_*`. A kernel takes MLX arrays and makes new ones; shapes reach it as
//! `NAME_shape` where its body mentions them, so one compilation serves every size.

use std::ffi::{CStr, CString};

use mlx_rs::error::Exception;
use mlx_rs::{Array, Dtype, Stream};

use crate::Result;

/// A kernel: its source, not yet compiled.
#[derive(Debug)]
pub struct CudaKernel {
    handle: mlx_sys::mlx_fast_cuda_kernel,
    inputs: usize,
    outputs: usize,
}

// SAFETY: the handle owns an immutable C++ closure over strings; calling it from several threads only reads it.
unsafe impl Send for CudaKernel {}
// SAFETY: as above.
unsafe impl Sync for CudaKernel {}

impl Drop for CudaKernel {
    fn drop(&mut self) {
        // SAFETY: the handle was made by `mlx_fast_cuda_kernel_new` and is freed once.
        unsafe { mlx_sys::mlx_fast_cuda_kernel_free(self.handle) };
    }
}

/// A compile-time constant of a kernel.
#[derive(Debug, Clone, Copy)]
pub enum Constant {
    /// `constexpr int`.
    Int(i32),
    /// `constexpr bool`.
    Bool(bool),
}

/// How a kernel is launched.
#[derive(Debug, Clone)]
pub struct Launch<'a> {
    /// Shape and type of every output.
    pub outputs: &'a [(&'a [i32], Dtype)],
    /// Threads in all, by axis: a multiple of the block's.
    pub grid: [i32; 3],
    /// Threads of a block, by axis.
    pub block: [i32; 3],
    /// Compile-time constants; each set of values is compiled once.
    pub constants: &'a [(&'static CStr, Constant)],
}

fn strings(names: &[&CStr]) -> mlx_sys::mlx_vector_string {
    // SAFETY: a new vector that copies NUL-terminated strings.
    unsafe {
        let vector = mlx_sys::mlx_vector_string_new();
        for name in names {
            mlx_sys::mlx_vector_string_append_value(vector, name.as_ptr());
        }
        vector
    }
}

impl CudaKernel {
    /// A kernel `name` with the `body` of its function and a `header` of device functions.
    ///
    /// # Errors
    /// When a text holds a NUL.
    pub fn new(name: &CStr, inputs: &[&CStr], outputs: &[&CStr], header: &str, body: &str) -> Result<Self> {
        super::backend::install_error_handler();
        let text = |text: &str| CString::new(text).map_err(|error| Exception::custom(error.to_string()));
        let (header, body) = (text(header)?, text(body)?);
        let (names_in, names_out) = (strings(inputs), strings(outputs));
        // SAFETY: all handles and strings live through the call, which copies them; the vectors are freed once.
        let handle = unsafe {
            let handle = mlx_sys::mlx_fast_cuda_kernel_new(
                name.as_ptr(),
                names_in,
                names_out,
                body.as_ptr(),
                header.as_ptr(),
                true,
                0,
            );
            mlx_sys::mlx_vector_string_free(names_in);
            mlx_sys::mlx_vector_string_free(names_out);
            handle
        };
        Ok(Self { handle, inputs: inputs.len(), outputs: outputs.len() })
    }

    /// Runs it, lazily, over `inputs`, which are made row-contiguous first.
    ///
    /// The kernel's own indexing is trusted: that its source stays within the shapes given here is what its tests and its
    /// self-check are for.
    ///
    /// # Errors
    /// When the numbers of inputs or outputs do not fit, or MLX refuses.
    pub fn launch(&self, inputs: &[&Array], launch: &Launch<'_>) -> Result<Vec<Array>> {
        if inputs.len() != self.inputs || launch.outputs.len() != self.outputs {
            return Err(Exception::custom("a kernel was given other inputs or outputs than it names"));
        }
        let stream = Stream::thread_local_or_default();
        // SAFETY: every handle is live through the call; configuration and vectors are freed once, the results are taken out
        // of their vector as handles of their own.
        unsafe {
            let config = mlx_sys::mlx_fast_cuda_kernel_config_new();
            for (shape, dtype) in launch.outputs {
                let dtype = (*dtype).into();
                mlx_sys::mlx_fast_cuda_kernel_config_add_output_arg(config, shape.as_ptr(), shape.len(), dtype);
            }
            let ([gx, gy, gz], [bx, by, bz]) = (launch.grid, launch.block);
            mlx_sys::mlx_fast_cuda_kernel_config_set_grid(config, gx, gy, gz);
            mlx_sys::mlx_fast_cuda_kernel_config_set_thread_group(config, bx, by, bz);
            for (name, constant) in launch.constants {
                match *constant {
                    Constant::Int(value) => {
                        mlx_sys::mlx_fast_cuda_kernel_config_add_template_arg_int(config, name.as_ptr(), value)
                    }
                    Constant::Bool(value) => {
                        mlx_sys::mlx_fast_cuda_kernel_config_add_template_arg_bool(config, name.as_ptr(), value)
                    }
                };
            }
            let vector = mlx_sys::mlx_vector_array_new();
            for input in inputs {
                mlx_sys::mlx_vector_array_append_value(vector, input.as_ptr());
            }
            let mut results = mlx_sys::mlx_vector_array_new();
            let status =
                mlx_sys::mlx_fast_cuda_kernel_apply(&mut results, self.handle, vector, config, stream.as_ptr());
            mlx_sys::mlx_vector_array_free(vector);
            mlx_sys::mlx_fast_cuda_kernel_config_free(config);
            let mut arrays = Vec::with_capacity(self.outputs);
            if status == 0 {
                for index in 0..self.outputs {
                    let mut array = mlx_sys::mlx_array_new();
                    if mlx_sys::mlx_vector_array_get(&mut array, results, index) == 0 {
                        arrays.push(Array::from_ptr(array));
                    }
                }
            }
            mlx_sys::mlx_vector_array_free(results);
            if arrays.len() == self.outputs { Ok(arrays) } else { Err(Exception::custom("MLX refused a kernel")) }
        }
    }
}
