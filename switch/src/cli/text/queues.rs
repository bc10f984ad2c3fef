//! `show queues`.

use crate::api::queue::RxQueueReport;
use crate::cli::format::{align, percent};

/// `show queues`.
pub(crate) fn queues(queues: &[RxQueueReport]) -> String {
    if queues.is_empty() {
        return "no port is up, so there are no queues\n".to_owned();
    }
    let head = [
        "PORT", "KIND", "QUEUE", "CPU", "OF CPU", "FRAMES/S", "NS/FRAME", "FRAMES",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(queues.iter().map(|queue| {
        let arrow = if queue.is_moving { "to " } else { "" };
        let cpu = queue
            .cpu
            .map_or_else(|| "-".to_owned(), |cpu| format!("{arrow}{cpu}"));
        vec![
            queue.port.clone(),
            queue.kind.text().to_owned(),
            queue.index.to_string(),
            cpu,
            percent(queue.load.busy_ratio),
            format!("{:.0}", queue.load.frames_per_second),
            format!("{:.0}", queue.load.nanoseconds_per_frame),
            queue.rx_frames.to_string(),
        ]
    }));
    align(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::example;

    #[test]
    fn part_of_the_cpu_is_said_in_percent_and_a_move_by_where_it_goes() {
        let mut moving = example::rx_queue();
        moving.is_moving = true;
        moving.port = "db/net0".to_owned();
        let text = queues(&[example::rx_queue(), moving]);
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace()).collect();
        let lines: Vec<Vec<_>> = lines.into_iter().map(Iterator::collect).collect();
        assert_eq!(
            lines[1],
            [
                "web/net0",
                "vhost-user",
                "1",
                "2",
                "12.5",
                "%",
                "121250",
                "1031",
                "1818753"
            ]
        );
        assert_eq!(lines[2][..5], ["db/net0", "vhost-user", "1", "to", "2"]);
    }
}
