//! Families of metrics as they are gathered, and their way into prometheus-client's encoder.
//!
//! A family is begun where its name is first told; order is kept. Knows no metric by name.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;

type Labels = Vec<(String, String)>;

/// One line or one histogram.
#[derive(Debug)]
enum Value {
    Number(f64),
    /// Count of each bucket with its upper bound, and the sum of all values.
    Buckets(Vec<(f64, u64)>, f64),
}

/// One family: a name, and what it is of.
#[derive(Debug)]
pub(super) struct Family {
    name: String,
    help: String,
    kind: MetricType,
    rows: Vec<(Labels, Value)>,
}

impl Family {
    /// A value.
    pub(super) fn of(&mut self, labels: &[(&str, &str)], value: f64) {
        self.rows.push((owned(labels), Value::Number(value)));
    }

    /// A histogram: what each bucket counts alone, by upper bound, and the sum of all values.
    pub(super) fn spread(&mut self, labels: &[(&str, &str)], buckets: Vec<(f64, u64)>, sum: f64) {
        self.rows.push((owned(labels), Value::Buckets(buckets, sum)));
    }
}

fn owned(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// All families.
#[derive(Debug, Default)]
pub(super) struct Page(Vec<Family>);

impl Page {
    /// A count that never falls; its lines end in `_total`.
    pub(super) fn counter(&mut self, name: &str, help: &str) -> &mut Family {
        self.family(name, help, MetricType::Counter)
    }

    /// A value of the moment.
    pub(super) fn gauge(&mut self, name: &str, help: &str) -> &mut Family {
        self.family(name, help, MetricType::Gauge)
    }

    /// Counts by size.
    pub(super) fn histogram(&mut self, name: &str, help: &str) -> &mut Family {
        self.family(name, help, MetricType::Histogram)
    }

    fn family(&mut self, name: &str, help: &str, kind: MetricType) -> &mut Family {
        let at = self.0.iter().position(|family| family.name == name).unwrap_or(self.0.len());
        if at == self.0.len() {
            self.0.push(Family { name: name.to_owned(), help: format!("{help}."), kind, rows: Vec::new() });
        }
        #[expect(clippy::indexing_slicing, reason = "it was found there, or has just been put there")]
        &mut self.0[at]
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.0 {
            let mut lines = encoder.encode_descriptor(&family.name, &family.help, None, family.kind)?;
            for (labels, value) in &family.rows {
                if labels.is_empty() {
                    line(family.kind, value, &mut lines)?;
                } else {
                    line(family.kind, value, &mut lines.encode_family(labels)?)?;
                }
            }
        }
        Ok(())
    }
}

fn line(kind: MetricType, value: &Value, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
    match value {
        Value::Number(number) if matches!(kind, MetricType::Counter) => {
            // Whole numbers are written whole.
            if number.fract() == 0.0 {
                encoder.encode_counter::<Labels, u64, f64>(&(*number as u64), None)
            } else {
                encoder.encode_counter::<Labels, f64, f64>(number, None)
            }
        }
        Value::Number(number) => encoder.encode_gauge(number),
        Value::Buckets(buckets, sum) => {
            let count = buckets.iter().map(|(_, count)| count).sum();
            encoder.encode_histogram::<Labels>(*sum, count, buckets, None)
        }
    }
}
