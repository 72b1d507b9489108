//! Which MLX this is and what it computes on.

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::Once;

use mlx_rs::error::Exception;
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

/// An error of MLX in its own words, without the places in sources that mlx-c and mlx-rs put behind them.
pub fn message(error: &Exception) -> &str {
    let what = error.what().trim_matches('"');
    what.rfind(" at /").map_or(what, |place| &what[..place])
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

/// The version of MLX that the bindings are made for: mlx-c's, as mlx-sys 0.7.0 brings it.
pub const NEEDED_VERSION: &str = "0.32.2";

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

/// Settings of MLX's CUDA backend for one text at a time.
///
/// Products of f32 are f32: matrix units would round their inputs to TF32, 10 bits of 23, by which routers choose other experts and
/// verification differs from decoding (`MLX_ENABLE_TF32=0`). Launches go to the device one by one (`MLX_USE_CUDA_GRAPHS=0`), so that it
/// works on the first while the rest is made; kernels of our own depend on that. Kernels that MLX compiles are kept in `folder` rather
/// than among temporary files, where the environment does not say otherwise (`MLX_PTX_CACHE_DIR`). A device's error that reaches no
/// caller, such as one in a destructor, ends the process with one message and exit code 1.
///
/// To be called before MLX computes anything, and before other threads start.
pub fn configure_cuda(folder: Option<&Path>) {
    // SAFETY: the environment is changed while this is the only thread; MLX reads it at its first kernel or product.
    unsafe {
        if let Some(folder) = folder.filter(|_| std::env::var_os(KERNELS).is_none()) {
            std::env::set_var(KERNELS, folder);
        }
        std::env::set_var(GRAPHS, "0");
        std::env::set_var("MLX_ENABLE_TF32", "0");
    }
    report_termination();
}

/// Has an exception that nobody catches end the process in order.
fn report_termination() {
    #[cfg(target_os = "linux")]
    // SAFETY: replaces a handler of the C++ runtime by one that lives as long as the process.
    unsafe {
        mtplx_report_termination();
    }
}

// In libmlxc.so, where set-up puts it (`xtask/native/termination.cpp`).
#[cfg(target_os = "linux")]
unsafe extern "C" {
    fn mtplx_report_termination();
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use crate::exit;

    use super::*;

    /// Set in the process that a test starts to see how it ends.
    const ENDS: &str = "MTPLX_TEST_ENDS";

    /// This test's own binary again, running the test `name` alone.
    fn end(name: &str) -> (Option<i32>, String) {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "--nocapture", &format!("backend::tests::{name}")]).env(ENDS, "1");
        let output = again.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    #[test]
    fn messages_name_no_place_in_sources() {
        for (what, said) in [
            (
                "launch failed: an illegal address at /home/me/mlx-c/transforms.cpp:15",
                "launch failed: an illegal address",
            ),
            ("shapes [1,2] at the end", "shapes [1,2] at the end"),
        ] {
            assert_eq!(message(&Exception::custom(what.to_owned())), said);
        }
    }

    /// Set-up takes the version that mlx-c names.
    #[test]
    fn the_version_that_is_needed_is_the_one_that_is_set_up() {
        assert_eq!(version(), NEEDED_VERSION);
    }

    #[test]
    fn exit_runs_no_destructor() {
        extern "C" fn abort() {
            std::process::abort();
        }
        unsafe extern "C" {
            fn atexit(handler: extern "C" fn()) -> std::ffi::c_int;
        }
        if std::env::var_os(ENDS).is_some() {
            // SAFETY: registers a function that lives as long as the process.
            unsafe { atexit(abort) };
            exit(7);
        }
        assert_eq!(end("exit_runs_no_destructor").0, Some(7));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_exception_that_nobody_catches_is_one_message() {
        unsafe extern "C" {
            fn dlsym(handle: *mut std::ffi::c_void, name: *const std::ffi::c_char) -> *mut std::ffi::c_void;
        }
        if std::env::var_os(ENDS).is_some() {
            report_termination();
            let others: Vec<_> = (0..4).map(|_| std::thread::spawn(report_termination)).collect();
            others.into_iter().for_each(|other| other.join().unwrap());
            // SAFETY: `std::terminate`, out of the C++ library that MLX's brings into the process; it has this type, and returns never.
            unsafe {
                let terminate = dlsym(std::ptr::null_mut(), c"_ZSt9terminatev".as_ptr());
                assert!(!terminate.is_null());
                std::mem::transmute::<*mut std::ffi::c_void, extern "C" fn() -> !>(terminate)();
            }
        }
        let (code, said) = end("an_exception_that_nobody_catches_is_one_message");
        assert_eq!((code, said.lines().filter(|line| line.starts_with("error: ")).count()), (Some(1), 1), "{said}");
    }
}
