//! The page: one file, whose script asks for the report and for nothing else.

/// The hash of the script, as a policy has it; a test says what it has to be.
const SCRIPT_HASH: &str = "sha256-kIDMtlL4buSs7XAjSKVGxGrg3Mai66i5dTeK7z3zgpc=";
/// The hash of the style, likewise.
const STYLE_HASH: &str = "sha256-zTestgzxYhzr3l7i9KhKhc/1yWjjLqloZ223TxsPX8g=";

/// What stands between the parts.
macro_rules! script {
    () => {
        concat!(
            "\"use strict\";\n",
            include_str!("files/format.js"),
            include_str!("files/cells.js"),
            include_str!("files/table.js"),
            include_str!("files/rows.js"),
            include_str!("files/tables.js"),
            include_str!("files/report.js"),
            include_str!("files/detail.js"),
            include_str!("files/page.js")
        )
    };
}

macro_rules! style {
    () => {
        concat!(
            include_str!("files/table.css"),
            include_str!("files/page.css")
        )
    };
}

/// The page. Nothing in it depends on the switch: what is shown comes by the report, as text.
pub(super) const PAGE: &str = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta \
     name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>weir</title>\n\
     <link rel=\"icon\" href=\"data:,\">\n<style>",
    style!(),
    "</style>\n</head>\n<body>\n",
    include_str!("files/page.html"),
    "<script>",
    script!(),
    "</script>\n</body>\n</html>\n"
);

/// What the browser may do for the page: run its script, apply its style, ask where it came from.
pub(super) fn policy() -> String {
    format!(
        "default-src 'none'; script-src '{SCRIPT_HASH}'; style-src '{STYLE_HASH}'; connect-src \
         'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use sha2::{Digest, Sha256};

    use super::*;

    fn hash(text: &str) -> String {
        format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(text)))
    }

    #[test]
    fn policy_lets_the_pages_own_script_and_style_in() {
        assert_eq!(
            (SCRIPT_HASH, STYLE_HASH),
            (&*hash(script!()), &*hash(style!())),
            "the page has changed: put the hashes on the right into SCRIPT_HASH and STYLE_HASH"
        );
    }

    #[test]
    fn page_names_nothing_elsewhere_and_makes_no_html_of_text() {
        for (part, why) in [
            ("://", "an address elsewhere"),
            ("src=", "another file"),
            ("@import", "another file"),
            ("url(", "another file"),
            ("innerHTML", "text read as HTML"),
            ("outerHTML", "text read as HTML"),
            ("insertAdjacentHTML", "text read as HTML"),
            ("document.write", "text read as HTML"),
            ("eval(", "text run as a program"),
        ] {
            assert!(!PAGE.contains(part), "{part}: {why}");
        }
        for tag in ["<script>", "</script>", "<style>", "</style>", "</body>"] {
            assert_eq!(PAGE.matches(tag).count(), 1, "{tag} once");
        }
    }
}
