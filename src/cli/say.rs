//! Standard output, which a reader such as `head` may close at any line.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write, stdout};
use std::process;

/// The exit code of a process that a closed pipe ended, as shells report it.
const PIPE_CLOSED: i32 = 141;

/// Prints `text`. Ends the process where nobody reads any more, and with exit code 3 where it cannot be written.
pub fn print(text: Arguments<'_>) {
    if let Err(error) = stdout().write_fmt(text) {
        end(&error);
    }
}

/// Prints what `write` writes, on the same terms.
pub fn print_with(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) {
    let mut out = stdout();
    if let Err(error) = write(&mut out).and_then(|()| out.flush()) {
        end(&error);
    }
}

fn end(error: &std::io::Error) -> ! {
    if error.kind() == ErrorKind::BrokenPipe {
        process::exit(PIPE_CLOSED);
    }
    eprintln!("tipoff: write to standard output: {error}");
    process::exit(3);
}

/// Prints a line, like `println!`, but ends quietly where nobody reads.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::cli::say::print(format_args!("{}\n", format_args!($($words)*)))
    };
}

pub(crate) use say;
