//! WebSockets (RFC 6455): short frames, and a client.

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::world::PATIENCE;

pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSE: u8 = 8;

/// One whole frame; a client's is masked.
pub(crate) fn frame(opcode: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126);
    let mut bytes = vec![0x80 | opcode, length | if masked { 0x80 } else { 0 }];
    if masked {
        bytes.extend(MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    } else {
        bytes.extend(payload);
    }
    bytes
}

/// The next frame: opcode and payload. `None`: the connection has ended.
pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let first = from.read_u8().await.ok()?;
    let second = from.read_u8().await.ok()?;
    let mut mask = [0; 4];
    if second & 0x80 != 0 {
        from.read_exact(&mut mask).await.ok()?;
    }
    let mut payload = vec![0; usize::from(second & 0x7f)];
    from.read_exact(&mut payload).await.ok()?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Some((first & 0xf, payload))
}

/// An open WebSocket.
pub(crate) struct WebSocket(TokioIo<Upgraded>);

impl WebSocket {
    pub(crate) fn new(upgraded: Upgraded) -> Self {
        Self(TokioIo::new(upgraded))
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.0.write_all(&frame(TEXT, text.as_bytes(), true)).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// The next frame. `None`: it has ended.
    pub(crate) async fn hear(&mut self) -> Option<(u8, Vec<u8>)> {
        timeout(PATIENCE, read(&mut self.0)).await.expect("a frame, or the end")
    }

    /// Says something and hears it back.
    pub(crate) async fn echo(&mut self, text: &str) {
        self.say(text).await;
        assert_eq!(self.hear().await, Some((TEXT, text.as_bytes().to_vec())));
    }

    /// Waits for the end, and gives the code that it is given with (RFC 6455 section 7.4.1).
    pub(crate) async fn ends_with(mut self) -> Option<u16> {
        let code = loop {
            if let (CLOSE, payload) = self.hear().await? {
                break u16::from_be_bytes([payload[0], payload[1]]);
            }
        };
        assert_eq!(self.hear().await, None, "nothing comes after the close");
        Some(code)
    }
}
