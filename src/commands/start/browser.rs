//! The page in the user's browser, where there is one to open it in.

use std::env;
use std::io::{self, IsTerminal as _, Write as _};

use crate::error::stderr;
use crate::machine;

/// Opens `url`. Failure is a line on standard error: the address is there to be copied.
pub fn open(url: &str) {
    let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let place = Place {
        terminal: io::stderr().is_terminal(),
        display: cfg!(target_os = "macos") || set("DISPLAY") || set("WAYLAND_DISPLAY"),
        root: machine::is_root(),
        remote: set("SSH_CONNECTION") || set("SSH_TTY"),
    };
    if place.has_browser()
        && let Err(error) = ::open::that_detached(url)
    {
        let _ = writeln!(stderr(), "the browser does not open ({error}): open {url} yourself");
    }
}

/// The place that the program was started from.
struct Place {
    terminal: bool,
    display: bool,
    root: bool,
    remote: bool,
}

impl Place {
    /// True where somebody sits before a display. Root over ssh would start a browser with all rights on a display elsewhere.
    fn has_browser(&self) -> bool {
        self.terminal && self.display && !(self.root && self.remote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_needs_a_display_and_no_root_over_ssh() {
        for (terminal, display, root, remote, expected) in [
            (true, true, false, false, true),
            (true, true, true, false, true),
            (true, true, false, true, true),
            (true, true, true, true, false),
            (true, false, false, false, false),
            (false, true, false, false, false),
        ] {
            assert_eq!(Place { terminal, display, root, remote }.has_browser(), expected);
        }
    }
}
