//! The width of text on a terminal, where some characters take two columns.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// The columns that `text` takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// The beginning of `text` that fits into `columns`.
pub(crate) fn cut(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    let fits = |(_, character): &(usize, char)| {
        taken += character.width().unwrap_or_default();
        taken > columns
    };
    text.char_indices().find(fits).map_or(text, |(at, _)| &text[..at])
}

/// `text` padded with spaces to `columns`.
pub(crate) fn padded(text: &str, columns: usize) -> String {
    format!("{text}{:1$}", "", columns.saturating_sub(width(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(width("日報 é"), 6);
        assert_eq!((cut("日報", 3), cut("日報", 4), cut("abc", 2)), ("日", "日報", "ab"));
        assert_eq!(padded("日報", 6), "日報  ");
    }
}
