//! The only place that prints.
//!
//! Results go to standard output, talk goes to standard error. Names that come from elsewhere cannot
//! move the cursor, forge a line or reverse the text: see [`escape`].

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::{Display, Write as _};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use clap::ColorChoice;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::diagnostic::{Exit, Failure, Place, shown};
use crate::limits;

/// Everything that one run of the program says. All methods can be called from several threads.
pub(crate) struct Report {
    quiet: bool,
    verbose: bool,
    /// Colours on standard error.
    styled: bool,
    bars: MultiProgress,
    out: Mutex<Output>,
}

/// Standard output and how it fares.
struct Output {
    writer: Box<dyn Write + Send>,
    /// The reader went away, as `head` does: nothing more is written, and that is no error.
    closed: bool,
    /// The first true error.
    error: Option<io::Error>,
}

impl Report {
    /// A report to the two standard streams.
    pub(crate) fn new(quiet: bool, verbose: bool, color: ColorChoice) -> Report {
        let color = match color {
            ColorChoice::Auto => anstream::ColorChoice::Auto,
            ColorChoice::Always => anstream::ColorChoice::Always,
            ColorChoice::Never => anstream::ColorChoice::Never,
        };
        let styled = match color {
            anstream::ColorChoice::Auto => AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never,
            chosen => chosen == anstream::ColorChoice::Always,
        };
        let bars = MultiProgress::with_draw_target(if quiet || !io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        });
        let out = Output { writer: Box::new(BufWriter::new(io::stdout())), closed: false, error: None };
        Report { quiet, verbose, styled, bars, out: Mutex::new(out) }
    }

    /// A status line: a right-aligned verb and what it is about. Not shown with `--quiet`.
    pub(crate) fn status(&self, verb: &str, message: impl Display) {
        if !self.quiet {
            self.verb(verb, AnsiColor::BrightGreen.on_default().bold(), &message.to_string());
        }
    }

    /// A status line that is shown only with `--verbose`.
    pub(crate) fn detail(&self, verb: &str, message: impl Display) {
        if self.verbose {
            self.verb(verb, AnsiColor::BrightCyan.on_default().bold(), &message.to_string());
        }
    }

    /// `warning: …`, shown with `--quiet` too.
    #[allow(dead_code, reason = "for commands that are still to come")]
    pub(crate) fn warning(&self, message: impl Display) {
        let yellow = AnsiColor::Yellow.on_default().bold();
        let head = self.paint(yellow, "warning");
        self.say(&format!("{head}: {}\n", escape(&shown::message(message.to_string()))));
    }

    /// A progress bar over `total` bytes, drawn only on a terminal. Can be shared by threads; when it is
    /// dropped it is gone.
    pub(crate) fn progress(&self, verb: &str, total: u64) -> Progress {
        let bar = self.bars.add(ProgressBar::new(total));
        let template =
            "{prefix:>12.bright.cyan.bold} [{bar:27}] {bytes}/{total_bytes} {binary_bytes_per_sec} {msg}";
        if let Ok(style) = ProgressStyle::with_template(if self.styled {
            template
        } else {
            "{prefix:>12} [{bar:27}] {bytes}/{total_bytes} {binary_bytes_per_sec} {msg}"
        }) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(verb.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Progress(bar)
    }

    /// One line of results on standard output; control characters in it are escaped, so it stays one line.
    pub(crate) fn data(&self, line: impl Display) {
        let line = line.to_string();
        self.raw(format!("{}\n", escape(&line)).as_bytes());
    }

    /// Results with a line each: kind, name, digest, in columns.
    pub(crate) fn rows(&self, rows: &[(&str, String, String)]) {
        let width = rows.iter().map(|(_, name, _)| escape(name).chars().count()).max().unwrap_or(0);
        for (kind, name, digest) in rows {
            self.data(format!("{kind:<8}  {:<width$}  {digest}", escape(name)));
        }
    }

    /// Bytes on standard output exactly as they are: only for what we made ourselves.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        self.out().write(bytes);
    }

    /// A JSON document on standard output, for people and programs: indented, with a newline.
    pub(crate) fn json(&self, value: &serde_json::Value) {
        // Raw in JSON strings these are allowed, and still they would reach a terminal.
        let text = format!("{value:#}\n");
        let mut safe = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '\u{7f}'..='\u{9f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}' => {
                    safe.push_str(&format!("\\u{:04x}", u32::from(c)));
                }
                c => safe.push(c),
            }
        }
        self.raw(safe.as_bytes());
    }

    /// True when nobody reads standard output any more, so long lists may stop.
    #[allow(dead_code, reason = "for commands that are still to come")]
    pub(crate) fn nobody_listens(&self) -> bool {
        let out = self.out();
        out.closed || out.error.is_some()
    }

    /// An error as users see it.
    pub(crate) fn failure(&self, failure: &Failure) {
        let text = render(failure, self.styled);
        self.say(&text);
    }

    /// Ends the run: prints its error, writes what is left, and says what to exit with.
    pub(crate) fn end(&self, outcome: Result<Exit, Failure>) -> Exit {
        let mut exit = match outcome {
            Ok(exit) => exit,
            Err(failure) => {
                self.failure(&failure);
                failure.exit
            }
        };
        let error = {
            let mut out = self.out();
            out.flush();
            out.error.take()
        };
        if let Some(error) = error {
            self.failure(&Failure {
                code: "E-OUTPUT",
                exit: Exit::Undecided,
                message: "cannot write to standard output".to_owned(),
                causes: vec![error.to_string()],
                places: Vec::new(),
                help: None,
            });
            exit = exit.worst(Exit::Undecided);
        }
        exit
    }

    fn verb(&self, verb: &str, style: Style, message: &str) {
        let head = self.paint(style, &format!("{verb:>12}"));
        self.say(&format!("{head} {}\n", escape(&shown::masked(message))));
    }

    fn paint(&self, style: Style, text: &str) -> String {
        paint(self.styled, style, text)
    }

    /// Writes to standard error above the progress bars. When that fails there is no one left to tell.
    fn say(&self, text: &str) {
        self.bars.suspend(|| {
            let _ = io::stderr().lock().write_all(text.as_bytes());
        });
    }

    fn out(&self) -> MutexGuard<'_, Output> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Output {
    fn write(&mut self, bytes: &[u8]) {
        if !self.closed && self.error.is_none() {
            let result = self.writer.write_all(bytes);
            self.note(result);
        }
    }

    fn flush(&mut self) {
        if !self.closed && self.error.is_none() {
            let result = self.writer.flush();
            self.note(result);
        }
    }

    fn note(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.closed = true,
            Err(error) => self.error = Some(error),
        }
    }
}

/// A progress bar. Methods can be called from several threads.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// So many more bytes are done.
    pub(crate) fn inc(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// So many bytes more are to be done.
    pub(crate) fn inc_total(&self, bytes: u64) {
        self.0.inc_length(bytes);
    }

    /// What is being worked on, shown behind the bar.
    #[allow(dead_code, reason = "for commands that are still to come")]
    pub(crate) fn about(&self, message: &str) {
        self.0.set_message(escape(message).into_owned());
    }

    /// The bar goes away.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The text of an error: what and where, the causes, what to do.
pub(crate) fn render(failure: &Failure, styled: bool) -> String {
    let red = AnsiColor::BrightRed.on_default().bold();
    let bold = Style::new().bold();
    let cyan = AnsiColor::BrightCyan.on_default().bold();
    let mut text = paint(styled, red, &format!("error[{}]", failure.code));
    let whole = |text: &str| shown::message(text.to_owned());
    let message = paint(styled, bold, &escape(&whole(&failure.message)));
    let _ = writeln!(text, ": {message}");
    for excerpt in excerpts(&failure.places) {
        text.push_str(&excerpt.render(styled));
    }
    for cause in &failure.causes {
        let _ = writeln!(text, "  {}: {}", paint(styled, bold, "caused by"), lines(&whole(cause), 13));
    }
    if let Some(help) = &failure.help {
        let _ = writeln!(text, "{}: {}", paint(styled, cyan, "help"), lines(&whole(help), 6));
    }
    text
}

/// More labels under one line would stand as a ladder below it.
const LABELS: usize = 3;

/// Places in one file that are shown together; the first is the main one.
struct Excerpt<'a>(Vec<&'a Place>);

/// One excerpt for each file, in the order of their first places; more where a line has too many labels for one.
fn excerpts(places: &[Place]) -> Vec<Excerpt<'_>> {
    let mut groups = Vec::new();
    for (i, first) in places.iter().enumerate() {
        if places[..i].iter().any(|place| place.file == first.file) {
            continue;
        }
        let here: Vec<&Place> = places.iter().filter(|place| place.file == first.file).collect();
        let mut rest = &here[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(fitting(&first.text, rest));
            groups.push(Excerpt(now.to_vec()));
            rest = later;
        }
    }
    groups
}

/// How many of the places fit into one excerpt; at least one, when there is one.
fn fitting(text: &str, places: &[&Place]) -> usize {
    let mut labels: HashMap<usize, usize> = HashMap::new();
    let mut lines = 0..0;
    let too_many = |place: &&Place| {
        let span = inside(text, place);
        let line = text[..span.start].rfind('\n').unwrap_or(0);
        let count = labels.entry(line).or_default();
        *count += usize::from(!place.label.is_empty());
        let other = window(text, std::iter::once(span));
        lines = match lines.is_empty() {
            true => other,
            false => lines.start.min(other.start)..lines.end.max(other.end),
        };
        *count > LABELS || lines.len() > limits::EXCERPT_BYTES
    };
    places.iter().position(too_many).unwrap_or(places.len()).max(1)
}

impl Excerpt<'_> {
    /// The lines with their labels; only where they are when they are too long. User and password of addresses are hidden.
    fn render(&self, styled: bool) -> String {
        let Some(first) = self.0.first() else { return String::new() };
        let text = &*first.text;
        let spans = || self.0.iter().map(|place| inside(text, place));
        let window = window(text, spans());
        let path = escape(&first.file.to_string_lossy()).into_owned();
        let label = |place: &Place| escape(&shown::message(place.label.clone())).into_owned();
        if window.len() > limits::EXCERPT_BYTES {
            let labels: Vec<String> = self.0.iter().map(|place| label(place)).collect();
            return format!(" --> {path}:{} {}", first.line(), labels.join(", ")).trim_end().to_owned()
                + "\n";
        }
        let above = text[..window.start].matches('\n').count();
        let source = &text[window.clone()];
        let hidden = shown::user_infos(source);
        let mut snippet = Snippet::source(shown::masked(source)).line_start(above + 1).path(path);
        for (i, (place, span)) in self.0.iter().zip(spans()).enumerate() {
            let kind = if i == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            let moved = |at: usize| shown::moved(at - window.start, &hidden);
            let annotation = kind.span(moved(span.start)..moved(span.end));
            snippet = snippet.annotation(match place.label.is_empty() {
                true => annotation,
                false => annotation.label(label(place)),
            });
        }
        let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
        let group = Group::with_level(Level::ERROR).element(snippet);
        format!("{}\n", renderer.decor_style(DecorStyle::Ascii).render(&[group]))
    }
}

/// The lines that hold all spans: the renderer is slow with more.
fn window(text: &str, spans: impl Iterator<Item = Range<usize>> + Clone) -> Range<usize> {
    let start = spans.clone().map(|span| span.start).min().unwrap_or(0);
    let end = spans.map(|span| span.end).max().unwrap_or(0);
    let first = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let last = text[end..].find('\n').map_or(text.len(), |at| end + at + 1);
    first..last
}

/// The span of `place`, moved inside `text` and onto the borders of characters.
fn inside(text: &str, place: &Place) -> Range<usize> {
    let border =
        |at: usize| (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let start = border(place.span.start);
    start..border(place.span.end).max(start)
}

/// Several lines below one another, each escaped and those after the first indented.
fn lines(text: &str, indent: usize) -> String {
    let mut shown = String::new();
    for (i, line) in text.trim_end().split('\n').enumerate() {
        if i > 0 {
            let _ = write!(shown, "\n{:indent$}", "");
        }
        shown.push_str(&escape(line));
    }
    shown
}

fn paint(styled: bool, style: Style, text: &str) -> String {
    if styled { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

/// The text with everything written out that a terminal would obey instead of show: control characters
/// (newlines too), and the marks that reorder or hide text.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    let bad = |c: char| {
        (c.is_control() && c != '\t')
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if bad(c) {
            let _ = write!(shown, "{}", c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn threads_can_share_them() {
        fn shared<T: Sync + Send>() {}
        shared::<Report>();
        shared::<Progress>();
    }

    #[test]
    fn terminals_cannot_be_fooled() {
        assert_eq!(escape("plain ü\t"), "plain ü\t");
        assert_eq!(escape("a\u{1b}[2Jb\nerror: x\u{202e}\u{7f}"), "a\\u{1b}[2Jb\\nerror: x\\u{202e}\\u{7f}");
    }

    #[test]
    fn no_ladder_of_labels() {
        let text: Arc<str> = "a b c d e\n".into();
        let place = |at: usize| Place {
            file: "x".into(),
            text: text.clone(),
            span: at..at + 1,
            label: format!("label {at}"),
        };
        let places: Vec<Place> = [0, 2, 4, 6, 8].map(place).into();
        let lengths = |places: &[Place]| -> Vec<usize> {
            excerpts(places).iter().map(|excerpt| excerpt.render(false).matches("label ").count()).collect()
        };
        assert_eq!(lengths(&places), [3, 2]);
        assert_eq!(lengths(&places[..3]), [3]);
    }

    #[test]
    fn what_is_secret_or_endless_is_not_shown() {
        let place = |text: &str, word: &str, label: &str| {
            let start = text.find(word).unwrap();
            let span = start..start + word.len();
            Place { file: "x".into(), text: text.into(), span, label: label.to_owned() }
        };
        let shown = |places: Vec<Place>| {
            let message = format!("https://u:secret@h/{}", "m".repeat(1 << 20));
            render(
                &Failure { code: "E-IO", exit: Exit::Usage, message, causes: vec![], places, help: None },
                false,
            )
        };
        let line = "-i https://me:secret@h.example/x wrong\n";
        let text = shown(vec![place(line, "wrong", "see https://secret@i/")]);
        assert!(text.len() < 2 * limits::MESSAGE_BYTES && !text.contains("secret"), "{text}");
        let excerpt =
            "1 | -i https://***@h.example/x wrong\n  |                            ^^^^^ see https://***@i/\n";
        assert!(text.contains(excerpt), "{text}");

        let long = format!("\n{} end", "x".repeat(1 << 20));
        let text = shown(vec![place(&long, "end", "here")]);
        assert!(text.len() < 2 * limits::MESSAGE_BYTES && text.ends_with("\n --> x:2 here\n"), "{text}");
        let apart = format!("one\n{}two\n", "x\n".repeat(1 << 20));
        let text = shown(vec![place(&apart, "one", "a"), place(&apart, "two", "b")]);
        assert!(text.len() < 2 * limits::MESSAGE_BYTES && text.contains("1 | one") && text.contains("| two"));
    }

    #[test]
    fn an_error_with_everything() {
        let text: Arc<str> = "schema = 1\nimge = 2\nother = 3\n".into();
        let place = |span, label: &str| Place {
            file: "dmoci.toml".into(),
            text: text.clone(),
            span,
            label: label.to_owned(),
        };
        let failure = Failure {
            code: "E-IO",
            exit: Exit::Usage,
            message: "it is\nbad".to_owned(),
            causes: vec!["first".to_owned(), "second\nline".to_owned()],
            places: vec![place(11..15, "here"), place(900..901, "beyond the end")],
            help: Some("do this\nor that".to_owned()),
        };
        let shown = render(&failure, false);
        let expected = "\
error[E-IO]: it is\\nbad
 --> dmoci.toml:2:1
  |
2 | imge = 2
  | ^^^^ here
3 | other = 3
  |          - beyond the end
  caused by: first
  caused by: second
             line
help: do this
      or that
";
        assert_eq!(shown, expected);
    }
}
