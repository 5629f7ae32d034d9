//! Manifests: versions and features of dependencies stand once, in the root; every crate takes the workspace's lints.

use toml::{Table, Value};

use super::File;

/// The one crate that overrides the lints, because it alone may be unsafe.
const OWN_LINTS: &[&str] = &["crates/kernel/Cargo.toml"];

pub(crate) fn check(file: &File) -> Vec<String> {
    let Ok(manifest) = file.text.parse::<Table>() else {
        return vec![format!("{}: is not TOML", file.path)];
    };
    // The root declares them; ebpf/ is a workspace of its own.
    if manifest.contains_key("workspace") || file.path.starts_with("ebpf/") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(Value::as_bool) == Some(true);
    if !inherits && !OWN_LINTS.contains(&file.path.as_str()) {
        findings.push(format!("{}: lacks `[lints] workspace = true`", file.path));
    }
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for (name, value) in manifest.get(section).and_then(Value::as_table).into_iter().flatten() {
            if !is_inherited(value) {
                findings.push(format!("{}: {name} must be `{name}.workspace = true` and nothing more: features stand in the root Cargo.toml", file.path));
            }
        }
    }
    findings
}

fn is_inherited(dependency: &Value) -> bool {
    dependency.as_table().is_some_and(|table| table.len() == 1 && table.get("workspace").and_then(Value::as_bool) == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_text(path: &str, text: &str, expect: &[&str]) {
        assert_eq!(check(&File { path: path.into(), text: text.into() }), expect, "{text}");
    }

    #[test]
    fn dependencies_are_declared_once() {
        let lints = "[lints]\nworkspace = true\n";
        check_text("a/Cargo.toml", &format!("{lints}[dependencies]\nx.workspace = true\n"), &[]);
        check_text(
            "a/Cargo.toml",
            &format!("{lints}[dependencies]\nx = {{ workspace = true, features = [\"y\"] }}\n"),
            &["a/Cargo.toml: x must be `x.workspace = true` and nothing more: features stand in the root Cargo.toml"],
        );
        check_text(
            "a/Cargo.toml",
            &format!("{lints}[dev-dependencies]\nx = \"1\"\n"),
            &["a/Cargo.toml: x must be `x.workspace = true` and nothing more: features stand in the root Cargo.toml"],
        );
        check_text("ebpf/programs/Cargo.toml", "[dependencies]\nx = \"1\"\n", &[]);
    }

    #[test]
    fn lints_are_the_workspaces() {
        check_text("a/Cargo.toml", "[package]\n", &["a/Cargo.toml: lacks `[lints] workspace = true`"]);
        check_text("crates/kernel/Cargo.toml", "[package]\n", &[]);
        check_text("a/Cargo.toml", "[", &["a/Cargo.toml: is not TOML"]);
    }
}
