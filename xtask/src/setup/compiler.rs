//! The machine's C++ compiler.

use std::{env, path::Path, path::PathBuf, process::Command};

use crate::{
    failure::{Failure, Result},
    process,
};

/// How every C++ file here is compiled. mlx-c is a thin layer: optimising it harder gains nothing.
pub const FLAGS: &[&str] = &["-std=c++20", "-O1", "-fPIC", "-w"];

const INSTALL: &str = "sudo apt-get install g++ (Fedora: sudo dnf install gcc-c++; Arch: sudo pacman -S gcc)";

/// What to say when it cannot compile what it should.
pub const TOO_OLD: &str = "mlx-c needs C++20: g++ 11 or newer, or clang 15 or newer (CXX=… picks another compiler)";

/// A C++ compiler that answers.
#[derive(Debug)]
pub struct Compiler {
    words: Vec<String>,
    /// What it is, for the cache key: its command and the first line of `--version`.
    pub identity: String,
}

impl Compiler {
    /// `$CXX`, else the usual names.
    pub fn find() -> Result<Self> {
        let chosen = env::var("CXX").ok().filter(|words| !words.trim().is_empty());
        let candidates: Vec<&str> = match &chosen {
            Some(words) => vec![words],
            None => vec!["c++", "g++", "clang++"],
        };
        for candidate in &candidates {
            // CXX="ccache g++" is a custom of old.
            let words: Vec<String> = candidate.split_whitespace().map(str::to_owned).collect();
            let compiler = Compiler { words, identity: String::new() };
            if let Ok(version) = process::capture(compiler.command().arg("--version")) {
                let version = version.lines().next().unwrap_or_default();
                return Ok(Compiler { identity: format!("{candidate}: {version}"), ..compiler });
            }
        }
        let failure = Failure::new("no C++ compiler was found; it compiles mlx-c, the layer between Rust and MLX");
        Err(failure.detail(format!("tried {}", candidates.join(", "))).hint(match chosen {
            Some(_) => "CXX is set to something that does not run: unset it, or name a compiler".to_owned(),
            None => INSTALL.to_owned(),
        }))
    }

    /// A command to add arguments to.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        // Its messages are read, and shown, in English.
        command.args(&self.words[1..]).env("LC_ALL", "C");
        command
    }

    /// Compiles one file into an object.
    pub fn compile(&self, source: &Path, object: &Path, more: impl FnOnce(&mut Command)) -> Result {
        let mut command = self.command();
        command.args(FLAGS);
        more(&mut command);
        command.arg("-c").arg(source).arg("-o").arg(object);
        let output = process::quiet(&mut command)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let hint = if said.contains("No space left") { crate::failure::DISK_HINT } else { TOO_OLD };
        let errors: Vec<&str> = said.lines().filter(|line| line.contains("error")).take(6).collect();
        let said = if errors.is_empty() { process::last_lines(&output.stderr, 6) } else { errors.join("\n") };
        let name = source.file_name().unwrap_or_default().display();
        Err(Failure::new(format!("{name} does not compile with {}", self.identity)).detail(said).hint(hint))
    }

    /// The folders that `#include <…>` searches in C, for a libclang that came without any.
    pub fn include_folders(&self) -> Result<Vec<PathBuf>> {
        let mut probe = self.command();
        probe.args(["-E", "-v", "-x", "c", "/dev/null"]);
        let output = process::quiet(&mut probe)?;
        let folders = listed_folders(&String::from_utf8_lossy(&output.stderr));
        if folders.is_empty() {
            let said = process::last_lines(&output.stderr, 6);
            return Err(Failure::new("the compiler does not say where its headers are").detail(said).hint(INSTALL));
        }
        Ok(folders)
    }
}

fn listed_folders(said: &str) -> Vec<PathBuf> {
    said.lines()
        .skip_while(|line| !line.starts_with("#include <...>"))
        .skip(1)
        .take_while(|line| !line.starts_with("End of search list"))
        .map(|line| PathBuf::from(line.trim()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_list_is_read() {
        let said = "junk\n#include \"...\" search starts here:\n#include <...> search starts here:\n \
                    /usr/lib/gcc/x/12/include\n /usr/include\nEnd of search list.\n/not/this\n";
        assert_eq!(listed_folders(said), ["/usr/lib/gcc/x/12/include", "/usr/include"].map(PathBuf::from));
        assert!(listed_folders("clang: error").is_empty());
    }
}
