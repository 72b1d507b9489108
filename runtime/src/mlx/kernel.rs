//! CUDA kernels of our own: compiled once a machine, kept on disk, launched through MLX.
//!
//! MLX's own way for such kernels (`fast::cuda_kernel`) compiles them in every process and handles their whole source at
//! every launch. `fast::precompiled_cuda_kernel` takes machine code, and MLX looks for the code of a kernel in its folder of
//! compiled modules first: so we compile a kernel when that folder does not have it, put it there, and launch it by name
//! (MLX 0.32, `mlx/backend/cuda/jit_module.cpp`). A kernel takes row-contiguous arrays, then the arrays that it fills, then
//! numbers.

use std::ffi::{CStr, CString, c_char, c_int};
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use mlx_rs::error::Exception;
use mlx_rs::{Array, Dtype, Stream};
use sha2::{Digest as _, Sha256};

use super::DeviceInfo;
use super::backend::{install_error_handler, kernels};
use super::nvrtc::Nvrtc;
use crate::Result;

/// Types and helpers that every kernel may use.
const PRELUDE: &str = include_str!("kernel.cuh");

/// A function `name` of a CUDA source.
#[derive(Debug)]
pub struct CudaKernel {
    name: &'static str,
    source: &'static str,
    variants: Mutex<Vec<Variant>>,
}

/// A kernel compiled with certain constants.
#[derive(Debug)]
struct Variant {
    constants: Vec<(&'static str, Constant)>,
    name: CString,
}

/// A compile-time constant of a kernel: a macro of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constant {
    /// A number.
    Int(i32),
    /// An element type: `float`, `bf16` or `f16`.
    Type(Dtype),
}

/// A number that a launch passes by value.
#[derive(Debug, Clone, Copy)]
pub enum Scalar {
    /// `int`.
    Int(i32),
    /// `float`.
    Float(f32),
}

/// How a kernel is launched.
#[derive(Debug, Clone)]
pub struct Launch<'a> {
    /// Shape and type of every output.
    pub outputs: &'a [(&'a [i32], Dtype)],
    /// Blocks, by axis.
    pub blocks: [i32; 3],
    /// Threads of a block.
    pub threads: i32,
    /// Each set of values is compiled once.
    pub constants: &'a [(&'static str, Constant)],
    /// In the order of the function's last parameters.
    pub scalars: &'a [Scalar],
}

/// Shape and type of an output, as `mtplx_cuda_launch` takes them.
#[repr(C)]
struct RawOutput {
    shape: *const c_int,
    ndim: usize,
    dtype: mlx_sys::mlx_dtype,
}

/// A number, as `mtplx_cuda_launch` takes it.
#[repr(C)]
struct RawScalar {
    is_float: c_int,
    integer: c_int,
    real: f32,
}

/// What `mtplx_cuda_launch` takes.
#[repr(C)]
struct RawLaunch {
    name: *const c_char,
    source: *const c_char,
    inputs: *const mlx_sys::mlx_array,
    input_count: usize,
    outputs: *const RawOutput,
    output_count: usize,
    scalars: *const RawScalar,
    scalar_count: usize,
    grid: [c_int; 3],
    threads: c_int,
    stream: mlx_sys::mlx_stream,
}

// In libmlxc.so, where set-up puts them (`xtask/native/cuda_kernel.cpp`).
#[cfg(target_os = "linux")]
unsafe extern "C" {
    fn mtplx_cuda_module_hash(source: *const c_char) -> u64;
    fn mtplx_cuda_launch(launch: *const RawLaunch, results: *mut mlx_sys::mlx_array) -> c_int;
}

// Elsewhere there is no CUDA, and no gate opens.
#[cfg(not(target_os = "linux"))]
unsafe fn mtplx_cuda_module_hash(_: *const c_char) -> u64 {
    0
}
#[cfg(not(target_os = "linux"))]
unsafe fn mtplx_cuda_launch(_: *const RawLaunch, _: *mut mlx_sys::mlx_array) -> c_int {
    1
}

/// What MLX is given as a kernel's source: the code is in its folder, under the kernel's name and the hash of this.
const NO_SOURCE: &CStr = c"";

impl CudaKernel {
    /// The function `name`, `extern "C" __global__`, of `source`.
    pub const fn new(name: &'static str, source: &'static str) -> Self {
        Self { name, source, variants: Mutex::new(Vec::new()) }
    }

    /// Runs it, lazily, over `inputs`, which are made row-contiguous.
    ///
    /// The kernel's own indexing is trusted: that its source stays within the shapes given here is what its tests and its
    /// self-check are for.
    ///
    /// # Errors
    /// When it cannot be compiled, or MLX refuses.
    pub fn launch(&self, inputs: &[&Array], launch: &Launch<'_>) -> Result<Vec<Array>> {
        let mut variants = self.variants.lock().unwrap_or_else(PoisonError::into_inner);
        let known = variants.iter().position(|variant| variant.constants == launch.constants);
        let index = match known {
            Some(index) => index,
            None => {
                let name = compiled(self.name, self.source, launch.constants).map_err(Exception::custom)?;
                variants.push(Variant { constants: launch.constants.to_vec(), name });
                variants.len() - 1
            }
        };
        send(&variants[index].name, inputs, launch)
    }
}

/// Has MLX launch the kernel `name` of its folder.
fn send(name: &CStr, inputs: &[&Array], launch: &Launch<'_>) -> Result<Vec<Array>> {
    install_error_handler();
    let stream = Stream::thread_local_or_default();
    let inputs: Vec<mlx_sys::mlx_array> = inputs.iter().map(|input| input.as_ptr()).collect();
    let outputs: Vec<RawOutput> = launch
        .outputs
        .iter()
        .map(|(shape, dtype)| RawOutput { shape: shape.as_ptr(), ndim: shape.len(), dtype: (*dtype).into() })
        .collect();
    let scalars: Vec<RawScalar> = launch
        .scalars
        .iter()
        .map(|scalar| match *scalar {
            Scalar::Int(integer) => RawScalar { is_float: 0, integer, real: 0.0 },
            Scalar::Float(real) => RawScalar { is_float: 1, integer: 0, real },
        })
        .collect();
    let [x, y, z] = launch.blocks;
    let raw = RawLaunch {
        name: name.as_ptr(),
        source: NO_SOURCE.as_ptr(),
        inputs: inputs.as_ptr(),
        input_count: inputs.len(),
        outputs: outputs.as_ptr(),
        output_count: outputs.len(),
        scalars: scalars.as_ptr(),
        scalar_count: scalars.len(),
        grid: [x * launch.threads, y, z],
        threads: launch.threads,
        stream: stream.as_ptr(),
    };
    // SAFETY: every pointer is to a slice of the length beside it that lives through the call; handles are live; results
    // are empty handles, which the call fills and which become arrays of their own.
    unsafe {
        let mut results: Vec<mlx_sys::mlx_array> = outputs.iter().map(|_| mlx_sys::mlx_array_new()).collect();
        let status = mtplx_cuda_launch(&raw, results.as_mut_ptr());
        let arrays = results.into_iter().map(|result| Array::from_ptr(result)).collect();
        if status == 0 { Ok(arrays) } else { Err(Exception::custom("MLX refused a kernel")) }
    }
}

/// Makes sure that the folder of compiled modules has the kernel with these constants, and returns its name there.
fn compiled(function: &str, source: &str, constants: &[(&str, Constant)]) -> Result<CString, String> {
    let nvrtc = Nvrtc::find().ok_or("NVRTC is not there: this MLX is not a CUDA build")?;
    let architecture = DeviceInfo::of_default().architecture.ok_or("the device does not state its architecture")?;
    // From Hopper on, "a" admits what only that very generation has.
    let specific = architecture.trim_start_matches("sm_").parse().is_ok_and(|number: u32| number >= 90);
    let options = [
        format!("--gpu-architecture={architecture}{}", if specific { "a" } else { "" }),
        "--std=c++17".to_owned(),
        "--device-as-default-execution-space".to_owned(),
    ];
    // Not as options: the compiler's own headers come first, and use short names too.
    let defined: String = constants
        .iter()
        .map(|(name, constant)| match constant {
            Constant::Int(value) => format!("#define {name} {value}\n"),
            Constant::Type(dtype) => format!("#define {name} {}\n", type_name(*dtype)),
        })
        .collect();
    let whole = |name: &str| format!("{PRELUDE}\n{defined}#define {function} {name}\n{source}");
    let mut hash = Sha256::new();
    for part in [&whole(""), &options.join(" "), &nvrtc.version()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let digest: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!("mtplx_{function}_{digest}");
    // SAFETY: a text that ends in NUL.
    let module = format!("{name}_{:x}", unsafe { mtplx_cuda_module_hash(NO_SOURCE.as_ptr()) });
    let folder = kernels();
    let place = folder.join(format!("{module}.ptx"));
    if !place.is_file() {
        let code = nvrtc.compile(&whole(&name), &options).map_err(|error| format!("{function}: {error}"))?;
        let keep = || -> std::io::Result<()> {
            fs::create_dir_all(&folder)?;
            // Names in the module by names that MLX asks for: the same. Written first, since MLX looks for the other.
            write(&folder, &folder.join(format!("{module}.txt")), format!("{name}\t{name}\n").as_bytes())?;
            write(&folder, &place, &code)
        };
        keep().map_err(|error| format!("{}: {error}", place.display()))?;
        tracing::debug!("compiled {name}, {} bytes", code.len());
    }
    CString::new(name).map_err(|error| error.to_string())
}

/// Writes a file whole or not at all.
fn write(folder: &Path, place: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut part = tempfile::NamedTempFile::new_in(folder)?;
    std::io::Write::write_all(&mut part, bytes)?;
    part.persist(place)?;
    Ok(())
}

fn type_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Bfloat16 => "bf16",
        Dtype::Float16 => "f16",
        _ => "float",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::cuda_default;

    #[test]
    fn a_build_without_cuda_refuses_and_goes_on() {
        static KERNEL: CudaKernel = CudaKernel::new("nothing", "");
        if cuda_default() {
            return;
        }
        let x = Array::from_slice(&[1f32, 2.0], &[2]);
        let launch = Launch {
            outputs: &[(&[2], Dtype::Float32)],
            blocks: [1, 1, 1],
            threads: 32,
            constants: &[("N", Constant::Int(2)), ("T", Constant::Type(Dtype::Bfloat16))],
            scalars: &[Scalar::Int(2), Scalar::Float(0.5)],
        };
        assert!(KERNEL.launch(&[&x], &launch).unwrap_err().what().contains("not a CUDA build"));
        // MLX's own refusal comes back as an error, through the same call as a launch.
        assert!(send(c"nothing", &[&x, &x], &launch).is_err());
    }
}
