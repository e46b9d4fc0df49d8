//! Looking for texts in files, as they are and in base64.

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use memchr::memmem::Finder;
use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// What was searched and found.
#[derive(Debug, Default)]
pub struct Findings {
    /// How many files were read.
    pub files: usize,
    /// How many bytes they had.
    pub bytes: u64,
    /// For each text, whether it is in one of the files.
    pub found: Vec<bool>,
}

/// Searches a file, or all files of a folder, for texts.
pub fn search(paths: &[impl AsRef<Path>], texts: &[String]) -> Result<Findings> {
    let finders: Vec<Vec<_>> = texts
        .iter()
        .map(|text| forms(text).iter().map(|form| Finder::new(form).into_owned()).collect())
        .collect();
    let mut findings = Findings { found: vec![false; texts.len()], ..Findings::default() };
    for path in paths {
        let path = path.as_ref();
        search_path(path, &finders, &mut findings)
            .with_context(|| format!("searching {}", path.display()))?;
    }
    Ok(findings)
}

fn search_path(path: &Path, finders: &[Vec<Finder<'_>>], findings: &mut Findings) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            search_path(&entry?.path(), finders, findings)?;
        }
        return Ok(());
    }
    if !path.is_file() {
        return Ok(());
    }
    let mut file = File::open(path)?;
    findings.files += 1;
    let overlap = finders.iter().flatten().map(|finder| finder.needle().len()).max().unwrap_or(0);
    let mut window = Vec::new();
    loop {
        // What stands across two chunks is found because the end of the last one is kept.
        let keep = window.len().min(overlap);
        window.drain(..window.len() - keep);
        let read = file.by_ref().take(CHUNK as u64).read_to_end(&mut window)?;
        if read == 0 {
            return Ok(());
        }
        findings.bytes += read as u64;
        for (finders, found) in finders.iter().zip(&mut findings.found) {
            *found = *found || finders.iter().any(|finder| finder.find(&window).is_some());
        }
    }
}

/// A text as it is, what it stands for if it is base64 (Myelin stores base64 as bytes), and as base64 wherever it begins
/// in the encoded data: of the three possible alignments, the part that does not depend on what stands before and after.
fn forms(text: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![text.as_bytes().to_vec()];
    forms.extend(BASE64_STANDARD_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() >= 16));
    for shift in 0..3 {
        let shifted = [&b"\0\0"[..shift], text.as_bytes()].concat();
        let encoded = BASE64_STANDARD_NO_PAD.encode(&shifted).into_bytes();
        let (begin, end) = ((shift * 8).div_ceil(6), shifted.len() * 8 / 6);
        forms.extend(encoded.get(begin..end).map(<[u8]>::to_vec));
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(content: &[u8]) -> bool {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(folder.path().join("inner/file"), content).unwrap();
        search(&[folder.path()], &["the plain text".to_owned()]).unwrap().found[0]
    }

    #[test]
    fn finds_texts_in_every_form() {
        assert!(found(b"\0\x01the plain text\xff"));
        for before in ["", "x", "xy", "xyz"] {
            let content = BASE64_STANDARD_NO_PAD.encode(format!("{before}the plain text, and more"));
            assert!(found(content.as_bytes()), "{before:?}");
        }
        assert!(!found(b"the plain tex"));
        assert!(!found(b""));
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), b".sixteen bytes or more.").unwrap();
        let wanted = BASE64_STANDARD_NO_PAD.encode("sixteen bytes or more");
        assert!(search(&[folder.path()], &[wanted]).unwrap().found[0]);
    }

    #[test]
    fn finds_texts_across_chunks() {
        let mut content = vec![b'.'; CHUNK - 5];
        content.extend_from_slice(b"the plain text");
        assert!(found(&content));
    }
}
