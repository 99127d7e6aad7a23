//! What may go wrong with a request.

use crate::support::registry::error;
use crate::support::server::{Asked, End, Reply};

/// A fault.
pub(super) struct Fault {
    pub(super) name: &'static str,
    pub(super) how: How,
    /// A command does not fail when it comes twice.
    pub(super) passes: bool,
}

/// What it does.
pub(super) enum How {
    /// The registry does not get the request.
    Instead(fn() -> Reply),
    /// It was done, and the answer to the n-th is changed.
    After(fn(&Asked, Reply, usize) -> Reply),
    /// It leads to another server.
    Elsewhere(fn(&Asked, &str) -> Reply),
    /// The connection ends before the request does.
    Short,
}

/// Some number below a bound, another one each time.
fn somewhere(number: usize, bound: usize) -> usize {
    (number.wrapping_mul(7919) + bound / 3) % bound.max(1)
}

pub(super) const FAULTS: &[Fault] = &[
    Fault { name: "500", how: How::Instead(|| error("500 Internal Server Error", "UNKNOWN")), passes: true },
    Fault {
        name: "500, and it was done",
        how: How::After(|_, _, _| error("500 Internal Server Error", "UNKNOWN")),
        passes: true,
    },
    Fault {
        name: "429",
        how: How::Instead(|| error("429 Too Many Requests", "TOOMANYREQUESTS").also("Retry-After: 1")),
        passes: true,
    },
    Fault {
        name: "head cut",
        how: How::After(|_, reply, number| {
            let at = somewhere(number, reply.head());
            reply.ends(End::CutHead(at))
        }),
        passes: true,
    },
    Fault {
        name: "body cut",
        how: How::After(|_, reply, number| {
            let at = somewhere(number, reply.body().len());
            reply.ends(End::Cut(at))
        }),
        // What has no body was answered.
        passes: true,
    },
    Fault { name: "request cut", how: How::Short, passes: true },
    Fault {
        name: "body shorter, and its length too",
        how: How::After(|_, reply, number| {
            let at = somewhere(number, reply.body().len());
            let (status, body) = (reply.status(), reply.body()[..at].to_vec());
            Reply::new(
                &format!("{status} Short"),
                &["Content-Type: application/vnd.oci.image.index.v1+json"],
                &body,
            )
        }),
        passes: false,
    },
    Fault {
        name: "other bytes",
        how: How::After(|_, reply, number| {
            let mut body = reply.body().to_vec();
            let at = somewhere(number, body.len());
            if let Some(byte) = body.get_mut(at) {
                *byte ^= 1;
            }
            Reply::new(&format!("{} Other", reply.status()), &[], &body)
        }),
        passes: false,
    },
    Fault { name: "silence", how: How::After(|_, reply, _| reply.ends(End::Silent(0))), passes: true },
    Fault { name: "slow drip", how: How::After(|_, reply, _| reply.ends(End::Trickle)), passes: true },
    Fault { name: "no HTTP", how: How::After(|_, _, _| Reply::raw("no\r\n\r\n")), passes: true },
    Fault {
        name: "another digest in the head",
        how: How::After(|_, reply, _| {
            reply.also(&format!("Docker-Content-Digest: {}", dmoci_layers::Digest::sha256(b"other")))
        }),
        passes: true,
    },
    Fault { name: "404", how: How::Instead(|| error("404 Not Found", "UNKNOWN")), passes: false },
    Fault { name: "403", how: How::Instead(|| error("403 Forbidden", "DENIED")), passes: false },
    Fault {
        name: "redirect to where it is",
        how: How::Elsewhere(|asked, place| Reply::redirect(307, &format!("{place}{}", asked.target))),
        passes: false,
    },
    Fault {
        name: "redirect to where it is not",
        how: How::Elsewhere(|asked, place| Reply::redirect(307, &format!("{place}{}", asked.target))),
        passes: false,
    },
    Fault {
        name: "realm in a private network",
        how: How::Elsewhere(|_, place| {
            let challenge = format!("WWW-Authenticate: Bearer realm=\"{place}/token\",service=\"s\"");
            Reply::new("401 Unauthorized", &[&challenge], b"")
        }),
        passes: false,
    },
];
