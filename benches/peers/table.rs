//! Medians, and tables of them.

use std::fmt::Write as _;
use std::time::Duration;

use crate::launcher::Sample;

/// All that was measured of one contender in one situation.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Who.
    pub(crate) who: String,
    /// In the order of the rounds.
    pub(crate) samples: Vec<Sample>,
    /// Bytes of what was made, where that says something.
    pub(crate) size: Option<u64>,
}

impl Row {
    /// The median time.
    pub(crate) fn wall(&self) -> Duration {
        median(self.samples.iter().map(|sample| sample.wall))
    }

    /// The median of all processes' time.
    pub(crate) fn cpu(&self) -> Duration {
        median(self.samples.iter().map(|sample| sample.cpu))
    }

    /// The most memory of all rounds.
    pub(crate) fn peak(&self) -> u64 {
        self.samples.iter().map(|sample| sample.peak).max().unwrap_or(0)
    }
}

fn median(values: impl Iterator<Item = Duration>) -> Duration {
    let mut values: Vec<Duration> = values.collect();
    values.sort();
    let middle = values.len() / 2;
    match values.len() % 2 {
        _ if values.is_empty() => Duration::ZERO,
        0 => (values[middle - 1] + values[middle]) / 2,
        _ => values[middle],
    }
}

/// Rows below one another, with their time as a multiple of the first one's.
pub(crate) fn compared(rows: &[Row]) -> String {
    let mut text = String::from(
        "| | runs | wall s | least–most s | × dmoci | CPU s | peak MiB | MB |\n|---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    let first = rows.first().map_or(Duration::ZERO, Row::wall);
    for row in rows {
        let walls = || row.samples.iter().map(|sample| sample.wall);
        let (least, most) = (walls().min().unwrap_or_default(), walls().max().unwrap_or_default());
        let _ = writeln!(
            text,
            "| {} | {} | {} | {}–{} | {:.2} | {} | {} | {} |",
            row.who.replace('|', "\\|"),
            row.samples.len(),
            seconds(row.wall()),
            seconds(least),
            seconds(most),
            ratio(row.wall(), first),
            seconds(row.cpu()),
            mebibytes(row.peak()),
            row.size.map_or_else(|| "–".to_owned(), megabytes),
        );
    }
    text
}

/// How many times `b` goes into `a`.
pub(crate) fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64().max(1e-9)
}

/// Seconds with as many digits as tell something.
pub(crate) fn seconds(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 0.1 => format!("{seconds:.4}"),
        seconds if seconds < 10.0 => format!("{seconds:.3}"),
        seconds => format!("{seconds:.1}"),
    }
}

/// Bytes in units of 2^20.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

/// Bytes in units of 10^6.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.3}", bytes as f64 / 1e6)
}
