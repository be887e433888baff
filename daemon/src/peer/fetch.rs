//! Asks a peer for one thing and reads the answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{ReadError, RecvStream};
use tokio::time::timeout;
use warren_net::{Connection, FrameError, FrameReader, FrameWriter, SendError};
use warren_proto::limits;
use warren_proto::wire::{NoReason, PeerAnswer, PeerRequest};

use crate::pace::Passage;

/// Longest silence before an answer or within it. What is asked of a slow peer waits its turn
/// there; the scheduler asks elsewhere long before.
const SILENCE: Duration = Duration::from_secs(60);

/// Bytes after which progress is reported, and the longest wait for the report of fewer.
const REPORT_BYTES: usize = 256 * 1024;
const REPORT_WAIT: Duration = Duration::from_secs(1);

/// Pieces of a stream taken at once, of a packet each, as they come; and while there is a limit, so that
/// what is read, and room made for, is spread over time.
const PIECES: usize = 32;
const LIMITED_PIECES: usize = 8;

/// What a peer may send of one answer before it is read: the largest chunk. Lists may be longer.
const AHEAD_BYTES: usize = 16 << 20;

/// Why there are no bytes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The peer said so.
    #[error("the peer does not serve it: {0:?}")]
    Refused(NoReason),
    /// The peer answered with another number of bytes than there are.
    #[error("the peer offers {offered} bytes where {expected} belong")]
    Length {
        /// What it said.
        offered: u64,
        /// What would be right.
        expected: u64,
    },
    /// The peer sent nothing for too long.
    #[error("the peer sent nothing for {} s", SILENCE.as_secs())]
    Silent,
    /// The answer ended too early or went on too long.
    #[error("the answer is not as long as it said")]
    Truncated,
    /// What has come is not what it should be.
    #[error("the peer sent wrong bytes")]
    Wrong,
    /// No request stream.
    #[error("cannot ask the peer")]
    Connection(#[from] quinn::ConnectionError),
    /// The request did not go out.
    #[error("cannot ask the peer")]
    Write(#[from] SendError),
    /// The answer is malformed.
    #[error("cannot read the peer's answer")]
    Answer(#[from] FrameError),
    /// The stream broke.
    #[error("cannot read from the peer")]
    Read(#[from] ReadError),
}

/// Takes bytes in as they come.
pub(crate) trait Taker: Send {
    /// The next bytes; no more in all than were asked for.
    fn take(&mut self, bytes: &[u8]);

    /// Some have been taken, and no more may be here already; or it was woken.
    ///
    /// # Errors
    ///
    /// When they are wrong, so that the rest need not be read.
    fn look(&mut self) -> impl Future<Output = Result<(), FetchError>> + Send;

    /// Returns when there is something to look at though no bytes have come.
    fn woken(&self) -> impl Future<Output = ()> + Send;

    /// So many more have come since the last report.
    fn report(&self, bytes: u32) -> impl Future<Output = ()> + Send;
}

/// Nobody needs to know.
impl Taker for Vec<u8> {
    fn take(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    async fn look(&mut self) -> Result<(), FetchError> {
        Ok(())
    }

    async fn woken(&self) {
        std::future::pending().await
    }

    async fn report(&self, _: u32) {}
}

/// Asks, and reads the whole answer, which must be `len` bytes, as fast as `passage` lets it.
///
/// # Errors
///
/// See [`FetchError`].
///
/// # Cancel safety
///
/// May be dropped: the peer is told that nobody reads any more.
pub(crate) async fn fetch(
    connection: &Connection,
    request: &PeerRequest,
    len: u64,
    passage: &Passage,
    taker: &mut impl Taker,
) -> Result<(), FetchError> {
    let asked = len;
    let len = usize::try_from(asked).map_err(|_| FetchError::Truncated)?;
    let mut expected = connection.expect(len.min(AHEAD_BYTES) as u64);
    let mut stream = ask(connection, request, asked).await?;
    let (mut taken, mut reported, mut reported_at) = (0, 0, Instant::now());
    let mut pieces: [Bytes; PIECES] = Default::default();
    while taken < len {
        let most = match passage.is_limited() {
            true => LIMITED_PIECES,
            false => PIECES,
        };
        let read = tokio::select! {
            biased;
            read = timeout(SILENCE, stream.read_chunks(&mut pieces[..most])) => read,
            () = taker.woken() => {
                taker.look().await?;
                continue;
            }
        };
        let Some(count) = read.map_err(|_| FetchError::Silent)?? else {
            return Err(FetchError::Truncated);
        };
        let before = taken;
        for piece in &mut pieces[..count] {
            let piece = std::mem::take(piece);
            taken += piece.len();
            if taken > len {
                return Err(FetchError::Truncated);
            }
            taker.take(&piece);
        }
        expected.received((taken - before) as u64);
        expected.raise((len - taken).min(AHEAD_BYTES) as u64);
        taker.look().await?;
        passage.received(connection, taken - before).await;
        let due = taken - reported >= REPORT_BYTES || reported_at.elapsed() >= REPORT_WAIT;
        if due && taken < len {
            taker.report((taken - reported) as u32).await;
            (reported, reported_at) = (taken, Instant::now());
        }
    }
    if stream.read_chunk(1, true).await?.is_some() {
        return Err(FetchError::Truncated);
    }
    taker.report((taken - reported) as u32).await;
    Ok(())
}

async fn ask(
    connection: &Connection,
    request: &PeerRequest,
    len: u64,
) -> Result<RecvStream, FetchError> {
    let asking = async {
        let (send, receive) = connection.quinn().open_bi().await?;
        let mut writer = FrameWriter::new(send);
        writer.send(request).await?;
        // The other side may have ended the stream already, with its answer.
        let _ = writer.into_inner().finish();
        let mut reader = FrameReader::new(receive);
        reader.set_max_bytes(limits::HELLO_BYTES);
        let answer = reader.recv().await?.ok_or(FetchError::Truncated)?;
        Ok((reader, answer))
    };
    let asked: Result<_, FetchError> = timeout(SILENCE, asking)
        .await
        .unwrap_or(Err(FetchError::Silent));
    let (reader, answer) = asked?;
    match answer {
        PeerAnswer::Data { bytes } if bytes == len => Ok(reader.into_inner()),
        PeerAnswer::Data { bytes } => Err(FetchError::Length {
            offered: bytes,
            expected: len,
        }),
        PeerAnswer::No { reason } => Err(FetchError::Refused(reason)),
    }
}
