//! Colour on a terminal, none elsewhere.

use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};

/// Whether colours are wanted on `stream`: it is a terminal and NO_COLOR is not set.
pub fn wanted(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Paints words, or leaves them.
#[derive(Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    /// For standard output.
    pub fn stdout() -> Self {
        Self(wanted(&std::io::stdout()))
    }

    /// `text` in the colour of a node's state.
    pub fn state(self, state: &str, text: &str) -> String {
        let colour = match state {
            "succeeded" | "open" => AnsiColor::Green,
            "running" | "dispatched" => AnsiColor::Cyan,
            "failed" | "expired" => AnsiColor::Yellow,
            "exhausted" => AnsiColor::Red,
            _ => AnsiColor::BrightBlack,
        };
        self.styled(Style::new().fg_color(Some(colour.into())), text)
    }

    /// `text` as something bad.
    pub fn bad(self, text: &str) -> String {
        self.styled(Style::new().fg_color(Some(AnsiColor::Red.into())).bold(), text)
    }

    /// `text` as something to be noticed.
    pub fn strong(self, text: &str) -> String {
        self.styled(Style::new().bold(), text)
    }

    /// `text` as an aside.
    pub fn dim(self, text: &str) -> String {
        self.styled(Style::new().dimmed(), text)
    }

    fn styled(self, style: Style, text: &str) -> String {
        if self.0 { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}
