//! Which crate may depend on which: applications on everything, architectures on the runtime, the
//! runtime on neither, and nothing that talks to people or networks in the runtime.

use serde_json::Value;

use super::Complaint;

const RUNTIME: &str = "mtplx-runtime";
const ARCHITECTURE: &str = "mtplx-arch-";
const APPLICATION: &str = "mtplx";

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
    let runtime = name == RUNTIME;
    let architecture = name.starts_with(ARCHITECTURE);
    if architecture && (on.starts_with(ARCHITECTURE) || on == APPLICATION) {
        Some("an architecture uses the runtime only; what two families share goes into runtime/src/nn")
    } else if runtime && (on.starts_with(ARCHITECTURE) || on == APPLICATION) {
        Some("the runtime knows no architecture; they register themselves")
    } else if runtime && in_product && ["clap", "tokio", "axum", "anyhow", "tracing-subscriber"].contains(&on) {
        Some("terminal, network and edge errors belong to the application")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_point_one_way() {
        for (name, on) in [
            ("mtplx-arch-a", "mtplx-arch-b"),
            ("mtplx-arch-a", "mtplx"),
            ("mtplx-runtime", "mtplx-arch-a"),
            ("mtplx-runtime", "tokio"),
        ] {
            assert!(refusal(name, on, true).is_some(), "{name} -> {on}");
        }
        for (name, on) in [("mtplx-arch-a", "mtplx-runtime"), ("mtplx", "tokio"), ("mtplx", "mtplx-arch-a")] {
            assert!(refusal(name, on, true).is_none(), "{name} -> {on}");
        }
    }

    #[test]
    fn tests_of_the_runtime_may_use_anything_but_the_layers_above() {
        assert!(refusal("mtplx-runtime", "tokio", false).is_none());
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
