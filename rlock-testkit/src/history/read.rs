//! Reads the files of recorders.

use std::path::Path;

use super::entry::Entry;
use super::error::HistoryError;
use super::line::parse;

/// Reads the entries of all files in `folder` that a [`Recorder`](super::Recorder) wrote.
pub(super) fn read_folder(folder: &Path) -> Result<Vec<Entry>, HistoryError> {
    let failed = |source| HistoryError::Io { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for found in std::fs::read_dir(folder).map_err(failed)? {
        paths.push(found.map_err(failed)?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "history"));
    paths.sort();
    let mut entries = Vec::new();
    for path in paths {
        entries.extend(read_file(&path)?);
    }
    Ok(entries)
}

/// Reads the entries of one file, in the order of its lines.
pub(super) fn read_file(path: &Path) -> Result<Vec<Entry>, HistoryError> {
    let text = std::fs::read(path).map_err(|source| HistoryError::Io { path: path.to_owned(), source })?;
    let lines = whole_lines(&text).split_inclusive(|&byte| byte == b'\n').enumerate();
    lines
        .map(|(index, line)| {
            let text = String::from_utf8_lossy(&line[..line.len() - 1]);
            let entry = parse(&text);
            entry.ok_or_else(|| HistoryError::Line {
                path: path.to_owned(),
                number: index + 1,
                text: text.into_owned(),
            })
        })
        .collect()
}

/// `text` up to the end of its last complete line.
pub(super) fn whole_lines(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    &text[..end]
}
