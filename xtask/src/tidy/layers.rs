//! Directions between crates: the program uses the server and the engine, the server the engine, the engine the runtime, the runtime the
//! three that know no crate of ours; architectures use the runtime alone. The terminal stays in the program, the network in it and in the
//! server.

use serde_json::Value;

use super::file::Complaint;

const ARCHITECTURE: &str = "mtplx-arch-";
/// Crates of the workspace, and those of them that each may use.
const DIRECTIONS: [(&str, &[&str]); 8] = [
    ("mtplx", &["mtplx-server", "mtplx-engine", "mtplx-runtime", "mtplx-arch-"]),
    ("mtplx-server", &["mtplx-engine", "mtplx-runtime"]),
    ("mtplx-engine", &["mtplx-runtime"]),
    ("mtplx-runtime", &["mtplx-artifact", "mtplx-cpu", "mtplx-mlx", "mtplx-speculation"]),
    ("mtplx-artifact", &[]),
    ("mtplx-mlx", &[]),
    ("mtplx-cpu", &[]),
    ("mtplx-speculation", &[]),
];
/// What only the program may use.
const EDGE: [&str; 5] = ["clap", "tokio", "axum", "anyhow", "tracing-subscriber"];
/// Exceptions: the engine's channels, and the server.
const AT_THE_EDGE: [(&str, &str); 3] = [("mtplx-engine", "tokio"), ("mtplx-server", "tokio"), ("mtplx-server", "axum")];
/// What only the runtime, the crate that wraps MLX and those above them may use.
const MLX: [&str; 2] = ["mlx-rs", "mlx-sys"];

/// `metadata` is what `cargo metadata --no-deps` prints.
pub fn check(metadata: &str) -> Vec<Complaint> {
    let metadata: Value = serde_json::from_str(metadata).unwrap_or_default();
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    packages.iter().flat_map(complaints_about).collect()
}

fn complaints_about(package: &Value) -> Vec<Complaint> {
    let name = package["name"].as_str().unwrap_or_default();
    let dependencies = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    dependencies
        .iter()
        .filter_map(|dependency| {
            let on = dependency["name"].as_str()?;
            // `kind` is null for what ends up in the product.
            let message = refusal(name, on, dependency["kind"].is_null())?;
            Some(Complaint { path: name.to_owned(), line: None, message: format!("depends on {on}: {message}") })
        })
        .collect()
}

fn refusal(name: &str, on: &str, in_product: bool) -> Option<&'static str> {
    let allowed: &[&str] = match DIRECTIONS.iter().find(|(crate_name, _)| *crate_name == name) {
        Some((_, allowed)) => allowed,
        None if name.starts_with(ARCHITECTURE) => &["mtplx-runtime"],
        None => return None,
    };
    // Tests of a crate may ask for more features of it.
    let itself = on == name;
    let ours = on == "mtplx" || on.starts_with("mtplx-");
    let fits = |known: &&str| on == *known || known.ends_with('-') && on.starts_with(*known);
    if ours && !itself && !allowed.iter().any(fits) {
        return Some(
            "ARCHITECTURE.md says which crate may use which: mtplx -> server -> engine -> runtime -> artifact, speculation, cpu, mlx",
        );
    }
    if in_product && name != "mtplx" && EDGE.contains(&on) && !AT_THE_EDGE.contains(&(name, on)) {
        return Some("terminal, network and edge errors belong to the program");
    }
    if ["mtplx-artifact", "mtplx-cpu", "mtplx-speculation"].contains(&name) && MLX.contains(&on) {
        return Some("this crate builds, tests and fuzzes without MLX");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_point_one_way() {
        for (name, on) in [
            ("mtplx-arch-a", "mtplx-arch-b"),
            ("mtplx-arch-a", "mtplx-artifact"),
            ("mtplx-runtime", "mtplx-arch-a"),
            ("mtplx-runtime", "mtplx-engine"),
            ("mtplx-runtime", "tokio"),
            ("mtplx-engine", "clap"),
            ("mtplx-engine", "axum"),
            ("mtplx-engine", "mtplx-server"),
            ("mtplx-server", "mtplx-artifact"),
            ("mtplx-artifact", "mtplx-mlx"),
            ("mtplx-speculation", "mlx-rs"),
        ] {
            assert!(refusal(name, on, true).is_some(), "{name} -> {on}");
        }
        for (name, on) in [
            ("mtplx-arch-a", "mtplx-runtime"),
            ("mtplx-runtime", "mtplx-artifact"),
            ("mtplx-mlx", "mlx-sys"),
            ("mtplx", "tokio"),
            ("mtplx-engine", "tokio"),
            ("mtplx-server", "axum"),
            ("mtplx-server", "mtplx-engine"),
            ("mtplx", "mtplx-arch-a"),
        ] {
            assert!(refusal(name, on, true).is_none(), "{name} -> {on}");
        }
    }

    #[test]
    fn tests_may_use_anything_but_the_layers_above() {
        assert!(refusal("mtplx-runtime", "tokio", false).is_none());
        assert!(refusal("mtplx-runtime", "mtplx-runtime", false).is_none());
        assert!(refusal("mtplx-runtime", "mtplx-arch-a", false).is_some());
    }

    #[test]
    fn metadata_is_read() {
        let metadata = r#"{"packages":[{"name":"mtplx-runtime","dependencies":[{"name":"clap","kind":null},{"name":"serde","kind":null}]}]}"#;
        let complaints = check(metadata);
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].message.contains("clap"));
    }
}
