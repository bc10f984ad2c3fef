//! Front-ends' messages where there is no fuzzer. Alone in its process: what is left open is
//! counted.
#![forbid(unsafe_code)]

use weir_fuzz::messages;
use weir_fuzz::replay::{random, replay};

#[test]
fn messages_that_once_went_wrong_and_others_leave_nothing_behind() {
    replay("messages", messages::run);
    random("messages", 3_000, messages::run);
}
