//! A metric of each of many things, and how it is written.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// A label's name and value.
pub(super) type Label<'a> = (&'a str, &'a str);
/// Takes the values of a metric, one by one, with labels beside those of the thing itself.
pub(super) type Sample<'a> = dyn FnMut(&[Label<'_>], Value) + 'a;

/// A metric that each thing of a kind has.
pub(super) struct Metric<T: 'static> {
    /// Without the `_total` of a counter.
    name: &'static str,
    kind: Kind,
    help: &'static str,
    /// Labels beside those of the thing itself; `label_NAME`: any with that in front.
    labels: &'static [&'static str],
    values: fn(&T, &mut Sample<'_>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

/// What a metric is at this time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    Whole(u64),
    Real(f64),
}

/// What has metrics.
pub(super) trait Subject {
    /// Names of the labels that all its metrics have.
    const LABELS: &'static [&'static str];

    /// Their values, in this order; empty: it has no such label.
    fn label_values(&self) -> [&str; 2];
}

/// A metric as people read of it.
#[cfg(test)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) labels: Vec<&'static str>,
    pub(crate) help: &'static str,
}

impl<T: Subject> Metric<T> {
    /// What only grows, until the daemon or what it counts starts anew.
    pub(super) const fn counter(
        name: &'static str,
        help: &'static str,
        values: fn(&T, &mut Sample<'_>),
    ) -> Self {
        Self::new(name, Kind::Counter, help, values)
    }

    /// What is so now.
    pub(super) const fn gauge(
        name: &'static str,
        help: &'static str,
        values: fn(&T, &mut Sample<'_>),
    ) -> Self {
        Self::new(name, Kind::Gauge, help, values)
    }

    const fn new(
        name: &'static str,
        kind: Kind,
        help: &'static str,
        values: fn(&T, &mut Sample<'_>),
    ) -> Self {
        Self {
            name,
            kind,
            help,
            labels: &[],
            values,
        }
    }

    /// With these labels, too.
    pub(super) const fn by(self, labels: &'static [&'static str]) -> Self {
        Self { labels, ..self }
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>, subjects: &[T]) -> fmt::Result {
        let kind = match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        for subject in subjects {
            let mut own = [("", ""); 2];
            let labels = T::LABELS.iter().zip(subject.label_values());
            let n_own = labels
                .filter(|(_, value)| !value.is_empty())
                .zip(&mut own)
                .map(|((&name, value), own)| *own = (name, value))
                .count();
            let mut written = Ok(());
            (self.values)(subject, &mut |more, value| {
                if written.is_ok() {
                    written = self.write(&mut metric, &own[..n_own], more, value);
                }
            });
            written?;
        }
        Ok(())
    }

    fn write(
        &self,
        metric: &mut MetricEncoder<'_>,
        own: &[Label<'_>],
        more: &[Label<'_>],
        value: Value,
    ) -> fmt::Result {
        let is_described =
            |(name, _): &Label<'_>| self.labels.contains(name) || name.starts_with("label_");
        debug_assert!(more.iter().all(is_described), "{}: {more:?}", self.name);
        let labels = (own, more);
        let mut metric = metric.encode_family(&labels)?;
        match (self.kind, value) {
            (Kind::Counter, Value::Whole(n)) => {
                metric.encode_counter::<NoLabelSet, _, u64>(&n, None)
            }
            (Kind::Counter, Value::Real(n)) => {
                metric.encode_counter::<NoLabelSet, _, u64>(&n, None)
            }
            (Kind::Gauge, Value::Whole(n)) => metric.encode_gauge(&n),
            (Kind::Gauge, Value::Real(n)) => metric.encode_gauge(&n),
        }
    }

    #[cfg(test)]
    fn describe(&self) -> Description {
        let (kind, suffix) = match self.kind {
            Kind::Counter => ("counter", "_total"),
            Kind::Gauge => ("gauge", ""),
        };
        Description {
            name: format!("{}{suffix}", self.name),
            kind,
            labels: [T::LABELS, self.labels].concat(),
            help: self.help,
        }
    }
}

/// Writes all `metrics` of all `subjects`.
pub(super) fn encode<T: Subject>(
    encoder: &mut DescriptorEncoder<'_>,
    metrics: &[Metric<T>],
    subjects: &[T],
) -> fmt::Result {
    metrics
        .iter()
        .try_for_each(|metric| metric.encode(encoder, subjects))
}

/// What these metrics are.
#[cfg(test)]
pub(super) fn describe<T: Subject>(metrics: &[Metric<T>]) -> Vec<Description> {
    metrics.iter().map(Metric::describe).collect()
}

/// A count.
pub(super) fn whole(n: impl Into<u64>) -> Value {
    Value::Whole(n.into())
}

/// A count of what lies in memory.
pub(super) fn size(n: usize) -> Value {
    Value::Whole(n as u64)
}

/// Nanoseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "exact up to a hundred days")]
pub(super) fn seconds(ns: u64) -> Value {
    Value::Real(ns as f64 / 1e9)
}

/// 1 if it is so, else 0.
pub(super) fn flag(is_so: bool) -> Value {
    Value::Whole(u64::from(is_so))
}
