//! Where log lines go.

/// To standard error, from `info` on.
pub(super) fn log_to_stderr() {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::level_filters::LevelFilter::INFO)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        // A log that nobody can read any more must not end the switch.
        .log_internal_errors(false);
    // It fails if there is a subscriber already, which then serves as well.
    let _ = subscriber.try_init();
}
