//! What surrounds an answer: the topology's number, and where a list goes on.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Data<T> {
    /// Number of the topology that runs, counted from 1 at the daemon's start.
    pub(crate) topology: u64,
    pub(crate) data: T,
}

/// Some things of a list, or all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct List<T> {
    /// Number of the topology that runs, counted from 1 at the daemon's start.
    pub(crate) topology: u64,
    pub(crate) items: Vec<T>,
    /// How many there are on all pages.
    pub(crate) total: usize,
    /// The value of `after` for the next page. Absent: this is the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_page_has_no_next() {
        let list = List {
            topology: 1,
            items: vec![7],
            total: 1,
            next: None,
        };
        let text = serde_json::to_string(&list).unwrap();
        assert_eq!(text, r#"{"topology":1,"items":[7],"total":1}"#);
        assert_eq!(serde_json::from_str::<List<u8>>(&text).unwrap(), list);
    }
}
