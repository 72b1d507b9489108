//! Operations that a Rust function computes on the processor, in their turn on MLX's stream.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

use mlx_rs::error::Exception;
use mlx_rs::{Array, Dtype, Stream};

use super::backend::{Device, default_device};
use crate::Result;

/// A computation: inputs and outputs in row-major order, f32, in the order of the call.
///
/// It runs on a thread of MLX's when an output is needed.
pub type HostFunction = Box<dyn Fn(&[&[f32]], &mut [&mut [f32]]) + Send + Sync>;

/// Shape and type of an output, as `mtplx_host` takes them.
#[repr(C)]
struct RawOutput {
    shape: *const c_int,
    ndim: usize,
    dtype: mlx_sys::mlx_dtype,
}

/// Memory of an array.
#[repr(C)]
struct RawMemory {
    data: *mut c_void,
    bytes: usize,
}

/// A function with the number of its arguments.
struct Call {
    function: HostFunction,
    inputs: usize,
    outputs: usize,
}

/// The argument of `mtplx_host`.
#[repr(C)]
struct RawCall {
    name: *const c_char,
    function: *mut c_void,
    run: unsafe extern "C" fn(*mut c_void, *const RawMemory, *const RawMemory) -> bool,
    release: unsafe extern "C" fn(*mut c_void),
    inputs: *const mlx_sys::mlx_array,
    input_count: usize,
    outputs: *const RawOutput,
    output_count: usize,
    stream: mlx_sys::mlx_stream,
}

// In libmlxc.so (`native/host.cpp`).
#[cfg(target_os = "linux")]
unsafe extern "C" {
    fn mtplx_host(call: *const RawCall, results: *mut mlx_sys::mlx_array) -> *const c_char;
}

/// Elsewhere [`host_available`] says no.
#[cfg(not(target_os = "linux"))]
unsafe fn mtplx_host(call: *const RawCall, _: *mut mlx_sys::mlx_array) -> *const c_char {
    // SAFETY: the caller's function, which the callee takes.
    unsafe { ((*call).release)((*call).function) };
    c"host functions are available on Linux only".as_ptr()
}

/// True where arrays are computed on the processor and [`host`] is available.
pub fn host_available() -> bool {
    cfg!(target_os = "linux") && default_device() == Device::Cpu
}

/// Arrays of `outputs`' shapes, f32, that `function` computes from `inputs`.
///
/// # Errors
/// An input that is not f32; a device other than the processor; when MLX fails. A function that panics makes the evaluation fail.
pub fn host(name: &'static CStr, inputs: &[&Array], outputs: &[&[i32]], function: HostFunction) -> Result<Vec<Array>> {
    let named = |why: String| Exception::custom(format!("{}: {why}", name.to_string_lossy()));
    if let Some(place) = inputs.iter().position(|input| input.dtype() != Dtype::Float32) {
        return Err(named(format!("input {place} is {:?}: expected f32", inputs[place].dtype())));
    }
    if !host_available() {
        return Err(named("it runs on the processor only".to_owned()));
    }
    let handles: Vec<mlx_sys::mlx_array> = inputs.iter().map(|input| input.as_ptr()).collect();
    let raw_outputs: Vec<RawOutput> = outputs
        .iter()
        .map(|shape| RawOutput { shape: shape.as_ptr(), ndim: shape.len(), dtype: mlx_sys::mlx_dtype__MLX_FLOAT32 })
        .collect();
    let stream = Stream::thread_local_or_default();
    let call = Box::new(Call { function, inputs: inputs.len(), outputs: outputs.len() });
    let raw = RawCall {
        name: name.as_ptr(),
        function: Box::into_raw(call).cast(),
        run,
        release,
        inputs: handles.as_ptr(),
        input_count: handles.len(),
        outputs: raw_outputs.as_ptr(),
        output_count: raw_outputs.len(),
        stream: stream.as_ptr(),
    };
    // SAFETY: every pointer is to a slice of the length beside it that lives through the call, and the name lives on; handles are live;
    // results are empty handles, which the call fills and which become arrays of their own; the callee takes the function.
    unsafe {
        let mut results: Vec<mlx_sys::mlx_array> = outputs.iter().map(|_| mlx_sys::mlx_array_new()).collect();
        let message = mtplx_host(&raw, results.as_mut_ptr());
        let arrays = results.into_iter().map(|result| Array::from_ptr(result)).collect();
        if message.is_null() { Ok(arrays) } else { Err(named(CStr::from_ptr(message).to_string_lossy().into_owned())) }
    }
}

/// Calls the function; false where it panics.
///
/// # Safety
/// `call` is a [`Call`]; `inputs` and `outputs` are as many memories of f32 values as it says, which nobody else writes, and the
/// outputs' nobody else reads, meanwhile.
unsafe extern "C" fn run(call: *mut c_void, inputs: *const RawMemory, outputs: *const RawMemory) -> bool {
    // SAFETY: as above. MLX aligns its memory to more than four bytes; an empty array's may be null.
    let (function, inputs, mut outputs) = unsafe {
        let Call { function, inputs: input_count, outputs: output_count } = &*call.cast::<Call>();
        let values = |memory: &RawMemory| (memory.data.cast::<f32>(), memory.bytes / size_of::<f32>());
        let read = |memory: &RawMemory| match values(memory) {
            (data, _) if data.is_null() => &[][..],
            (data, length) => slice::from_raw_parts(data, length),
        };
        let write = |memory: &RawMemory| match values(memory) {
            (data, _) if data.is_null() => &mut [][..],
            (data, length) => slice::from_raw_parts_mut(data, length),
        };
        let inputs: Vec<&[f32]> = slice::from_raw_parts(inputs, *input_count).iter().map(read).collect();
        let outputs: Vec<&mut [f32]> = slice::from_raw_parts(outputs, *output_count).iter().map(write).collect();
        (function, inputs, outputs)
    };
    catch_unwind(AssertUnwindSafe(|| function(&inputs, &mut outputs))).is_ok()
}

/// Drops the function.
///
/// # Safety
/// `call` is a [`Call`] that was boxed, and is not used again.
unsafe extern "C" fn release(call: *mut c_void) {
    // SAFETY: as above.
    drop(unsafe { Box::from_raw(call.cast::<Call>()) });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{slice_axis, values};

    fn sums(calls: &Arc<AtomicUsize>) -> HostFunction {
        let calls = Arc::clone(calls);
        Box::new(move |inputs, outputs| {
            calls.fetch_add(1, Ordering::Relaxed);
            for ((sum, a), b) in outputs[0].iter_mut().zip(inputs[0]).zip(inputs[1]) {
                *sum = a + b;
            }
            outputs[1][0] = outputs[0].iter().sum();
        })
    }

    #[test]
    fn a_function_is_called_once_for_all_its_outputs_and_dropped() {
        if !host_available() {
            return;
        }
        let calls = Arc::new(AtomicUsize::new(0));
        let a = Array::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
        // Columns of a matrix are not contiguous.
        let (left, right) = (slice_axis(&a, 1, 0, 2).unwrap(), slice_axis(&a, 1, 1, 3).unwrap());
        let made = host(c"sums", &[&left, &right], &[&[2, 2], &[1]], sums(&calls)).unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 0, "nothing is computed before it is asked for");
        let doubled = made[0].add(&made[0]).unwrap();
        assert_eq!(values::<f32>(&made[1]).unwrap(), [3.0 + 5.0 + 9.0 + 11.0]);
        assert_eq!(values::<f32>(&doubled).unwrap(), [6.0, 10.0, 18.0, 22.0]);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        drop((made, doubled));
        assert_eq!(Arc::strong_count(&calls), 1);
    }

    #[test]
    fn an_unused_function_is_dropped_and_a_wrong_input_refused() {
        if !host_available() {
            return;
        }
        let calls = Arc::new(AtomicUsize::new(0));
        let a = Array::from_slice(&[1f32], &[1]);
        drop(host(c"sums", &[&a, &a], &[&[1], &[1]], sums(&calls)).unwrap());
        let whole = Array::from_slice(&[1i32], &[1]);
        let error = host(c"sums", &[&a, &whole], &[&[1], &[1]], sums(&calls)).unwrap_err();
        assert!(error.to_string().contains("sums: input 1 is Int32: expected f32"), "{error}");
        assert_eq!((calls.load(Ordering::Relaxed), Arc::strong_count(&calls)), (0, 1));
    }

    #[test]
    fn a_panic_is_an_error_of_the_evaluation() {
        if !host_available() {
            return;
        }
        let a = Array::from_slice(&[1f32], &[1]);
        let made = host(c"panics", &[&a], &[&[1]], Box::new(|_, outputs| outputs[0][1] = 0.0)).unwrap();
        assert!(crate::wait(&made[0]).is_err());
        assert_eq!(values::<f32>(&a.add(&a).unwrap()).unwrap(), [2.0], "the stream goes on");
    }
}
