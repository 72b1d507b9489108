//! The cache folder: where it is, who may write, and how a file gets its final name only when it
//! is whole.

use std::{
    env,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use crate::failure::{CACHE_HINT, Failure, IoContext, Result};

/// The user's cache folder for mtplx. Anything in it under its final name is complete: folders and
/// files are made in `tmp/` and renamed. Removing the folder is always safe.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `MTPLX_CACHE`, else `XDG_CACHE_HOME/mtplx`, else `~/.cache/mtplx`.
    pub fn locate() -> Result<Self> {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = variable("MTPLX_CACHE")
            // The XDG specification says to ignore relative paths.
            .or_else(|| variable("XDG_CACHE_HOME").filter(|path| path.is_absolute()).map(|path| path.join("mtplx")))
            .or_else(|| variable("HOME").map(|home| home.join(".cache/mtplx")))
            .ok_or_else(|| Failure::new("no cache folder: HOME is not set").hint("set MTPLX_CACHE=DIR"))?;
        let root = std::path::absolute(&root).context("resolve", &root)?;
        if root.to_str().is_none() {
            // It is written into a TOML file.
            return Err(Failure::new(format!("the cache folder {} is not valid UTF-8", root.display()))
                .hint("set MTPLX_CACHE=DIR to another folder"));
        }
        Ok(Cache { root })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Takes the cache for this process, waiting for another set-up to end. Leftovers of set-ups
    /// that were interrupted are removed.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.root.join("lock");
        let opened = fs::create_dir_all(&self.root).and_then(|()| File::create(&path));
        let file =
            opened.context("make the cache folder", &self.root).map_err(|failure| failure.or_hint(CACHE_HINT))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!("waiting for another set-up to finish (it holds {})", path.display());
                file.lock().context("lock", &path)?;
            }
            Err(TryLockError::Error(error)) => return Err(Failure::io("lock", &path, &error)),
        }
        let tmp = self.root.join("tmp");
        if tmp.exists() {
            fs::remove_dir_all(&tmp).context("remove", &tmp)?;
        }
        fs::create_dir(&tmp).context("create", &tmp)?;
        Ok(Lock { tmp, _file: file })
    }
}

/// The right to write to the cache, and a scratch folder on the same file system.
pub struct Lock {
    tmp: PathBuf,
    _file: File,
}

impl Lock {
    /// A path in the scratch folder, free for use.
    pub fn scratch(&self, name: &str) -> Result<PathBuf> {
        let path = self.tmp.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failure::io("remove", &path, &error)),
            _ => Ok(path),
        }
    }

    /// Gives what was made in the scratch folder its final name.
    pub fn publish(&self, made: &Path, place: &Path) -> Result {
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).context("create", parent)?;
        }
        fs::rename(made, place).context("write", place)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The next set-up tries again.
        let _ = fs::remove_dir_all(&self.tmp);
    }
}

/// A key for a set of inputs: FNV-1a over each with its length. It tells builds apart; it is no
/// defence against forgery (pip's sha256 is).
pub fn key<'a>(inputs: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for input in inputs {
        for byte in input.len().to_le_bytes().iter().chain(input.as_bytes()) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_depends_on_every_input_and_on_their_borders() {
        let base = key(["g++ 12", "mlx-sys 0.7.0"]);
        assert_eq!(base, key(["g++ 12", "mlx-sys 0.7.0"]));
        assert_ne!(base, key(["g++ 13", "mlx-sys 0.7.0"]));
        assert_ne!(base, key(["g++ 12", "mlx-sys 0.7.1"]));
        assert_ne!(key(["ab", "c"]), key(["a", "bc"]));
        assert_ne!(key(["a"]), key(["a", ""]));
    }

    #[test]
    fn what_is_not_published_does_not_survive() {
        let root = env::temp_dir().join(format!("xtask-cache-{}", std::process::id()));
        let cache = Cache { root: root.clone() };
        let place = root.join("things/one");
        {
            let lock = cache.lock().unwrap();
            fs::write(lock.scratch("half").unwrap(), "half").unwrap();
            let whole = lock.scratch("whole").unwrap();
            fs::write(&whole, "whole").unwrap();
            lock.publish(&whole, &place).unwrap();
        }
        assert_eq!(fs::read_to_string(&place).unwrap(), "whole");
        assert!(!root.join("tmp").exists());
        fs::remove_dir_all(&root).unwrap();
    }
}
