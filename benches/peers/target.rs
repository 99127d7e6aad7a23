//! What dmoci is to reach, and whether it does.

use std::time::Duration;

use crate::contender::Situation;
use crate::options::Section;
use crate::section::Outcome;
use crate::table::{Row, mebibytes, megabytes, ratio};

/// One target.
pub(crate) struct Target {
    /// What is wanted.
    pub(crate) wanted: &'static str,
    /// What was measured.
    pub(crate) measured: String,
    /// Whether that is enough.
    pub(crate) met: bool,
}

/// The targets that the outcomes say something about.
pub(crate) fn targets(outcomes: &[Outcome]) -> Vec<Target> {
    let of = |section: Section| outcomes.iter().filter(move |outcome| outcome.section == section);
    let mut targets = Vec::new();
    let cold = of(Section::Cold).next();
    if let Some((cold, own)) = cold.and_then(|cold| Some((cold, own(cold)?))) {
        targets.extend(named(cold, "umoci").into_iter().flat_map(|umoci| against_umoci(own, umoci)));
        targets.extend(named(cold, "tar").map(|pipe| {
            let measured = ratio(pipe.wall(), own.wall());
            let wanted = "cold: at least 2.5 times as fast as tar \\| pigz -6";
            Target { wanted, measured: format!("{measured:.2} ({})", own.who), met: measured >= 2.5 }
        }));
        if let Some(changed) = of(Section::Changed).next().and_then(plain)
            && let Some(cold) = plain(cold)
        {
            let measured = 100.0 * ratio(changed.wall(), cold.wall());
            let wanted = "one file of a small layer changed: under 5 % of cold";
            targets.push(Target { wanted, measured: format!("{measured:.2} %"), met: measured < 5.0 });
        }
    }
    if let Some(unchanged) = of(Section::Unchanged).next().and_then(plain) {
        let measured = unchanged.wall();
        let wanted = "nothing changed, 10,000 files: under 100 ms";
        let met = measured < Duration::from_millis(100);
        targets.push(Target { wanted, measured: format!("{:.1} ms", measured.as_secs_f64() * 1e3), met });
    }
    targets.extend(python(&of(Section::Python).collect::<Vec<_>>()));
    targets.extend(registry(&of(Section::Registry).collect::<Vec<_>>()));
    targets.extend(peak(outcomes));
    targets.extend(flat(&of(Section::Files).collect::<Vec<_>>()));
    targets
}

fn against_umoci(own: &Row, umoci: &Row) -> Vec<Target> {
    let faster = ratio(umoci.wall(), own.wall());
    let (size, theirs) = (own.size.unwrap_or_default(), umoci.size.unwrap_or_default());
    vec![
        Target {
            wanted: "cold: at least 1.4 times as fast as umoci insert",
            measured: format!("{faster:.2} ({})", own.who),
            met: faster >= 1.4,
        },
        Target {
            wanted: "cold: blobs no larger than umoci's",
            measured: format!("{} MB against {} MB", megabytes(size), megabytes(theirs)),
            met: size <= theirs,
        },
    ]
}

/// A Python application by its lock file.
fn python(outcomes: &[&Outcome]) -> Vec<Target> {
    let of =
        |situation: Situation| outcomes.iter().copied().find(move |outcome| outcome.situation == situation);
    let mut targets = Vec::new();
    if let Some((cold, own)) = of(Situation::Cold).and_then(|cold| Some((cold, plain(cold)?))) {
        let mut faster = |peer: &str, least: f64, wanted: &'static str| {
            let Some(theirs) = named(cold, peer) else { return };
            let measured = ratio(theirs.wall(), own.wall());
            targets.push(Target { wanted, measured: format!("{measured:.2}"), met: measured >= least });
        };
        faster("uv", 5.0, "Python, cold: at least 5 times as fast as uv pip install and tar \\| pigz -6");
        faster("docker build", 15.0, "Python, cold: at least 15 times as fast as docker build with pip");
    }
    if let Some(changed) = of(Situation::Changed).and_then(plain) {
        let measured = changed.wall();
        targets.push(Target {
            wanted: "Python, the application changed: under 300 ms, other layers with the same digests",
            // With others the build would have failed.
            measured: format!("{:.1} ms, the same", measured.as_secs_f64() * 1e3),
            met: measured < Duration::from_millis(300),
        });
    }
    targets
}

/// To a registry and from it, against the faster of the others.
fn registry(outcomes: &[&Outcome]) -> Vec<Target> {
    let mut targets = Vec::new();
    for outcome in outcomes {
        let (Some(own), Some(best)) =
            (plain(outcome), outcome.rows.iter().skip(1).min_by_key(|row| row.wall()))
        else {
            continue;
        };
        let wanted = match outcome.situation {
            Situation::Cold => {
                "push of 1 GB in 20 layers: at least as fast as the faster of skopeo copy and crane"
            }
            _ => "pull of 1 GB in 20 layers: at least as fast as the faster of skopeo copy and crane",
        };
        let measured = ratio(best.wall(), own.wall());
        targets.push(Target {
            wanted,
            measured: format!("{measured:.2} ({})", best.who),
            met: measured >= 1.0,
        });
    }
    targets
}

/// At any size.
fn peak(outcomes: &[Outcome]) -> Option<Target> {
    let rows = outcomes.iter().flat_map(|outcome| &outcome.rows).filter(|row| row.who.starts_with("dmoci"));
    let most = rows.map(Row::peak).max()?;
    Some(Target {
        wanted: "peak memory under 128 MiB in every row of dmoci",
        measured: format!("{} MiB", mebibytes(most)),
        met: most < 128 << 20,
    })
}

/// The largest tree may not cost more for each file than the cheapest one, but for a quarter.
fn flat(files: &[&Outcome]) -> Option<Target> {
    let cost = |outcome: &&Outcome| Some(plain(outcome)?.wall().as_secs_f64() * 1e6 / outcome.files as f64);
    let costs: Vec<f64> = files.iter().filter_map(cost).collect();
    let last = *costs.last()?;
    let least = costs.iter().copied().fold(f64::INFINITY, f64::min);
    Some(Target {
        wanted: "cost of a file flat: with the most files at most 1.25 times that of the cheapest size",
        measured: format!("{last:.1} µs, the least is {least:.1} µs"),
        met: last <= 1.25 * least,
    })
}

/// dmoci as it is.
fn plain(outcome: &Outcome) -> Option<&Row> {
    outcome.rows.first()
}

/// dmoci without SHA instructions, where it was measured.
fn own(outcome: &Outcome) -> Option<&Row> {
    named(outcome, "dmoci,").or_else(|| plain(outcome))
}

fn named<'a>(outcome: &'a Outcome, beginning: &str) -> Option<&'a Row> {
    outcome.rows.iter().find(|row| row.who.starts_with(beginning))
}
