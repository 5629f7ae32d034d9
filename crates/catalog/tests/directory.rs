//! Which files are read, and what happens at the bounds.

use std::{fs, os::unix::fs::symlink, path::Path};

use weft_catalog::{Catalog, Finding, limits, lint};

const MESH: &str = "apiVersion: weft.mesh/v1alpha1\nkind: Mesh\nmetadata: { name: m }\nspec: { trustDomain: x.example }\n";

fn team(name: &str) -> String {
    format!("apiVersion: weft.mesh/v1alpha1\nkind: Team\nmetadata: {{ name: {name} }}\n")
}

fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn teams(dir: &Path) -> Vec<String> {
    let catalog = Catalog::load(dir).unwrap_or_else(|e| panic!("{e:?}"));
    catalog.teams.iter().map(|t| format!("{} {}", t.name, t.at)).collect()
}

#[track_caller]
fn check_error(dir: &Path, expect: &str) {
    let found: Vec<String> = lint(dir).iter().filter(|f| f.is_error()).map(Finding::to_string).collect();
    assert!(found.len() == 1 && found[0].contains(expect), "wanted {expect}, found {found:?}");
}

#[test]
fn yaml_files_are_read_at_every_level_and_nothing_else() {
    let d = dir(&[
        ("mesh.yaml", MESH),
        ("a/b/c.yml", &team("deep")),
        ("z.yaml", &team("last")),
        ("README.md", "not: [ yaml"),
        ("x.yaml.bak", "not: [ yaml"),
        (".hidden.yaml", "not: [ yaml"),
        (".git/config.yaml", "not: [ yaml"),
    ]);
    assert_eq!(teams(d.path()), ["deep a/b/c.yml:3", "last z.yaml:3"]);
}

#[test]
fn symbolic_links_do_not_lead_out() {
    let outside = dir(&[("t.yaml", &team("outside"))]);
    let d = dir(&[("mesh.yaml", MESH), ("..data/t.yaml", &team("mounted"))]);
    // As Kubernetes mounts a ConfigMap.
    symlink("..data/t.yaml", d.path().join("t.yaml")).unwrap();
    assert_eq!(teams(d.path()), ["mounted t.yaml:3"]);

    symlink(outside.path().join("t.yaml"), d.path().join("u.yaml")).unwrap();
    check_error(d.path(), "symbolic link leads out of the catalog and is not followed\n --> u.yaml");
    fs::remove_file(d.path().join("u.yaml")).unwrap();

    symlink("nowhere.yaml", d.path().join("u.yaml")).unwrap();
    check_error(d.path(), "symbolic link cannot be followed");
    fs::remove_file(d.path().join("u.yaml")).unwrap();

    symlink(outside.path(), d.path().join("more")).unwrap();
    let warnings = Catalog::load(d.path()).unwrap().warnings;
    assert_eq!(warnings[0].to_string(), "warning: symbolic link to a directory is not followed\n --> more");
}

#[test]
fn what_cannot_be_read_is_an_error() {
    check_error(Path::new("/nonexistent-weft-catalog"), "catalog directory /nonexistent-weft-catalog cannot be read");
    let d = dir(&[("mesh.yaml", MESH)]);
    fs::write(d.path().join("latin.yaml"), b"# \xe4\n").unwrap();
    check_error(d.path(), "file is not UTF-8\n --> latin.yaml");
}

#[test]
fn a_special_file_does_not_hang_the_reader() {
    let d = dir(&[("mesh.yaml", MESH)]);
    let _listener = std::os::unix::net::UnixListener::bind(d.path().join("s.yaml")).unwrap();
    check_error(d.path(), "file cannot be read: it is no regular file\n --> s.yaml");
}

#[test]
fn bounds_are_errors() {
    let comment = "#".repeat(limits::FILE_MAX_BYTES as usize);
    let d = dir(&[("mesh.yaml", MESH), ("fits.yaml", &comment)]);
    assert!(Catalog::load(d.path()).is_ok());
    fs::write(d.path().join("large.yaml"), format!("{comment}#")).unwrap();
    check_error(d.path(), "file is larger than 1048576 bytes\n --> large.yaml");

    let deep = format!("{}t.yaml", "d/".repeat(limits::DEPTH_MAX));
    let d = dir(&[("mesh.yaml", MESH), (&deep, &team("deep"))]);
    assert!(Catalog::load(d.path()).is_ok());
    let deeper = format!("{}t.yaml", "d/".repeat(limits::DEPTH_MAX + 1));
    let d = dir(&[("mesh.yaml", MESH), (&deeper, &team("deep"))]);
    check_error(d.path(), "directory lies more than 16 levels below the catalog");

    let nested = format!("{MESH}---\n{}{}\n", "[".repeat(limits::NESTING_MAX + 1), "]".repeat(limits::NESTING_MAX + 1));
    assert!(Catalog::parse([("x.yaml", nested.as_str())]).is_err());
}

#[test]
fn many_files_are_refused() {
    let d = dir(&[("mesh.yaml", MESH)]);
    for i in 0..limits::FILES_MAX + 5 {
        fs::write(d.path().join(format!("{i:05}.yaml")), "").unwrap();
    }
    check_error(d.path(), "catalog has more than 4096 files");
}

#[test]
fn an_alias_bomb_is_refused_quickly() {
    let mut text = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (from, to) in "abcdefgh".chars().zip("bcdefghi".chars()) {
        text.push_str(&format!("{to}: &{to} [*{from},*{from},*{from},*{from},*{from},*{from},*{from},*{from},*{from}]\n"));
    }
    let started = std::time::Instant::now();
    assert!(Catalog::parse([("x.yaml", text.as_str())]).is_err());
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}

#[test]
fn findings_are_bounded_and_say_how_many_are_left_out() {
    let many: String = (0..limits::FINDINGS_MAX + 10).map(|i| format!("---\n{}", team(&format!("T{i}")))).collect();
    let found = Catalog::parse([("m.yaml", MESH), ("x.yaml", many.as_str())]).unwrap_err();
    assert_eq!(found.len(), limits::FINDINGS_MAX + 1);
    assert_eq!(found.last().unwrap().to_string(), "error: catalog has 10 more findings");
}

/// Cut anywhere, and with any character replaced: findings, never a panic.
#[test]
fn broken_text_never_panics() {
    let whole = format!(
        "{MESH}---\n{}---\napiVersion: weft.mesh/v1alpha1\nkind: MeshService\nmetadata: {{ name: a, namespace: ä }}\nspec:\n\ttype: \"x\n  ports: [ {{ name: web, port: 1 }} ]\n  dependsOn: [ {{ service: b/c, http: [ {{ path: / }} ] }} ]\n",
        team("t")
    );
    for (cut, _) in whole.char_indices() {
        let _ = Catalog::parse([("x.yaml", &whole[..cut])]);
        for other in ["\t", "{", "\"", "---", "ä", "\u{feff}", "&", "*a", "\0", "%"] {
            let mixed = format!("{}{other}{}", &whole[..cut], whole[cut..].chars().skip(1).collect::<String>());
            if let Err(findings) = Catalog::parse([("x.yaml", mixed.as_str())]) {
                assert!(findings.iter().any(Finding::is_error) && !findings.iter().any(|f| f.to_string().is_empty()));
            }
        }
    }
}

#[test]
fn what_is_read_again_is_what_is_read_for_the_first_time() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let service = |name: &str, more: &str| {
        format!(
            "apiVersion: weft.mesh/v1alpha1\nkind: MeshService\nmetadata: {{ name: {name}, namespace: shop }}\nspec:\n  type: application\n  owner: t\n  ports: [ {{ name: web, port: 80 }} ]\n{more}"
        )
    };
    write("mesh.yaml", "apiVersion: weft.mesh/v1alpha1\nkind: Mesh\nmetadata: { name: corp }\nspec: { trustDomain: corp.example }\n");
    write("team.yaml", "apiVersion: weft.mesh/v1alpha1\nkind: Team\nmetadata: { name: t }\nspec: {}\n");
    let mut reader = weft_catalog::Reader::default();
    let mut check = |good: bool| {
        let again = reader.load(dir.path());
        assert_eq!(again, weft_catalog::Catalog::load(dir.path()));
        assert_eq!(again.is_ok(), good, "{again:?}");
    };
    write("a.yaml", &service("a", ""));
    write("b.yaml", &service("b", "  dependsOn: [ { service: a } ]\n"));
    check(true);
    // What another file says makes a file wrong that has not changed, and right again.
    write("a.yaml", &service("c", ""));
    check(false);
    write("a.yaml", &service("a", "  consumers: [ \"other/*\" ]\n"));
    check(true);
    // A file that goes, one that cannot be read, one that says less, one that was renamed.
    std::fs::remove_file(dir.path().join("b.yaml")).unwrap();
    check(true);
    write("b.yaml", "kind: [");
    check(false);
    write("b.yaml", &service("b", ""));
    check(true);
    std::fs::rename(dir.path().join("b.yaml"), dir.path().join("d.yaml")).unwrap();
    check(true);
}
