//! Messages for YAML that can't be parsed.
//!
//! The parser stops at its first mistake, so only one is reported, except for tabs. Its place is
//! where the parser noticed it: at the mistake or after it.

use serde_saphyr::Error;

use crate::context::Mistakes;
use crate::diagnostics::At;

/// A phrase in the parser's message, our message, our help.
struct Phrase(&'static str, &'static str, &'static str);

/// The first match is used; a message without a match is passed on as it is.
const PHRASES: &[Phrase] = &[
    Phrase(
        "mapping values are not allowed",
        "a key with a colon is not allowed here",
        "put it on a line of its own, indented like its neighbours, or quote a value that holds a \
        colon",
    ),
    Phrase(
        "did not find expected key",
        "this line is not indented like its neighbours",
        "begin the keys of one mapping in one column",
    ),
    Phrase(
        "expected ':'",
        "a colon is missing on this line",
        "write `key: value`",
    ),
    Phrase(
        "unclosed bracket",
        "this bracket is never closed",
        "close it",
    ),
    Phrase(
        "unknown escape",
        "an unknown escape in quoted text",
        "write `\\\\` for a backslash, or use single quotes",
    ),
    Phrase(
        "quoted scalar",
        "quoted text is not closed before this place",
        "close the quotes on the line they begin",
    ),
    Phrase(
        "unexpected character",
        "this character can't begin a value",
        "put the value in quotes",
    ),
    Phrase(
        "recursive references",
        "this alias is inside the value that it refers to",
        "write the value instead",
    ),
    Phrase(
        "tag",
        "tags are not used here",
        "remove the tag: the `!` and the word after it",
    ),
];

/// Adds the mistake for a parser's error; `at`: where the parser noticed it.
pub(crate) fn explain(error: &Error, text: &str, at: At, mistakes: &mut Mistakes) {
    if note_tabs(text, at.file_idx, mistakes) {
        return;
    }
    let mut cause = error.without_snippet();
    while let Error::AliasError { error, .. } = cause {
        cause = error;
    }
    let (message, help) = match cause {
        Error::MultipleDocuments { .. } => (
            "a second document begins here",
            "remove the `---`; a file holds one topology",
        ),
        Error::UnknownAnchor { .. } => (
            "this alias refers to an anchor that isn't there",
            "write `&name` at a value above, or the value",
        ),
        Error::MergeValueNotMapOrSeqOfMaps { .. } => (
            "`<<` can merge mappings only",
            "write `<<: *name` where `&name` is at a mapping",
        ),
        Error::InvalidScalar { .. } | Error::InvalidBooleanStrict { .. } => (
            "this value doesn't fit its tag",
            "remove the tag: the `!` and the word after it",
        ),
        Error::AliasReplayLimitExceeded { .. } | Error::Budget { .. } => (
            "the file is nested too deeply, or grows too large",
            "split it with `include`, use fewer aliases",
        ),
        _ => return explain_phrase(&bare_message(cause), at, mistakes),
    };
    mistakes.add(at, message, help);
}

fn explain_phrase(phrase: &str, at: At, mistakes: &mut Mistakes) {
    match PHRASES
        .iter()
        .find(|Phrase(known, ..)| phrase.contains(known))
    {
        Some(Phrase(_, message, help)) => mistakes.add(at, *message, *help),
        None => mistakes.add(
            at,
            format!("this is not valid YAML: {phrase}"),
            "look at the indentation, colons, quotes and brackets here and on the line above",
        ),
    }
}

/// The error's message without its place, which a diagnostic shows by itself.
fn bare_message(error: &Error) -> String {
    let message = error.to_string();
    let message = message.lines().next().unwrap_or_default();
    let end = message.find(" at line ").unwrap_or(message.len());
    message.get(..end).unwrap_or(message).to_owned()
}

/// Adds a mistake for every tab in an indentation; the parser reports only the first. Returns
/// whether there are any.
fn note_tabs(text: &str, file_idx: usize, mistakes: &mut Mistakes) -> bool {
    let mut any = false;
    for (line_idx, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        let Some(tab_idx) = line.get(..indent).and_then(|indent| indent.find('\t')) else {
            continue;
        };
        if indent < line.len() {
            let at = At::char(file_idx, line_idx + 1, tab_idx + 1);
            mistakes.add(
                at,
                "a tab in the indentation",
                "indent with spaces; YAML allows nothing else",
            );
            any = true;
        }
    }
    any
}
