//! What a model argument means: a folder, or a repository in the cache.

use std::path::{Path, PathBuf};

use super::cache::{Cache, MAIN};
use super::id::RepoId;
use crate::error::{Exit, Failure, warn};

/// The folder that `typed` means: itself where it exists, else the snapshot of the repository of that name in the cache.
///
/// Nothing is downloaded. Where both exist the folder is meant, and standard error says so.
///
/// # Errors
/// It is neither; says what was looked for, and where.
pub fn folder_of(typed: &Path) -> Result<PathBuf, Failure> {
    let id = typed.to_str().and_then(|text| text.parse::<RepoId>().ok());
    let Some(id) = id else { return Ok(typed.to_owned()) };
    if typed.exists() {
        if let Ok(cache) = Cache::of_user()
            && let Ok(Ok(snapshot)) = cache.repository(&id).find(id.revision.as_deref())
        {
            let other =
                if id.revision.is_none() { format!("`{id}@{MAIN}`") } else { snapshot.dir.display().to_string() };
            warn(&format!(
                "{id}: the folder of this name here is meant, not the repository in the cache, which is {other}"
            ));
        }
        return Ok(typed.to_owned());
    }
    let cache = Cache::of_user()?;
    let repository = cache.repository(&id);
    match repository.find(id.revision.as_deref())? {
        Ok(snapshot) => Ok(snapshot.dir),
        Err(others) => {
            let place = cache.root().display();
            let what = match &others[..] {
                [] if repository.is_interrupted() => {
                    format!("{id}: not found: its download into the cache ({place}) was interrupted")
                }
                [] => format!(
                    "{id}: not found: no folder of this name here, and no such repository in the cache ({place})"
                ),
                others => {
                    let revision = id.revision.as_deref().unwrap_or(MAIN);
                    let others: Vec<&str> = others.iter().map(|snapshot| snapshot.short()).collect();
                    let others = others.join(", ");
                    let repository = id.repository();
                    format!(
                        "{id}: not found: no folder of this name here, and the cache ({place}) has {repository} at {others}, \
                         not at {revision}"
                    )
                }
            };
            let hint = if repository.is_interrupted() { "goes on with the download" } else { "downloads it" };
            Err(Failure::new(Exit::File, what).hint(format!("`mtplx pull {id}` {hint}")))
        }
    }
}
