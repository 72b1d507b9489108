//! CUDA kernels of our own: compiled once a machine, kept on disk, launched by an operation of our own.
//!
//! MLX's own ways for such kernels compile them in every process (`fast::cuda_kernel`) or take longer to send one than most of them
//! take to run (`fast::precompiled_cuda_kernel`, MLX 0.32). A kernel takes row-contiguous arrays, then the arrays that it fills,
//! then numbers.
//!
//! Launches go straight to the stream, so MLX must send its own there too rather than gather them in graphs:
//! [`configure_cuda`](super::configure_cuda) sees to that.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::{fs, ptr};

use mlx_rs::error::Exception;
use mlx_rs::{Array, Dtype, Stream};
use sha2::{Digest as _, Sha256};

use super::DeviceInfo;
use super::backend::{kernels, launches_are_sent_at_once};
use super::nvrtc::Nvrtc;
use crate::Result;

/// Bytes of a SHA-256.
const HASH: usize = 32;

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
    function: Function,
}

/// A function that the driver holds for the life of the process.
#[derive(Debug, Clone, Copy)]
struct Function {
    handle: *const c_void,
    name: &'static CStr,
    /// Whether it may start before the kernel ahead of it is done: from Hopper on.
    overlap: bool,
}

// SAFETY: the handle is the driver's, valid on every thread, and never dereferenced here.
unsafe impl Send for Function {}

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
#[derive(Debug, Clone, Default)]
pub struct Launch<'a> {
    /// Shape and type of every output.
    pub outputs: &'a [(&'a [i32], Dtype)],
    /// Inputs that the first outputs take the place of, by index. The kernel is handed them as outputs alone, and nothing else may
    /// need what it writes over.
    pub in_place: &'a [usize],
    /// Blocks, by axis.
    pub blocks: [i32; 3],
    /// Threads of a block.
    pub threads: i32,
    /// Dynamic shared memory of a block, in bytes; the same for the same constants.
    pub shared: i32,
    /// Each set of values is compiled once.
    pub constants: &'a [(&'static str, Constant)],
    /// In the order of the function's last parameters.
    pub scalars: &'a [Scalar],
    /// Whether the processor reads the outputs: they are put where it can.
    pub read_back: bool,
    /// Whether it waits until MLX is asked for what follows, since outputs are large and best made just before they are used.
    pub deferred: bool,
}

/// Shape and type of an output, as `mtplx_cuda_launch` takes them.
#[repr(C)]
struct RawOutput {
    shape: *const c_int,
    ndim: usize,
    dtype: mlx_sys::mlx_dtype,
    in_place: c_int,
}

/// What `mtplx_cuda_launch` takes.
#[repr(C)]
struct RawLaunch {
    function: *const c_void,
    name: *const c_char,
    inputs: *const mlx_sys::mlx_array,
    input_count: usize,
    outputs: *const RawOutput,
    output_count: usize,
    scalars: *const u32,
    scalar_count: usize,
    grid: [c_uint; 3],
    threads: c_uint,
    shared: c_uint,
    overlap: c_int,
    read_back: c_int,
    deferred: c_int,
    stream: mlx_sys::mlx_stream,
}

// In libmlxc.so, where set-up puts them (`xtask/native/cuda_kernel.cpp`).
#[cfg(target_os = "linux")]
unsafe extern "C" {
    fn mtplx_cuda_load(
        code: *const c_void,
        name: *const c_char,
        shared: c_uint,
        function: *mut *const c_void,
    ) -> *const c_char;
    fn mtplx_cuda_launch(launch: *const RawLaunch, results: *mut mlx_sys::mlx_array) -> *const c_char;
    fn mtplx_cuda_sent(x: mlx_sys::mlx_array) -> bool;
}

// Elsewhere there is no CUDA, and no gate opens.
#[cfg(not(target_os = "linux"))]
unsafe fn mtplx_cuda_load(_: *const c_void, _: *const c_char, _: c_uint, _: *mut *const c_void) -> *const c_char {
    c"there is no CUDA".as_ptr()
}
#[cfg(not(target_os = "linux"))]
unsafe fn mtplx_cuda_launch(_: *const RawLaunch, _: *mut mlx_sys::mlx_array) -> *const c_char {
    c"there is no CUDA".as_ptr()
}
#[cfg(not(target_os = "linux"))]
unsafe fn mtplx_cuda_sent(_: mlx_sys::mlx_array) -> bool {
    false
}

/// Whether the device has all that it takes to compute `x`: there is nothing to begin on.
pub(super) fn is_sent(x: &Array) -> bool {
    // SAFETY: a live array.
    unsafe { mtplx_cuda_sent(x.as_ptr()) }
}

/// What the shim said of a call that failed.
///
/// # Safety
/// `message` is what the call that this thread made last returned: null, or NUL-terminated.
unsafe fn outcome(message: *const c_char) -> Result<(), String> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: as above.
    Err(unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned())
}

/// The outputs of a launch, which are N.
///
/// # Errors
/// They are not.
pub fn outputs<const N: usize>(made: Vec<Array>) -> Result<[Array; N]> {
    let count = made.len();
    made.try_into().map_err(|_| Exception::custom(format!("a launch made {count} arrays: expected {N}")))
}

impl CudaKernel {
    /// The function `name`, `extern "C" __global__`, of `source`.
    pub const fn new(name: &'static str, source: &'static str) -> Self {
        Self { name, source, variants: Mutex::new(Vec::new()) }
    }

    /// Runs it over `inputs`, which are made row-contiguous: at once where the device has them or is to compute them already, else when
    /// MLX is asked for what follows from it.
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
                let function = load(self.name, self.source, launch).map_err(Exception::custom)?;
                variants.push(Variant { constants: launch.constants.to_vec(), function });
                variants.len() - 1
            }
        };
        let function = variants[index].function;
        drop(variants);
        send(function, inputs, launch)
    }
}

/// Makes an operation of a launch.
fn send(function: Function, inputs: &[&Array], launch: &Launch<'_>) -> Result<Vec<Array>> {
    let stream = Stream::thread_local_or_default();
    let inputs: Vec<mlx_sys::mlx_array> = inputs.iter().map(|input| input.as_ptr()).collect();
    let outputs: Vec<RawOutput> = launch
        .outputs
        .iter()
        .enumerate()
        .map(|(index, (shape, dtype))| RawOutput {
            shape: shape.as_ptr(),
            ndim: shape.len(),
            dtype: (*dtype).into(),
            in_place: launch.in_place.get(index).map_or(-1, |&input| input as c_int),
        })
        .collect();
    let scalars: Vec<u32> = launch
        .scalars
        .iter()
        .map(|scalar| match *scalar {
            Scalar::Int(integer) => integer as u32,
            Scalar::Float(real) => real.to_bits(),
        })
        .collect();
    let raw = RawLaunch {
        function: function.handle,
        name: function.name.as_ptr(),
        inputs: inputs.as_ptr(),
        input_count: inputs.len(),
        outputs: outputs.as_ptr(),
        output_count: outputs.len(),
        scalars: scalars.as_ptr(),
        scalar_count: scalars.len(),
        grid: launch.blocks.map(|blocks| blocks as c_uint),
        threads: launch.threads as c_uint,
        shared: launch.shared as c_uint,
        overlap: function.overlap.into(),
        read_back: launch.read_back.into(),
        deferred: launch.deferred.into(),
        stream: stream.as_ptr(),
    };
    // SAFETY: every pointer is to a slice of the length beside it that lives through the call, and the name lives on; handles are
    // live; results are empty handles, which the call fills and which become arrays of their own.
    unsafe {
        let mut results: Vec<mlx_sys::mlx_array> = outputs.iter().map(|_| mlx_sys::mlx_array_new()).collect();
        let outcome = outcome(mtplx_cuda_launch(&raw, results.as_mut_ptr()));
        let arrays = results.into_iter().map(|result| Array::from_ptr(result)).collect();
        outcome.map(|()| arrays).map_err(|why| Exception::custom(format!("{}: {why}", function.name.to_string_lossy())))
    }
}

/// The kernel with these constants: out of the folder of compiled ones, or compiled and put there.
fn load(function: &str, source: &str, launch: &Launch<'_>) -> Result<Function, String> {
    let (name, code, overlap) = compiled(function, source, launch.constants)?;
    let name: &'static CStr = Box::leak(CString::new(name).map_err(|error| error.to_string())?.into_boxed_c_str());
    let mut handle = ptr::null();
    // SAFETY: machine code whole, as the compiler made it, which its hash says of code from a file; a name that lives on; a place for
    // the handle.
    let loaded =
        unsafe { outcome(mtplx_cuda_load(code.as_ptr().cast(), name.as_ptr(), launch.shared as c_uint, &mut handle)) };
    let place = || kernels().join(format!("{}.cubin", name.to_string_lossy()));
    loaded.map_err(|why| format!("{}: {why}", place().display()))?;
    Ok(Function { handle, name, overlap })
}

/// The name of a kernel with these constants, its machine code, and whether the device can overlap launches.
fn compiled(function: &str, source: &str, constants: &[(&str, Constant)]) -> Result<(String, Vec<u8>, bool), String> {
    let nvrtc = Nvrtc::find().ok_or("NVRTC is not there: this MLX is not a CUDA build")?;
    if !launches_are_sent_at_once() {
        return Err("MLX gathers launches in graphs: set MLX_USE_CUDA_GRAPHS=0".to_owned());
    }
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
    let folder = kernels();
    let place = folder.join(format!("{name}.cubin"));
    if let Some(code) = kept(&place) {
        return Ok((name, code, specific));
    }
    let code = nvrtc.compile(&whole(&name), &options).map_err(|error| format!("{function}: {error}"))?;
    tracing::debug!("compiled {name}, {} bytes", code.len());
    let written = fs::create_dir_all(&folder).and_then(|()| keep(&folder, &place, &code));
    if let Err(error) = written {
        tracing::warn!("{}: {error}: the next process compiles this kernel again", place.display());
    }
    Ok((name, code, specific))
}

/// The machine code in a file that [`keep`] wrote; `None` where it is damaged or not there.
fn kept(place: &Path) -> Option<Vec<u8>> {
    let bytes = fs::read(place).ok()?;
    let (hash, code) = bytes.split_first_chunk::<HASH>()?;
    (Sha256::digest(code)[..] == hash[..]).then(|| code.to_vec())
}

/// Writes machine code behind its hash, whole or not at all: the driver reads what it is given without a length.
fn keep(folder: &Path, place: &Path, code: &[u8]) -> std::io::Result<()> {
    let mut part = tempfile::NamedTempFile::new_in(folder)?;
    part.write_all(&Sha256::digest(code))?;
    part.write_all(code)?;
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
    use crate::cuda_default;

    #[test]
    fn damaged_code_is_compiled_again() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a.cubin");
        assert_eq!(kept(&place), None, "not there");
        keep(folder.path(), &place, b"machine code").unwrap();
        assert_eq!(kept(&place).as_deref(), Some(&b"machine code"[..]));
        let whole = fs::read(&place).unwrap();
        for cut in [0, 1, HASH, whole.len() - 1] {
            fs::write(&place, &whole[..cut]).unwrap();
            assert_eq!(kept(&place), None, "{cut} bytes");
        }
        fs::write(&place, [&whole[..], b"!"].concat()).unwrap();
        assert_eq!(kept(&place), None, "more than was written");
    }

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
            ..Launch::default()
        };
        assert!(KERNEL.launch(&[&x], &launch).unwrap_err().what().contains("not a CUDA build"));
        // The shim's own refusal comes back as an error, through the same call as a launch.
        let nothing = Function { handle: ptr::null(), name: c"nothing", overlap: false };
        assert!(send(nothing, &[&x, &x], &launch).unwrap_err().what().contains("another device"));
    }
}
