//! Operations that mlx-rs does not wrap, or wraps for one mode only.

use std::hint;
use std::time::{Duration, Instant};

use mlx_rs::error::Exception;
use mlx_rs::{Array, ArrayElement, Dtype, Stream};

use super::kernel::is_sent;
use crate::Result;
use crate::packed::QuantizedWeight;

/// The handle that mlx-c reads as "not given".
fn absent() -> mlx_sys::mlx_array {
    // SAFETY: makes an empty handle, which holds nothing to free.
    unsafe { mlx_sys::mlx_array_new() }
}

/// Has a CUDA device begin on `arrays` while what depends on them is still being made; elsewhere everything waits for the read-back.
///
/// # Errors
/// When MLX fails.
pub fn async_eval<'a>(arrays: impl IntoIterator<Item = &'a Array>) -> Result<()> {
    if !super::cuda_default() {
        return Ok(());
    }
    let mut waiting = arrays.into_iter().filter(|array| !is_sent(array)).peekable();
    if waiting.peek().is_none() { Ok(()) } else { mlx_rs::transforms::async_eval(waiting) }
}

/// How long a thread asks for an array before it sleeps until it is there.
const PATIENCE: Duration = Duration::from_millis(20);

/// Computes `array`. Where a CUDA device does, by asking again and again: a thread that sleeps is woken up late, for a decoding step.
///
/// # Errors
/// When MLX fails.
pub fn wait(array: &Array) -> Result<()> {
    async_eval([array])?;
    let (started, mut there) = (Instant::now(), !super::cuda_default());
    while !there && started.elapsed() < PATIENCE {
        // SAFETY: a live array, and a place for the answer. Of an array that was begun on, this asks without waiting.
        let status = unsafe { mlx_sys::_mlx_array_is_available(&mut there, array.as_ptr()) };
        if status != 0 {
            break;
        }
        hint::spin_loop();
    }
    array.eval()
}

/// Runs one mlx-c operation.
fn call(name: &str, f: impl FnOnce(*mut mlx_sys::mlx_array, mlx_sys::mlx_stream) -> i32) -> Result<Array> {
    super::backend::install_error_handler();
    let stream = Stream::thread_local_or_default();
    let mut result = absent();
    let status = f(&mut result, stream.as_ptr());
    if status == 0 {
        // SAFETY: on success the operation stored an array in `result` and handed it to us.
        Ok(unsafe { Array::from_ptr(result) })
    } else {
        Err(Exception::custom(format!("MLX refused {name}")))
    }
}

/// An array of `shape` from little-endian, row-major `bytes`, which are copied.
///
/// # Errors
/// When the length does not fit shape and type.
pub fn from_bytes(bytes: &[u8], shape: &[i32], dtype: Dtype, item_size: usize) -> Result<Array> {
    let count = shape.iter().try_fold(1usize, |count, &n| usize::try_from(n).ok().and_then(|n| count.checked_mul(n)));
    if count.and_then(|count| count.checked_mul(item_size)) != Some(bytes.len()) {
        return Err(Exception::custom(format!("{} bytes do not fill {shape:?} of {item_size} bytes", bytes.len())));
    }
    // SAFETY: MLX reads exactly shape x item size bytes, which is the length just checked, and copies them.
    Ok(unsafe { Array::from_raw_data(bytes.as_ptr().cast(), shape, dtype) })
}

/// Starts, stops and strides of everything in `a` but `start..stop` along `axis`.
fn range(a: &Array, axis: usize, start: i32, stop: i32) -> [Vec<i32>; 3] {
    let rank = a.ndim();
    let [mut starts, mut stops, strides] = [vec![0; rank], a.shape().to_vec(), vec![1; rank]];
    (starts[axis], stops[axis]) = (start, stop);
    [starts, stops, strides]
}

/// `a[.., start..stop, ..]` along `axis`.
pub fn slice_axis(a: &Array, axis: usize, start: i32, stop: i32) -> Result<Array> {
    let rank = a.ndim();
    if start == 0 && a.shape().get(axis) == Some(&stop) {
        return Ok(a.clone());
    }
    let [starts, stops, strides] = range(a, axis, start, stop);
    // SAFETY: the three lists live through the call and have the lengths given.
    call("slice", |result, stream| unsafe {
        mlx_sys::mlx_slice(
            result,
            a.as_ptr(),
            starts.as_ptr(),
            rank,
            stops.as_ptr(),
            rank,
            strides.as_ptr(),
            rank,
            stream,
        )
    })
}

/// `buffer` with `update` written at `start` along `axis`; in place when nothing else holds or still reads the buffer.
pub fn update_axis(buffer: &Array, update: &Array, axis: usize, start: i32) -> Result<Array> {
    let rank = buffer.ndim();
    let [starts, stops, strides] = range(buffer, axis, start, start + update.dim(axis as i32));
    // SAFETY: the three lists live through the call and have the lengths given.
    call("slice_update", |result, stream| unsafe {
        mlx_sys::mlx_slice_update(
            result,
            buffer.as_ptr(),
            update.as_ptr(),
            starts.as_ptr(),
            rank,
            stops.as_ptr(),
            rank,
            strides.as_ptr(),
            rank,
            stream,
        )
    })
}

/// Values of `a` on the host, row-major, cast to `T`.
///
/// # Errors
/// When MLX fails.
pub fn values<T: ArrayElement + Clone>(a: &Array) -> Result<Vec<T>> {
    // A round's outcomes are contiguous: they are read without one more operation.
    let read = a.to_vec_cast::<T>().or_else(|_| a.contiguous()?.to_vec_cast::<T>());
    read.map_err(|error| Exception::custom(error.to_string()))
}

/// `x sigmoid(x)`. Not mlx-rs's own, which is compiled: on CPU that would call a C++ compiler at run time.
///
/// # Errors
/// When MLX fails.
pub fn silu(x: &Array) -> Result<Array> {
    mlx_rs::ops::sigmoid(x)?.multiply(x)
}

/// True for each row of `x` `[.., n, width]` whose numbers are all finite: `[.., n, 1]` bool.
pub fn finite_rows(x: &Array) -> Result<Array> {
    // Zero times anything else is not a number, and a sum keeps that.
    let zero = Array::from_f32(0.0).as_dtype(x.dtype())?;
    x.multiply(&zero)?.sum_axis(-1, true)?.eq(&zero)
}

fn optional(value: usize) -> mlx_sys::mlx_optional_int {
    mlx_sys::mlx_optional_int { value: value as i32, has_value: true }
}

/// The weight in `dtype`: `[.., out, in]`.
pub fn dequantize(w: &QuantizedWeight, dtype: Dtype) -> Result<Array> {
    let dtype = mlx_sys::mlx_optional_dtype { value: dtype.into(), has_value: true };
    // SAFETY: every handle is live; the mode is a NUL-terminated constant.
    call("dequantize", |result, stream| unsafe {
        mlx_sys::mlx_dequantize(
            result,
            w.packed.as_ptr(),
            w.scales.as_ptr(),
            w.biases.as_ref().map_or_else(absent, Array::as_ptr),
            optional(w.packing.group_size()),
            optional(w.packing.bits()),
            w.packing.mode().name().as_ptr(),
            absent(),
            dtype,
            stream,
        )
    })
}

/// `x @ w^T`: `[n, in]` -> `[n, out]`.
pub fn quantized_matmul(x: &Array, w: &QuantizedWeight) -> Result<Array> {
    // SAFETY: every handle is live; the mode is a NUL-terminated constant.
    call("quantized_matmul", |result, stream| unsafe {
        mlx_sys::mlx_quantized_matmul(
            result,
            x.as_ptr(),
            w.packed.as_ptr(),
            w.scales.as_ptr(),
            w.biases.as_ref().map_or_else(absent, Array::as_ptr),
            true,
            optional(w.packing.group_size()),
            optional(w.packing.bits()),
            w.packing.mode().name().as_ptr(),
            stream,
        )
    })
}

/// For each row the expert that `experts` names: `x` `[n, 1, 1 or k, in]`, `experts` `[n, k]` -> `[n, k, 1, out]`.
pub fn gather_qmm(x: &Array, w: &QuantizedWeight, experts: &Array) -> Result<Array> {
    // SAFETY: every handle is live; the mode is a NUL-terminated constant.
    call("gather_qmm", |result, stream| unsafe {
        mlx_sys::mlx_gather_qmm(
            result,
            x.as_ptr(),
            w.packed.as_ptr(),
            w.scales.as_ptr(),
            w.biases.as_ref().map_or_else(absent, Array::as_ptr),
            absent(),
            experts.as_ptr(),
            true,
            optional(w.packing.group_size()),
            optional(w.packing.bits()),
            w.packing.mode().name().as_ptr(),
            false,
            stream,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_in_the_order_of_the_shape_and_not_of_the_memory() {
        let a = Array::from_slice(&[1_i32, 2, 3, 4, 5, 6], &[2, 3]);
        assert_eq!(values::<f32>(&a.transpose().unwrap()).unwrap(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(values::<i32>(&slice_axis(&a, 1, 0, 2).unwrap()).unwrap(), [1, 2, 4, 5]);
        assert_eq!(values::<u32>(&a).unwrap(), [1, 2, 3, 4, 5, 6]);
    }
}
