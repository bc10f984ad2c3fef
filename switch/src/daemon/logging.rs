//! Log output.

/// Logs to standard error, from level `info` on.
pub(super) fn log_to_stderr() {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::level_filters::LevelFilter::INFO)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        // A closed log must not end the daemon.
        .log_internal_errors(false);
    // It fails if there is a subscriber already, which will do.
    let _ = subscriber.try_init();
}
