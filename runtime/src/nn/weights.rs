//! Reads tensors of a checkpoint into MLX: checks shapes, converts types, unpacks what should not stay packed.
//!
//! Every reader names the tensor, the shape found and the one that the configuration asks for.

use std::cell::Cell;
use std::rc::Rc;

use mlx_rs::{Array, Dtype, transforms};

use super::{Embedding, RmsNorm};
use crate::LoadError;
use crate::architecture::LoadOptions;
use crate::artifact::quant::{self, Scheme};
use crate::artifact::{ArtifactError, Checkpoint, NormEncoding, TensorInfo};
use crate::mlx::{self, Packing, QuantizedWeight};
use crate::quant::{Linear, Quantization, Weight};

/// Reads a checkpoint's tensors.
#[derive(Clone)]
pub struct Weights<'a> {
    checkpoint: &'a Checkpoint,
    quantization: Quantization,
    /// The type of activations.
    dtype: Dtype,
    /// Whether packed weights are unpacked at load.
    unpack: bool,
    norms: NormEncoding,
    nbytes: Rc<Cell<usize>>,
}

type Result<T> = std::result::Result<T, LoadError>;

impl<'a> Weights<'a> {
    /// Reads from `checkpoint` for the arithmetic that `options` ask for.
    ///
    /// # Errors
    /// When the configuration's quantization cannot be read.
    pub fn new(checkpoint: &'a Checkpoint, options: &LoadOptions) -> Result<Self> {
        let quantization = Quantization::from_config(checkpoint.config())?;
        let f32 = options.precision.is_f32();
        let dtype = if f32 { Dtype::Float32 } else { native_dtype(checkpoint) };
        Ok(Self { checkpoint, quantization, dtype, unpack: f32, norms: NormEncoding::Absolute, nbytes: Rc::default() })
    }

    /// The same for a part whose norms are stored in `encoding`. Bytes are counted together.
    #[must_use]
    pub fn with_norms(&self, encoding: NormEncoding) -> Self {
        Self { norms: encoding, ..self.clone() }
    }

    /// The type of activations.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Where the tensors come from.
    pub fn checkpoint(&self) -> &'a Checkpoint {
        self.checkpoint
    }

    /// Bytes of weights read so far, as held.
    pub fn nbytes(&self) -> usize {
        self.nbytes.get()
    }

    /// Whether the checkpoint has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.checkpoint.tensor(name).is_some()
    }

    /// A tensor as stored.
    fn raw(&self, name: &str) -> Result<Array> {
        let info = self.checkpoint.require(name)?;
        let shape: Vec<i32> = info.shape.iter().map(|&n| n as i32).collect();
        let (dtype, item_size) = match info.dtype {
            safetensors::Dtype::F32 => (Dtype::Float32, 4),
            safetensors::Dtype::BF16 => (Dtype::Bfloat16, 2),
            safetensors::Dtype::F16 => (Dtype::Float16, 2),
            safetensors::Dtype::U32 => (Dtype::Uint32, 4),
            safetensors::Dtype::U8 => (Dtype::Uint8, 1),
            _ => return Err(self.wrong_type(name, info, "F32, BF16, F16, or packed U32")),
        };
        Ok(mlx::from_bytes(self.checkpoint.bytes(name)?, &shape, dtype, item_size)?)
    }

    fn wrong_type(&self, name: &str, info: &TensorInfo, expected: &'static str) -> LoadError {
        let (tensor, file) = (name.into(), self.checkpoint.path(&info.file).into());
        LoadError::Artifact(ArtifactError::WrongDtype { tensor, file, found: info.dtype, expected })
    }

    fn keep(&self, array: Array) -> Result<Array> {
        // Evaluated at once: what it was made from can go, and a load stays within the size of the model.
        array.eval()?;
        self.nbytes.set(self.nbytes.get() + array.nbytes());
        Ok(array)
    }

    /// A floating tensor of `shape` in f32.
    pub fn f32(&self, name: &str, shape: &[usize]) -> Result<Array> {
        self.floating(name, shape, Dtype::Float32)
    }

    /// A floating tensor of `shape` in the type of activations.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Array> {
        self.floating(name, shape, self.dtype)
    }

    fn floating(&self, name: &str, shape: &[usize], dtype: Dtype) -> Result<Array> {
        let info = self.checkpoint.require_shape(name, shape, "config.json")?;
        if matches!(info.dtype, safetensors::Dtype::U32 | safetensors::Dtype::U8) {
            return Err(self.wrong_type(name, info, "F32, BF16 or F16"));
        }
        self.keep(self.raw(name)?.as_dtype(dtype)?)
    }

    /// A norm over `width` features, stored in the encoding of its part. The 1 of [`NormEncoding::Delta`] is added in f32.
    pub fn norm(&self, name: &str, width: usize, eps: f32) -> Result<RmsNorm> {
        match self.norms {
            NormEncoding::Absolute => self.norm_as_stored(name, width, eps),
            NormEncoding::Delta => {
                let applied = self.f32(name, &[width])?.add(Array::from_f32(1.0))?;
                Ok(RmsNorm::new(self.keep(applied)?, eps, self.dtype))
            }
        }
    }

    /// A norm over `width` features that is stored as it is applied, in whatever part.
    pub fn norm_as_stored(&self, name: &str, width: usize, eps: f32) -> Result<RmsNorm> {
        let stored = self.f32(name, &[width])?;
        Ok(RmsNorm::new(self.keep(stored)?, eps, self.dtype))
    }

    /// The weight `[out, in]` of `module`, or `[experts, out, in]`: packed where `module.scales` exists.
    pub fn weight(&self, module: &str, shape: &[usize]) -> Result<Weight> {
        let name = format!("{module}.weight");
        let Some(scheme) = self.quantization.resolve(self.checkpoint, module, shape, self.stated(&name))? else {
            return Ok(Weight::Dense(self.tensor(&name, shape)?));
        };
        let biases = format!("{module}.biases");
        let as_activations = |array: Array| -> Result<Array> {
            // Floating scales take part in the arithmetic; those of the floating-point modes are packed bytes.
            Ok(if array.dtype() == Dtype::Uint8 { array } else { array.as_dtype(self.dtype)? })
        };
        let weight = QuantizedWeight {
            packed: self.raw(&name)?,
            scales: as_activations(self.raw(&format!("{module}.scales"))?)?,
            biases: self.has(&biases).then(|| as_activations(self.raw(&biases)?)).transpose()?,
            packing: packing_of(scheme),
        };
        if self.unpack {
            return Ok(Weight::Dense(self.keep(mlx::dequantize(&weight, self.dtype)?)?));
        }
        let weight = Weight::Quantized(weight);
        transforms::eval(weight.arrays())?;
        self.nbytes.set(self.nbytes.get() + weight.nbytes());
        Ok(weight)
    }

    /// The weight of `module` in f32, whatever the arithmetic: for the few products that decide between experts.
    pub fn unpacked_f32(&self, module: &str, shape: &[usize]) -> Result<Array> {
        let name = format!("{module}.weight");
        if !self.has(&format!("{module}.scales")) {
            return self.f32(&name, shape);
        }
        let counted = self.nbytes.get();
        let unpacked = self.weight(module, shape)?.dense(Dtype::Float32)?;
        self.nbytes.set(counted);
        self.keep(unpacked)
    }

    /// Whether `quantization` in config.json speaks of this tensor: it describes the trunk's files, and a draft head in a
    /// file of its own may be packed otherwise.
    fn stated(&self, name: &str) -> bool {
        !self.checkpoint.in_sidecar(name)
    }

    /// The linear `module`, `[out, in]`, with its bias where `bias` says that the family has one.
    pub fn linear(&self, module: &str, out: usize, input: usize, bias: bool) -> Result<Linear> {
        let bias = bias.then(|| self.tensor(&format!("{module}.bias"), &[out])).transpose()?;
        Ok(Linear::new(self.weight(module, &[out, input])?, bias)?)
    }

    /// Token embeddings `[vocab, hidden]`.
    pub fn embedding(&self, module: &str, vocab: usize, hidden: usize) -> Result<Embedding> {
        Ok(Embedding::new(self.weight(module, &[vocab, hidden])?, self.dtype))
    }
}

/// A scheme in MLX's terms.
fn packing_of(scheme: Scheme) -> Packing {
    let mode = match scheme.mode() {
        quant::Mode::Affine => mlx::Mode::Affine,
        quant::Mode::Mxfp4 => mlx::Mode::Mxfp4,
        quant::Mode::Mxfp8 => mlx::Mode::Mxfp8,
        quant::Mode::Nvfp4 => mlx::Mode::Nvfp4,
    };
    Packing::new(mode, scheme.bits(), scheme.group_size())
}

/// The checkpoint's own floating type: the configuration's `dtype` or `torch_dtype`, else the type that most floating-point elements are
/// stored in, which decides what mlx-lm and transformers (`dtype="auto"`) compute in as well.
fn native_dtype(checkpoint: &Checkpoint) -> Dtype {
    let config = checkpoint.config();
    let text = config.text();
    let configured = ["dtype", "torch_dtype"].iter().find_map(|key| text.get(key).or_else(|| config.get(key)));
    match configured.and_then(|value| value.as_str()) {
        Some("float32") => Dtype::Float32,
        Some("float16") => Dtype::Float16,
        Some("bfloat16") => Dtype::Bfloat16,
        _ => stored_dtype(checkpoint),
    }
}

/// The type of most floating-point elements; bf16 where there are none.
fn stored_dtype(checkpoint: &Checkpoint) -> Dtype {
    let elements = |dtype| -> usize {
        let of_type = checkpoint.tensors().filter(|(_, info)| info.dtype == dtype);
        of_type.map(|(_, info)| info.shape.iter().product::<usize>()).sum()
    };
    use safetensors::Dtype::{BF16, F16, F32};
    let types = [(F32, Dtype::Float32), (F16, Dtype::Float16), (BF16, Dtype::Bfloat16)];
    // The last of equals: bf16 before the others.
    types.into_iter().max_by_key(|&(stored, _)| elements(stored)).map_or(Dtype::Bfloat16, |(_, dtype)| dtype)
}

#[cfg(test)]
mod tests {
    use safetensors::Dtype as Stored;
    use safetensors::tensor::TensorView;

    use super::*;

    #[test]
    fn activations_have_the_configured_type_or_that_of_most_elements() {
        type Row = (&'static str, &'static [(Stored, usize)], Dtype);
        let table: [Row; 7] = [
            ("", &[(Stored::F32, 8)], Dtype::Float32),
            ("", &[(Stored::F16, 8), (Stored::F32, 2)], Dtype::Float16),
            ("", &[(Stored::BF16, 8), (Stored::F32, 2), (Stored::U32, 90)], Dtype::Bfloat16),
            // A packed checkpoint: its scales.
            ("", &[(Stored::U32, 64), (Stored::F32, 4)], Dtype::Float32),
            (r#", "dtype": "bfloat16""#, &[(Stored::F32, 8)], Dtype::Bfloat16),
            (r#", "torch_dtype": "float32""#, &[(Stored::BF16, 8)], Dtype::Float32),
            (r#", "text_config": {"dtype": "float16"}"#, &[(Stored::BF16, 8)], Dtype::Float16),
        ];
        for (config, tensors, expected) in table {
            let bytes = [0; 512];
            let views = tensors.iter().enumerate().map(|(i, &(dtype, len))| {
                let size = len * dtype.bitsize() / 8;
                (format!("t{i}"), TensorView::new(dtype, vec![len], &bytes[..size]).unwrap())
            });
            let weights: &'static [u8] = safetensors::serialize(views, None).unwrap().leak();
            let config: &'static [u8] = format!(r#"{{"model_type": "toy"{config}}}"#).into_bytes().leak();
            let files = [("config.json", config), ("model.safetensors", weights)];
            let checkpoint = Checkpoint::embedded("m", &files).unwrap();
            assert_eq!(native_dtype(&checkpoint), expected, "{tensors:?} {:?}", checkpoint.config());
        }
    }
}
