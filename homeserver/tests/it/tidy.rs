//! The walls of the house: sizes, direction of dependencies, where libraries may stand.

use std::{
    fs,
    path::{Path, PathBuf},
};

use toml::Table;

/// Most lines of a file, without the tests in it.
const FILE_LINES: usize = 500;

/// Most lines of tests inside a file; more of them belong into a file of their own.
const INLINE_TEST_LINES: usize = 100;

/// Our crates, by folder, and which of ours each may use.
const CRATES: &[(&str, &[&str])] = &[
    ("storage", &[]),
    ("media", &[]),
    ("core", &["myelin-storage", "myelin-media"]),
    ("federation", &["myelin-core", "myelin-storage", "myelin-media"]),
    ("appservices", &["myelin-core", "myelin-storage", "myelin-media"]),
    (
        "homeserver",
        &["myelin-core", "myelin-storage", "myelin-media", "myelin-federation", "myelin-appservices"],
    ),
    ("fuzz", &["myelin-core", "myelin-federation"]),
];

/// Libraries, and the folders whose code may name them. Tests may name any but those of storage.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("sqlx", &["storage"]),
    ("rusqlite", &["storage"]),
    ("axum", &["homeserver", "federation"]),
    ("hyper", &["homeserver", "federation"]),
    ("reqwest", &["federation", "appservices", "media", "homeserver/src/push_gateway", "client"]),
    ("matrix_sdk", &["client"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// All files with one of the endings, with their path below the root.
fn files(endings: &[&str]) -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.')
                    && !["target", "node_modules", "myelin-data"].contains(&name.as_str())
                {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| endings.iter().any(|ending| found == *ending)) {
                let below = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                found.push((below, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(found.len() > 3, "the workspace was not found");
    found
}

#[track_caller]
fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/benches/")
}

/// Lines before the tests that stand in the file, and lines of these.
fn split_lines(text: &str) -> (usize, usize) {
    let all = text.lines().count();
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0].trim() == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
    });
    tests.map_or((all, 0), |tests| (tests, all - tests))
}

#[test]
fn files_are_small() {
    let mut found = Vec::new();
    for (path, text) in files(&["rs"]) {
        let (code, tests) = split_lines(&text);
        if code > FILE_LINES && !is_test_file(&path) {
            found.push(format!("{path}: {code} lines, allowed {FILE_LINES}"));
        }
        if tests > INLINE_TEST_LINES {
            found.push(format!(
                "{path}: {tests} lines of tests, allowed {INLINE_TEST_LINES}: give them a file"
            ));
        }
    }
    assert_none("too long", &found);
}

#[test]
fn modules_stand_beside_their_folders() {
    let found: Vec<_> =
        files(&["rs"]).into_iter().map(|(path, _)| path).filter(|path| path.ends_with("mod.rs")).collect();
    assert_none("name.rs beside name/, not mod.rs", &found);
}

/// Whether a line of code names a crate: `name::`, `use name;`.
fn names(line: &str, library: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices(library).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + library.len()..];
        let begins = !before.is_some_and(|c| c.is_alphanumeric() || "_:\"-.".contains(c));
        begins
            && (after.starts_with("::")
                || (code.trim_start().starts_with("use ") && after.starts_with([';', ' '])))
    })
}

#[test]
fn libraries_stand_where_they_may() {
    let mut found = Vec::new();
    for (path, text) in files(&["rs"]) {
        for (library, folders) in LIBRARIES {
            let allowed = folders.iter().any(|folder| path.starts_with(&format!("{folder}/")))
                || path.strip_suffix(".rs").is_some_and(|module| folders.contains(&module))
                || (is_test_file(&path) && !matches!(*library, "sqlx" | "rusqlite"));
            if !allowed && text.lines().any(|line| names(line, library)) {
                found.push(format!("{path} names {library}, which may stand in {}", folders.join(", ")));
            }
        }
    }
    assert_none("libraries behind the wrong wall", &found);
}

#[test]
fn dependencies_run_one_way() {
    let root = root();
    let workspace: Table = toml::from_str(&fs::read_to_string(root.join("Cargo.toml")).unwrap()).unwrap();
    let mut found = Vec::new();
    for member in workspace["workspace"]["members"].as_array().unwrap() {
        let member = member.as_str().unwrap();
        let Some((_, allowed)) = CRATES.iter().find(|(folder, _)| *folder == member) else {
            found.push(format!("{member}: unknown here; say what it may use"));
            continue;
        };
        let text = fs::read_to_string(root.join(member).join("Cargo.toml")).unwrap();
        let manifest: Table = toml::from_str(&text).unwrap();
        let dependencies = manifest.get("dependencies").and_then(|table| table.as_table());
        for name in dependencies.into_iter().flat_map(Table::keys) {
            if name.starts_with("myelin") && !allowed.contains(&name.as_str()) {
                found.push(format!("{member} may not depend on {name}"));
            }
            let library = LIBRARIES.iter().find(|(library, _)| *library == name.replace('-', "_"));
            if let Some((_, folders)) = library
                && !folders.iter().any(|folder| folder.split('/').next() == Some(member))
            {
                found.push(format!("{member} may not depend on {name}"));
            }
        }
    }
    for (path, text) in files(&["toml"]) {
        if path.starts_with("client/")
            && text.lines().any(|line| line.trim_start().starts_with("myelin-core"))
        {
            found.push(format!("{path}: the client knows no crate of the server"));
        }
    }
    assert_none("dependencies in the wrong direction", &found);
}

#[test]
fn no_machine_is_named() {
    let paths = ["work", "root"].map(|folder| format!("/{folder}/"));
    let mut found = Vec::new();
    for (path, text) in files(&["rs", "toml", "md", "sh", "sql", "yml", "yaml", "json", "js", "py"]) {
        for (number, line) in text.lines().enumerate() {
            if paths.iter().any(|machine| line.contains(machine.as_str())) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_none("paths of one machine", &found);
}

#[test]
fn the_checks_themselves() {
    assert!(names("use axum::Router;", "axum"));
    assert!(names("let a = axum::serve(b);", "axum"));
    assert!(!names("// axum::serve", "axum"));
    assert!(!names("use hyper_util::rt;", "hyper"));
    assert!(!names("use crate::hyper::b;", "hyper"));
    assert_eq!(split_lines("a\n#[cfg(test)]\nmod tests {\n}\n"), (1, 3));
    assert_eq!(split_lines("a\n#[cfg(test)]\nmod tests;\nb\n"), (4, 0));
}
