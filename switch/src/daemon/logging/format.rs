//! What a line of the log looks like: text for people, JSON for programs. Under systemd's journal,
//! which has both in fields of its own, without a time stamp and with its level in front.

use std::fmt::{self, Write};
use std::io::{self, IsTerminal};

use tracing::field::Field;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, JsonFields, Writer};
use tracing_subscriber::fmt::{self as lines, FmtContext};
use tracing_subscriber::registry::LookupSpan;

use super::queue::Queue;
use crate::base::journal;
use crate::base::log::LogFormat;

/// Fields that programs want; for people they are in the message.
const IN_THE_MESSAGE: &[&str] = &["port", "suppressed", "lines", "cpu", "thread", "seconds"];

type Lines<S> = Box<dyn Layer<S> + Send + Sync>;

/// Writes events as lines into `queue`.
pub(super) fn layer<S>(format: LogFormat, is_journal: bool, queue: Queue) -> Lines<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let base = lines::layer()
        .with_ansi(io::stderr().is_terminal() && format == LogFormat::Text)
        .with_writer(queue)
        // What can't be formatted must not end the daemon.
        .log_internal_errors(false);
    let text = format::format().with_target(false);
    let json = || {
        let json = format::json().flatten_event(true);
        json.with_current_span(false).with_span_list(false)
    };
    let fields = format::debug_fn(write_field);
    match (format, is_journal) {
        (LogFormat::Text, false) => base.fmt_fields(fields).event_format(text).boxed(),
        (LogFormat::Text, true) => {
            let text = Prefixed(text.without_time().with_level(false));
            base.fmt_fields(fields).event_format(text).boxed()
        }
        (LogFormat::Json, false) => base
            .fmt_fields(JsonFields::new())
            .event_format(json())
            .boxed(),
        (LogFormat::Json, true) => {
            let json = Prefixed(json().without_time());
            base.fmt_fields(JsonFields::new())
                .event_format(json)
                .boxed()
        }
    }
}

/// The message, and fields that are not in it. A control character is written as its escape: one
/// event is one line, whatever names are in it.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match field.name() {
        "message" => write!(Escaped(writer), "{value:?}"),
        name if IN_THE_MESSAGE.contains(&name) => Ok(()),
        name => write!(Escaped(writer), " {name}={value:?}"),
    }
}

struct Escaped<'a, 'b>(&'a mut Writer<'b>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| match c {
            c if c.is_control() => write!(self.0, "{}", c.escape_default()),
            c => self.0.write_char(c),
        })
    }
}

/// A format, with the level in front as the journal reads it.
struct Prefixed<F>(F);

impl<S, N, F> FormatEvent<S, N> for Prefixed<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str(journal::prefix(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}
