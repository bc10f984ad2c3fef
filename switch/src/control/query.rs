//! Parameters of a request's query, and pages of a list. A parameter that is not known here, is
//! given twice, or has a value that can't be used is refused by its name.

use axum::http::{StatusCode, Uri};
use utoipa::IntoParams;

use super::answer::{Json, Reading, Refused};
use crate::api::envelope::List;
use crate::api::problem::Code;

/// Items on a page, if the request doesn't say.
const LIMIT_DEFAULT: usize = 100;
/// The most items on a page.
pub(crate) const LIMIT_MAX: usize = 1000;
/// The parameters that choose a page.
const PAGE: [&str; 2] = ["limit", "after"];

/// A request's parameters, each at most once.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

/// The parameters that choose a page, for the description.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by name")]
pub(super) struct PageParams {
    /// Items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u16>,
    /// The `next` of the page before. Without it the first page is answered.
    after: Option<String>,
}

/// A page of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    limit: usize,
    /// The cursor of the item behind which it begins; none: it is the first page.
    after: Option<String>,
}

impl Query {
    /// Checks that there are no parameters.
    pub(super) fn none(uri: &Uri) -> Result<(), Refused> {
        Self::parse(uri, &[]).map(drop)
    }

    /// The parameters of `uri`, all of which are among `known`.
    pub(super) fn of(uri: &Uri, known: &[&str]) -> Result<Self, Refused> {
        Self::parse(uri, known)
    }

    /// The parameters of `uri`, all of which are among `known` or choose a page.
    pub(super) fn of_list(uri: &Uri, known: &[&str]) -> Result<Self, Refused> {
        Self::parse(uri, &[known, &PAGE].concat())
    }

    fn parse(uri: &Uri, known: &[&str]) -> Result<Self, Refused> {
        let text = uri.query().unwrap_or_default();
        let given: Vec<(String, String)> = form_urlencoded::parse(text.as_bytes())
            .into_owned()
            .collect();
        for (place, (name, _)) in given.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return Err(unknown(name, known));
            }
            if given[..place].iter().any(|(before, _)| before == name) {
                let why = format!("the parameter {name} is given more than once");
                return Err(bad(Code::RepeatedParameter, why).at(name));
            }
        }
        Ok(Self(given))
    }

    /// The value of a parameter; none: it isn't given.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let given = self.0.iter().find(|(given, _)| given == name);
        given.map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that has one of some values.
    pub(super) fn one_of<T: Copy>(
        &self,
        name: &str,
        values: &[(&str, T)],
    ) -> Result<Option<T>, Refused> {
        let Some(given) = self.get(name) else {
            return Ok(None);
        };
        if let Some((_, value)) = values.iter().find(|(text, _)| *text == given) {
            return Ok(Some(*value));
        }
        let known: Vec<_> = values.iter().map(|(text, _)| *text).collect();
        let why = format!(
            "{name} is one of {}, and not {}",
            known.join(", "),
            shown(given)
        );
        Err(bad(Code::BadValue, why).at(name))
    }

    /// The page that is asked for.
    pub(super) fn page(&self) -> Result<Page, Refused> {
        let limit = match self.get("limit") {
            None => LIMIT_DEFAULT,
            Some(text) => {
                let n = text.parse().ok().filter(|n| (1..=LIMIT_MAX).contains(n));
                let why = || {
                    format!(
                        "limit is a number from 1 to {LIMIT_MAX}, and not {}",
                        shown(text)
                    )
                };
                n.ok_or_else(|| bad(Code::BadValue, why()).at("limit"))?
            }
        };
        let after = self.get("after").map(str::to_owned);
        Ok(Page { limit, after })
    }
}

impl Page {
    /// This page of `items`, which are in their order. `cursor`: the name of an item's place.
    pub(super) fn of<T>(
        &self,
        reading: &Reading,
        items: Vec<T>,
        cursor: impl Fn(&T) -> String,
    ) -> Result<Json<List<T>>, Refused> {
        let begin = self.begin(|after| {
            let place = items.iter().position(|item| cursor(item) == after);
            place.map(|place| place + 1)
        })?;
        Ok(self.list(reading, items, begin, cursor, |items| items))
    }

    /// Where this page begins. `behind`: the place behind a cursor, as far as it is known.
    pub(super) fn begin(
        &self,
        behind: impl FnOnce(&str) -> Option<usize>,
    ) -> Result<usize, Refused> {
        match &self.after {
            None => Ok(0),
            Some(after) => behind(after).ok_or_else(|| gone(after)),
        }
    }

    /// The page of `items` that begins at this place, with those on it as `report` has them.
    pub(super) fn list<T, R>(
        &self,
        reading: &Reading,
        mut items: Vec<T>,
        begin: usize,
        cursor: impl Fn(&T) -> String,
        report: impl FnOnce(Vec<T>) -> Vec<R>,
    ) -> Json<List<R>> {
        let total = items.len();
        items.drain(..begin.min(total));
        let goes_on = items.len() > self.limit;
        items.truncate(self.limit);
        Json(List {
            topology: reading.topology(),
            next: items.last().filter(|_| goes_on).map(cursor),
            items: report(items),
            total,
        })
    }
}

fn gone(after: &str) -> Refused {
    let why = format!(
        "after names {}, which is not in this list, or not any more: list again without after",
        shown(after)
    );
    Refused::new(StatusCode::GONE, Code::CursorGone, why).at("after")
}

fn unknown(name: &str, known: &[&str]) -> Refused {
    let help = match (
        config::nearest(name, known.iter().copied()),
        known.is_empty(),
    ) {
        (Some(meant), _) => format!("did you mean {meant}?"),
        (None, false) => format!("known are {}", known.join(", ")),
        (None, true) => "this path takes none".to_owned(),
    };
    let why = format!("there is no parameter {}: {help}", shown(name));
    bad(Code::UnknownParameter, why).at(cut(name))
}

fn bad(code: Code, why: String) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, code, why)
}

/// A part of a request, quoted so that it can be printed, and not too long.
pub(super) fn shown(text: &str) -> String {
    format!("{:?}", cut(text))
}

fn cut(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::problem::Problem;

    fn query(text: &str) -> Result<Query, Box<Problem>> {
        let uri = format!("/v1/ports?{text}").parse().unwrap();
        Query::of_list(&uri, &["state", "vm"]).map_err(problem)
    }

    fn problem(refused: Refused) -> Box<Problem> {
        serde_json::from_str(&refused.to_json()).unwrap()
    }

    #[test]
    fn parameters_are_known_or_refused_by_name() {
        let found = query("vm=web&limit=3").unwrap();
        assert_eq!(
            (found.get("vm"), found.get("limit"), found.get("after")),
            (Some("web"), Some("3"), None)
        );
        for (text, code, at, part) in [
            ("vn=web", "unknown-parameter", "vn", "did you mean vm?"),
            (
                "x=1",
                "unknown-parameter",
                "x",
                "known are state, vm, limit, after",
            ),
            ("vm=a&vm=b", "repeated-parameter", "vm", "more than once"),
            ("=", "unknown-parameter", "", "no parameter \"\""),
        ] {
            let problem = query(text).unwrap_err();
            assert_eq!((problem.status, &*problem.code), (400, code), "{text}");
            assert_eq!(problem.at.as_deref(), Some(at), "{text}");
            assert!(problem.detail.contains(part), "{problem:?}");
        }
    }

    #[test]
    fn page_has_one_to_a_thousand_items() {
        let page = |text: &str| query(text).unwrap().page().map_err(problem);
        let said = |limit, after: Option<&str>| {
            Ok(Page {
                limit,
                after: after.map(str::to_owned),
            })
        };
        assert_eq!(page(""), said(100, None));
        assert_eq!(page("limit=1000&after=a%2Fb"), said(1000, Some("a/b")));
        for text in [
            "limit=0",
            "limit=1001",
            "limit=-1",
            "limit=",
            "limit=1e3",
            "limit=%FF",
        ] {
            let problem = page(text).unwrap_err();
            assert_eq!(problem.at.as_deref(), Some("limit"), "{text}");
            assert!(problem.detail.contains("from 1 to 1000"), "{problem:?}");
        }
    }

    #[test]
    fn value_that_is_not_known_says_which_are() {
        let values = [("up", 1), ("waiting", 2)];
        let one = |text: &str| {
            query(text)
                .unwrap()
                .one_of("state", &values)
                .map_err(problem)
        };
        assert_eq!((one("state=up"), one("")), (Ok(Some(1)), Ok(None)));
        let why = one("state=UP").unwrap_err().detail;
        assert_eq!(why, "state is one of up, waiting, and not \"UP\"");
    }

    #[test]
    fn long_or_odd_parts_of_a_request_can_be_printed() {
        let why = query(&format!("{}=1", "y".repeat(5000))).unwrap_err();
        assert!(why.detail.len() < 200, "{why:?}");
        let why = query("%1b%5b2J=1").unwrap_err().detail;
        assert!(!why.contains('\u{1b}'), "{why:?}");
    }
}
