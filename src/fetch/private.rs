//! Addresses that only a network of its own reaches: a server outside of it may not send us there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _};

use crate::url::Url;

/// True when `to` lies in a private network, or may, and `from` does not: whoever answers at `from` would use this machine
/// to reach what it cannot reach itself. Names are looked up, unless a proxy will do that.
pub(super) fn leads_inside(from: &Url, to: &Url, proxied: bool) -> bool {
    from.host() != to.host() && is_inside(to, proxied) && !is_inside(from, proxied)
}

fn is_inside(url: &Url, proxied: bool) -> bool {
    let host = url.host().trim_start_matches('[').trim_end_matches([']', '.']);
    if let Ok(address) = host.parse::<IpAddr>() {
        return is_private(address);
    }
    // `127.1` or `0x7f000001`: no names, and still some take them for addresses.
    let last = host.rsplit('.').next().unwrap_or_default();
    if host == "localhost" || host.ends_with(".localhost") || last.starts_with(|c: char| c.is_ascii_digit()) {
        return true;
    }
    if proxied {
        return false;
    }
    // What has no address cannot be reached either, and whoever tries says so.
    (host, url.port()).to_socket_addrs().is_ok_and(|mut found| found.any(|found| is_private(found.ip())))
}

/// True for what is not a public unicast address (RFC 6890).
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    matches!(a, 0 | 10 | 127 | 224..)
        || (a == 100 && b & 0xc0 == 64)
        || (a, b) == (169, 254)
        || (a == 172 && b & 0xf0 == 16)
        || (a, b) == (192, 168)
        || (a, b, c) == (192, 0, 0)
        || (a == 198 && b & 0xfe == 18)
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let parts = address.segments();
    // Those that stand for an IPv4 address: mapped, compatible (with `::` and `::1` among them), NAT64, 6to4.
    let low = Ipv4Addr::from((u32::from(parts[6]) << 16) | u32::from(parts[7]));
    match parts {
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, ..] => is_private_v4(low),
        [0x2002, high, rest, ..] => is_private_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(rest))),
        [first, ..] => first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80 || first & 0xff00 == 0xff00,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses() {
        for (address, private) in [
            ("127.0.0.1", true),
            ("0.0.0.0", true),
            ("10.1.2.3", true),
            ("100.64.0.1", true),
            ("100.63.0.1", false),
            ("169.254.169.254", true),
            ("172.16.0.1", true),
            ("172.32.0.1", false),
            ("192.168.1.1", true),
            ("192.0.0.8", true),
            ("192.0.2.1", false),
            ("198.19.0.1", true),
            ("224.0.0.1", true),
            ("255.255.255.255", true),
            ("8.8.8.8", false),
            ("::", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:8.8.8.8", false),
            ("64:ff9b::a9fe:a9fe", true),
            ("64:ff9b::808:808", false),
            ("2002:7f00:1::", true),
            ("2002:808:808::", false),
            ("fd00::1", true),
            ("fe80::1", true),
            ("ff02::1", true),
            ("2001:4860::1", false),
        ] {
            assert_eq!(is_private(address.parse().unwrap()), private, "{address}");
        }
    }

    #[test]
    fn who_may_send_where() {
        for (from, to, inside) in [
            ("https://8.8.8.8/", "https://127.0.0.1/", true),
            ("https://8.8.8.8/", "https://[::1]/", true),
            ("https://8.8.8.8/", "https://169.254.169.254/latest", true),
            ("https://8.8.8.8/", "https://localhost/", true),
            ("https://8.8.8.8/", "https://x.localhost./", true),
            ("https://8.8.8.8/", "https://127.1/", true),
            ("https://8.8.8.8/", "https://2130706433/", true),
            ("https://8.8.8.8/", "https://0x7f000001/", true),
            ("https://8.8.8.8/", "https://9.9.9.9/", false),
            ("https://10.0.0.1/", "https://127.0.0.1/", false),
            ("https://127.0.0.1:5000/", "https://127.0.0.1:5001/", false),
            ("https://127.0.0.1/", "https://8.8.8.8/", false),
            ("https://registry.example/", "https://auth.example/", false),
            ("https://registry.example/", "https://10.0.0.1/", true),
        ] {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            assert_eq!(leads_inside(&from, &to, true), inside, "{from} {to}");
        }
    }
}
