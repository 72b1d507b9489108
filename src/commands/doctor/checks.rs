//! The machine and the libraries.

use std::path::Path;

use mtplx_engine::settings::Overrides;
use mtplx_engine::{Engine, Event, Limits, LoadSpec, Room};
use mtplx_runtime::artifact::size_shown;
use mtplx_runtime::kernels::outcomes;
use mtplx_runtime::mlx::{self, DeviceInfo, OpenBlas};

use super::check::Check;
use crate::args::{self, Model};
use crate::{builtin, machine, model, threads};

/// Tokens that the built-in model writes: enough to draft and to verify.
const TOKENS: usize = 8;
/// Less free memory than this holds no model but the built-in one.
const LITTLE: u64 = 2_000_000_000;

/// Checks them, in the order in which a run needs them.
pub(super) fn all(wanted: Option<args::Device>) -> Vec<Check> {
    let program = Check::ok("program", format!("mtplx {} on {}", env!("CARGO_PKG_VERSION"), machine::os()));
    let mut checks = vec![program, mlx_version(&mlx::version()), device(wanted), driver()];
    checks.extend([blas(), memory(), arithmetic()]);
    checks.push(kernels());
    checks
}

fn mlx_version(found: &str) -> Check {
    let needed = mlx::NEEDED_VERSION;
    let series = |version: &str| version.rsplit_once('.').map(|(series, _)| series.to_owned());
    let value = format!("{found}; this binary was made for {needed}");
    match found {
        same if same == needed => Check::ok("mlx", value),
        near if series(near) == series(needed) => {
            Check::warning("mlx", value, "expected to work; LD_LIBRARY_PATH decides which libmlx.so is loaded")
        }
        _ => Check::error("mlx", value, format!("let LD_LIBRARY_PATH lead to MLX {needed}, or unset it")),
    }
}

fn device(wanted: Option<args::Device>) -> Check {
    if let Err(failure) = model::choose_device(wanted) {
        return Check::error(
            "device",
            failure.to_string(),
            "`--device cpu` computes on the processor; MTPLX_DEVICE sets it as well",
        );
    }
    let info = DeviceInfo::of_default();
    let name = mlx::default_device().name();
    let what = info.name.or_else(machine::processor).map_or(String::new(), |name| format!(" ({name})"));
    let card = Path::new("/proc/driver/nvidia/gpus").exists();
    if card && wanted.is_none() && !mlx::gpu_available() {
        let hint =
            "this MLX has no CUDA, or finds no card: put the libraries of MLX's CUDA package first on LD_LIBRARY_PATH";
        return Check::warning("device", format!("{name}{what}; the NVIDIA card is not used"), hint);
    }
    Check::ok("device", format!("{name}{what}"))
}

fn driver() -> Check {
    match machine::driver() {
        Some(version) => Check::ok("driver", format!("NVIDIA {version}")),
        None if cfg!(target_os = "macos") => Check::ok("driver", "Metal, part of the system"),
        None => Check::ok("driver", "no NVIDIA driver, and none is needed on a processor"),
    }
}

fn blas() -> Check {
    let allowed = threads::allowed();
    let Some(blas) = OpenBlas::find() else {
        return match cfg!(target_os = "macos") {
            true => Check::ok("blas", "Accelerate"),
            false => Check::warning(
                "blas",
                "no OpenBLAS in this process",
                "products on the processor are 5 to 24 times slower: set MLX up again",
            ),
        };
    };
    let version = blas.config().split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let counted = format!("{version}, {} of {allowed} cores", blas.threads());
    match threads::stated() {
        Some((name, value)) if blas.threads() > allowed => {
            let hint = format!("unset {name}, or set it to {allowed}: threads beyond the cores wait for each other");
            Check::warning("blas", format!("{counted} ({name}={value})"), hint)
        }
        Some((name, value)) => Check::ok("blas", format!("{counted} ({name}={value})")),
        None => Check::ok("blas", format!("{counted}, as many as are free")),
    }
}

fn memory() -> Check {
    let machine = machine::memory().map_or(String::new(), |bytes| format!(", the machine has {}", size_shown(bytes)));
    let Some(room) = Room::of_default() else {
        return Check::ok("memory", format!("the device does not say{machine}"));
    };
    let value = match room {
        Room::Free(bytes) => format!("{} free{machine}", size_shown(bytes)),
        Room::Card(bytes) => format!("the card has {}{machine}", size_shown(bytes)),
        Room::Shared(bytes) => format!("the GPU may hold {}{machine}", size_shown(bytes)),
    };
    if room.bytes() < LITTLE {
        return Check::warning("memory", value, "close other programs: `mtplx models --known` lists what models take");
    }
    Check::ok("memory", value)
}

/// The built-in model writes a few tokens: files, loading, products, drafting and verification at once.
fn arithmetic() -> Check {
    if builtin::files().is_none() {
        return Check::ok("model", "this binary has no built-in model to try");
    }
    match written() {
        Ok(()) => Check::ok("model", format!("the built-in model writes {TOKENS} tokens")),
        Err(error) => Check::error(
            "model",
            format!("the built-in model does not run: {error:#}"),
            "install the program again; if that changes nothing, MTPLX_LOG=debug shows what the libraries say",
        ),
    }
}

fn written() -> anyhow::Result<()> {
    let opened = model::open(&Model::Builtin)?;
    opened.admit(false, mtplx_engine::Admission::default())?;
    let text = opened.text(false)?;
    let limits = Limits { kept: Some(0), ..Limits::default() };
    let engine = Engine::load(LoadSpec { limits, ..LoadSpec::new(opened, text) }, &mut |_| {})?;
    let settings = Overrides { max_tokens: Some(TOKENS), ignore_eos: true, ..Overrides::default() };
    let request = engine.request(engine.prompt("fn main() {")?, &settings)?;
    for event in engine.submit(request)? {
        if let Event::End(_) = event? {
            return Ok(());
        }
    }
    Err(mtplx_engine::RequestError::Ended.into())
}

/// The self-checks that the built-in model's kernels made on the way.
fn kernels() -> Check {
    let outcomes = outcomes();
    let failed: Vec<String> =
        outcomes.iter().filter_map(|(name, fault)| Some(format!("{name}: {}", fault.as_ref()?))).collect();
    match (outcomes.len(), failed.len()) {
        (0, _) => Check::ok("kernels", format!("none of our own on the {}", mlx::default_device().name())),
        (all, 0) => Check::ok("kernels", format!("{all} of {all} agree with MLX's own operations")),
        (all, some) => Check::warning(
            "kernels",
            format!("{some} of {all} are left out: {}", failed.join("; ")),
            "MLX's operations take their place, slower; please report the card and the driver",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[test]
    fn versions_of_mlx() {
        let (series, patch) = mlx::NEEDED_VERSION.rsplit_once('.').unwrap();
        let other = format!("{series}.{}9", patch);
        for (found, expected) in
            [(mlx::NEEDED_VERSION, Status::Ok), (&other, Status::Warning), ("0.1.0", Status::Error)]
        {
            assert_eq!(mlx_version(found).status, expected, "{found}");
        }
    }
}
