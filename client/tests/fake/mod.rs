//! A server that answers what a test tells it to.

use bytes::BytesMut;
use luge_client::{Client, ClientBuilder, Error};
use luge_protocol::{
    Command, ErrorCode, ErrorDetails, ErrorReply, FrameCodec, HelloReply, Reply, Request, Response,
    ServerLimits,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::Decoder;

const LIMIT: usize = 16 << 20;

/// One end of a connection, as a server sees it.
pub(crate) struct Peer {
    stream: TcpStream,
    buffer: BytesMut,
}

/// A connected client, which was greeted, and its server.
pub(crate) async fn connected() -> (Client, Peer) {
    connected_with(&Client::builder()).await
}

pub(crate) async fn connected_with(builder: &ClientBuilder) -> (Client, Peer) {
    let (client, peer) = try_connect(builder, async |peer| peer.greet(LIMIT).await).await;
    (client.expect("the client was greeted"), peer)
}

/// Connects a client to a server that does `greeting`.
pub(crate) async fn try_connect(
    builder: &ClientBuilder,
    greeting: impl AsyncFnOnce(&mut Peer),
) -> (Result<Client, Error>, Peer) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = async {
        let (stream, _) = listener.accept().await.unwrap();
        let buffer = BytesMut::new();
        let mut peer = Peer { stream, buffer };
        greeting(&mut peer).await;
        peer
    };
    tokio::join!(builder.connect(address), accepted)
}

impl Peer {
    /// Answers the client's `hello`.
    pub(crate) async fn greet(&mut self, max_frame_bytes: usize) {
        let hello = self.receive().await.expect("the client says hello");
        let (id, command) = parts(&hello);
        assert!(
            matches!(command, Command::Hello(_)),
            "the first request is hello"
        );
        let reply = hello_reply(max_frame_bytes);
        self.reply(id, Reply::Hello(Box::new(reply))).await;
    }

    /// The next request's body; none once the client has closed.
    pub(crate) async fn receive(&mut self) -> Option<Vec<u8>> {
        let mut codec = FrameCodec {
            max_frame_bytes: LIMIT,
        };
        loop {
            if let Some(body) = codec.decode(&mut self.buffer).unwrap() {
                return Some(body.to_vec());
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next request's id and command's name.
    pub(crate) async fn next(&mut self) -> (u64, String) {
        let body = self.receive().await.expect("the client sends a request");
        let (id, command) = parts(&body);
        (id, command.name().to_owned())
    }

    pub(crate) async fn reply(&mut self, id: u64, reply: Reply) {
        let outcome = Ok(reply);
        self.send_response(&Response { id, outcome }).await;
    }

    pub(crate) async fn fail(&mut self, id: u64, code: ErrorCode, details: ErrorDetails) {
        let outcome = Err(ErrorReply::new(code, "as the test wants").with(details));
        self.send_response(&Response { id, outcome }).await;
    }

    async fn send_response(&mut self, response: &Response<Reply>) {
        let mut body = Vec::new();
        response.encode(&mut body).unwrap();
        self.send_body(&body).await;
    }

    pub(crate) async fn send_body(&mut self, body: &[u8]) {
        let length = u32::try_from(body.len()).unwrap();
        self.send(&length.to_be_bytes()).await;
        self.send(body).await;
    }

    /// Sends any bytes. That the client has gone is no matter here.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }
}

pub(crate) fn parts(body: &[u8]) -> (u64, Command<'_>) {
    let request = Request::decode(body).expect("the client sends what it should");
    (request.id, request.command)
}

pub(crate) fn hello_reply(max_frame_bytes: usize) -> HelloReply {
    HelloReply {
        version: 1,
        server: "fake".to_owned(),
        store: [7; 16][..].to_vec().into(),
        limits: ServerLimits {
            max_frame_bytes: max_frame_bytes as u64,
            max_key_bytes: 1024,
            max_value_bytes: 1 << 20,
            max_module_bytes: 4 << 20,
        },
    }
}
