//! Server-sent events, as far as streams of completions use them: `data` lines, ended by an empty one.

use std::io::{self, BufRead};

/// Bytes of an event at most; real ones have a few hundred.
const MAX_EVENT: usize = 4 << 20;

/// Reader of the data of events.
pub struct Events<R> {
    from: R,
    line: Vec<u8>,
}

impl<R: BufRead> Events<R> {
    /// A reader of a body.
    pub fn new(from: R) -> Self {
        Self { from, line: Vec::new() }
    }

    /// The data of the next event that has any; `None` at the end of the stream.
    ///
    /// Comments and other fields are skipped. An event that the end of the stream cuts off counts, unlike in the
    /// standard: some servers send no empty line behind the last.
    ///
    /// # Errors
    /// The stream breaks; an event is longer than any real one.
    pub fn next(&mut self) -> io::Result<Option<String>> {
        let (mut data, mut found) = (Vec::new(), false);
        loop {
            if !self.read_line(data.len())? {
                break;
            }
            let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
            if line.is_empty() {
                if found {
                    break;
                }
            } else if let Some(value) = value_of_data(line) {
                if found {
                    data.push(b'\n');
                }
                data.extend_from_slice(value);
                found = true;
            }
        }
        Ok(found.then(|| String::from_utf8_lossy(&data).into_owned()))
    }

    /// Reads a line without its end; false at the end of the stream.
    fn read_line(&mut self, before: usize) -> io::Result<bool> {
        self.line.clear();
        let mut any = false;
        loop {
            let chunk = match self.from.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                chunk => chunk?,
            };
            if chunk.is_empty() {
                return Ok(any);
            }
            any = true;
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let (taken, used) = end.map_or((chunk.len(), chunk.len()), |end| (end, end + 1));
            if before + self.line.len() + taken > MAX_EVENT {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("an event of more than {MAX_EVENT} bytes"),
                ));
            }
            self.line.extend_from_slice(&chunk[..taken]);
            self.from.consume(used);
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}

/// The value of a line that is a field `data`.
fn value_of_data(line: &[u8]) -> Option<&[u8]> {
    match line.strip_prefix(b"data")? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::*;

    /// Gives at most `step` bytes at once.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let step = self.1.min(buffer.len());
            self.0.read(&mut buffer[..step])
        }
    }

    fn events(text: &[u8], step: usize) -> Vec<String> {
        let mut events = Events::new(BufReader::new(Slow(text, step)));
        std::iter::from_fn(|| events.next().unwrap()).collect()
    }

    #[test]
    fn data_of_events_however_the_stream_is_cut() {
        let text = b": keep-alive\n\nevent: x\nid: 1\ndata: {\"a\": 1}\n\ndata:two\r\ndata\r\ndata: lines\r\n\r\n\n\ndatax: no\n\n\
            data:  \xc3\xa9\n\ndata: [DONE]\n\n";
        for step in 1..text.len() {
            assert_eq!(events(text, step), ["{\"a\": 1}", "two\n\nlines", " \u{e9}", "[DONE]"], "{step}");
        }
        assert_eq!(events(b"", 1), [""; 0]);
        assert_eq!(events(b"data: cut off", 3), ["cut off"]);
        assert_eq!(events(b"<!doctype html>\n<p>no events</p>\n", 8), [""; 0]);
    }

    #[test]
    fn an_endless_line_is_an_error() {
        let mut events = Events::new(BufReader::new(io::repeat(b'x')));
        assert_eq!(events.next().unwrap_err().kind(), io::ErrorKind::InvalidData);
        let mut events =
            Events::new(BufReader::new(b"data: x\n".chain(io::repeat(b'\n').take(8)).chain(io::repeat(b':'))));
        assert_eq!(events.next().unwrap(), Some("x".to_owned()));
        assert!(events.next().is_err());
    }
}
