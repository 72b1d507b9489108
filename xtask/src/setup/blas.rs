//! Which BLAS multiplies matrices on the CPU.
//!
//! The MLX wheel brings the reference BLAS, 5 to 24 times slower than OpenBLAS on the shapes of a
//! language model. libmlx.so imports three CBLAS functions by name, so whichever library defines
//! them earliest in the loader's order serves them (see `link.rs`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{cache::Lock, compiler::Compiler};
use crate::{failure::Result, process};

/// An OpenBLAS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blas {
    /// The machine's own: the library file that the loader picked.
    System(PathBuf),
    /// The `scipy-openblas32` wheel.
    Wheel,
}

const WHEEL: &str = "wheel";

impl Blas {
    /// The machine's OpenBLAS if one links, runs and gets a product right.
    pub fn detect(probe: &Path, compiler: &Compiler, lock: &Lock) -> Result<Self> {
        let program = lock.scratch("blas-probe")?;
        let mut link = compiler.command();
        link.arg(probe).arg("-o").arg(&program).args(["-lopenblas", "-ldl"]);
        let usable = process::capture(&mut link).and_then(|_| process::capture(&mut Command::new(&program)));
        let library = usable.ok().and_then(|path| fs::canonicalize(path.trim()).ok());
        Ok(library.map_or(Blas::Wheel, Blas::System))
    }

    /// Reads back what [`Blas::record`] wrote, unless that library is gone.
    pub fn recorded(path: &Path) -> Option<Self> {
        match fs::read_to_string(path).ok()?.trim() {
            WHEEL => Some(Blas::Wheel),
            library => Some(PathBuf::from(library)).filter(|library| library.is_file()).map(Blas::System),
        }
    }

    /// One line for [`Blas::recorded`].
    pub fn record(&self) -> String {
        match self {
            Blas::System(library) => format!("{}\n", library.display()),
            Blas::Wheel => format!("{WHEEL}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_survives_a_round_trip_until_its_library_is_gone() {
        let folder = std::env::temp_dir().join(format!("xtask-blas-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (record, library) = (folder.join("blas"), folder.join("libopenblas.so.0"));
        fs::write(&library, "").unwrap();
        for blas in [Blas::Wheel, Blas::System(library.clone())] {
            fs::write(&record, blas.record()).unwrap();
            assert_eq!(Blas::recorded(&record), Some(blas));
        }
        fs::remove_file(&library).unwrap();
        assert_eq!(Blas::recorded(&record), None);
        fs::remove_dir_all(&folder).unwrap();
    }
}
