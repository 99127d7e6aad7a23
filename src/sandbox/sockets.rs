//! No way to the sockets of the machine: a filter of system calls, for this thread and all that it starts.
//!
//! A network namespace has abstract sockets of its own, but sockets that are files are found by their path, and a file system that
//! is read-only lets programs connect to them. What a call's address points to no filter sees, so that no such socket is made.

use std::collections::BTreeMap;
use std::io;
use std::thread;

use rustix::io::Errno;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// Families that stay, because they reach no further than the network namespace: IPv4, IPv6 and netlink, by which C libraries ask
/// which addresses there are. Among all others are AF_UNIX, and AF_VSOCK, which reaches the host of a virtual machine.
const FAMILIES: [u64; 3] = [2, 10, 16];

/// Types of pairs that can be sent elsewhere afterwards: SOCK_DGRAM, and SOCK_RAW, which is the same there. Pairs of the others
/// stay what they are.
const LOOSE: [u64; 2] = [2, 3];

/// Where flags of a socket's type begin.
const TYPE: u64 = 0xf;

/// What numbers of the x32 calls have, which are those of the same architecture for a filter.
const X32: i64 = 0x4000_0000;

/// The numbers of system calls.
struct Calls {
    socket: i64,
    socketpair: i64,
    /// Makes sockets without such a call.
    io_uring_setup: i64,
}

/// What the architecture of this program is for filters; nothing where its calls are not known here.
fn architecture() -> Option<(TargetArch, Calls)> {
    if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
        Some((TargetArch::x86_64, Calls { socket: 41, socketpair: 53, io_uring_setup: 425 }))
    } else if cfg!(all(target_arch = "aarch64", target_endian = "little", target_pointer_width = "64")) {
        Some((TargetArch::aarch64, Calls { socket: 198, socketpair: 199, io_uring_setup: 425 }))
    } else {
        None
    }
}

/// The filter. Calls of other architectures (i386 on x86_64, arm on aarch64) end the program.
fn filter(architecture: TargetArch, calls: &Calls) -> Result<BpfProgram, BackendError> {
    let is = |argument, how, value| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, value);
    let others = FAMILIES.map(|family| is(0, SeccompCmpOp::Ne, family));
    let others = SeccompRule::new(others.into_iter().collect::<Result<_, _>>()?)?;
    let loose = LOOSE.map(|kind| SeccompRule::new(vec![is(1, SeccompCmpOp::MaskedEq(TYPE), kind)?]));
    let mut rules = BTreeMap::from([
        (calls.socket, vec![others]),
        (calls.socketpair, loose.into_iter().collect::<Result<_, _>>()?),
        (calls.io_uring_setup, vec![]),
    ]);
    if architecture == TargetArch::x86_64 {
        rules.extend([calls.socket, calls.socketpair, calls.io_uring_setup].map(|call| (X32 | call, vec![])));
    }
    let refused = SeccompAction::Errno(Errno::ACCESS.raw_os_error().unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, refused, architecture)?.try_into()
}

/// Refuses them to this thread and to all threads and programs that it starts from now on; none of them gets more rights from a file.
pub(super) fn refuse() -> io::Result<()> {
    let Some((architecture, calls)) = architecture() else {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the system calls of this processor are not known",
        ));
    };
    let filter = filter(architecture, &calls).map_err(io::Error::other)?;
    apply_filter(&filter).map_err(|error| io::Error::other(format!("they cannot be filtered: {error}")))
}

/// Whether the system lets them be refused; if not, why. Tried by a thread, which ends with the filter.
pub(super) fn trial() -> io::Result<Result<(), String>> {
    let tried = thread::Builder::new().spawn(refuse)?.join();
    let tried = tried.map_err(|_| io::Error::other("the trial of a filter broke off"))?;
    Ok(tried.map_err(|error| error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    /// What the pages of `docs/` promise of these two.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[test]
    fn what_a_thread_may_make() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(trial().unwrap(), Ok(()));
        // The thread of the trial is alone with its filter.
        UnixStream::connect(&path).unwrap();
        let other = path.clone();
        let inside = thread::spawn(move || {
            refuse().unwrap();
            let denied = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
            assert!(denied(UnixStream::connect(&other).unwrap_err()));
            assert!(
                denied(UnixDatagram::unbound().unwrap_err()) && denied(UnixDatagram::pair().unwrap_err())
            );
            UnixStream::pair().unwrap();
            UdpSocket::bind("127.0.0.1:0").unwrap();
            // What it starts has the filter, too.
            thread::spawn(move || denied(UnixStream::connect(&other).unwrap_err())).join().unwrap()
        });
        assert!(inside.join().unwrap());
    }

    #[test]
    fn filters_of_both_architectures() {
        let calls = || Calls { socket: 198, socketpair: 199, io_uring_setup: 425 };
        let lengths =
            [TargetArch::x86_64, TargetArch::aarch64].map(|arch| filter(arch, &calls()).unwrap().len());
        assert!(lengths[0] > lengths[1] && lengths[1] > 10, "{lengths:?}");
    }
}
