//! NVIDIA's run-time compiler, as the CUDA build of MLX brings it into the process.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

/// How much of what the compiler says is passed on: the first fault tells.
const LOG_LINES: usize = 6;

type Program = *mut c_void;
type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
type Create = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;
type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Fill = unsafe extern "C" fn(Program, *mut c_char) -> c_int;

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// The compiler's functions. Source: NVRTC's documentation, CUDA 13; every one returns 0 on success.
pub(super) struct Nvrtc {
    version: Version,
    create: Create,
    compile: Compile,
    destroy: Destroy,
    log_size: Size,
    log: Fill,
    cubin_size: Size,
    cubin: Fill,
}

impl Nvrtc {
    /// The compiler, where MLX's library was linked with it.
    pub fn find() -> Option<Self> {
        let symbol = |name: &CStr| {
            // SAFETY: a null handle asks for the first symbol of that name among the libraries of this process.
            let found = unsafe { dlsym(ptr::null_mut(), name.as_ptr()) };
            (!found.is_null()).then_some(found)
        };
        macro_rules! function {
            ($name:literal, $type:ty) => {
                // SAFETY: the symbol is the compiler's function of that name, which has that type.
                unsafe { std::mem::transmute::<*mut c_void, $type>(symbol($name)?) }
            };
        }
        Some(Self {
            version: function!(c"nvrtcVersion", Version),
            create: function!(c"nvrtcCreateProgram", Create),
            compile: function!(c"nvrtcCompileProgram", Compile),
            destroy: function!(c"nvrtcDestroyProgram", Destroy),
            log_size: function!(c"nvrtcGetProgramLogSize", Size),
            log: function!(c"nvrtcGetProgramLog", Fill),
            cubin_size: function!(c"nvrtcGetCUBINSize", Size),
            cubin: function!(c"nvrtcGetCUBIN", Fill),
        })
    }

    /// Such as `13.0`.
    pub fn version(&self) -> String {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: fills two integers that outlive the call.
        unsafe { (self.version)(&mut major, &mut minor) };
        format!("{major}.{minor}")
    }

    /// Machine code of `source` for the architecture that `options` name.
    ///
    /// # Errors
    /// What the compiler says.
    pub fn compile(&self, source: &str, options: &[String]) -> Result<Vec<u8>, String> {
        let text = |text: &str| CString::new(text).map_err(|error| error.to_string());
        let source = text(source)?;
        let options = options.iter().map(|option| text(option)).collect::<Result<Vec<_>, _>>()?;
        let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let mut program = ptr::null_mut();
        // SAFETY: texts and pointers live through the calls, and buffers have the sizes that the compiler states; the program
        // is destroyed once, after its last use.
        unsafe {
            let made = (self.create)(&mut program, source.as_ptr(), c"kernel.cu".as_ptr(), 0, ptr::null(), ptr::null());
            if made != 0 {
                return Err(format!("NVRTC makes no program (error {made})"));
            }
            let status = (self.compile)(program, options.len() as c_int, options.as_ptr());
            let (size, fill) = if status == 0 { (self.cubin_size, self.cubin) } else { (self.log_size, self.log) };
            let mut length = 0;
            let mut read = size(program, &mut length);
            let mut bytes = vec![0u8; length];
            if read == 0 {
                read = fill(program, bytes.as_mut_ptr().cast());
            }
            (self.destroy)(&mut program);
            match (status, read) {
                (0, 0) => Ok(bytes),
                (0, read) => Err(format!("NVRTC hands out no code (error {read})")),
                (status, _) => {
                    let log = String::from_utf8_lossy(&bytes);
                    let first: Vec<&str> = log.trim_end_matches('\0').lines().take(LOG_LINES).collect();
                    Err(format!("NVRTC refuses it (error {status}): {}", first.join("\n")))
                }
            }
        }
    }
}
