//! Numbers of a checkpoint's tensors that are not finite.

use std::collections::BTreeSet;

use safetensors::Dtype;

use crate::LoadError;
use crate::architecture::MtpArchitecture;
use crate::artifact::expected::Expected;
use crate::artifact::{ArtifactError, Checkpoint, shown};

/// Advice on tensors that are not finite.
const HINT: &str =
    "the weights are damaged, or were overflowed when they were converted: download or convert them again";

/// Refuses a checkpoint that has a number that is not finite in any tensor that `architecture` loads, scales and biases of packed
/// weights among them.
///
/// # Errors
/// Names the first such tensor in its file, the number and its place, and how many more there are; or the configuration cannot be read.
pub fn require_finite(checkpoint: &Checkpoint, architecture: &dyn MtpArchitecture) -> Result<(), LoadError> {
    let mut names = BTreeSet::new();
    let plan = architecture.plan(checkpoint)?;
    plan.tensors(checkpoint, &mut |_, expected: Expected| names.extend(expected.names()));
    let mut faults = checkpoint.tensors().filter(|(name, _)| names.contains(*name)).filter_map(|(name, info)| {
        let (place, number) = first_fault(checkpoint.bytes(name).ok()?, info.dtype)?;
        Some((info, format!("{}: number {place} of {:?} is {number}", shown(name), info.shape)))
    });
    let Some((info, first)) = faults.next() else { return Ok(()) };
    let more = match faults.count() {
        0 => String::new(),
        1 => "; so is one in another tensor".to_owned(),
        more => format!("; so are some in {more} other tensors"),
    };
    let what = format!("{first}, which is not finite{more}");
    Err(ArtifactError::damaged_with(checkpoint.path(&info.file), what, HINT).into())
}

/// The place of the first number that is not finite, and the number; `None` also for types whose numbers are all finite.
fn first_fault(bytes: &[u8], dtype: Dtype) -> Option<(usize, f32)> {
    // All ones in the exponent.
    let half =
        |bytes: &[u8], ones: u16| bytes.as_chunks().0.iter().position(|&two| u16::from_le_bytes(two) & ones == ones);
    let place = match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().position(|&four| !f32::from_le_bytes(four).is_finite()),
        Dtype::F16 => half(bytes, 0x7c00),
        Dtype::BF16 => half(bytes, 0x7f80),
        _ => None,
    }?;
    let size = if dtype == Dtype::F32 { 4 } else { 2 };
    let number = crate::artifact::to_f32(bytes.get(place * size..(place + 1) * size)?, dtype)?;
    Some((place, *number.first()?))
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    #[test]
    fn each_type_s_faults_are_found() {
        let (largest, smallest) = (f32::MAX.to_le_bytes(), f32::MIN_POSITIVE.to_le_bytes());
        let fine = [largest, smallest, (-0.0f32).to_le_bytes()].concat();
        assert_eq!(first_fault(&fine, Dtype::F32), None);
        assert_eq!(first_fault(&[&f16::MAX.to_le_bytes()[..], &f16::MIN.to_le_bytes()].concat(), Dtype::F16), None);
        assert_eq!(first_fault(&[&bf16::MAX.to_le_bytes()[..], &bf16::MIN.to_le_bytes()].concat(), Dtype::BF16), None);
        assert_eq!(first_fault(&[0xff; 8], Dtype::U32), None);
        for fault in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let found = [
                first_fault(&[&fine[..], &fault.to_le_bytes()].concat(), Dtype::F32),
                first_fault(&[&[0; 6][..], &f16::from_f32(fault).to_le_bytes()].concat(), Dtype::F16),
                first_fault(&[&[0; 6][..], &bf16::from_f32(fault).to_le_bytes()].concat(), Dtype::BF16),
            ];
            for found in found {
                let (place, number) = found.expect("a fault");
                assert!(
                    place == 3 && (number == fault || number.is_nan() && fault.is_nan()),
                    "{fault}: {place}, {number}"
                );
            }
        }
    }
}
