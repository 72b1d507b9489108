//! The BLAS that multiplies matrices on a processor, and how many threads it uses.
//!
//! OpenBLAS reads its environment when the loader maps it, before `main`: later only its own function changes the number. Looked up by
//! name, because which OpenBLAS serves is decided where the program is linked: the wheel's symbols have a prefix, a system's have none.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// An OpenBLAS in this process.
#[derive(Debug, Clone, Copy)]
pub struct OpenBlas {
    get: unsafe extern "C" fn() -> c_int,
    set: unsafe extern "C" fn(c_int),
    config: unsafe extern "C" fn() -> *const c_char,
}

impl OpenBlas {
    /// The one that serves MLX; `None` where another BLAS does, as Accelerate on a Mac.
    pub fn find() -> Option<Self> {
        let symbol = |names: [&CStr; 2]| {
            // SAFETY: a null handle asks for the first symbol of that name among the libraries of this process.
            let found = names.map(|name| unsafe { dlsym(ptr::null_mut(), name.as_ptr()) });
            found.into_iter().find(|found| !found.is_null())
        };
        let get = symbol([c"scipy_openblas_get_num_threads", c"openblas_get_num_threads"])?;
        let set = symbol([c"scipy_openblas_set_num_threads", c"openblas_set_num_threads"])?;
        let config = symbol([c"scipy_openblas_get_config", c"openblas_get_config"])?;
        // SAFETY: the symbols are OpenBLAS's functions of those names, which have these types (`cblas.h`, OpenBLAS 0.3).
        Some(unsafe {
            Self {
                get: std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(get),
                set: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int)>(set),
                config: std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> *const c_char>(config),
            }
        })
    }

    /// Threads of the next product.
    pub fn threads(self) -> usize {
        // SAFETY: reads a number.
        usize::try_from(unsafe { (self.get)() }).unwrap_or(1)
    }

    /// Sets the threads of the products that follow; those that run keep theirs.
    pub fn set_threads(self, threads: usize) {
        // SAFETY: sets a number that a product reads once, when it starts; threads beyond those that exist are made under a lock.
        unsafe { (self.set)(c_int::try_from(threads.max(1)).unwrap_or(c_int::MAX)) }
    }

    /// Version and build options, such as `OpenBLAS 0.3.34 DYNAMIC_ARCH Haswell MAX_THREADS=64`.
    pub fn config(self) -> String {
        // SAFETY: the text is static and ends in NUL.
        let text = unsafe {
            let text = (self.config)();
            if text.is_null() {
                return String::new();
            }
            CStr::from_ptr(text)
        };
        text.to_string_lossy().trim().to_owned()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn threads_are_set() {
        let blas = OpenBlas::find().expect("an OpenBLAS");
        assert!(blas.config().starts_with("OpenBLAS "), "{}", blas.config());
        let before = blas.threads();
        blas.set_threads(1);
        assert_eq!(blas.threads(), 1);
        blas.set_threads(before);
        assert_eq!(blas.threads(), before);
    }
}
