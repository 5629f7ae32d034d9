//! One file cut into its YAML documents, each parsed by itself, so that a broken one hides nothing of the others.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_saphyr::{DuplicateKeyPolicy, Error, Location, MergeKeyPolicy, Options, UserMessageFormatter};

use crate::{Position, files::File, limits, suggest};

/// One document of a file.
#[derive(Clone, Debug)]
pub(crate) struct Document<'a> {
    pub(crate) file: Arc<str>,
    /// Lines of the file before it.
    lines_before: u32,
    /// Without its `---`.
    text: std::borrow::Cow<'a, str>,
}

/// What a parser could not read.
#[derive(Clone, Debug)]
pub(crate) struct ParseError {
    pub(crate) at: Position,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

/// Splits at `---` and `...`, which YAML knows at the beginning of a line only, also inside of quotes (YAML 1.2 §9.1.2).
pub(crate) fn documents(file: &File) -> Vec<Document<'_>> {
    let mut documents = vec![];
    let (mut start, mut start_line, mut offset) = (0, 0, 0);
    let mut push = |from: usize, to: usize, line: u32| {
        let text = unmarked(&file.text[from..to]);
        if !text.lines().all(|l| matches!(l.trim_start().as_bytes(), [] | [b'#', ..])) {
            documents.push(Document { file: file.name.clone(), lines_before: line, text });
        }
    };
    for (number, line) in file.text.split_inclusive('\n').enumerate() {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let marker = is_marker(line, "---");
        if marker || is_marker(line, "...") {
            push(start, offset, start_line);
            // What follows `---` on its line belongs to the document; nothing may follow `...`.
            (start, start_line) = if marker { (offset, number) } else { (offset + line.len(), number + 1) };
        }
        offset += line.len();
    }
    push(start, offset, start_line);
    documents
}

/// The marker as blanks, so that columns stay true; a marker line without content must not count as content.
fn unmarked(text: &str) -> std::borrow::Cow<'_, str> {
    match text.strip_prefix("---") {
        Some(rest) => format!("   {rest}").into(),
        None => text.into(),
    }
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

impl Document<'_> {
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, ParseError> {
        serde_saphyr::from_str_with_options(&self.text, options()).map_err(|e| self.explain(&e))
    }

    /// The place in the file; never beyond the end of its line.
    pub(crate) fn position(&self, at: Location) -> Position {
        let line = u32::try_from(at.line()).unwrap_or(0);
        let column = u32::try_from(at.column()).unwrap_or(0).max(1);
        if line == 0 {
            return self.beginning();
        }
        let text = self.text.lines().nth(line as usize - 1).unwrap_or("");
        let rest = text.trim_end().chars().count().saturating_sub(column as usize - 1);
        let length = usize::try_from(at.span().len()).unwrap_or(usize::MAX).min(rest).max(1);
        Position { file: self.file.clone(), line: self.lines_before + line, column, length: u32::try_from(length).unwrap_or(1) }
    }

    /// The first line that says something.
    pub(crate) fn beginning(&self) -> Position {
        let first = self.text.lines().position(|l| !matches!(l.trim_start().as_bytes(), [] | [b'#', ..])).unwrap_or(0);
        let text = self.text.lines().nth(first).unwrap_or("");
        let column = text.chars().take_while(|c| c.is_whitespace()).count() + 1;
        let length = text.trim().chars().count().max(1);
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Position { file: self.file.clone(), line: self.lines_before + small(first) + 1, column: small(column), length: small(length) }
    }

    fn explain(&self, error: &Error) -> ParseError {
        let error = error.without_snippet();
        let at = error.location().map_or_else(|| self.beginning(), |at| self.position(at));
        let (message, help) = match error {
            Error::SerdeUnknownField { field, expected, .. } => {
                let known = format!("known here: {}", expected.join(", "));
                let help = match suggest::closest(field, expected.iter().copied()) {
                    Some(name) => format!("did you mean `{name}`? {known}"),
                    None => known,
                };
                (format!("unknown field `{field}`"), Some(help))
            }
            Error::DuplicateMappingKey { key: Some(key), .. } => (format!("field `{key}` is given twice"), None),
            Error::SerdeInvalidType { unexpected, expected, .. } => (format!("expected {expected}, found {unexpected}"), None),
            Error::MergeKeyNotAllowed { .. } => ("merge keys (`<<`) are not allowed in a catalog".to_owned(), Some("write the fields out".to_owned())),
            other => (in_words(other), None),
        };
        ParseError { at, message, help }
    }
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_nodes: limits::NODES_MAX,
            max_events: limits::NODES_MAX * 4,
            max_depth: limits::NESTING_MAX,
            max_aliases: limits::ALIASES_MAX,
            max_anchors: limits::ALIASES_MAX,
            max_merge_keys: 0,
            max_total_scalar_bytes: limits::FILE_MAX_BYTES as usize,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: limits::NODES_MAX,
            max_replay_stack_depth: 4,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        reject_tagged_field_names: true,
        emit_comments: false,
        with_snippet: false,
    }
}

/// The parser's own words, without the place, which counts from the document's beginning.
fn in_words(error: &Error) -> String {
    let text = error.render_with_formatter(&UserMessageFormatter);
    let line = text.lines().next().unwrap_or("invalid YAML");
    let mut chars = line.split_once(" at line ").map_or(line, |(message, _)| message).chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
