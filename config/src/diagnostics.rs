//! Diagnostics of a topology file, printed as a compiler prints them: message, excerpt, help.
//!
//! [`crate::context::Mistakes`] makes a [`Report`]. It is bounded in size and prints no control
//! characters, whatever the file contains.

use std::fmt;

/// Mistakes that a report has at most.
pub(crate) const MISTAKES_MAX: usize = 1000;
/// Characters of a source line in an excerpt; a longer line is cut around the mistake.
const LINE_CHARS_MAX: usize = 120;
/// Characters of a user's word that a message quotes.
const WORD_CHARS_MAX: usize = 60;

/// All mistakes of a topology file and the files it includes; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    diagnostics: Vec<Diagnostic>,
}

impl Report {
    pub(crate) fn new(diagnostics: Vec<Diagnostic>) -> Self {
        Self { diagnostics }
    }

    /// The mistakes, ordered by file (the main one first), line and column.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.diagnostics {
            writeln!(f, "{diagnostic}")?;
        }
        match self.diagnostics.len() {
            1 => write!(f, "1 error"),
            MISTAKES_MAX => write!(f, "{MISTAKES_MAX} errors, and perhaps more"),
            n => write!(f, "{n} errors"),
        }
    }
}

impl std::error::Error for Report {}

/// One mistake: where, what, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    file: String,
    /// Zero where the mistake concerns the whole file.
    line: usize,
    column: usize,
    message: String,
    help: String,
    excerpt: Option<Excerpt>,
}

impl Diagnostic {
    /// `file`: name of the file of `at`; `line`: text of the line of `at`.
    pub(crate) fn new(at: At, file: &str, line: &str, message: &str, help: &str) -> Self {
        let message = match at.written_on {
            Some(line) => format!("{message} (written on line {line})"),
            None => message.to_owned(),
        };
        // Here and not in each caller: a message may quote any part of the file.
        let printable = |text: &str| text.chars().map(printable).collect::<String>();
        Self {
            file: printable(file),
            line: at.line,
            column: at.column,
            message: printable(&message),
            help: printable(help),
            excerpt: (at.line > 0).then(|| Excerpt::new(line, at)),
        }
    }

    /// Name of the file, as on the command line or found by an include.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line, from 1; 0 if the mistake concerns the whole file, for instance that it can't be
    /// read.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The column in characters, from 1; 0 if the mistake concerns the whole file.
    pub fn column(&self) -> usize {
        self.column
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to write instead.
    pub fn help(&self) -> &str {
        &self.help
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        let margin = self.line.to_string().len();
        if let Some(excerpt) = &self.excerpt {
            let (indent, carets) = (" ".repeat(excerpt.caret_idx), "^".repeat(excerpt.n_carets));
            writeln!(
                f,
                "{:margin$}--> {}:{}:{}",
                "", self.file, self.line, self.column
            )?;
            writeln!(f, "{:margin$} |", "")?;
            writeln!(f, "{} | {}", self.line, excerpt.text)?;
            writeln!(f, "{:margin$} | {indent}{carets}", "")?;
        } else {
            writeln!(f, "{:margin$}--> {}", "", self.file)?;
        }
        writeln!(f, "{:margin$} = help: {}", "", self.help)
    }
}

/// A printable source line of at most [`LINE_CHARS_MAX`] characters, and where the carets go below
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Excerpt {
    text: String,
    caret_idx: usize,
    n_carets: usize,
}

impl Excerpt {
    fn new(line: &str, at: At) -> Self {
        let column_idx = at.column.saturating_sub(1);
        let skip = if column_idx > LINE_CHARS_MAX * 3 / 4 {
            column_idx - LINE_CHARS_MAX / 2
        } else {
            0
        };
        let text: String = line
            .chars()
            .skip(skip)
            .take(LINE_CHARS_MAX)
            .map(printable)
            .collect();
        let text = text.trim_end().to_owned();
        let caret_idx = column_idx - skip;
        let room = text.chars().count().saturating_sub(caret_idx).max(1);
        Self {
            text,
            caret_idx,
            n_carets: at.n_chars.clamp(1, room),
        }
    }
}

/// A place in a file. Lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// Index of the file, as [`crate::context::Mistakes`] gives it.
    pub(crate) file_idx: usize,
    /// Zero: the whole file.
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) n_chars: usize,
    /// The line of the value itself, where an alias or a merge refers to it.
    pub(crate) written_on: Option<usize>,
}

impl At {
    /// The whole file.
    pub(crate) fn file(file_idx: usize) -> Self {
        Self {
            file_idx,
            line: 0,
            column: 0,
            n_chars: 0,
            written_on: None,
        }
    }

    /// One character.
    pub(crate) fn char(file_idx: usize, line: usize, column: usize) -> Self {
        Self {
            file_idx,
            line,
            column,
            n_chars: 1,
            written_on: None,
        }
    }
}

/// A word of the file for use in a message: printable, at most [`WORD_CHARS_MAX`] characters.
pub(crate) fn shown(word: &str) -> String {
    let mut shown: String = word.chars().take(WORD_CHARS_MAX).map(printable).collect();
    if word.chars().nth(WORD_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// Replaces characters that would control the terminal.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        // Bidirectional marks could make a line look like another.
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Mistakes;

    fn at(line: usize, column: usize, n_chars: usize) -> At {
        At {
            n_chars,
            ..At::char(0, line, column)
        }
    }

    fn report(text: &str, places: &[At]) -> String {
        let mut mistakes = Mistakes::default();
        mistakes.add_file("weir.yaml".into(), text.into());
        for &place in places {
            mistakes.add(place, "wrong", "right");
        }
        mistakes.conclude(None::<()>).unwrap_err().to_string()
    }

    #[test]
    fn report_shows_the_line_and_points_at_the_mistake() {
        let expected = "\
error: wrong
  --> weir.yaml:12:5
   |
12 | idle: always
   |     ^^^
   = help: right

1 error";
        assert_eq!(
            report(
                &format!("{}idle: always\n", "\n".repeat(11)),
                &[at(12, 5, 3)]
            ),
            expected
        );
    }

    #[test]
    fn report_is_in_the_order_of_lines_and_says_nothing_twice() {
        let report = report("a\nb\n", &[at(2, 1, 1), at(1, 1, 1), at(2, 1, 1)]);
        assert!(report.find(":1:1").unwrap() < report.find(":2:1").unwrap());
        assert!(report.ends_with("2 errors"), "{report}");
    }

    #[test]
    fn mistake_of_a_whole_file_shows_no_line() {
        assert_eq!(
            report("", &[At::file(0)]),
            "error: wrong\n --> weir.yaml\n  = help: right\n\n1 error"
        );
    }

    #[test]
    fn carets_stay_under_a_tabbed_or_long_line() {
        assert!(report("a:\tbc", &[at(1, 4, 2)]).contains("1 | a: bc\n  |    ^^\n"));
        let long = format!("{}WRONG{}", "x".repeat(5000), "y".repeat(5000));
        let report = report(&long, &[at(1, 5001, 5)]);
        let lines: Vec<_> = report.lines().collect();
        assert!(lines[3].len() < 150);
        assert_eq!(lines[3].find("WRONG"), lines[4].find("^^^^^"));
    }

    #[test]
    fn lines_end_as_yaml_ends_them() {
        let report = report("a\r\nb\rc\nd", &[at(2, 1, 1), at(3, 1, 1), at(4, 1, 9)]);
        for line in ["2 | b\n", "3 | c\n", "4 | d\n  | ^\n"] {
            assert!(report.contains(line), "{report}");
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert!(!report("a: \x1b[31mred\u{202e}", &[at(1, 4, 1)]).contains(['\x1b', '\u{202e}']));
        assert_eq!(shown("a\x1bb"), "a\u{fffd}b");
        assert_eq!(shown(&"x".repeat(100)).chars().count(), WORD_CHARS_MAX + 1);
    }

    #[test]
    fn place_outside_the_file_is_survived() {
        assert!(report("a", &[at(99, 7, 3)]).contains("weir.yaml:99:7"));
    }

    #[test]
    fn value_without_a_mistake_is_the_result() {
        assert_eq!(Mistakes::default().conclude(Some(5)), Ok(5));
        assert!(Mistakes::default().conclude(None::<()>).is_err());
    }
}
