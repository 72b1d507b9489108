//! How a process that used MLX ends.

/// Ends the process at once. Buffered output must be written before.
///
/// Destructors of static and thread-local objects do not run: MLX's would hand their handles to a driver that may have shut down by then,
/// and abort.
pub fn exit(code: u8) -> ! {
    unsafe extern "C" {
        fn _exit(status: std::ffi::c_int) -> !;
    }
    #[cfg(target_os = "macos")]
    unwire();
    // SAFETY: ends the process; nothing runs after it.
    unsafe { _exit(code.into()) }
}

/// Gives back what [`super::MemoryBudget::wire`] took, which outlives some processes.
#[cfg(target_os = "macos")]
fn unwire() {
    if super::MemoryBudget::of_default().is_some() {
        // The process ends: nobody is left to tell.
        let _ = mlx_rs::memory::set_wired_limit(0);
    }
}
