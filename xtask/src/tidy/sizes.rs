//! How much a clone costs.

use super::file::{Complaint, File, is_fixture};

/// The largest file that needs no exemption.
pub const LARGEST: u64 = 1_000_000;

const FIXTURES: u64 = 20_000_000;
const BUILTIN: u64 = 16 * 1024 * 1024;
const BUILTIN_FOLDER: &str = "models/builtin/";

pub fn check(files: &[File]) -> Vec<Complaint> {
    let is_builtin = |file: &File| file.path.starts_with(BUILTIN_FOLDER);
    let mut complaints: Vec<Complaint> = files
        .iter()
        .filter(|file| file.bytes > LARGEST && !is_builtin(file) && !is_fixture(&file.path))
        .map(|file| {
            let message = format!("{} bytes; keep files under {LARGEST}, or make it with a script", file.bytes);
            Complaint::new(file, None, message)
        })
        .collect();
    let mut limit = |what: &str, most: u64, belongs: &dyn Fn(&File) -> bool| {
        let total: u64 = files.iter().filter(|file| belongs(file)).map(|file| file.bytes).sum();
        if total > most {
            let message = format!("{total} bytes in all; at most {most}: drop or shrink some");
            complaints.push(Complaint { path: what.to_owned(), line: None, message });
        }
    };
    limit("fixtures", FIXTURES, &|file| is_fixture(&file.path));
    limit(BUILTIN_FOLDER, BUILTIN, &is_builtin);
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, bytes: u64) -> File {
        File { path: path.to_owned(), bytes, text: None }
    }

    #[test]
    fn large_files_belong_in_two_folders() {
        let files =
            [file("a.bin", LARGEST + 1), file("models/builtin/m", 9_000_000), file("tests/fixtures/f", 2_000_000)];
        let complaints = check(&files);
        assert_eq!(complaints.len(), 1);
        assert_eq!(complaints[0].path, "a.bin");
    }

    #[test]
    fn the_two_folders_have_limits() {
        let files = [
            file("tests/fixtures/a", FIXTURES / 2),
            file("tests/fixtures/b", FIXTURES / 2 + 1),
            file("models/builtin/m", BUILTIN + 1),
        ];
        let paths: Vec<String> = check(&files).into_iter().map(|complaint| complaint.path).collect();
        assert_eq!(paths, ["fixtures", BUILTIN_FOLDER]);
        assert!(check(&[file("models/builtin/m", BUILTIN)]).is_empty());
    }
}
