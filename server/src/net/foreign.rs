//! Other protocols on our port: told apart by the four bytes that can't be the length of a frame.

/// What to say to a peer that speaks something else, in its own protocol.
pub(super) fn farewell(header: [u8; 4]) -> Option<Vec<u8>> {
    match &header {
        [0x16, 0x03, ..] => Some(tls_alert()),
        b"GET " | b"POST" | b"HEAD" | b"PUT " | b"DELE" | b"OPTI" | b"PATC" | b"CONN" | b"TRAC"
        | b"PRI " => Some(http_refusal()),
        [b'*', b'0'..=b'9', ..] => Some(
            b"-ERR this is a Luge server; it does not speak the protocol of Redis\r\n".to_vec(),
        ),
        _ => None,
    }
}

/// A fatal alert: no protocol version in common.
fn tls_alert() -> Vec<u8> {
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    const PROTOCOL_VERSION: u8 = 70;
    vec![ALERT, 3, 1, 0, 2, FATAL, PROTOCOL_VERSION]
}

fn http_refusal() -> Vec<u8> {
    let body = "this port speaks the Luge protocol, not HTTP; use the `luge` command or a client library\n";
    format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
