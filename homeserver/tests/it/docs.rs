//! Generated documentation. `UPDATE_DOCS=1 cargo test -p myelin docs` writes it anew.

use std::{fs, path::Path};

use myelin::router;
use myelin_core::config;

#[track_caller]
fn check(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/{name} is stale: UPDATE_DOCS=1 cargo test -p myelin docs");
}

#[test]
fn config_md_is_fresh() {
    check("config.md", &config::as_markdown());
}

#[test]
fn endpoints_md_is_fresh() {
    check("endpoints.md", &router::as_markdown());
}
