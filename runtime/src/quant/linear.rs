//! Matrix products with dense or packed weights behind one type, and experts chosen row by row.

use mlx_rs::{Array, Dtype, ops};

use super::{NormedRows, PackedTiles};
use crate::Result;
use crate::kernels::unpack::unpack;
use crate::kernels::{dense, qmm};
use crate::mlx::{
    Device, Packing, QuantizedWeight, cuda_default, default_device, dequantize, gather_qmm, quantized_matmul,
    slice_axis,
};

/// A weight `[out, in]`, or `[experts, out, in]`.
#[derive(Debug, Clone)]
pub enum Weight {
    /// As is.
    Dense(Array),
    /// Packed, as stored.
    Quantized(QuantizedWeight),
    /// Packed, as the kernels for few rows read it.
    PackedTiles(PackedTiles),
}

impl Weight {
    /// The weight in `dtype`, unpacked.
    pub fn dense(&self, dtype: Dtype) -> Result<Array> {
        match self {
            Self::Dense(w) => Ok(w.as_dtype(dtype)?),
            Self::Quantized(w) => Ok(dequantize(w, dtype)?),
            Self::PackedTiles(w) => unpack(w, dtype),
        }
    }

    /// `x` `[.., n, in]` times the transposed weight, or the transposed weight of each of its matrices: `[.., n, out]`.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn product(&self, x: &Array) -> Result<Array> {
        match self {
            Self::Dense(w) => Ok(x.matmul(w.swap_axes(-1, -2)?)?),
            Self::Quantized(w) => stored_product(x, w),
            Self::PackedTiles(w) => product(x, w),
        }
    }

    /// Unpacked now where it would be for every product.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn multipliable(self, dtype: Dtype) -> Result<Self> {
        match &self {
            Self::Quantized(w) if !multiplies(w) => evaluated(dequantize(w, dtype)?).map(Self::Dense),
            _ => Ok(self),
        }
    }

    /// As kernels read it, where they do.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn repacked(self) -> Result<Self> {
        let tiled = if let Self::Quantized(w) = &self { qmm::repack(w)? } else { None };
        Ok(tiled.map_or(self, Self::PackedTiles))
    }

    /// As stored.
    fn unpack(&self) -> Result<Self> {
        if let Self::PackedTiles(w) = self { w.unpack().map(Self::Quantized) } else { Ok(self.clone()) }
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        match self {
            Self::Dense(w) => w.nbytes(),
            Self::Quantized(w) => w.packed.nbytes() + w.scales.nbytes() + w.biases.as_ref().map_or(0, Array::nbytes),
            Self::PackedTiles(w) => w.tiles.nbytes(),
        }
    }

    /// The handles, for evaluation.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        let (first, rest) = match self {
            Self::Dense(w) => (w, None),
            Self::Quantized(w) => (&w.packed, Some((&w.scales, w.biases.as_ref()))),
            Self::PackedTiles(w) => (&w.tiles, None),
        };
        let (scales, biases) = rest.unzip();
        std::iter::once(first).chain(scales).chain(biases.flatten())
    }

    /// Output width.
    pub fn out_features(&self) -> i32 {
        match self {
            Self::Dense(w) => w.dim(-2),
            Self::Quantized(w) => w.packed.dim(-2),
            Self::PackedTiles(w) => w.shape[0],
        }
    }

    /// Applies `f` to the arrays that correspond to each other in `parts`, which are dense or packed alike.
    fn combine(parts: &[&Weight], f: impl Fn(&[&Array]) -> Result<Array>) -> Result<Option<Weight>> {
        let plain = parts.iter().map(|part| part.unpack()).collect::<Result<Vec<_>>>()?;
        let parts: Vec<&Weight> = plain.iter().collect();
        let dense: Vec<&Array> =
            parts.iter().filter_map(|w| if let Self::Dense(w) = w { Some(w) } else { None }).collect();
        if !dense.is_empty() {
            let alike = dense.len() == parts.len() && dense.iter().all(|w| w.dtype() == dense[0].dtype());
            return alike.then(|| f(&dense).map(Weight::Dense)).transpose();
        }
        let packed: Vec<&QuantizedWeight> =
            parts.iter().filter_map(|w| if let Self::Quantized(w) = w { Some(w) } else { None }).collect();
        let Some(first) = packed.first() else { return Ok(None) };
        if packed.iter().any(|w| w.packing != first.packing || w.scales.dtype() != first.scales.dtype()) {
            return Ok(None);
        }
        let of = |part: fn(&QuantizedWeight) -> &Array| f(&packed.iter().map(|w| part(w)).collect::<Vec<_>>());
        let biases: Vec<&Array> = packed.iter().filter_map(|w| w.biases.as_ref()).collect();
        Ok(Some(Self::Quantized(QuantizedWeight {
            packed: of(|w| &w.packed)?,
            scales: of(|w| &w.scales)?,
            biases: if biases.is_empty() { None } else { Some(f(&biases)?) },
            packing: first.packing,
        })))
    }

    /// Joins weights along the output axis, when they are packed alike.
    fn concat(parts: &[&Weight]) -> Result<Option<Weight>> {
        Self::combine(parts, |arrays| evaluated(ops::concatenate(arrays, -2)?))
    }

    /// Stacks the experts' `[out, in]` to `[experts, out, in]`.
    ///
    /// # Errors
    /// When they are not packed alike.
    pub fn stack(parts: &[Weight]) -> Result<Weight> {
        let parts: Vec<&Weight> = parts.iter().collect();
        Self::combine(&parts, |arrays| evaluated(ops::stack(arrays, 0)?))?
            .ok_or_else(|| crate::Error::unsupported("experts of one layer are packed in different ways"))
    }

    /// Output rows `start..end` of each expert of `[experts, out, in]`.
    pub fn slice_rows(&self, start: i32, end: i32) -> Result<Weight> {
        let part = |arrays: &[&Array]| evaluated(slice_axis(arrays[0], 1, start, end)?.contiguous()?);
        Self::combine(&[self], part)?.ok_or_else(|| crate::Error::unsupported("a single weight is packed like itself"))
    }

    /// The output rows that `rows` `[n]` int32 names, in its order.
    pub fn take_rows(&self, rows: &Array) -> Result<Weight> {
        let taken = Self::combine(&[self], |arrays| evaluated(arrays[0].take_axis(rows, 0)?))?;
        taken.ok_or_else(|| crate::Error::unsupported("a single weight is packed like itself"))
    }
}

/// Evaluated at once, so that what it was made from can go.
fn evaluated(array: Array) -> Result<Array> {
    array.eval()?;
    Ok(array)
}

/// `y = x W^T + b`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Weight,
    bias: Option<Array>,
    /// The dense weight as `[tiles, out / tiles, in]`, for a single row.
    tiles: Option<Array>,
}

/// OpenBLAS multiplies a single row without packing the weight first only up to about this many weights; above, it is
/// two to three times slower (0.32 in a wheel, 384 x 1280: 443 us whole, 199 us in tiles; AVX-512, 4 threads).
const UNPACKED: i32 = 440_000;

/// A view of a dense weight `[out, in]` in tiles small enough for a single row, where that helps.
fn tiles(weight: &Weight) -> Result<Option<Array>> {
    let Weight::Dense(w) = weight else { return Ok(None) };
    if !cfg!(target_os = "linux") || default_device() != Device::Cpu || w.ndim() != 2 {
        return Ok(None);
    }
    let (out, input) = (w.dim(0), w.dim(1));
    let fits = |count: &i32| out % count == 0 && i64::from(out / count) * i64::from(input) <= i64::from(UNPACKED);
    // Tiles of a few rows cost more than they save.
    let Some(count) = (1..=out / 64).find(fits) else { return Ok(None) };
    if count == 1 { Ok(None) } else { Ok(w.reshape(&[count, out / count, input]).map(Some)?) }
}

impl Linear {
    /// From a weight `[out, in]` and perhaps a bias `[out]`.
    pub fn new(weight: Weight, bias: Option<Array>) -> Result<Self> {
        let weight = weight.repacked()?;
        let tiles = tiles(&weight)?;
        Ok(Self { weight, bias, tiles })
    }

    /// The outputs that `rows` `[n]` int32 names, in its order.
    pub fn take_rows(&self, rows: &Array) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| bias.take_axis(rows, 0)).transpose()?;
        Self::new(self.weight.take_rows(rows)?, bias)
    }

    /// `[n, in]` -> `[n, out]`.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        if let Some(tiles) = self.tiles.as_ref().filter(|_| x.dim(0) == 1) {
            let product =
                x.expand_dims(0)?.matmul(tiles.swap_axes(1, 2)?)?.reshape(&[1, self.weight.out_features()])?;
            return self.bias.as_ref().map_or(Ok(product.clone()), |bias| Ok(product.add(bias)?));
        }
        match (&self.weight, &self.bias) {
            (Weight::Dense(w), Some(bias)) => Ok(ops::addmm(bias, x, w.t(), None, None)?),
            (Weight::Dense(w), None) => dense::product(x, w).unwrap_or_else(|| Ok(x.matmul(w.t())?)),
            (Weight::Quantized(w), Some(bias)) => Ok(stored_product(x, w)?.add(bias)?),
            (Weight::Quantized(w), None) => stored_product(x, w),
            (Weight::PackedTiles(w), Some(bias)) => Ok(product(x, w)?.add(bias)?),
            (Weight::PackedTiles(w), None) => product(x, w),
        }
    }

    /// Normed rows `[n, in]` -> `[n, out]`.
    pub fn forward_normed(&self, x: &NormedRows) -> Result<Array> {
        if let ((rows, Some(divisor)), Weight::PackedTiles(w)) = (x.parts(), &self.weight)
            && let Some(product) = qmm::product(rows, Some(divisor), w, rows.dtype())
        {
            return match &self.bias {
                Some(bias) => Ok(product?.add(bias)?),
                None => product,
            };
        }
        self.forward(&x.rows()?)
    }

    /// The same in f32, whatever the type of `x`.
    pub fn forward_f32(&self, x: &Array) -> Result<Array> {
        if let Some(w) = self.tiled()
            && let Some(product) = qmm::product(x, None, w, Dtype::Float32)
        {
            return product;
        }
        Ok(self.forward(x)?.as_dtype(Dtype::Float32)?)
    }

    /// Its weight.
    pub fn weight(&self) -> &Weight {
        &self.weight
    }

    /// Its weight, where kernels read that and there is no bias.
    pub fn tiled(&self) -> Option<&PackedTiles> {
        match (&self.weight, &self.bias) {
            (Weight::PackedTiles(w), None) => Some(w),
            _ => None,
        }
    }

    /// Its weight as stored, where that is packed and there is no bias.
    ///
    /// # Errors
    /// When MLX fails.
    pub fn packed(&self) -> Result<Option<QuantizedWeight>> {
        match (&self.weight, &self.bias) {
            (Weight::Quantized(w), None) => Ok(Some(w.clone())),
            (Weight::PackedTiles(w), None) => w.unpack().map(Some),
            _ => Ok(None),
        }
    }
}

/// Steps of a weight's input that MLX's kernels for 16-bit rows fetch ahead on CUDA, of 64 numbers or a group each (MLX 0.32.2,
/// `qmm_sm80.cuh`): with fewer, they read past the weight.
const STEPS_AHEAD: usize = 3;

/// True where MLX's products, of any rows, have a kernel on CUDA that stays within the weight: those of eight rows and more need whole
/// steps, and those of 16-bit rows [`STEPS_AHEAD`] of them.
fn multiplies_on_cuda(packing: Packing, input: usize) -> bool {
    let step = packing.group_size().max(64);
    input.is_multiple_of(step) && input >= STEPS_AHEAD * step
}

/// True where products with `w` are MLX's; it is unpacked otherwise.
fn multiplies(w: &QuantizedWeight) -> bool {
    !cuda_default() || multiplies_on_cuda(w.packing, w.scales.dim(-1) as usize * w.packing.group_size())
}

/// Rows from which unpacking a weight once costs less than MLX's product with the packed one (H100, MLX 0.32.2: of 512 rows and
/// 9216 x 2560, 2.2 ms packed; unpacked a tenth of it).
const UNPACKED_ROWS: i32 = 32;

/// `x w^T`: by our kernel where it serves.
pub(crate) fn product(x: &Array, w: &PackedTiles) -> Result<Array> {
    let few = qmm::product(x, None, w, x.dtype());
    few.unwrap_or_else(|| Ok(x.matmul(unpack(w, x.dtype())?.t())?))
}

/// `x w^T` over the last two axes, by MLX.
fn stored_product(x: &Array, w: &QuantizedWeight) -> Result<Array> {
    if multiplies(w) && (x.dim(-2) < UNPACKED_ROWS || !cuda_default()) {
        return Ok(quantized_matmul(x, w)?);
    }
    Ok(x.matmul(dequantize(w, x.dtype())?.swap_axes(-1, -2)?)?)
}

/// Several linears of one input, run as one product where their weights are packed alike.
#[derive(Debug, Clone)]
pub struct Fused {
    products: Vec<Linear>,
    /// Output widths of the parts, when one product serves them all.
    widths: Option<Vec<i32>>,
}

impl Fused {
    /// Joins `parts`.
    pub fn new(parts: Vec<Linear>) -> Result<Self> {
        let weights: Vec<&Weight> = parts.iter().map(Linear::weight).collect();
        let biases: Vec<&Array> = parts.iter().filter_map(|part| part.bias.as_ref()).collect();
        let joinable = parts.len() > 1 && (biases.is_empty() || biases.len() == parts.len());
        let joined = if joinable { Weight::concat(&weights)? } else { None };
        let Some(weight) = joined else { return Ok(Self { products: parts, widths: None }) };
        let bias = if biases.is_empty() { None } else { Some(ops::concatenate(&biases, 0)?) };
        let widths = weights.iter().map(|w| w.out_features()).collect();
        Ok(Self { products: vec![Linear::new(weight, bias)?], widths: Some(widths) })
    }

    /// Whether kernels read the weights of all parts.
    pub fn is_tiled(&self) -> bool {
        self.products.iter().all(|product| matches!(product.weight, Weight::PackedTiles(_)))
    }

    /// Two parts of one width as one linear, the first above the second.
    pub fn halves(&self) -> Option<&Linear> {
        match (self.widths.as_deref(), &self.products[..]) {
            (Some([a, b]), [product]) if a == b => Some(product),
            _ => None,
        }
    }

    /// `silu(a) * b` of two parts' outputs a and b, where one kernel does it.
    pub fn swiglu(&self, x: &NormedRows) -> Option<Result<Array>> {
        let (rows, divisor) = x.parts();
        qmm::swiglu(rows, divisor, self.halves()?.tiled()?)
    }

    /// `[n, in]` -> the parts' outputs side by side, where one product makes them.
    pub fn joined(&self, x: &NormedRows) -> Option<Result<Array>> {
        self.widths.as_ref().map(|_| self.products[0].forward_normed(x))
    }

    /// `[n, in]` -> the parts' outputs, in order.
    pub fn forward(&self, x: &NormedRows) -> Result<Vec<Array>> {
        match self.joined(x) {
            Some(joined) => self.split(&joined?),
            None => self.products.iter().map(|part| part.forward_normed(x)).collect(),
        }
    }

    /// What [`Fused::joined`] made -> the parts' outputs, in order.
    pub fn split(&self, joined: &Array) -> Result<Vec<Array>> {
        let mut start = 0;
        let widths = self.widths.as_deref().unwrap_or_default();
        widths
            .iter()
            .map(|width| {
                let part = slice_axis(joined, 1, start, start + width);
                start += width;
                Ok(part?)
            })
            .collect()
    }
}

/// Expert weights `[experts, out, in]`, of which each row uses a few.
#[derive(Debug, Clone)]
pub struct Experts(pub Weight);

impl Experts {
    /// The weights, where they are packed.
    pub fn packed(&self) -> Option<&QuantizedWeight> {
        if let Weight::Quantized(w) = &self.0 { Some(w) } else { None }
    }

    /// `x` `[n, 1 or k, 1, in]`, `chosen` `[n, k]` uint32 -> `[n, k, 1, out]`.
    pub fn forward(&self, x: &Array, chosen: &Array) -> Result<Array> {
        match &self.0 {
            // MLX gathers in f32 only on a CPU.
            Weight::Dense(w) if w.dtype() != Dtype::Float32 && default_device() == Device::Cpu => {
                let (x32, w32) = (x.as_dtype(Dtype::Float32)?, w.as_dtype(Dtype::Float32)?);
                Ok(ops::gather_mm(x32, w32.swap_axes(-1, -2)?, None, chosen, None)?.as_dtype(x.dtype())?)
            }
            Weight::Dense(w) => Ok(ops::gather_mm(x, w.swap_axes(-1, -2)?, None, chosen, None)?),
            Weight::Quantized(w) if multiplies(w) => Ok(gather_qmm(x, w, chosen)?),
            Weight::Quantized(w) => {
                Ok(ops::gather_mm(x, dequantize(w, x.dtype())?.swap_axes(-1, -2)?, None, chosen, None)?)
            }
            Weight::PackedTiles(_) => Err(crate::Error::unsupported("experts in records of one matrix")),
        }
    }
}

#[cfg(test)]
mod tests {
    use mlx_rs::random;

    use super::*;
    use crate::kernels::relative_difference;
    use crate::mlx::Mode;

    #[test]
    fn products_that_cuda_has() {
        for (bits, group, input, has) in [
            (4, 64, 128, false), // MLA's queries: two steps
            (4, 64, 192, true),
            (8, 64, 64, false),
            (4, 128, 256, false),
            (4, 128, 384, true),
            (4, 128, 448, false), // half a step over
            (4, 32, 32, false),
            (8, 32, 160, false),
            (8, 32, 192, true),
            (4, 64, 7168, true),
        ] {
            let packing = Packing::new(Mode::Affine, bits, group);
            assert_eq!(multiplies_on_cuda(packing, input), has, "{bits} bits, groups of {group}, {input} wide");
        }
    }

    /// A random stack `[matrices, out, in]` in 4 bits, with scales of `dtype`.
    fn packed(matrices: i32, out: i32, input: i32, group: usize, dtype: Dtype) -> QuantizedWeight {
        let random =
            |shape: &[i32], seed: u64| random::randint::<_, i32>(0, 1 << 16, shape, &random::key(seed).unwrap());
        let halves = random(&[matrices, out, input / 4], 1).unwrap().as_dtype(Dtype::Uint16).unwrap();
        let float = |seed: u64| {
            let numbers = random(&[matrices, out, input / group as i32], seed).unwrap().as_dtype(Dtype::Float32);
            numbers.unwrap().multiply(Array::from_f32(1e-6)).unwrap().as_dtype(dtype).unwrap()
        };
        QuantizedWeight {
            packed: halves.view_dtype(Dtype::Uint32).unwrap(),
            scales: float(2),
            biases: Some(float(3)),
            packing: Packing::new(Mode::Affine, 4, group),
        }
    }

    /// Shapes on both sides of what MLX's kernels take, for a row, for a few and for many; the product of unpacked weights is the reference.
    #[test]
    fn products_of_packed_weights_are_those_of_unpacked_ones() {
        let dtypes: &[Dtype] = if cuda_default() { &[Dtype::Float32, Dtype::Bfloat16] } else { &[Dtype::Float32] };
        for (&dtype, (group, input)) in dtypes.iter().flat_map(|dtype| {
            [(32, 32), (32, 96), (64, 64), (64, 128), (64, 256), (128, 128), (128, 384)].map(|w| (dtype, w))
        }) {
            let stack = packed(4, 128, input, group, dtype);
            let dense = dequantize(&stack, Dtype::Float32).unwrap();
            for rows in [1, 3, 9, 40] {
                let x = random::normal::<f32>(&[4, rows, input], None, None, &random::key(4).unwrap()).unwrap();
                let x = x.as_dtype(dtype).unwrap();
                let expected = x.as_dtype(Dtype::Float32).unwrap().matmul(dense.swap_axes(1, 2).unwrap()).unwrap();
                let found = Weight::Quantized(stack.clone()).product(&x).unwrap();
                let allowed = if dtype == Dtype::Float32 { 1e-5 } else { 1e-2 };
                let apart = relative_difference(&found, &expected).unwrap();
                assert!(apart <= allowed, "{dtype:?}, {rows} rows, groups of {group}, {input} wide: {apart}");
                // Each row by one expert: those of a stack in turn.
                let chosen = Array::from_slice(&(0..rows as u32).map(|row| row % 4).collect::<Vec<_>>(), &[rows, 1]);
                let one = slice_axis(&x, 0, 0, 1).unwrap().reshape(&[rows, 1, 1, input]).unwrap();
                let found = Experts(Weight::Quantized(stack.clone())).forward(&one, &chosen).unwrap();
                let weights = dense.take_axis(chosen.reshape(&[-1]).unwrap(), 0).unwrap();
                let one = one.as_dtype(Dtype::Float32).unwrap().reshape(&[rows, 1, input]).unwrap();
                let expected =
                    one.matmul(weights.swap_axes(1, 2).unwrap()).unwrap().reshape(&[rows, 1, 1, 128]).unwrap();
                let apart = relative_difference(&found, &expected).unwrap();
                assert!(apart <= allowed, "experts, {dtype:?}, {rows} rows, groups of {group}, {input} wide: {apart}");
            }
        }
    }
}
