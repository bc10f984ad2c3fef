use super::*;
use crate::vhost_user::refusal::Refusal;
use crate::vhost_user::view::{DeviceView, QueueView};

fn queue(index: usize, state: QueueState) -> QueueView {
    QueueView {
        index,
        size: Some(256),
        state,
        has_kick: true,
        has_call: true,
    }
}

fn connected(queues: Vec<QueueView>) -> LinkView {
    let device = DeviceView {
        features: Some(1),
        n_regions: 1,
        queues,
        ..DeviceView::default()
    };
    LinkView {
        is_connected: true,
        device,
        ..LinkView::default()
    }
}

#[test]
fn port_without_a_front_end_waits_and_says_what_happened_last() {
    let link = LinkView {
        waits_for: Some("nobody listens on /x".into()),
        ..LinkView::default()
    };
    assert_eq!(
        judge(&link, &[]),
        (
            State::Waiting,
            Some("waiting for guest: nobody listens on /x".into())
        )
    );
    let after = |end| {
        judge(
            &LinkView {
                last_end: Some(end),
                ..LinkView::default()
            },
            &[],
        )
        .1
        .unwrap()
    };
    assert!(after(LastEnd::Closed("half a message".into())).contains("half a message"));
    assert_eq!(
        after(LastEnd::Left("left after SET_FEATURES".into())),
        "waiting for guest (the last front-end left after SET_FEATURES)"
    );
}

#[test]
fn port_with_a_guest_says_what_is_missing() {
    let idle = || vec![queue(0, QueueState::Stopped), queue(1, QueueState::Stopped)];
    let says = |link: &LinkView| judge(link, &[]).1.unwrap();
    assert_eq!(
        says(&connected(idle())),
        "connected, guest's driver not started"
    );
    let mut link = connected(idle());
    link.device.n_regions = 0;
    link.negotiated_for = Some(Duration::from_millis(10));
    assert_eq!(
        says(&link),
        "connected, guest's driver not started",
        "it may be about to share its memory"
    );
    link.negotiated_for = Some(Duration::from_secs(2));
    assert_eq!(says(&link), NO_MEMORY);
    link.refusal = Some(Refusal {
        text: "too short".into(),
        is_memory: true,
    });
    assert_eq!(says(&link), format!("{NO_MEMORY} (too short)"));
}

#[test]
fn queue_that_stopped_is_named_with_the_reason() {
    let link = connected(vec![queue(0, QueueState::Runs), queue(1, QueueState::Runs)]);
    assert_eq!(judge(&link, &[]), (State::Up, None));
    let (state, why) = judge(&link, &[(1, GuestFault::HeadOutOfRange)]);
    assert_eq!(state, State::Impaired);
    assert_eq!(
        why.unwrap(),
        "queue 1 stopped: descriptor out of range in the available ring"
    );
    let link = connected(vec![
        queue(0, QueueState::Runs),
        queue(1, QueueState::Broken("it lies outside".into())),
    ]);
    assert_eq!(
        judge(&link, &[]),
        (
            State::Impaired,
            Some("queue 1 stopped: it lies outside".into())
        )
    );
}
