use bytes::Bytes;
use drover_proto::message::{Pillar, RequestFailed};

use super::*;

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
fn start() -> Instant {
    Instant::now()
}

fn content() -> Vec<u8> {
    (0..5 * CHUNK + 17).map(|place| (place % 251) as u8).collect()
}

fn blob(content: &[u8]) -> Wanted {
    Wanted::Blob { digest: Digest::of(content), size: content.len() as u64 }
}

fn chunk(content: &[u8], request: &BlobRequest) -> Answer {
    let from = request.offset as usize;
    let upto = content.len().min(from + CHUNK as usize);
    let data = Bytes::copy_from_slice(&content[from..upto]);
    let (request, offset) = (request.request, request.offset);
    Answer::BlobChunk(BlobChunk { request, offset, size: content.len() as u64, data })
}

fn asked(fetches: &mut Fetches) -> Vec<BlobRequest> {
    std::iter::from_fn(|| fetches.poll_transmit())
        .map(|request| match request {
            Request::Blob(request) => request,
            Request::Tree(_) | Request::Pillar(_) | Request::Certificate(_) => {
                panic!("no blob: {request:?}")
            }
        })
        .collect()
}

#[test]
fn a_file_comes_in_chunks_through_a_window() {
    let (now, content) = (start(), content());
    let mut fetches = Fetches::default();
    fetches.handle_connected(now);
    let id = fetches.start(blob(&content), now);
    let mut open: VecDeque<_> = asked(&mut fetches).into();
    assert_eq!(open.len(), WINDOW);
    let mut chunks = 0;
    while let Some(request) = open.pop_back() {
        fetches.handle_answer(chunk(&content, &request), now);
        open.extend(asked(&mut fetches));
        assert!(open.len() <= WINDOW);
        chunks += 1;
    }
    assert_eq!(chunks, 6);
    assert_eq!(fetches.poll_event(), Some((id, Ok(Fetched::Blob(content)))));
    assert_eq!(fetches.poll_timeout(), None);
}

#[test]
fn a_file_goes_on_where_the_connection_broke() {
    let (now, content) = (start(), content());
    let mut fetches = Fetches::default();
    fetches.handle_connected(now);
    let id = fetches.start(blob(&content), now);
    let first = asked(&mut fetches);
    fetches.handle_answer(chunk(&content, &first[0]), now);
    asked(&mut fetches);
    fetches.handle_disconnected();
    assert_eq!(fetches.poll_transmit(), None);
    fetches.handle_connected(now);
    let mut offsets = Vec::new();
    while let [request, ..] = asked(&mut fetches).as_slice() {
        offsets.push(request.offset);
        let mut open = vec![request.clone()];
        while let Some(request) = open.pop() {
            fetches.handle_answer(chunk(&content, &request), now);
            open.extend(asked(&mut fetches));
        }
        // The rest of the window was dropped by this test's loop: a new connection asks for it again.
        fetches.handle_disconnected();
        fetches.handle_connected(now);
    }
    assert!(!offsets.contains(&0), "the first chunk is not asked for again");
    assert_eq!(fetches.poll_event(), Some((id, Ok(Fetched::Blob(content)))));
}

#[test]
fn an_empty_file_is_fetched_too() {
    let now = start();
    let mut fetches = Fetches::default();
    fetches.handle_connected(now);
    let id = fetches.start(blob(b""), now);
    let request = asked(&mut fetches).remove(0);
    fetches.handle_answer(chunk(b"", &request), now);
    assert_eq!(fetches.poll_event(), Some((id, Ok(Fetched::Blob(vec![])))));
}

#[test]
fn a_content_with_another_digest_is_refused() {
    let now = start();
    let mut fetches = Fetches::default();
    fetches.handle_connected(now);
    let id = fetches.start(blob(b"good"), now);
    let request = asked(&mut fetches).remove(0);
    fetches.handle_answer(chunk(b"evil", &request), now);
    assert_eq!(fetches.poll_event(), Some((id, Err(FetchError::Mismatch))));
}

#[test]
fn chunks_of_the_wrong_length_or_kind_are_refused() {
    let now = start();
    let mut fetches = Fetches::default();
    fetches.handle_connected(now);
    let id = fetches.start(blob(b"good"), now);
    let request = asked(&mut fetches).remove(0);
    fetches.handle_answer(chunk(b"too long", &request), now);
    assert_eq!(fetches.poll_event(), Some((id, Err(FetchError::Mismatch))));
    let id = fetches.start(blob(b"good"), now);
    let request = asked(&mut fetches).remove(0).request;
    fetches.handle_answer(Answer::Pillar(Pillar { request, pillar: Map::new() }), now);
    assert_eq!(fetches.poll_event(), Some((id, Err(FetchError::Mismatch))));
}

#[test]
fn without_a_connection_it_fails_at_once_and_without_answers_after_a_minute() {
    let now = start();
    let mut fetches = Fetches::default();
    let pillar = || Wanted::Pillar { saltenv: "base".into() };
    let id = fetches.start(pillar(), now);
    assert_eq!(fetches.poll_event(), Some((id, Err(FetchError::Offline))));
    fetches.handle_connected(now);
    let id = fetches.start(pillar(), now);
    assert_eq!(fetches.poll_timeout(), Some(now + PATIENCE));
    fetches.handle_timeout(now + PATIENCE);
    assert_eq!(fetches.poll_event(), Some((id, Err(FetchError::TimedOut))));
}

#[test]
fn what_the_master_refuses_is_told_in_its_words() {
    let now = start();
    let mut fetches = Fetches::default();
    fetches.handle_connected(now);
    let id = fetches.start(Wanted::Tree { saltenv: "dev".into() }, now);
    let Some(Request::Tree(request)) = fetches.poll_transmit() else { panic!("no request") };
    let failed = RequestFailed { request: request.request, reason: "no environment `dev`".into() };
    fetches.handle_answer(Answer::Failed(failed), now);
    let (_, why) = fetches.poll_event().filter(|(done, _)| *done == id).unwrap();
    assert_eq!(why.unwrap_err().to_string(), "the master says: no environment `dev`");
}

#[test]
fn a_file_larger_than_a_device_holds_is_refused_before_it_is_asked_for() {
    let now = start();
    let mut fetches = Fetches::default();
    fetches.handle_connected(now);
    let id = fetches.start(Wanted::Blob { digest: Digest::of(b""), size: LARGEST + 1 }, now);
    assert_eq!(fetches.poll_event(), Some((id, Err(FetchError::TooLarge(LARGEST + 1)))));
}
