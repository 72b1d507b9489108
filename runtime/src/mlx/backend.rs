//! Which MLX this is and what it computes on.

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::Once;

use mlx_rs::{Device as MlxDevice, DeviceType};

/// mlx-rs refers to this Mach symbol where it seeds a generator by itself; Linux has none.
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
extern "C" fn mach_approximate_time() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_nanos() as u64)
}

/// Makes mlx-rs install its error handler, which it does at its first guarded call: mlx-c's own ends the process.
pub(super) fn install_error_handler() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| drop(MlxDevice::try_default()));
}

/// What MLX computes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The processor.
    Cpu,
    /// A Metal or CUDA device.
    Gpu,
}

impl Device {
    /// `cpu` or `gpu`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        }
    }
}

/// MLX's version, such as `0.32.2`.
pub fn version() -> String {
    // SAFETY: `mlx_version` fills a string object that we own and free; its data is NUL-terminated.
    unsafe {
        let mut string = mlx_sys::mlx_string_new();
        let status = mlx_sys::mlx_version(&mut string);
        let data = mlx_sys::mlx_string_data(string);
        let version = if status == 0 && !data.is_null() {
            CStr::from_ptr(data).to_string_lossy().into_owned()
        } else {
            "unknown".to_owned()
        };
        mlx_sys::mlx_string_free(string);
        version
    }
}

/// Whether this MLX has a GPU backend with a device.
pub fn gpu_available() -> bool {
    install_error_handler();
    let (mut cuda, mut metal) = (false, false);
    // SAFETY: both fill a bool that outlives the call; where one fails, its bool stays false.
    unsafe {
        mlx_sys::mlx_cuda_is_available(&mut cuda);
        mlx_sys::mlx_metal_is_available(&mut metal);
    }
    cuda || metal
}

/// Whether operations run on a CUDA device unless told otherwise.
pub fn cuda_default() -> bool {
    let mut cuda = false;
    // SAFETY: fills a bool that outlives the call; where it fails, the bool stays false.
    unsafe { mlx_sys::mlx_cuda_is_available(&mut cuda) };
    cuda && default_device() == Device::Gpu
}

/// The device that operations run on unless told otherwise.
pub fn default_device() -> Device {
    match MlxDevice::try_default().and_then(|device| device.get_type()) {
        Ok(DeviceType::Gpu) => Device::Gpu,
        _ => Device::Cpu,
    }
}

/// Makes f32 products of a GPU exact to f32: by default CUDA's matrix units round their inputs to TF32.
///
/// To be called before MLX computes anything, and before other threads start.
pub fn forbid_tf32() {
    // SAFETY: the environment is changed while this is the only thread; MLX reads the variable at its first product.
    unsafe { std::env::set_var("MLX_ENABLE_TF32", "0") };
}

/// Settings of MLX's CUDA backend for one text at a time. Kernels that it compiles are kept in `folder` rather than among temporary
/// files, where the environment does not say otherwise (`MLX_PTX_CACHE_DIR`). Launches go to the device one by one
/// (`MLX_USE_CUDA_GRAPHS=0`), so that it works on the first while the rest is made; kernels of our own depend on that.
///
/// To be called before MLX computes anything, and before other threads start.
pub fn configure_cuda(folder: Option<&Path>) {
    // SAFETY: the environment is changed while this is the only thread; MLX reads it at its first kernel.
    unsafe {
        if let Some(folder) = folder.filter(|_| std::env::var_os(KERNELS).is_none()) {
            std::env::set_var(KERNELS, folder);
        }
        std::env::set_var(GRAPHS, "0");
    }
}

/// Whether MLX sends its launches as they come.
pub(super) fn launches_are_sent_at_once() -> bool {
    std::env::var_os(GRAPHS).is_some_and(|value| value == "0")
}

/// Where MLX keeps the kernels that it compiled, by its own rule (MLX 0.32, `mlx/backend/cuda/jit_module.cpp`).
pub(super) fn kernels() -> PathBuf {
    match std::env::var_os(KERNELS) {
        Some(folder) => folder.into(),
        None => std::env::temp_dir().join("mlx").join(version()).join("ptx"),
    }
}

const KERNELS: &str = "MLX_PTX_CACHE_DIR";
const GRAPHS: &str = "MLX_USE_CUDA_GRAPHS";

/// Chooses the device for every operation that follows, on every thread.
pub fn set_default_device(device: Device) {
    MlxDevice::set_default(&match device {
        Device::Cpu => MlxDevice::cpu(),
        Device::Gpu => MlxDevice::gpu(),
    });
}
