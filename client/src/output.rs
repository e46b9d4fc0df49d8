//! What the commands print: text for people, or one JSON object per line for scripts.
//!
//! Every message carries a `type` in its JSON form, so that a script can pick what it waits for.
//! The text form goes through [`clean`]: room names and messages are written by others, and a
//! terminal obeys control characters.

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use std::{
    fmt::Display,
    io::Write,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Where a command's results go.
pub struct Output {
    json: bool,
    spinner: bool,
    sink: Mutex<Box<dyn Write + Send>>,
}

impl Output {
    /// Prints on standard output; progress goes to standard error if that is a terminal.
    pub fn terminal(json: bool) -> Self {
        Self { json, spinner: !json, sink: Mutex::new(Box::new(std::io::stdout())) }
    }

    /// Prints into a writer, without progress.
    pub fn into_writer(json: bool, writer: impl Write + Send + 'static) -> Self {
        Self { json, spinner: false, sink: Mutex::new(Box::new(writer)) }
    }

    /// Whether JSON was asked for.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Reports one thing: `fields` (an object) with `"type": kind` as JSON, or `text`.
    pub fn report(&self, kind: &str, fields: Value, text: impl Display) -> Result<()> {
        let line = if self.json { json_line(kind, fields) } else { clean(&text.to_string()) };
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(sink, "{line}")?;
        sink.flush()?;
        Ok(())
    }

    /// Says something to people only.
    pub fn say(&self, text: impl Display) -> Result<()> {
        if self.json { Ok(()) } else { self.report("", json!({}), text) }
    }

    /// Reports why the command failed.
    pub fn failure(&self, error: &anyhow::Error) {
        let message = format!("{error:#}");
        // Nobody is left to tell if even this can't be written.
        if self.json {
            let _ = self.report("error", json!({ "message": message }), "");
        } else {
            let _ = writeln!(std::io::stderr(), "Error: {}", clean(&message));
        }
    }

    /// Shows that something is under way until the returned guard is dropped.
    pub fn progress(&self, text: impl Into<String>) -> Progress {
        let bar = if self.spinner {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message(text.into());
        bar.enable_steady_tick(Duration::from_millis(120));
        Progress(bar)
    }
}

/// A sign of life on the terminal; it vanishes when dropped.
pub struct Progress(ProgressBar);

impl Progress {
    /// Says what is going on now.
    pub fn say(&self, text: impl Into<String>) {
        self.0.set_message(text.into());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn json_line(kind: &str, fields: Value) -> String {
    let mut object = serde_json::Map::new();
    object.insert("type".to_owned(), kind.into());
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    Value::Object(object).to_string()
}

/// Replaces what a terminal would obey: control characters except the line break, and the
/// characters that reverse the direction of text.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' => c,
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// A foreign text as part of a line: its further lines are indented, so that they can't be taken
/// for lines of ours.
pub fn indent(text: &str) -> String {
    text.replace('\n', "\n    ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn printed(json: bool, action: impl Fn(&Output)) -> String {
        let shared = Shared::default();
        action(&Output::into_writer(json, shared.clone()));
        String::from_utf8(shared.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_is_one_object_a_line_with_a_type() {
        let text = printed(true, |out| {
            out.report("message", json!({ "body": "two\nlines" }), "unused").unwrap();
            out.say("only for people").unwrap();
        });
        assert_eq!(text.lines().count(), 1);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value, json!({ "type": "message", "body": "two\nlines" }));
    }

    #[test]
    fn text_is_for_people() {
        assert_eq!(printed(false, |out| out.report("x", json!({}), "hello").unwrap()), "hello\n");
    }

    #[test]
    fn foreign_text_can_not_drive_the_terminal() {
        let hostile = "a\u{1b}[2Jb\rc\u{202e}d\u{7f}";
        let text = printed(false, |out| out.report("x", json!({}), hostile).unwrap());
        assert_eq!(text, "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd}\n");
        assert_eq!(indent("a\n12:00 boss: pay"), "a\n    12:00 boss: pay");
    }

    #[test]
    fn failures_are_reported_as_json_too() {
        let text = printed(true, |out| out.failure(&anyhow::anyhow!("inner").context("outer")));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value, json!({ "type": "error", "message": "outer: inner" }));
    }
}
