//! The tunnel against itself and against a plain WebSocket: nothing is lost, nothing grows, every end is told.

use futures_util::SinkExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;

const PING: Duration = Duration::from_millis(50);

async fn pair() -> (Tunnel<DuplexStream>, Tunnel<DuplexStream>) {
    let (one, other) = duplex(64 * 1024);
    (Tunnel::new(one, Role::Client, PING).await, Tunnel::new(other, Role::Server, PING).await)
}

/// A server's tunnel, and a client's bare socket.
async fn bare() -> (WebSocketStream<DuplexStream>, Tunnel<DuplexStream>) {
    let (one, other) = duplex(64 * 1024);
    let client = WebSocketStream::from_raw_socket(one, Role::Client, None).await;
    (client, Tunnel::new(other, Role::Server, PING).await)
}

async fn goodbye(client: &mut WebSocketStream<DuplexStream>) -> Option<CloseCode> {
    loop {
        match client.next().await?.ok()? {
            Message::Close(frame) => return frame.map(|frame| frame.code),
            _ => continue,
        }
    }
}

#[tokio::test]
async fn one_direction_ends_and_the_other_goes_on() {
    let (mut client, mut server) = pair().await;
    let serving = tokio::spawn(async move {
        let mut all = Vec::new();
        server.read_to_end(&mut all).await.expect("an orderly end");
        assert_eq!(all.len(), 3_000_000);
        // After the client's end, and longer than every buffer on the way.
        server.write_all(&all).await.expect("it still reads");
        server.shutdown().await.expect("an orderly end");
    });
    let (mut reader, mut writer) = tokio::io::split(client);
    let sending = tokio::spawn(async move {
        writer.write_all(&[7; 3_000_000]).await.expect("it reads");
        writer.shutdown().await.expect("an orderly end");
        writer
    });
    let mut all = Vec::new();
    reader.read_to_end(&mut all).await.expect("an orderly end");
    assert!(all.len() == 3_000_000 && all.iter().all(|byte| *byte == 7), "{} bytes", all.len());
    client = reader.unsplit(sending.await.expect("sent"));
    client.finish().await;
    serving.await.expect("served");
}

#[tokio::test]
async fn who_does_not_read_is_waited_for() {
    let (mut client, server) = pair().await;
    let sending = async {
        for sent in 0_usize.. {
            client.write_all(&[0; 1024]).await.expect("the server is there");
            client.flush().await.expect("the server is there");
            assert!(sent < 1024, "a megabyte is on its way to nobody");
        }
    };
    assert!(timeout(PING, sending).await.is_err());
    drop(server);
}

#[tokio::test]
async fn how_bytes_are_cut_into_messages_means_nothing() {
    let (mut client, mut server) = bare().await;
    let sending = tokio::spawn(async move {
        for (index, length) in [1, 200_000, 3, 65_536].into_iter().enumerate() {
            client.send(Message::Binary(vec![index as u8; length].into())).await.expect("it reads");
            client.send(Message::Ping(Bytes::from_static(b"there?"))).await.expect("it reads");
        }
        client.close(None).await.expect("it reads");
        while client.next().await.is_some() {}
    });
    let mut all = Vec::new();
    server.read_to_end(&mut all).await.expect("an orderly end");
    let counts = [0, 1, 2, 3].map(|index| all.iter().filter(|byte| **byte == index).count());
    assert_eq!(counts, [1, 200_000, 3, 65_536]);
    drop(server);
    sending.await.expect("sent");
}

#[tokio::test]
async fn what_is_no_stream_of_bytes_is_refused_with_its_code() {
    for (message, fault, code) in [
        (Message::Text("hello".into()), Fault::WebSocketText, CloseCode::Unsupported),
        (Message::Binary(vec![0; MESSAGE_MAX_BYTES + 1].into()), Fault::WebSocketTooLong, CloseCode::Size),
    ] {
        let (mut client, mut server) = bare().await;
        let sending = tokio::spawn(async move {
            // What is too long is refused before all of it is there.
            let _ = client.send(message).await;
            goodbye(&mut client).await
        });
        let error = server.read(&mut [0; 10]).await.expect_err("it is refused");
        assert_eq!(Fault::of(&error), Some(fault));
        // Makes room for the rest of what is too long.
        let mut rest = server.socket.into_inner();
        let (said, _) = tokio::join!(sending, async { timeout(PING * 20, rest.read_to_end(&mut Vec::new())).await });
        assert_eq!(said.expect("no panic"), Some(code));
    }
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_asked_and_then_given_up() {
    let (mut client, mut server) = bare().await;
    let began = Instant::now();
    // Answers ten times (to read is to answer), and then nothing more.
    let answering = tokio::spawn(async move {
        for _ in 0..10 {
            assert!(matches!(client.next().await, Some(Ok(Message::Ping(_)))));
            client.flush().await.expect("the server is there");
        }
        client
    });
    let error = server.read(&mut [0; 10]).await.expect_err("it is given up");
    assert_eq!(Fault::of(&error), Some(Fault::WebSocketSilent));
    assert!(began.elapsed() >= PING * 12, "{:?}", began.elapsed());
    drop(answering.await);
}

#[tokio::test]
async fn a_connection_cut_off_is_no_end() {
    let (client, mut server) = bare().await;
    drop(client);
    let error = server.read(&mut [0; 10]).await.expect_err("nobody said goodbye");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_server_waits_a_while_for_the_answer_to_its_goodbye_and_no_longer() {
    let (client, mut server) = bare().await;
    let began = Instant::now();
    server.write_all(b"last words").await.expect("there is room");
    server.shutdown().await.expect("an orderly end");
    assert!(began.elapsed() >= CLOSE_TIMEOUT && began.elapsed() < CLOSE_TIMEOUT * 2, "{:?}", began.elapsed());
    assert_eq!(server.read(&mut [0; 10]).await.expect("the end"), 0);
    drop(client);
}

#[tokio::test]
async fn pings_without_end_whose_answers_nobody_reads_cost_no_memory() {
    let (mut client, mut server) = bare().await;
    let reading = tokio::spawn(async move {
        let result = server.read(&mut [0; 10]).await;
        (server, result)
    });
    // 30 MB of pings, whose answers would be as much.
    for _ in 0..240_000 {
        client.feed(Message::Ping(vec![0; 125].into())).await.expect("the server reads");
    }
    client.send(Message::Binary(Bytes::from_static(b"done"))).await.expect("the server reads");
    let (mut server, result) = reading.await.expect("no panic");
    assert_eq!(result.expect("it goes on"), 4);
    // What waits to be written fits where it is allowed to: there is no room for one more message.
    let waiting = server.write(&[0; FRAME_MAX_BYTES]);
    assert!(timeout(Duration::from_millis(1), waiting).await.is_err(), "the socket has taken everything");
}
