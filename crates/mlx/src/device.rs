//! What MLX says of the device that it computes on, and of the memory that it took there.

use std::ffi::CStr;

use mlx_rs::memory;

/// A device, as MLX's backend describes it. What the backend does not say is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its name, such as `NVIDIA H100 80GB HBM3`.
    pub name: Option<String>,
    /// Its architecture, such as `sm_90`.
    pub architecture: Option<String>,
    /// Its memory in bytes; all of the machine's where the processor shares it.
    pub memory: Option<usize>,
    /// Bytes of it that Metal recommends to use at most.
    pub working_set: Option<usize>,
}

impl DeviceInfo {
    /// Of the default device.
    pub fn of_default() -> Self {
        super::backend::install_error_handler();
        // SAFETY: two empty handles, which the calls below fill and which are freed at the end, whatever happens between.
        let (mut device, mut info) = unsafe { (mlx_sys::mlx_device_new(), mlx_sys::mlx_device_info_new()) };
        // SAFETY: both handles are live.
        let known = unsafe {
            mlx_sys::mlx_get_default_device(&mut device) == 0 && mlx_sys::mlx_device_info_get(&mut info, device) == 0
        };
        let found = if known {
            Self {
                name: text(info, c"device_name"),
                architecture: text(info, c"architecture"),
                memory: [c"total_memory", c"memory_size"].iter().find_map(|key| size(info, key)),
                working_set: size(info, c"max_recommended_working_set_size"),
            }
        } else {
            Self::default()
        };
        // SAFETY: nothing of them is used from here on; the texts were copied.
        unsafe {
            mlx_sys::mlx_device_info_free(info);
            mlx_sys::mlx_device_free(device);
        }
        found
    }

    /// Bytes of shared memory that a block of a CUDA kernel may take: by compute capability, as NVIDIA's programming guide lists
    /// them (CUDA 13, technical specifications); elsewhere the least of those with bf16 matrix units (8.0 and later).
    pub fn shared_memory(&self) -> usize {
        let kilobytes = match self.architecture.as_deref().and_then(|name| name.strip_prefix("sm_")) {
            Some("80" | "87") => 163,
            Some("90" | "100" | "103" | "110") => 227,
            _ => 99,
        };
        kilobytes << 10
    }
}

/// Whether there is such an entry, and whether it is a text.
fn kind(info: mlx_sys::mlx_device_info, key: &CStr) -> Option<bool> {
    let (mut exists, mut is_text) = (false, false);
    // SAFETY: the handle is live, the key ends in NUL, and both flags outlive the calls.
    unsafe {
        if mlx_sys::mlx_device_info_has_key(&mut exists, info, key.as_ptr()) != 0 || !exists {
            return None;
        }
        (mlx_sys::mlx_device_info_is_string(&mut is_text, info, key.as_ptr()) == 0).then_some(is_text)
    }
}

fn text(info: mlx_sys::mlx_device_info, key: &CStr) -> Option<String> {
    kind(info, key).filter(|is_text| *is_text)?;
    let mut value = std::ptr::null();
    // SAFETY: as above; the entry is a text, which the handle owns and which ends in NUL, and it is copied at once.
    unsafe {
        let status = mlx_sys::mlx_device_info_get_string(&mut value, info, key.as_ptr());
        (status == 0 && !value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().into_owned())
    }
}

fn size(info: mlx_sys::mlx_device_info, key: &CStr) -> Option<usize> {
    kind(info, key).filter(|is_text| !*is_text)?;
    let mut value = 0;
    // SAFETY: as above; the entry is a number.
    let status = unsafe { mlx_sys::mlx_device_info_get_size(&mut value, info, key.as_ptr()) };
    (status == 0).then_some(value)
}

/// The most bytes that MLX held at once since [`reset_peak_memory`], weights included; `None` where it does not count.
pub fn peak_memory() -> Option<usize> {
    memory::peak_memory().ok().filter(|&bytes| bytes > 0)
}

/// Bytes that MLX holds, by kind: in use, the most that were, and kept for reuse. Kinds that it does not count are left out.
pub fn memory_use() -> Vec<(&'static str, usize)> {
    let kinds = [
        ("active", memory::active_memory().ok()),
        ("peak", memory::peak_memory().ok()),
        ("cache", memory::cache_memory().ok()),
    ];
    kinds.into_iter().filter_map(|(kind, bytes)| Some((kind, bytes?))).collect()
}

/// Gives memory that is kept for reuse back.
pub fn clear_cache() {
    // Where MLX keeps none there is nothing to give back.
    let _ = memory::clear_cache();
}

/// Starts counting [`peak_memory`] anew, from what is held now.
pub fn reset_peak_memory() {
    // Where MLX does not count there is nothing to reset.
    let _ = memory::reset_peak_memory();
}
