//! A password from whoever types: on a terminal without echo and twice, else one line of standard input. Never an argument, which others could see.

use std::{
    io::{self, BufRead, Write as _},
    os::fd::AsFd,
};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcsetattr};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::limits::PASSWORD_LINE_MAX_BYTES;

/// Control-C, which ends the line while its signal is off.
const INTERRUPT: u8 = 3;

#[derive(Debug, Error)]
pub enum PasswordError {
    #[error("there is no password on standard input: give one there, type one on a terminal, or have one made with --generate")]
    Absent,
    #[error("the two passwords are not the same")]
    Differ,
    #[error("the password is longer than {PASSWORD_LINE_MAX_BYTES} bytes, or has no end of line")]
    TooLong,
    #[error("the password is no UTF-8")]
    Text,
    #[error("interrupted: nothing was changed")]
    Interrupted,
    #[error("cannot read the password")]
    Io(#[from] io::Error),
}

/// Reads a new password for `name`.
pub fn read(name: &str) -> Result<Zeroizing<String>, PasswordError> {
    let stdin = io::stdin();
    if !isatty(&stdin) {
        return line(&mut stdin.lock());
    }
    let silence = Silence::of(&stdin)?;
    let ask = |text: String| {
        eprint!("{text}: ");
        io::stderr().flush()?;
        let typed = line(&mut stdin.lock());
        // The terminal did not show this either.
        eprintln!();
        typed
    };
    let first = ask(format!("New password for {name}"))?;
    let again = ask("The same again".to_owned())?;
    drop(silence);
    if *first == *again { Ok(first) } else { Err(PasswordError::Differ) }
}

/// One line without its end.
fn line(input: &mut impl BufRead) -> Result<Zeroizing<String>, PasswordError> {
    // With room for all of it, so that no copy is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(PASSWORD_LINE_MAX_BYTES + 2));
    loop {
        let chunk = input.fill_buf()?;
        let end = chunk.iter().position(|b| *b == b'\n' || *b == INTERRUPT);
        let taken = end.unwrap_or(chunk.len());
        if bytes.len() + taken > PASSWORD_LINE_MAX_BYTES {
            return Err(PasswordError::TooLong);
        }
        bytes.extend_from_slice(&chunk[..taken]);
        let (stop, interrupted, over) = (end.is_some(), end.is_some_and(|at| chunk[at] == INTERRUPT), chunk.is_empty());
        input.consume(taken + usize::from(stop));
        if interrupted {
            return Err(PasswordError::Interrupted);
        }
        if stop || over {
            break;
        }
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    match std::str::from_utf8(&bytes) {
        Ok("") => Err(PasswordError::Absent),
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(PasswordError::Text),
    }
}

/// A terminal that does not show what is typed; what it was before comes back with the end of this.
struct Silence<F: AsFd> {
    terminal: F,
    before: Termios,
}

impl<F: AsFd> Silence<F> {
    /// Signals of the keyboard are off too: one that ended this process would leave the terminal silent.
    fn of(terminal: F) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        silent.local_modes.insert(LocalModes::ICANON);
        silent.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl<F: AsFd> Drop for Silence<F> {
    fn drop(&mut self) {
        // Nobody could be told.
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line_and_all_of_it() {
        let read = |bytes: &[u8]| line(&mut io::BufReader::with_capacity(3, bytes)).map(|p| p.to_string()).map_err(|e| e.to_string());
        assert_eq!(read(b"correct horse\nsecond line\n").as_deref(), Ok("correct horse"));
        assert_eq!(read(b" both blanks \r\n").as_deref(), Ok(" both blanks "));
        assert_eq!(read(b"no end").as_deref(), Ok("no end"));
        assert!(read(b"").unwrap_err().contains("--generate") && read(b"\n").unwrap_err().contains("--generate"));
        assert!(read(b"half\x03").unwrap_err().contains("interrupted"));
        assert!(read(&[0xff, b'\n']).unwrap_err().contains("UTF-8"));
        assert!(read(&vec![b'a'; PASSWORD_LINE_MAX_BYTES]).is_ok());
        assert!(read(&vec![b'a'; PASSWORD_LINE_MAX_BYTES + 1]).unwrap_err().contains("longer"));
    }
}
