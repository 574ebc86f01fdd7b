//! Server-sent events, as the HTML standard has them: bytes in, frames out. Does no IO.

/// Most bytes of one event: a stored event carries at most a task's message, far below that.
pub const MAX_FRAME_BYTES: usize = 4 << 20;

/// An event of the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its kind; `message` if that is empty.
    pub event: String,
    /// The newest id so far.
    pub id: String,
    /// What it carries.
    pub data: String,
}

/// One event is longer than anything that a coordinator sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event has more than {MAX_FRAME_BYTES} bytes")]
pub struct TooLong;

/// Reads a stream piece by piece.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    frame: Frame,
    has_data: bool,
    /// The last byte was a carriage return: a line feed behind it belongs to it.
    after_return: bool,
}

impl Parser {
    /// Takes the next bytes, and hands over the frames that are complete.
    ///
    /// # Errors
    /// An event is too long.
    pub fn push(&mut self, bytes: &[u8], frames: &mut impl Extend<Frame>) -> Result<(), TooLong> {
        for &byte in bytes {
            let is_second_half = byte == b'\n' && self.after_return;
            self.after_return = byte == b'\r';
            match byte {
                b'\n' if is_second_half => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    frames.extend(self.line(&String::from_utf8_lossy(&line)));
                    self.line = line;
                    self.line.clear();
                }
                byte => self.line.push(byte),
            }
            if self.line.len() + self.frame.data.len() > MAX_FRAME_BYTES {
                return Err(TooLong);
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> Option<Frame> {
        if line.is_empty() {
            let frame = Frame {
                id: self.frame.id.clone(),
                event: std::mem::take(&mut self.frame.event),
                data: std::mem::take(&mut self.frame.data),
            };
            return std::mem::take(&mut self.has_data).then_some(frame);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.frame.event),
            "id" => value.clone_into(&mut self.frame.id),
            "data" => {
                if self.has_data {
                    self.frame.data.push('\n');
                }
                self.frame.data.push_str(value);
                self.has_data = true;
            }
            // A comment, or a field that is not for us.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(event: &str, id: &str, data: &str) -> Frame {
        Frame { event: event.to_owned(), id: id.to_owned(), data: data.to_owned() }
    }

    const STREAM: &[u8] =
        b": hello\n\nid: 7\ndata: {\"a\":1}\n\nretry: 10\r\nevent: end\r\ndata:x\r\ndata:  y\r\n\r\ndata: lost";

    #[test]
    fn frames_come_out_wherever_the_stream_is_cut() {
        let expected = [frame("", "7", "{\"a\":1}"), frame("end", "7", "x\n y")];
        for cut in 0..STREAM.len() {
            let (mut parser, mut frames) = (Parser::default(), Vec::new());
            for part in [&STREAM[..cut], &STREAM[cut..]] {
                parser.push(part, &mut frames).expect("short");
            }
            assert_eq!(frames, expected, "cut at {cut}");
        }
    }

    #[test]
    fn what_has_no_end_is_refused() {
        let mut frames = Vec::new();
        let line = vec![b'x'; MAX_FRAME_BYTES + 1];
        assert_eq!(Parser::default().push(&line, &mut frames), Err(TooLong));
        let mut parser = Parser::default();
        let lines = b"data: 0123456789\n".repeat(MAX_FRAME_BYTES / 10 + 1);
        assert_eq!(parser.push(&lines, &mut frames), Err(TooLong));
    }
}
